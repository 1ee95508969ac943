//! Files of records as specifications, and helpers for the tests of their two kinds.

use super::*;
use akidb_vfs::{
    SystemRandom,
    sim::{CrashPolicy, PowerMoment, SimFs},
};
use proptest::prelude::*;

const MAGIC: [u8; 8] = *b"AKIDBTST";

fn file() -> RecordFile {
    RecordFile { path: "/records".into(), magic: MAGIC }
}

fn records() -> impl Strategy<Value = Records> {
    let body = prop::collection::vec(any::<u8>(), 0..40);
    (any::<u64>(), prop::collection::vec(body, 0..6))
        .prop_map(|(next, bodies)| Records { next, bodies })
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(records in records(), seed: u64) {
        let (fs, random) = (SimFs::new(1), SystemRandom::from_seed(seed));
        file().write(&fs, &random, &records).unwrap();
        prop_assert_eq!(file().read(&fs).unwrap(), records);
    }

    /// Every single change of a byte is noticed, and so is every length that is not right.
    #[test]
    fn damage_is_never_taken_for_content(records in records(), salt: u64, flip in 1_u8..=255) {
        let bytes = encode(&records, MAGIC, salt);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            let read = decode(&damaged, MAGIC, Path::new("f"));
            prop_assert!(read.is_err(), "byte {at}: {read:?}");
            prop_assert!(decode(&bytes[..at], MAGIC, Path::new("f")).is_err(), "cut at {at}");
        }
        let longer = [&bytes[..], &[0]].concat();
        prop_assert!(decode(&longer, MAGIC, Path::new("f")).is_err());
    }

    #[test]
    fn any_bytes_are_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..90)) {
        prop_assert!(decode(&bytes, MAGIC, Path::new("f")).is_err());
        let mut headed = encode(&Records::default(), MAGIC, 3);
        headed[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        let crc = crc32fast::hash(&headed[..HEADER_BYTES - 4]);
        headed[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        headed.extend(bytes);
        prop_assert!(decode(&headed, MAGIC, Path::new("f")).is_err(), "a count that lies");
    }
}

#[test]
fn a_newer_file_is_refused_by_name_and_another_kind_as_foreign() {
    let mut bytes = encode(&Records::default(), MAGIC, 3);
    bytes[8] = 2;
    let crc = crc32fast::hash(&bytes[..HEADER_BYTES - 4]);
    bytes[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    let error = decode(&bytes, MAGIC, Path::new("f")).unwrap_err();
    assert!(matches!(error, RecordsError::Newer { found: 2, supported: 1, .. }), "{error}");
    let error = decode(&bytes, *b"AKIDBOTH", Path::new("f")).unwrap_err();
    assert!(error.to_string().contains("not a file of this kind"), "{error}");
}

#[test]
fn the_power_may_go_at_any_call_of_a_write() {
    let write = |fs: SimFs, next| {
        let records = Records { next, bodies: vec![vec![next as u8; 600]] };
        file().write(&fs, &SystemRandom::from_seed(next), &records)
    };
    let look = |fs: SimFs| file().read(&fs).unwrap();
    crash_at_every_call(|fs| write(fs, 1).unwrap(), |fs| write(fs, 2), look);
}

/// Compares bytes with a golden file of this crate. `AKIDB_BLESS=1` writes it anew, for a new
/// version.
#[track_caller]
pub(crate) fn check_golden(name: &str, actual: &[u8]) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("AKIDB_BLESS").is_some() {
        write_file_durably(&akidb_vfs::RealFs, &path, actual).unwrap();
    }
    let golden = read_file(&akidb_vfs::RealFs, &path).unwrap();
    assert!(golden == actual, "{name} is not what the writer makes");
    golden
}

/// The bytes of the first `hexdump -C` in a page of `docs/format`.
#[track_caller]
pub(crate) fn example_in(page: &str) -> Vec<u8> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/format").join(page);
    let text = String::from_utf8(read_file(&akidb_vfs::RealFs, &docs).unwrap()).unwrap();
    let (_, rest) = text.split_once("```hexdump\n").expect("the page has an example");
    let (dump, _) = rest.split_once("```").expect("the example ends");
    let mut bytes = Vec::new();
    for line in dump.lines() {
        let (offset, rest) = line.split_at(8);
        assert_eq!(
            usize::from_str_radix(offset, 16),
            Ok(bytes.len()),
            "the lines follow each other"
        );
        let hex = rest.split_once('|').map_or(rest, |(hex, _)| hex);
        let values = hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap());
        bytes.extend(values);
    }
    bytes
}

/// A file of records whose second write is interrupted at every call on the disk: what is found
/// afterwards is the state before or after it, and the state after it if it was told to be there.
/// `first` and `second` act on an opened file; `look` says what it holds.
pub(crate) fn crash_at_every_call<T: PartialEq + std::fmt::Debug>(
    first: impl Fn(SimFs),
    second: impl Fn(SimFs) -> Result<(), RecordsError>,
    look: impl Fn(SimFs) -> T,
) {
    let states = [false, true].map(|both| {
        let fs = SimFs::new(1);
        first(fs.clone());
        if both {
            second(fs.clone()).unwrap();
        }
        look(fs)
    });
    for moment in [PowerMoment::Before, PowerMoment::Middle, PowerMoment::After] {
        for call in 1.. {
            let fs = SimFs::new(call);
            first(fs.clone());
            fs.power_off_at_moment(call, moment);
            let written = second(fs.process());
            fs.crash(CrashPolicy::Random);
            let found = look(fs);
            assert!(states.contains(&found), "call {call} {moment:?}: {found:?}");
            if written.is_ok() {
                assert_eq!(found, states[1], "call {call} {moment:?}");
                break;
            }
        }
    }
}
