//! A disk that fails: full, short, interrupted, unable to sync. Promises D6 and D7.

use crate::model::{Model, OPTIONS, Op, open, verify, wal_files};
use akidb_vfs::{
    FsOp,
    sim::{CrashPolicy, Fault, FaultKind, SimFs},
};
use akidb_wal::{Lsn, WalError};

fn batch(n: u8) -> Vec<u8> {
    vec![n; 100]
}

/// A log with one durable batch.
fn started(sim: &SimFs) -> akidb_wal::Log {
    let (mut log, ..) = open(sim).unwrap();
    log.append(batch(1)).unwrap();
    log.commit(true).unwrap();
    log
}

#[test]
fn a_full_disk_fails_the_group_alone_and_space_brings_the_log_back() {
    let sim = SimFs::new(1);
    let mut log = started(&sim);
    sim.set_capacity(Some(0));
    log.append(vec![2; 900]).unwrap();
    for _ in 0..3 {
        let error = log.commit(true).unwrap_err();
        assert!(error.is_no_space(), "{error}");
        assert!(error.to_string().contains("free space"));
        assert_eq!(log.next_lsn(), Lsn::new(2), "the group's numbers are handed back");
        log.append(vec![2; 900]).unwrap();
    }
    assert!(log.poisoned().is_none());
    assert_eq!(wal_files(&sim).len(), 1, "nothing half made is left");
    log.unstage();
    // A batch that fits the current file needs no space.
    log.append(batch(3)).unwrap();
    assert_eq!(log.commit(true).unwrap(), Lsn::new(2));
    sim.set_capacity(None);
    log.append(vec![4; 900]).unwrap();
    assert_eq!(log.commit(true).unwrap(), Lsn::new(3));
    drop(log);
    let (_, _, batches) = open(&sim).unwrap();
    let found: Vec<_> = batches.iter().map(|(lsn, payload)| (lsn.get(), payload[0])).collect();
    assert_eq!(found, [(1, 1), (2, 3), (3, 4)]);
}

#[test]
fn a_full_disk_at_each_step_of_making_a_file_leaves_the_log_working() {
    for on in [FsOp::Create, FsOp::Allocate, FsOp::Write, FsOp::SyncAll, FsOp::Rename] {
        let sim = SimFs::new(1);
        let mut log = started(&sim);
        log.seal().unwrap();
        sim.inject(Fault::new(FaultKind::NoSpace).on(on).path(".tmp"));
        log.append(vec![2; 900]).unwrap();
        let error = log.commit(true).unwrap_err();
        assert!(error.is_no_space(), "{on:?}: {error}");
        log.append(vec![3; 900]).unwrap();
        assert_eq!(log.commit(true).unwrap(), Lsn::new(2), "{on:?}");
        drop(log);
        assert_eq!(verify(&sim, Lsn::ZERO).unwrap().1.len(), 2);
    }
}

#[test]
fn too_few_descriptors_for_a_new_file_do_not_stop_the_log() {
    let sim = SimFs::new(1);
    let mut log = started(&sim);
    sim.inject(Fault::new(FaultKind::TooManyFiles).on(FsOp::Create));
    log.append(vec![2; 900]).unwrap();
    assert!(matches!(log.commit(true).unwrap_err(), WalError::Fs(_)));
    log.append(vec![2; 900]).unwrap();
    assert_eq!(log.commit(true).unwrap(), Lsn::new(2));
}

/// After the rename the new name may be there, and it names the old file's last frame: a frame
/// added to the old file now would make the next open refuse the log.
#[test]
fn an_unknown_outcome_of_the_directory_sync_stops_the_log() {
    for kind in [FaultKind::Eio, FaultKind::NoSpace] {
        let sim = SimFs::new(1);
        let mut log = started(&sim);
        sim.inject(Fault::new(kind).on(FsOp::SyncDir));
        log.append(vec![2; 900]).unwrap();
        assert!(matches!(log.commit(true).unwrap_err(), WalError::Poisoned(_)));
        log.append(batch(2)).unwrap_err();
        for policy in [CrashPolicy::DropAll, CrashPolicy::KeepAll] {
            let disk = sim.fork(1);
            disk.crash(policy);
            assert_eq!(verify(&disk, Lsn::ZERO).unwrap().1.len(), 1);
        }
    }
}

/// W8: a short write goes on at the right offset, an interrupted call is repeated.
#[test]
fn short_and_interrupted_writes_go_on() {
    for kind in [FaultKind::ShortWrite, FaultKind::Interrupted] {
        for nth in 1..4 {
            let sim = SimFs::new(nth);
            let mut log = started(&sim);
            sim.inject(Fault::new(kind).on(FsOp::Write).nth(nth));
            for n in 2..6 {
                log.append(batch(n)).unwrap();
                log.append(vec![n; 300]).unwrap();
                log.commit(true).unwrap();
            }
            assert_eq!(sim.fired().get(&kind), Some(&1));
            drop(log);
            sim.crash(CrashPolicy::DropAll);
            assert_eq!(verify(&sim, Lsn::ZERO).unwrap().1.len(), 9);
        }
    }
}

