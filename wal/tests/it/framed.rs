//! Framed files by themselves, as the engine's manifest uses them.

use akidb_vfs::{
    Fs, FsOp, SystemRandom, read_file,
    sim::{CrashPolicy, Fault, FaultKind, SimFs},
};
use akidb_wal::{
    Env, FRAME_HEADER_BYTES, FrameDefect, WalError, frame_bytes,
    framed::{FileKind, FramedFile, FramedWriter, NewFile, ScanReport, framed_file_bytes},
};
use proptest::prelude::*;
use std::{path::Path, sync::Arc};

const KIND: FileKind = FileKind { magic: *b"AKTESTFL", version: 1, name: "test file" };

fn path() -> &'static Path {
    Path::new("/file")
}

fn env(sim: &SimFs) -> Env {
    Env::new(Arc::new(sim.process()), Arc::new(SystemRandom::from_seed(9)))
}

fn create(sim: &SimFs, bytes: u64, carried: &[&[u8]]) -> Result<FramedWriter, WalError> {
    let new = NewFile::new(path(), KIND, 1, bytes);
    FramedWriter::create(&env(sim), &new, carried.iter().copied())
}

fn scan(sim: &SimFs) -> Result<(ScanReport, Vec<Vec<u8>>), WalError> {
    let mut payloads = Vec::new();
    let report = FramedFile::read(sim, path(), KIND)?.scan(&mut |frame| {
        payloads.push(frame.payload.to_vec());
        Ok::<_, WalError>(())
    })?;
    Ok((report, payloads))
}

#[test]
fn a_file_takes_frames_up_to_its_length_and_keeps_room_to_seal() {
    let sim = SimFs::new(1);
    let mut writer = create(&sim, 1024, &[]).unwrap();
    let mut count = 0;
    while writer.remaining() >= frame_bytes(20) {
        assert_eq!(writer.append(vec![count; 20]).unwrap(), u64::from(count) + 1);
        writer.write_group().unwrap();
        count += 1;
    }
    let error = writer.append(vec![0; 20]).unwrap_err();
    assert!(matches!(error, WalError::FileFull { needed: 72, .. }), "{error}");
    writer.seal().unwrap();
    let (report, payloads) = scan(&sim).unwrap();
    assert_eq!((report.frames, payloads.len()), (u64::from(count), usize::from(count)));
    assert!(report.sealed && report.torn.is_none());
    assert_eq!(sim.metadata(path()).unwrap().len, 1024);
}

#[test]
fn a_file_is_made_large_enough_for_what_it_begins_with() {
    let sim = SimFs::new(1);
    let large = vec![3; 5000];
    let mut writer = create(&sim, 0, &[b"snapshot", &large]).unwrap();
    let needed = framed_file_bytes(frame_bytes(8) + frame_bytes(5000));
    assert_eq!(writer.header().allocated_len, needed);
    assert_eq!((writer.last_seq(), writer.durable_seq()), (2, 2));
    assert!(writer.is_sealed());
    assert!(matches!(writer.append(Vec::new()), Err(WalError::FileFull { .. })));
    sim.crash(CrashPolicy::DropAll);
    assert_eq!(scan(&sim).unwrap().1, [b"snapshot".to_vec(), large]);
}

#[test]
fn creating_replaces_a_leftover_of_the_same_temporary_name() {
    let sim = SimFs::new(1);
    sim.create_new(Path::new("/file.tmp")).unwrap();
    create(&sim, 1024, &[]).unwrap();
    assert_eq!(sim.files().len(), 1);
}

#[test]
fn an_empty_payload_is_a_frame_like_any_other() {
    let sim = SimFs::new(1);
    let mut writer = create(&sim, 1024, &[]).unwrap();
    writer.append(Vec::new()).unwrap();
    writer.write_group().unwrap();
    assert_eq!(writer.sync().unwrap(), 1);
    assert_eq!(scan(&sim).unwrap().1, [Vec::<u8>::new()]);
}

#[test]
fn a_scan_stops_when_its_caller_says_so() {
    let sim = SimFs::new(1);
    create(&sim, 1024, &[b"one", b"two"]).unwrap();
    #[derive(Debug, PartialEq)]
    enum Stop {
        Enough(u64),
        Wal,
    }
    impl From<WalError> for Stop {
        fn from(_: WalError) -> Self {
            Self::Wal
        }
    }
    let file = FramedFile::read(&sim, path(), KIND).unwrap();
    let stopped = file.scan(&mut |frame| Err(Stop::Enough(frame.seq)));
    assert_eq!(stopped, Err(Stop::Enough(1)));
    assert_eq!(file.payloads(1), [b"one", b"two"]);
}

