//! The rules of the log that the crash sweep checks only as a whole, each on its own.

use crate::model::{OPTIONS, env, open, open_after, verify, wal_files};
use akidb_vfs::{
    FsOp, read_file,
    sim::{CrashPolicy, SimFs, TraceEntry},
};
use akidb_wal::{
    FrameKind, LogOptions, Lsn, WAL_KIND, WalError,
    framed::{FrameStatus, FramedFile},
};

fn batch(n: u8) -> Vec<u8> {
    vec![n; 40]
}

/// What the log asked of the disk since the first `skip` calls.
fn ops_since(sim: &SimFs, skip: usize) -> Vec<(FsOp, String)> {
    let name = |entry: &TraceEntry| {
        entry.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    };
    sim.trace().iter().skip(skip).map(|entry| (entry.op, name(entry))).collect()
}

/// W1, W2: two files with the same batches share no frame, because their salts differ.
#[test]
fn no_two_files_share_a_salt() {
    let sim = SimFs::new(1);
    let (mut log, ..) = open(&sim).unwrap();
    log.append(batch(1)).unwrap();
    log.commit(true).unwrap();
    log.roll().unwrap();
    drop(log);
    open(&sim).unwrap();
    let salts: Vec<u64> = wal_files(&sim)
        .iter()
        .map(|path| FramedFile::read_header(&sim, path, WAL_KIND).unwrap().salt)
        .collect();
    assert_eq!(salts.len(), 2);
    assert_ne!(salts[0], salts[1]);
}

/// W1: a length is believed only under a good checksum, and a batch over the limit is refused.
#[test]
fn a_batch_over_the_limit_is_refused_and_uses_no_number() {
    let sim = SimFs::new(1);
    let (mut log, ..) = open(&sim).unwrap();
    let error = log.append(vec![0; 4097]).unwrap_err();
    assert!(matches!(error, WalError::TooLarge { bytes: 4097, max: 4096 }));
    assert_eq!(log.append(vec![0; 4096]).unwrap(), Lsn::new(1));
    assert_eq!(log.commit(true).unwrap(), Lsn::new(1));
}

/// W3: create, reserve, header, sync, rename, sync the directory; only then frames.
#[test]
fn a_file_is_whole_and_durable_before_it_has_its_name() {
    let sim = SimFs::new(1);
    let (mut log, ..) = open(&sim).unwrap();
    log.append(batch(1)).unwrap();
    log.commit(true).unwrap();
    let before = sim.trace().len();
    log.roll().unwrap();
    let steps: Vec<FsOp> = ops_since(&sim, before).into_iter().map(|(op, _)| op).collect();
    let expected = [
        FsOp::Write,    // the seal of the old file
        FsOp::SyncData, // which completes it
        FsOp::Create,
        FsOp::Allocate,
        FsOp::Write,
        FsOp::SyncAll,
        FsOp::Rename,
        FsOp::SyncDir,
    ];
    assert_eq!(steps, expected);
}

/// W4: the blocks are reserved when the file is made, so a full disk never meets a batch that
/// fits the file.
#[test]
fn a_full_disk_does_not_stop_batches_that_fit_the_file() {
    let sim = SimFs::new(1);
    let (mut log, ..) = open(&sim).unwrap();
    sim.set_capacity(Some(0));
    log.append(batch(1)).unwrap();
    assert_eq!(log.commit(true).unwrap(), Lsn::new(1));
}

/// W6: a seal says that all before it is durable, and costs nothing when nothing is new.
#[test]
fn a_seal_is_written_once_and_speaks_of_all_before_it() {
    let sim = SimFs::new(1);
    let (mut log, ..) = open(&sim).unwrap();
    log.seal().unwrap();
    log.append(batch(1)).unwrap();
    log.commit(false).unwrap();
    log.seal().unwrap();
    assert!(log.is_sealed());
    assert_eq!(log.durable_upto(), Lsn::new(1));
    let calls = sim.calls();
    log.seal().unwrap();
    assert_eq!(sim.calls(), calls);
    let frames = FramedFile::read(&sim, &wal_files(&sim)[0], WAL_KIND).unwrap().inspect();
    let FrameStatus::Good { kind: FrameKind::Seal, seq: 1, payload_len: 0, durable_end } =
        frames[1].status
    else {
        panic!("{frames:?}");
    };
    assert_eq!(durable_end, frames[1].offset);
}