/// D6. Only the first error is told, for ever, and a later sync that works proves nothing.
#[test]
fn a_failed_sync_poisons_and_a_reopen_recovers_all_that_was_durable() {
    for kind in [FaultKind::SyncFailsCacheKept, FaultKind::SyncFailsCacheDropped, FaultKind::Eio] {
        for policy in [CrashPolicy::DropAll, CrashPolicy::KeepAll, CrashPolicy::Random] {
            let sim = SimFs::new(1);
            let mut log = started(&sim);
            sim.inject(Fault::new(kind).on(FsOp::SyncData));
            log.append(batch(2)).unwrap();
            let first = log.commit(true).unwrap_err();
            assert!(first.to_string().contains("close and open again"), "{first}");
            let calls = sim.calls();
            for error in [log.append(batch(3)).unwrap_err(), log.sync().unwrap_err()] {
                assert_eq!(error.to_string(), first.to_string());
            }
            assert_eq!(sim.calls(), calls, "nothing touches the file any more");
            drop(log);
            // First a kill, so that the reopen reads what the cache pretends; then power loss.
            sim.kill();
            let (log, _, kept) = open(&sim).unwrap();
            assert!(kept.starts_with(&[(Lsn::new(1), batch(1))]));
            drop(log);
            sim.crash(policy);
            assert_eq!(verify(&sim, Lsn::ZERO).unwrap().1, kept, "{kind:?} {policy:?}");
        }
    }
}

#[test]
fn a_failed_write_poisons_and_leaves_whole_batches_only() {
    let sim = SimFs::new(1);
    let mut log = started(&sim);
    sim.inject(Fault::new(FaultKind::ShortWrite).on(FsOp::Write));
    sim.inject(Fault::new(FaultKind::Eio).on(FsOp::Write).nth(2));
    for n in 2..7 {
        log.append(batch(n)).unwrap();
    }
    assert!(matches!(log.commit(true).unwrap_err(), WalError::Poisoned(_)));
    drop(log);
    let (_, report, batches) = open(&sim).unwrap();
    assert!(batches.len() < 6);
    for (n, (_, payload)) in (1..).zip(&batches) {
        assert_eq!(payload, &batch(n));
    }
    assert_eq!(report.last_lsn.get(), batches.len() as u64);
}

/// A removal whose sync failed may come undone; one that overtook it would leave a hole.
#[test]
fn a_failed_removal_stops_removals_and_nothing_else() {
    let sim = SimFs::new(1);
    let mut log = started(&sim);
    for n in 2..5 {
        log.roll().unwrap();
        log.append(batch(n)).unwrap();
        log.commit(true).unwrap();
    }
    sim.inject(Fault::new(FaultKind::Eio).on(FsOp::SyncDir));
    log.remove_upto(Lsn::new(1)).unwrap_err();
    log.remove_upto(Lsn::new(3)).unwrap_err();
    log.append(batch(5)).unwrap();
    log.commit(true).unwrap();
    sim.crash(CrashPolicy::DropAll);
    let (mut log, ..) = open(&sim).unwrap();
    assert_eq!(log.remove_upto(Lsn::new(3)).unwrap().len(), 3);
}

/// Every kind of step.
const WORKLOAD: &[Op] = &[
    Op::Append(50),
    Op::Commit { sync: true },
    Op::Append(600),
    Op::Append(300),
    Op::Commit { sync: true },
    Op::Seal,
    Op::Append(100),
    Op::Commit { sync: false },
    Op::Reopen,
    Op::Append(100),
    Op::Commit { sync: true },
    Op::Roll,
    Op::Remove,
    Op::Append(10),
    Op::Commit { sync: true },
];

/// Runs the workload into a fault, then loses power in three ways, and looks at what is left.
/// False when the workload makes fewer calls of the kind.
fn survives(fault: &Fault) -> bool {
    let sim = SimFs::new(fault.nth);
    sim.inject(fault.clone());
    let mut model = Model::default();
    drop(model.run(&sim, WORKLOAD));
    let fired = !sim.fired().is_empty();
    sim.clear_faults();
    for policy in [CrashPolicy::DropAll, CrashPolicy::KeepAll, CrashPolicy::Random] {
        let disk = sim.fork(fault.nth);
        disk.crash(policy);
        let reopened = model.clone().run(&disk, &[]);
        reopened.unwrap_or_else(|error| panic!("{fault:?}: {error}\n{:?}", sim.trace()));
    }
    fired
}

/// The log stops or goes on; the next open finds all that was called durable.
#[test]
fn one_fault_at_every_call_never_costs_a_durable_batch() {
    for kind in [
        FaultKind::Eio,
        FaultKind::NoSpace,
        FaultKind::ShortWrite,
        FaultKind::Interrupted,
        FaultKind::TooManyFiles,
        FaultKind::SyncFailsCacheKept,
        FaultKind::SyncFailsCacheDropped,
    ] {
        let mut nth = 1;
        while survives(&Fault::new(kind).nth(nth)) {
            // Interrupted for ever, a real machine would not come back either.
            if kind != FaultKind::Interrupted {
                assert!(survives(&Fault::new(kind).nth(nth).sticky()));
            }
            nth += 1;
        }
        assert!(nth > 5, "{kind:?} fired {} times only", nth - 1);
    }
}

#[test]
fn a_read_only_disk_refuses_the_open_and_can_still_be_verified() {
    let sim = SimFs::new(1);
    drop(started(&sim));
    sim.set_read_only(true);
    let error = open(&sim).unwrap_err();
    assert!(matches!(&error, WalError::Fs(error) if error.is_read_only()), "{error}");
    assert_eq!(verify(&sim, Lsn::ZERO).unwrap().1.len(), 1);
    sim.set_read_only(false);
    assert_eq!(open(&sim).unwrap().2.len(), 1);
}

#[test]
fn a_full_disk_at_open_changes_nothing_that_the_next_open_needs() {
    let sim = SimFs::new(1);
    drop(started(&sim));
    sim.set_capacity(Some(0));
    let error = open(&sim).unwrap_err();
    assert!(error.is_no_space(), "{error}");
    assert_eq!(wal_files(&sim).len(), 1);
    sim.set_capacity(None);
    assert_eq!(open(&sim).unwrap().2.len(), 1);
    assert_eq!(OPTIONS.file_bytes, 1024);
}
