//! The bytes on disk: a file of each released version opens for ever, today's code still writes
//! the newest one byte for byte, and the worked examples in the documentation are that file.

use crate::model::OPTIONS;
use akidb_vfs::{Fs, OpenMode, SystemRandom, read_file, sim::SimFs};
use akidb_wal::{
    Env, FrameKind, Log, LogOptions, Lsn, WAL_KIND,
    framed::{FrameStatus, FramedFile},
};
use std::{path::Path, sync::Arc};

const GOLDEN_V1: &[u8] = include_bytes!("../golden/v1.wal");
const FRAMED_MD: &str = include_str!("../../../docs/format/framed.md");
const WAL_MD: &str = include_str!("../../../docs/format/wal.md");

const DIR: &str = "/wal";
const NAME: &str = "/wal/00000000000000000001.wal";

/// Two batches, sealed, in a file of 1 KiB with the salt that seed 42 gives.
fn written_today() -> Vec<u8> {
    let sim = SimFs::new(1);
    let env = Env::new(Arc::new(sim.clone()), Arc::new(SystemRandom::from_seed(42)));
    let options = LogOptions { file_bytes: 1024, ..LogOptions::default() };
    let opened = Log::open(&env, Path::new(DIR), options, Lsn::ZERO, &mut |_, _| Ok(()));
    let (mut log, _) = opened.unwrap();
    for payload in ["hello", "vector storage"] {
        log.append(payload.as_bytes().to_vec()).unwrap();
        log.commit(true).unwrap();
    }
    log.seal().unwrap();
    read_file(&sim, Path::new(NAME)).unwrap()
}

/// `offset  byte byte …` lines, 16 bytes each, for the lines that are not all zero.
fn hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (row, line) in bytes.chunks(16).enumerate() {
        if line.iter().any(|&byte| byte != 0) {
            let text: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            out.push_str(&format!("{:08x}  {}\n", row * 16, text.join(" ")));
        }
    }
    out
}

/// The bytes of the nth code block (from 1) of `hex` lines in a page.
fn example(page: &str, nth: usize, len: usize) -> Vec<u8> {
    let block = page.split("```hex\n").nth(nth).unwrap().split("```").next().unwrap();
    let mut bytes = vec![0; len];
    for line in block.lines().filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let offset = usize::from_str_radix(words.next().unwrap(), 16).unwrap();
        for (slot, word) in bytes[offset..].iter_mut().zip(words) {
            *slot = u8::from_str_radix(word, 16).unwrap();
        }
    }
    bytes
}

fn on_disk(bytes: &[u8]) -> SimFs {
    let sim = SimFs::new(1);
    sim.create_dir_all(Path::new(DIR)).unwrap();
    sim.create_new(Path::new(NAME)).unwrap().write_all_at(bytes, 0).unwrap();
    sim
}

#[test]
fn a_log_of_version_1_opens() {
    let sim = on_disk(GOLDEN_V1);
    let env = Env::new(Arc::new(sim), Arc::new(SystemRandom::from_seed(1)));
    let mut batches = Vec::new();
    let opened = Log::open(&env, Path::new(DIR), OPTIONS, Lsn::ZERO, &mut |l, p| {
        batches.push((l.get(), String::from_utf8(p.to_vec()).unwrap()));
        Ok(())
    });
    let (log, report) = opened.unwrap();
    assert_eq!(batches, [(1, "hello".to_owned()), (2, "vector storage".to_owned())]);
    assert!(report.torn.is_none());
    assert_eq!(log.next_lsn(), Lsn::new(3));
}

#[test]
fn todays_code_writes_version_1_byte_for_byte() {
    let today = written_today();
    assert!(today == GOLDEN_V1, "the format changed; today's file is\n{}", hex(&today));
}

#[test]
fn the_example_in_the_documentation_is_the_golden_file() {
    let documented = example(FRAMED_MD, 1, GOLDEN_V1.len());
    assert!(documented == GOLDEN_V1, "the example should be\n{}", hex(GOLDEN_V1));
    let file = FramedFile::read(&on_disk(&documented), Path::new(NAME), WAL_KIND).unwrap();
    let frames: Vec<_> = file
        .inspect()
        .into_iter()
        .map(|frame| match frame.status {
            FrameStatus::Good { kind, seq, payload_len, durable_end } => {
                (frame.offset, kind, seq, payload_len, durable_end)
            }
            bad => panic!("{bad:?}"),
        })
        .collect();
    let (data, seal) = (FrameKind::Data, FrameKind::Seal);
    let expected = [(512, data, 1, 5, 512), (568, data, 2, 14, 568), (632, seal, 2, 0, 632)];
    assert_eq!(frames, expected);
    assert_eq!(file.payloads(1), [&b"hello"[..], b"vector storage"]);
}

/// The golden file after a crash: recovery replaces it by file 2, a third batch goes there, and a
/// roll makes file 3.
#[test]
fn the_example_of_a_chain_is_what_recovery_and_a_roll_make_of_the_golden_file() {
    let sim = on_disk(GOLDEN_V1);
    let env = Env::new(Arc::new(sim.clone()), Arc::new(SystemRandom::from_seed(43)));
    let options = LogOptions { file_bytes: 1024, ..LogOptions::default() };
    let opened = Log::open(&env, Path::new(DIR), options, Lsn::ZERO, &mut |_, _| Ok(()));
    let (mut log, _) = opened.unwrap();
    log.append(b"third".to_vec()).unwrap();
    log.commit(true).unwrap();
    log.roll().unwrap();
    assert!(sim.open(Path::new(NAME), OpenMode::Read).is_err(), "file 1 is gone");

    let header = |number: u64| {
        let path = Path::new(DIR).join(format!("{number:020}.wal"));
        let file = FramedFile::read(&sim, &path, WAL_KIND).unwrap();
        assert_eq!(file.header().number, number);
        read_file(&sim, &path).unwrap()[..512].to_vec()
    };
    let made = [header(2), header(3)];
    let documented = [example(WAL_MD, 1, 512), example(WAL_MD, 2, 512)];
    let [second, third] = made.each_ref().map(|header| hex(header));
    assert!(documented == made, "the examples should be\n{second}and\n{third}");
}

/// The field tables of the documentation state the offsets that the encoder uses.
#[test]
fn the_pages_name_the_constants_of_the_code() {
    assert!(FRAMED_MD.contains("`AkFr`"));
    assert!(FRAMED_MD.contains(&format!("{} bytes", akidb_wal::FRAME_HEADER_BYTES)));
    assert!(FRAMED_MD.contains(&format!("{} bytes", akidb_wal::framed::HEADER_PAGE_BYTES)));
    assert!(WAL_MD.contains(std::str::from_utf8(&WAL_KIND.magic).unwrap()));
    assert!(WAL_MD.contains("00000000000000000001.wal"));
}
