//! Tombstone files as specifications.

use super::*;
use crate::{ErrorKind, segment::tests::golden};
use akidb_vfs::{
    RealFs, SystemRandom,
    sim::{CrashPolicy, Fault, FaultKind, PowerMoment, SimFs},
};
use proptest::prelude::*;

const DIR: &str = "/segments";

fn disk(seed: u64) -> SimFs {
    let fs = SimFs::new(seed);
    fs.create_dir_all(Path::new(DIR)).unwrap();
    fs
}

fn put(fs: &SimFs, number: u64, set: &TombstoneSet) -> Result<TombstoneMeta> {
    write(fs, &SystemRandom::from_seed(number), Path::new(DIR), number, 3, set)
}

fn get(fs: &SimFs, meta: &TombstoneMeta) -> Result<TombstoneSet> {
    read(fs, Path::new(DIR), meta)
}

fn path() -> PathBuf {
    tombstone_path(Path::new(DIR), 5)
}

fn small() -> TombstoneSet {
    let first = [0, 2, 70_000].into_iter().collect();
    TombstoneSet::from([(1, first), (4, (10..20).collect())])
}

#[track_caller]
fn assert_corruption(error: &Error) {
    match error.cause() {
        Cause::Corruption { file, .. } => assert_eq!(*file, path()),
        other => panic!("not a corruption: {other}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_goes_in_comes_out(
        set in prop::collection::btree_map(any::<u64>(), prop::collection::vec(any::<u32>(), 0..50), 0..6),
        run in 0_u32..20_000,
    ) {
        let mut set: TombstoneSet = set
            .into_iter()
            .map(|(segment, rows)| (segment, rows.into_iter().collect()))
            .collect();
        set.entry(7).or_default().insert_range(100..100 + run);
        let fs = disk(1);
        let meta = put(&fs, 5, &set).unwrap();
        prop_assert_eq!(meta.segments as usize, set.len());
        prop_assert_eq!(get(&fs, &meta).unwrap(), set);
    }

    #[test]
    fn an_entry_that_lies_with_right_checksums_is_refused_or_read(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bitmap = Vec::new();
        small()[&1].serialize_into(&mut bitmap).unwrap();
        for (at, value) in edits {
            let at = at.index(bitmap.len());
            bitmap[at] = value;
        }
        let header = Header { collection: 3, number: 5, salt: 9, segments: 1 };
        let mut bytes = header.encode();
        let mut fields = Vec::new();
        fields.extend_from_slice(&1_u64.to_le_bytes());
        fields.extend_from_slice(&(bitmap.len() as u64).to_le_bytes());
        fields.extend_from_slice(&3_u32.to_le_bytes());
        let crc = entry_crc(9, HEADER_LEN as u64, &fields, &bitmap);
        bytes.extend_from_slice(&fields);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&bitmap);
        if let Ok((_, entries)) = decode(&bytes, &path()) {
            prop_assert_eq!(entries[0].bitmap.iter().count(), 3);
        }
    }

    #[test]
    fn hostile_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(&bytes, &path()).is_err());
    }
}

#[test]
fn no_tombstones_are_a_file_too() {
    let fs = disk(1);
    let meta = put(&fs, 5, &TombstoneSet::new()).unwrap();
    assert_eq!(get(&fs, &meta).unwrap(), TombstoneSet::new());
}

#[test]
fn every_flipped_bit_is_corruption() {
    let fs = disk(1);
    let meta = put(&fs, 5, &small()).unwrap();
    for at in 0..meta.len {
        for mask in [1, 0x80, 0xff] {
            fs.corrupt(&path(), at, mask).unwrap();
            assert_corruption(&get(&fs, &meta).unwrap_err());
            assert_corruption(&describe(&fs, &path()).unwrap_err());
            fs.corrupt(&path(), at, mask).unwrap();
        }
    }
    assert_eq!(get(&fs, &meta).unwrap(), small());
}

#[test]
fn every_cut_and_every_addition_is_corruption() {
    let fs = disk(1);
    let meta = put(&fs, 5, &small()).unwrap();
    let whole = read_file(&fs, &path()).unwrap();
    let grown = [whole.as_slice(), &[0]].concat();
    for bytes in (0..whole.len()).map(|len| &whole[..len]).chain([grown.as_slice()]) {
        write_file_durably(&fs, &path(), bytes).unwrap();
        assert_corruption(&get(&fs, &meta).unwrap_err());
        let lying = TombstoneMeta { len: bytes.len() as u64, ..meta.clone() };
        assert_corruption(&get(&fs, &lying).unwrap_err());
    }
    fs.remove_file(&path()).unwrap();
    assert_corruption(&get(&fs, &meta).unwrap_err());
}