/// W7: a recovered file is replaced, not appended to, and what it held is sealed in the new one.
#[test]
fn a_recovered_file_is_carried_over_to_a_new_one() {
    let sim = SimFs::new(1);
    let (mut log, ..) = open(&sim).unwrap();
    log.append(batch(1)).unwrap();
    log.commit(true).unwrap();
    let old = wal_files(&sim);
    let (log, report, batches) = open(&sim).unwrap();
    let new = wal_files(&sim);
    assert_eq!(report.removed, old);
    assert_eq!((old.len(), new.len(), batches.len()), (1, 1, 1));
    assert_ne!(old, new);
    assert!(log.is_sealed());
    assert_eq!(log.durable_upto(), Lsn::new(1));
    let header = FramedFile::read_header(&sim, &new[0], WAL_KIND).unwrap();
    assert_eq!(header.replaces, Some(1));
    assert_eq!(header.number, 2);
}

/// W7: opening again and again adds nothing.
#[test]
fn a_hundred_opens_leave_the_log_as_large_as_one() {
    let sim = SimFs::new(1);
    let (mut log, ..) = open(&sim).unwrap();
    log.append(batch(1)).unwrap();
    log.commit(true).unwrap();
    let (log, ..) = open(&sim).unwrap();
    let bytes = log.bytes();
    for _ in 0..100 {
        let (log, report, batches) = open(&sim).unwrap();
        assert_eq!((log.bytes(), batches.len(), report.files), (bytes, 1, 1));
    }
}

/// W9: one vectored write and one sync for a group of any size.
#[test]
fn a_group_is_one_write_and_one_sync() {
    let sim = SimFs::new(1);
    let options = LogOptions {
        file_bytes: 1 << 20,
        frame_bytes_max: 1 << 16,
        zero_ahead_bytes: 4 << 20,
        must_exist: false,
        begins_after: Lsn::ZERO,
    };
    let (mut log, ..) = open_after(&sim, options, Lsn::ZERO).unwrap();
    let before = sim.trace().len();
    let sizes = [10, 20_000, 0, 40_000, 17];
    for len in sizes {
        log.append(vec![len as u8; len]).unwrap();
    }
    assert_eq!(log.commit(true).unwrap(), Lsn::new(5));
    let steps: Vec<FsOp> = ops_since(&sim, before).into_iter().map(|(op, _)| op).collect();
    assert_eq!(steps, [FsOp::Write, FsOp::SyncData]);
    drop(log);
    let (_, _, batches) = open_after(&sim, options, Lsn::ZERO).unwrap();
    let found: Vec<usize> = batches.iter().map(|(_, payload)| payload.len()).collect();
    assert_eq!(found, sizes);
    assert!(batches.iter().all(|(_, payload)| payload.iter().all(|&b| b == payload.len() as u8)));
}

/// W10: only completed files at or below the mark go, oldest first, each durably before the next.
#[test]
fn files_go_oldest_first_and_each_durably() {
    let sim = SimFs::new(1);
    let (mut log, ..) = open(&sim).unwrap();
    for n in 1..=4 {
        log.append(batch(n)).unwrap();
        log.commit(true).unwrap();
        log.roll().unwrap();
    }
    assert_eq!(log.files().len(), 5);
    let before = sim.trace().len();
    let removed = log.remove_upto(Lsn::new(3)).unwrap();
    assert_eq!(removed.iter().map(|file| file.number).collect::<Vec<_>>(), [1, 2, 3]);
    let steps: Vec<FsOp> = ops_since(&sim, before).into_iter().map(|(op, _)| op).collect();
    assert_eq!(steps, [FsOp::RemoveFile, FsOp::SyncDir].repeat(3));
    assert_eq!(log.files().len(), 2);
    sim.crash(CrashPolicy::DropAll);
    let (_, _, batches) = open_after(&sim, OPTIONS, Lsn::new(3)).unwrap();
    assert_eq!(batches, [(Lsn::new(4), batch(4))]);
}

#[test]
fn a_file_stays_while_one_of_its_batches_is_above_the_mark() {
    let sim = SimFs::new(1);
    let (mut log, ..) = open(&sim).unwrap();
    for n in 1..=3 {
        log.append(batch(n)).unwrap();
        log.commit(true).unwrap();
    }
    log.roll().unwrap();
    assert!(log.remove_upto(Lsn::new(2)).unwrap().is_empty());
    assert_eq!(log.remove_upto(Lsn::new(3)).unwrap().len(), 1);
}

#[test]
fn the_current_file_stays_whatever_the_mark() {
    let sim = SimFs::new(1);
    let (mut log, ..) = open(&sim).unwrap();
    log.append(batch(1)).unwrap();
    log.commit(true).unwrap();
    assert!(log.remove_upto(Lsn::MAX).unwrap().is_empty());
    log.roll().unwrap();
    assert_eq!(log.remove_upto(Lsn::MAX).unwrap().len(), 1);
    assert!(log.active_file().is_empty());
    let calls = sim.calls();
    log.roll().unwrap();
    assert_eq!(sim.calls(), calls, "an empty file is not rolled");
    drop(log);
    let (log, report, _) = open_after(&sim, OPTIONS, Lsn::new(1)).unwrap();
    assert_eq!((report.last_lsn, log.next_lsn()), (Lsn::new(1), Lsn::new(2)));
}

