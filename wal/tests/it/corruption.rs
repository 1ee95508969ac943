//! Rot: every byte flipped, every length, files lost and exchanged. Promise D8: an error that
//! names the file, or exactly the data.

use crate::model::{Batches, Model, OPTIONS, Op, open, open_after, verify, wal_files};
use akidb_vfs::{
    Fs, OpenMode, read_file,
    sim::{CrashPolicy, SimFs},
};
use akidb_wal::{
    CorruptionDetail, Log, Lsn, WAL_KIND, WalError,
    framed::{FrameStatus, FramedFile},
};
use std::path::{Path, PathBuf};

/// Two files, three groups in the last, cleanly closed.
const CLOSED: &[Op] = &[
    Op::Append(300),
    Op::Append(20),
    Op::Commit { sync: true },
    Op::Roll,
    Op::Append(30),
    Op::Commit { sync: true },
    Op::Append(5),
    Op::Append(64),
    Op::Commit { sync: true },
    Op::Seal,
    Op::Append(17),
    Op::Commit { sync: true },
    Op::Seal,
];

fn disk(ops: &[Op]) -> (SimFs, Batches) {
    let sim = SimFs::new(11);
    Model::default().run(&sim, ops).unwrap();
    let (_, batches) = verify(&sim, Lsn::ZERO).unwrap();
    (sim, batches)
}

/// The file that an error is about.
fn blamed(error: &WalError) -> &Path {
    match error {
        WalError::Corruption { file, .. }
        | WalError::Foreign { file, .. }
        | WalError::Newer { file, .. } => file,
        other => panic!("not an error about a file's bytes: {other}"),
    }
}

/// Writes a whole file, as an outsider would.
fn overwrite(sim: &SimFs, path: &Path, bytes: &[u8]) {
    drop(sim.remove_file(path));
    sim.create_new(path).unwrap().write_all_at(bytes, 0).unwrap();
}

#[test]
fn every_flipped_byte_of_a_closed_log_is_named_or_harmless() {
    let (sim, expected) = disk(CLOSED);
    assert_eq!(expected.len(), 6);
    let (mut named, mut harmless) = (0, 0);
    for (path, len) in sim.files() {
        for offset in 0..len {
            for mask in [0x01, 0x80, 0xff] {
                sim.corrupt(&path, offset, mask).unwrap();
                match verify(&sim, Lsn::ZERO) {
                    Ok((_, batches)) => {
                        assert_eq!(batches, expected, "{} at {offset}", path.display());
                        harmless += 1;
                    }
                    Err(error) => {
                        assert_eq!(blamed(&error), path, "at {offset}: {error}");
                        named += 1;
                    }
                }
                sim.corrupt(&path, offset, mask).unwrap();
            }
        }
    }
    assert!(named > 1000 && harmless > 1000, "{named} named, {harmless} harmless");
}

#[test]
fn every_truncation_is_named() {
    let (sim, _) = disk(CLOSED);
    for (path, len) in sim.files() {
        for shorter in 0..len {
            let copy = sim.fork(1);
            copy.truncate(&path, shorter).unwrap();
            let error = verify(&copy, Lsn::ZERO).unwrap_err();
            assert_eq!(blamed(&error), path, "{error}");
            assert!(matches!(
                error,
                WalError::Corruption { detail: CorruptionDetail::Truncated { .. }, .. }
            ));
        }
    }
}

#[test]
fn what_a_verification_accepts_an_open_carries_over_unchanged() {
    let (sim, expected) = disk(CLOSED);
    let last = wal_files(&sim).pop().unwrap();
    for offset in (512..1024).step_by(5) {
        let copy = sim.fork(1);
        copy.corrupt(&last, offset, 0x10).unwrap();
        let verified = verify(&copy, Lsn::ZERO).map(|(_, batches)| batches);
        let image = copy.image();
        match open(&copy) {
            Ok((log, _, batches)) => {
                assert_eq!(batches, verified.unwrap());
                drop(log);
                assert_eq!(verify(&copy, Lsn::ZERO).unwrap().1, expected);
            }
            Err(error) => {
                assert_eq!(error.to_string(), verified.unwrap_err().to_string());
                assert_eq!(copy.image(), image, "a refused open changes nothing");
            }
        }
    }
}

/// The stated limit of detection: without a seal, nothing on disk says that the last group was
/// durable, so rot in it looks like a torn write. Every earlier group is covered by the next.
#[test]
fn without_a_seal_only_rot_in_the_last_group_passes_for_a_torn_tail() {
    let unsealed = &CLOSED[..CLOSED.len() - 4];
    let (sim, expected) = disk(unsealed);
    let last = wal_files(&sim).pop().unwrap();
    for offset in 0..1024 {
        sim.corrupt(&last, offset, 0x20).unwrap();
        if let Ok((report, batches)) = verify(&sim, Lsn::ZERO) {
            assert_eq!(batches, expected[..batches.len()], "a prefix");
            assert!(batches.len() >= 3, "at {offset}: lost more than the last group");
            assert!(batches == expected || report.torn.is_some(), "a loss is reported");
        }
        sim.corrupt(&last, offset, 0x20).unwrap();
    }
}