#[test]
fn another_file_in_its_place_is_corruption() {
    let fs = disk(1);
    let meta = put(&fs, 5, &small()).unwrap();
    put(&fs, 6, &small()).unwrap();
    let other = read_file(&fs, &tombstone_path(Path::new(DIR), 6)).unwrap();
    write_file_durably(&fs, &path(), &other).unwrap();
    assert_corruption(&get(&fs, &meta).unwrap_err());
    let lying = TombstoneMeta { crc32: crc32fast::hash(&other), ..meta };
    assert_corruption(&get(&fs, &lying).unwrap_err());
}

#[test]
fn a_newer_file_is_refused_by_name() {
    let fs = disk(1);
    let meta = put(&fs, 5, &small()).unwrap();
    let mut bytes = read_file(&fs, &path()).unwrap();
    bytes[8] = 2;
    let crc = crc32fast::hash(&bytes[..HEADER_CRC_AT]);
    bytes[HEADER_CRC_AT..HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
    write_file_durably(&fs, &path(), &bytes).unwrap();
    let error = get(&fs, &meta).unwrap_err();
    assert!(matches!(error.cause(), Cause::Newer { found: 2, supported: 1, .. }), "{error}");
}

#[test]
fn a_call_that_fails_leaves_no_file_behind() {
    for kind in [FaultKind::Eio, FaultKind::NoSpace, FaultKind::SyncFailsCacheDropped] {
        let mut failures = 0;
        for nth in 1.. {
            let fs = disk(nth);
            fs.inject(Fault::new(kind).nth(nth));
            if put(&fs, 5, &small()).is_ok() {
                break;
            }
            assert_eq!(fs.files(), [], "{kind:?} at call {nth}");
            failures += 1;
        }
        assert!(failures > 0, "{kind:?} never struck");
    }
}

#[test]
fn a_final_name_after_a_crash_is_a_whole_file() {
    let reference = disk(1);
    let before = reference.calls();
    let meta = put(&reference, 5, &small()).unwrap();
    for nth in 1..=reference.calls() - before {
        for moment in [PowerMoment::Before, PowerMoment::Middle, PowerMoment::After] {
            for seed in 0..12 {
                let fs = disk(seed);
                fs.power_off_at_moment(nth, moment);
                put(&fs, 5, &small()).unwrap_err();
                fs.reboot(if seed == 0 { CrashPolicy::DropAll } else { CrashPolicy::Random });
                if fs.read_durable(&path()).is_some() {
                    assert_eq!(get(&fs, &meta).unwrap(), small());
                }
            }
        }
    }
    let fs = disk(1);
    let meta = put(&fs, 5, &small()).unwrap();
    fs.crash(CrashPolicy::DropAll);
    assert_eq!(get(&fs, &meta).unwrap(), small());
}

#[test]
fn a_number_is_used_once() {
    let fs = disk(1);
    let meta = put(&fs, 5, &small()).unwrap();
    let again = put(&fs, 5, &TombstoneSet::new()).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Bug);
    assert_eq!(get(&fs, &meta).unwrap(), small());
}

#[test]
fn a_description_needs_no_manifest() {
    let fs = disk(1);
    put(&fs, 5, &small()).unwrap();
    let told = describe(&fs, &path()).unwrap();
    assert_eq!((told.number, told.collection), (5, 3));
    let rows: Vec<_> = told.segments.iter().map(|entry| (entry.segment, entry.rows)).collect();
    assert_eq!(rows, [(1, 3), (4, 10)]);
}

#[test]
fn the_writer_makes_the_golden_bytes_and_the_documentation_shows_them() {
    let fs = disk(1);
    put(&fs, 5, &small()).unwrap();
    let bytes = read_file(&fs, &path()).unwrap();
    golden::check_golden("tombstones-v1.tmb", &bytes);
    golden::check_golden("tombstones-v1.tmb", &golden::example_in("tombstones.md"));
}

#[test]
fn the_golden_file_opens_on_a_real_disk() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tombstones-v1.tmb");
    let bytes = read_file(&RealFs, &golden).unwrap();
    let dir = tempfile::tempdir().unwrap();
    write_file_durably(&RealFs, &tombstone_path(dir.path(), 5), &bytes).unwrap();
    let (len, crc32) = (bytes.len() as u64, crc32fast::hash(&bytes));
    let meta = TombstoneMeta { number: 5, len, crc32, segments: 2 };
    assert_eq!(read(&RealFs, dir.path(), &meta).unwrap(), small());
}