#[test]
fn a_group_larger_than_a_file_gets_a_file_of_its_size() {
    let sim = SimFs::new(1);
    let (mut log, ..) = open(&sim).unwrap();
    for _ in 0..3 {
        log.append(vec![7; 4000]).unwrap();
    }
    log.commit(true).unwrap();
    assert_eq!(log.files().len(), 2, "the empty first file and the large one");
    drop(log);
    let (mut log, _, batches) = open(&sim).unwrap();
    assert_eq!(batches.len(), 3);
    log.append(batch(1)).unwrap();
    log.commit(true).unwrap();
    assert_eq!(verify(&sim, Lsn::ZERO).unwrap().1.len(), 4);
}

#[test]
fn a_replay_that_stops_changes_nothing() {
    let sim = SimFs::new(1);
    let (mut log, ..) = open(&sim).unwrap();
    log.append(batch(1)).unwrap();
    log.commit(true).unwrap();
    drop(log);
    let image = sim.image();
    let stop = &mut |_: Lsn, _: &[u8]| Err("a record of a later version".into());
    let error = akidb_wal::Log::open(&env(&sim), crate::model::dir(), OPTIONS, Lsn::ZERO, stop);
    assert!(matches!(error.unwrap_err(), WalError::Replay { lsn, .. } if lsn == Lsn::new(1)));
    assert_eq!(sim.image(), image);
}

/// An open copies the last file. Where a flush covers a part of it (the usual end of a quiet
/// database), copying that part, and keeping the files before it, would be work for nothing.
#[test]
fn an_open_carries_over_only_what_is_still_needed() {
    let sim = SimFs::new(1);
    let (mut log, ..) = open(&sim).unwrap();
    for n in 1..=30 {
        log.append(batch(n)).unwrap();
        log.commit(true).unwrap();
    }
    let files = log.files();
    let last = *files.last().unwrap();
    assert!(files.len() > 2 && last.last_lsn > last.first_lsn, "the test needs such a log");
    drop(log);
    let old = wal_files(&sim);

    let mark = last.first_lsn;
    let (log, report, batches) = open_after(&sim, OPTIONS, mark).unwrap();
    assert_eq!(batches.len(), 30, "all that is there is replayed");
    assert_eq!(report.removed, old, "oldest first");
    assert_eq!(log.files().len(), 1);
    assert_eq!(log.active_file().first_lsn, mark.next());
    drop(log);

    let (mut log, _, batches) = open_after(&sim, OPTIONS, mark).unwrap();
    let left: Vec<_> = batches.iter().map(|(lsn, _)| lsn.get()).collect();
    assert_eq!(left, (mark.get() + 1..=30).collect::<Vec<_>>());
    drop(log);
    log = open_after(&sim, OPTIONS, Lsn::new(30)).unwrap().0;
    assert_eq!(log.next_lsn(), Lsn::new(31), "an empty log goes on where it ended");
    assert!(log.active_file().is_empty());
}

/// The caller may look at what was replayed and decide against the open.
#[test]
fn a_recovered_log_is_untouched_until_it_is_taken_over() {
    let sim = SimFs::new(1);
    let (mut log, ..) = open(&sim).unwrap();
    log.append(batch(1)).unwrap();
    log.commit(true).unwrap();
    drop(log);
    let image = sim.image();
    let dir = crate::model::dir();
    let found = akidb_wal::Log::recover(&sim, dir, OPTIONS, Lsn::ZERO, &mut |_, _| Ok(())).unwrap();
    assert_eq!(found.report().frames, 1);
    assert_eq!(sim.image(), image);
    let (log, report) = found.take_over(&env(&sim)).unwrap();
    assert_eq!((log.last_lsn(), report.removed.len()), (Lsn::new(1), 1));
}

#[test]
fn a_newer_log_is_refused_by_name() {
    let sim = SimFs::new(1);
    open(&sim).unwrap();
    let path = wal_files(&sim).remove(0);
    let mut bytes = read_file(&sim, &path).unwrap();
    bytes[8] = 2;
    let crc = crc32fast::hash(&bytes[..124]);
    bytes[124..128].copy_from_slice(&crc.to_le_bytes());
    for (offset, byte) in bytes.iter().enumerate() {
        let old = read_file(&sim, &path).unwrap()[offset];
        if old != *byte {
            sim.corrupt(&path, offset as u64, old ^ byte).unwrap();
        }
    }
    let error = verify(&sim, Lsn::ZERO).unwrap_err();
    assert!(matches!(error, WalError::Newer { found: 2, supported: 1, .. }), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()));
}