#[test]
fn another_kind_of_file_is_foreign() {
    let sim = SimFs::new(1);
    create(&sim, 1024, &[]).unwrap();
    let other = FileKind { magic: *b"AKOTHERF", ..KIND };
    let error = FramedFile::read(&sim, path(), other).unwrap_err();
    assert!(matches!(error, WalError::Foreign { .. }), "{error}");
}

/// Two histories under one salt, as a broken random source would make them: each frame is good at
/// its place, yet the second of one history must not follow the first of the other.
#[test]
fn a_frame_follows_only_the_frame_it_was_written_after() {
    let history = |first: &[u8]| {
        let sim = SimFs::new(1);
        create(&sim, 1024, &[first, b"second"]).unwrap();
        read_file(&sim, path()).unwrap()
    };
    let (mut one, other) = (history(b"one"), history(b"two"));
    let second = 512 + frame_bytes(3) as usize;
    assert_eq!(one[..512], other[..512]);
    one[second..second + 56].copy_from_slice(&other[second..second + 56]);
    one[second + 56..].fill(0);
    let file = FramedFile::from_bytes(path(), one, KIND).unwrap();
    assert_eq!(file.payloads(1), [b"one"]);
    let report = file.scan(&mut |_| Ok::<_, WalError>(())).unwrap();
    assert_eq!(report.torn.unwrap().reason, FrameDefect::PreviousChecksum);
}

#[test]
fn a_failed_sync_ends_the_writer_for_ever() {
    let sim = SimFs::new(1);
    let mut writer = create(&sim, 1024, &[]).unwrap();
    writer.append(b"one".to_vec()).unwrap();
    writer.write_group().unwrap();
    sim.inject(Fault::new(FaultKind::Eio).on(FsOp::SyncData));
    assert!(matches!(writer.sync(), Err(WalError::Poisoned(_))));
    let calls = sim.calls();
    assert!(matches!(writer.sync(), Err(WalError::Poisoned(_))));
    assert!(matches!(writer.seal(), Err(WalError::Poisoned(_))));
    assert!(matches!(writer.write_group(), Err(WalError::Poisoned(_))));
    assert!(matches!(writer.append(Vec::new()), Err(WalError::Poisoned(_))));
    assert_eq!(sim.calls(), calls);
    assert!(writer.poisoned().is_some());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    /// Any payloads, in any grouping, come back as they were; after power loss, those synced.
    #[test]
    fn frames_come_back_as_they_were_written(
        groups in prop::collection::vec(
            (prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..6), any::<bool>()),
            0..8,
        ),
        large in prop::option::of(16_000_usize..40_000),
        seed in any::<u64>(),
    ) {
        let sim = SimFs::new(seed);
        let mut writer = create(&sim, 1 << 20, &[]).unwrap();
        let (mut written, mut durable) = (Vec::new(), 0);
        let large = large.map(|len| (vec![vec![0xa5; len], vec![1; 3]], true));
        for (group, sync) in groups.into_iter().chain(large) {
            for payload in group {
                let seq = writer.append(payload.clone()).unwrap();
                written.push(payload);
                prop_assert_eq!(seq, written.len() as u64);
            }
            writer.write_group().unwrap();
            if sync {
                durable = writer.sync().unwrap() as usize;
                prop_assert_eq!(durable, written.len());
            }
        }
        let (report, found) = scan(&sim).unwrap();
        prop_assert_eq!(&found, &written);
        prop_assert_eq!(report.end, writer.end());
        let bytes: u64 = written.iter().map(|payload| payload.len() as u64).sum();
        prop_assert_eq!(report.payload_bytes, bytes);
        prop_assert!(report.end >= 512 + bytes + FRAME_HEADER_BYTES * report.frames);
        sim.crash(CrashPolicy::Random);
        let (_, found) = scan(&sim).unwrap();
        prop_assert!(found.len() >= durable);
        prop_assert_eq!(&found[..], &written[..found.len()]);
    }

    /// Whatever bytes a file holds after a good header, reading it ends in frames or an error.
    #[test]
    fn hostile_bytes_after_a_good_header_never_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..700),
        at in 0_u64..1000,
    ) {
        let sim = SimFs::new(1);
        let writer = create(&sim, 2048, &[b"one", b"two"]).unwrap();
        drop(writer);
        // A frame magic here and there, so that decoding gets past the first look.
        for chunk in bytes.chunks_mut(48) {
            if let Some(head) = chunk.get_mut(..4) {
                head.copy_from_slice(b"AkFr");
            }
        }
        let file = sim.open(path(), akidb_vfs::OpenMode::ReadWrite).unwrap();
        file.write_all_at(&bytes, 512 + at).unwrap();
        match scan(&sim) {
            Ok((_, found)) => prop_assert!(found.len() <= 2),
            Err(error) => prop_assert!(matches!(error, WalError::Corruption { .. }), "{error}"),
        }
        FramedFile::read(&sim, path(), KIND).unwrap().inspect();
    }
}