/// A seal in the middle repeats the number of the batch before it. Evidence by number alone would
/// take a rotten seal for a torn tail and drop the durable batch that follows.
#[test]
fn a_rotten_seal_does_not_hide_the_durable_batch_after_it() {
    let ops = &CLOSED[..CLOSED.len() - 1];
    let (sim, _) = disk(ops);
    let last = wal_files(&sim).pop().unwrap();
    let frames = FramedFile::read(&sim, &last, WAL_KIND).unwrap().inspect();
    let seal = frames.iter().rev().nth(1).unwrap().offset;
    sim.corrupt(&last, seal, 1).unwrap();
    let error = verify(&sim, Lsn::ZERO).unwrap_err();
    assert!(matches!(error, WalError::Corruption { offset, .. } if offset == seal), "{error}");
}

#[test]
fn an_inspection_goes_on_after_a_bad_frame() {
    let (sim, _) = disk(CLOSED);
    let last = wal_files(&sim).pop().unwrap();
    let good = FramedFile::read(&sim, &last, WAL_KIND).unwrap().inspect();
    assert_eq!(good.len(), 6, "four batches and two seals");
    sim.corrupt(&last, good[1].offset + 50, 1).unwrap();
    let bad = FramedFile::read(&sim, &last, WAL_KIND).unwrap().inspect();
    assert_eq!(bad.len(), good.len());
    assert!(matches!(bad[1].status, FrameStatus::Bad { .. }));
    assert_eq!((bad[0], &bad[2..]), (good[0], &good[2..]));
}

#[test]
fn exchanged_files_are_refused() {
    let (sim, _) = disk(CLOSED);
    let files = wal_files(&sim);
    let contents: Vec<_> = files.iter().map(|path| read_file(&sim, path).unwrap()).collect();
    overwrite(&sim, &files[0], &contents[1]);
    overwrite(&sim, &files[1], &contents[0]);
    let error = verify(&sim, Lsn::ZERO).unwrap_err();
    assert!(
        matches!(error, WalError::Corruption { detail: CorruptionDetail::WrongNumber { .. }, .. }),
        "{error}"
    );
}

#[test]
fn exchanged_frames_are_refused() {
    let (sim, _) = disk(CLOSED);
    let last = wal_files(&sim).pop().unwrap();
    let mut bytes = read_file(&sim, &last).unwrap();
    let frames = FramedFile::read(&sim, &last, WAL_KIND).unwrap().inspect();
    let (first, second) = (frames[0].offset as usize, frames[4].offset as usize);
    let frame = bytes[first..first + 48].to_vec();
    bytes[second..second + 48].copy_from_slice(&frame);
    overwrite(&sim, &last, &bytes);
    let error = verify(&sim, Lsn::ZERO).unwrap_err();
    assert!(matches!(error, WalError::Corruption { offset, .. } if offset == second as u64));
}

/// An outsider put back an older copy of a completed file: every frame in it is good, and the last
/// ones, seal and all, are missing. Only its successor knows.
#[test]
fn a_completed_file_that_ends_too_early_is_refused() {
    let (sim, _) = disk(CLOSED);
    let first = wal_files(&sim).remove(0);
    let mut bytes = read_file(&sim, &first).unwrap();
    let frames = FramedFile::read(&sim, &first, WAL_KIND).unwrap().inspect();
    for keep in 0..frames.len() {
        bytes[frames[frames.len() - 1 - keep].offset as usize..].fill(0);
        overwrite(&sim, &first, &bytes);
        let error = verify(&sim, Lsn::ZERO).unwrap_err();
        assert_eq!(blamed(&error), first);
        let WalError::Corruption { detail, .. } = error else {
            panic!("{error}");
        };
        let expected = if keep == 0 {
            matches!(detail, CorruptionDetail::SuccessorMismatch { .. })
        } else {
            matches!(detail, CorruptionDetail::CompletedFile { defect: None, .. })
        };
        assert!(expected, "{detail}");
    }
}

/// Four files, with everything in them.
fn chain() -> (SimFs, Vec<PathBuf>) {
    let mut ops = Vec::new();
    for _ in 0..4 {
        ops.extend([Op::Append(100), Op::Commit { sync: true }, Op::Roll]);
    }
    ops.extend([Op::Append(9), Op::Commit { sync: true }, Op::Seal]);
    let (sim, _) = disk(&ops);
    let files = wal_files(&sim);
    assert_eq!(files.len(), 5);
    (sim, files)
}

