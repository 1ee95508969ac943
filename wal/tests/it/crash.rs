//! Power lost at every call of a workload, and again at every call of the recovery from it.
//! Promises D1, D3, D4 and D12.

use crate::model::{Batches, Model, OPTIONS, Op, open_after, wal_files};
use akidb_vfs::{
    FsOp,
    sim::{CrashPolicy, Fault, FaultKind, PowerMoment, SimFs},
};
use akidb_wal::LogOptions;
use proptest::prelude::*;

/// Every kind of step: groups of several batches, unsynced writes, a batch larger than a file,
/// rolls, removal, a reopen in the middle.
const WORKLOAD: &[Op] = &[
    Op::Append(30),
    Op::Commit { sync: true },
    Op::Append(200),
    Op::Append(10),
    Op::Append(0),
    Op::Commit { sync: true },
    Op::Append(90),
    Op::Commit { sync: false },
    Op::Seal,
    Op::Append(500),
    Op::Commit { sync: true },
    Op::Append(2000),
    Op::Commit { sync: false },
    Op::Append(40),
    Op::Commit { sync: true },
    Op::Reopen,
    Op::Append(60),
    Op::Commit { sync: true },
    Op::Roll,
    Op::Remove,
    Op::Append(70),
    Op::Append(700),
    Op::Commit { sync: true },
    Op::Append(20),
    Op::Commit { sync: false },
];

const MOMENTS: [PowerMoment; 3] = [PowerMoment::Before, PowerMoment::Middle, PowerMoment::After];

/// The first is the strictest disk, the second the luckiest; the rest are drawn.
fn policy(draw: u64) -> CrashPolicy {
    match draw {
        0 => CrashPolicy::DropAll,
        1 => CrashPolicy::KeepAll,
        _ => CrashPolicy::Random,
    }
}

/// The workload up to the loss of power at its nth call; the disk is off.
fn crashed_at(nth: u64, moment: PowerMoment, ops: &[Op]) -> (SimFs, Model) {
    let sim = SimFs::new(nth);
    let mut model = Model::default();
    sim.power_off_at_moment(nth, moment);
    drop(model.run(&sim, ops));
    (sim, model)
}

fn calls_of(ops: &[Op]) -> u64 {
    let sim = SimFs::new(0);
    Model::default().run(&sim, ops).unwrap();
    sim.calls()
}

fn recovered(sim: &SimFs, model: &Model) -> Batches {
    let (_log, report, batches) = open_after(sim, OPTIONS, model.mark())
        .unwrap_or_else(|error| panic!("{error}\n{:?}", sim.trace()));
    model.check(report.last_lsn, &batches);
    batches
}

#[test]
fn power_lost_at_every_call_leaves_a_prefix_with_all_that_was_durable() {
    for nth in 1..=calls_of(WORKLOAD) {
        for moment in MOMENTS {
            let (sim, model) = crashed_at(nth, moment, WORKLOAD);
            for draw in 0..8 {
                let disk = sim.fork(draw);
                disk.reboot(policy(draw));
                recovered(&disk, &model);
            }
        }
    }
}

#[test]
fn power_lost_again_at_every_call_of_the_recovery_changes_nothing() {
    for nth in 1..=calls_of(WORKLOAD) {
        let (sim, model) = crashed_at(nth, PowerMoment::Middle, WORKLOAD);
        sim.reboot(CrashPolicy::Random);
        let undisturbed = sim.fork(0);
        let before = undisturbed.calls();
        let expected = recovered(&undisturbed, &model);
        for again in 1..=undisturbed.calls() - before {
            for draw in 0..3 {
                let disk = sim.fork(draw);
                disk.power_off_at_moment(again, MOMENTS[(again % 3) as usize]);
                drop(open_after(&disk, OPTIONS, model.mark()));
                disk.reboot(policy(draw));
                assert_eq!(recovered(&disk, &model), expected, "call {nth}, then {again}");
            }
        }
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_written_and_neither_does_power_lost_later() {
    for nth in 1..=calls_of(WORKLOAD) {
        let (sim, model) = crashed_at(nth, PowerMoment::After, WORKLOAD);
        sim.reboot(CrashPolicy::KeepAll);
        let kept = recovered(&sim, &model);
        sim.crash(CrashPolicy::DropAll);
        assert_eq!(recovered(&sim, &model), kept, "what a recovery replayed is durable");
    }
}

/// An open fails between the rename of its copy and the sync of the directory, so the copy's name
/// is there but not durable. If the next open removed the old file without syncing the directory
/// first, power loss could take the copy's name and leave the removal: both files gone.
#[test]
fn what_a_failed_open_left_is_made_durable_before_anything_is_removed() {
    let sim = SimFs::new(1);
    let mut model = Model::default();
    let ops = [Op::Append(50), Op::Commit { sync: true }, Op::Seal];
    model.run(&sim, &ops).unwrap();
    sim.inject(Fault::new(FaultKind::Eio).on(FsOp::SyncDir).path("wal").nth(1));
    open_after(&sim, OPTIONS, model.mark()).unwrap_err();
    assert_eq!(wal_files(&sim).len(), 2, "the copy and the original");
    sim.kill();
    for nth in 1..16 {
        for seed in 0..40 {
            let disk = sim.fork(seed);
            disk.power_off_at(nth);
            drop(open_after(&disk, OPTIONS, model.mark()));
            disk.reboot(CrashPolicy::Random);
            recovered(&disk, &model);
        }
    }
}

#[test]
fn any_number_of_interrupted_recoveries_never_grows_the_log() {
    let sim = SimFs::new(3);
    let mut model = Model::default();
    model.run(&sim, WORKLOAD).unwrap();
    let files = wal_files(&sim).len();
    let used = sim.files().iter().map(|(_, len)| len).sum::<u64>();
    for round in 0..60 {
        sim.power_off_at(1 + round % 13);
        drop(open_after(&sim, OPTIONS, model.mark()));
        sim.reboot(policy(round % 3));
        assert!(wal_files(&sim).len() <= files + 2, "at most one copy and one half-made file");
    }
    recovered(&sim, &model);
    assert_eq!(wal_files(&sim).len(), files);
    // A file made for an oversized batch may be replaced by one with room for one more seal.
    assert!(sim.files().iter().map(|(_, len)| len).sum::<u64>() <= used + 48);
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0_usize..1500).prop_map(|len| Op::Append(len * len / 1500)),
        4 => any::<bool>().prop_map(|sync| Op::Commit { sync }),
        1 => Just(Op::Seal),
        1 => Just(Op::Roll),
        1 => Just(Op::Remove),
        1 => Just(Op::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000, failure_persistence: None, ..Default::default()
    })]

    /// Several lives on one disk, each ended by a power loss at some call.
    #[test]
    fn every_life_of_a_log_continues_the_one_before(
        seed in any::<u64>(),
        // Room for few frames, so that files roll; or for many, so that unsynced ones pile up.
        file_bytes in prop_oneof![Just(1024_u64), Just(8192)],
        lives in prop::collection::vec(
            (prop::collection::vec(any_op(), 1..25), 1_u64..60, 0_usize..3, 0_u64..4),
            1..5,
        ),
    ) {
        let sim = SimFs::new(seed);
        let mut model = Model::new(LogOptions { file_bytes, ..OPTIONS });
        for (ops, nth, moment, draw) in lives {
            sim.power_off_at_moment(nth, MOMENTS[moment]);
            drop(model.run(&sim, &ops));
            sim.reboot(policy(draw));
            let disk = sim.fork(seed);
            recovered(&disk, &model);
        }
    }
}