#[test]
fn a_file_missing_in_the_middle_is_corruption() {
    for missing in 1..4 {
        let (sim, files) = chain();
        sim.remove_file(&files[missing]).unwrap();
        let error = verify(&sim, Lsn::ZERO).unwrap_err();
        assert!(
            matches!(
                error,
                WalError::Corruption { detail: CorruptionDetail::MissingFile { .. }, .. }
            ),
            "{error}"
        );
    }
}

#[test]
fn a_missing_start_is_corruption_only_if_it_is_still_needed() {
    let (sim, files) = chain();
    sim.remove_file(&files[0]).unwrap();
    let error = verify(&sim, Lsn::ZERO).unwrap_err();
    assert!(
        matches!(
            error,
            WalError::Corruption { detail: CorruptionDetail::MissingStart { needed, first }, .. }
                if needed == Lsn::new(1) && first == Lsn::new(2)
        ),
        "{error}"
    );
    assert_eq!(verify(&sim, Lsn::new(1)).unwrap().1.len(), 4);
}

#[test]
fn a_log_that_ends_before_what_was_durable_in_it_is_corruption() {
    let (sim, _) = chain();
    verify(&sim, Lsn::new(5)).unwrap();
    let error = verify(&sim, Lsn::new(6)).unwrap_err();
    assert!(matches!(
        error,
        WalError::Corruption { detail: CorruptionDetail::EndsEarly { .. }, .. }
    ));
}

#[test]
fn a_log_that_must_exist_is_not_made_anew() {
    for (must_exist, replay_after) in [(true, Lsn::ZERO), (false, Lsn::new(1))] {
        let sim = SimFs::new(1);
        let options = akidb_wal::LogOptions { must_exist, ..OPTIONS };
        let error = open_after(&sim, options, replay_after).unwrap_err();
        assert!(matches!(error, WalError::Corruption { detail: CorruptionDetail::MissingLog, .. }));
        assert!(wal_files(&sim).is_empty());
    }
}

#[test]
fn foreign_names_are_reported_and_left_alone() {
    let (sim, expected) = disk(CLOSED);
    for name in [".DS_Store", "._00000000000000000001.wal", "1.wal", "notes.tmp"] {
        overwrite(&sim, &Path::new(crate::model::DIR).join(name), b"not ours");
    }
    let (_log, report, batches) = open(&sim).unwrap();
    assert_eq!(batches, expected);
    assert_eq!(report.skipped_unknown.len(), 4);
    assert_eq!(sim.files().iter().filter(|(_, len)| *len == 8).count(), 4);
}

#[test]
fn half_made_files_are_removed_and_reported() {
    let (sim, expected) = disk(CLOSED);
    let temp = Path::new(crate::model::DIR).join("00000000000000000009.wal.tmp");
    overwrite(&sim, &temp, b"half");
    let (_log, report, batches) = open(&sim).unwrap();
    assert_eq!(batches, expected);
    assert!(report.removed.contains(&temp));
    assert!(sim.metadata(&temp).unwrap_err().is_not_found());
}

#[test]
fn random_bytes_in_place_of_a_file_never_panic() {
    let (sim, expected) = disk(CLOSED);
    let last = wal_files(&sim).pop().unwrap();
    let bytes = read_file(&sim, &last).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    for _ in 0..3000 {
        let mut bad = bytes.clone();
        let from = next() as usize % bad.len();
        let to = (from + next() as usize % 80).min(bad.len());
        bad[from..to].fill_with(|| next() as u8);
        let file = sim.open(&last, OpenMode::ReadWrite).unwrap();
        file.write_all_at(&bad, 0).unwrap();
        match verify(&sim, Lsn::ZERO) {
            // Wiping out the end, seal and all, is more than one fault; a prefix remains.
            Ok((_, batches)) => assert_eq!(batches, expected[..batches.len()]),
            Err(error) => assert_eq!(blamed(&error), last, "{error}"),
        }
    }
}

#[test]
fn a_crash_in_the_last_group_is_reported_with_its_place() {
    let (sim, _) = disk(&CLOSED[..CLOSED.len() - 4]);
    let last = wal_files(&sim).pop().unwrap();
    let frames = FramedFile::read(&sim, &last, WAL_KIND).unwrap().inspect();
    sim.corrupt(&last, frames[1].offset + 50, 1).unwrap();
    sim.crash(CrashPolicy::KeepAll);
    let (log, report, _): (Log, _, _) = open(&sim).unwrap();
    let torn = report.torn.unwrap();
    assert_eq!((torn.file, torn.tail.offset), (last, frames[1].offset));
    assert!(torn.tail.bytes > 0);
    assert_eq!(log.next_lsn(), Lsn::new(4), "the torn batches' numbers are given again");
}
