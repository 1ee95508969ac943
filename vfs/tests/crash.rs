//! What the simulated disk keeps and forgets when power goes: the clauses of the contract that a
//! real disk cannot be asked about in a test.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail it by panicking")]

use akidb_vfs::{
    Fs, FsFile, FsOp, OpenMode, read_file,
    sim::{CrashEffects, CrashPolicy, Fault, FaultKind, PowerMoment, SimFs, is_power_lost},
    write_file_durably,
};
use proptest::prelude::*;
use std::{path::Path, sync::Arc};

const ROOT: &str = "/";
const SECTOR: usize = 512;

fn path(text: &str) -> &Path {
    Path::new(text)
}

/// A file with durable bytes and a durable name.
fn durable(sim: &SimFs, name: &str, bytes: &[u8]) -> Arc<dyn FsFile> {
    let file = sim.create_new(path(name)).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    sim.sync_dir(path(ROOT)).unwrap();
    file
}

fn read(sim: &SimFs, name: &str) -> Option<Vec<u8>> {
    match read_file(sim, path(name)) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.is_not_found() => None,
        Err(error) => panic!("{error}"),
    }
}

/// What a disk can hold after a random crash, over many seeds.
fn outcomes(sim: &SimFs, name: &str) -> Vec<Option<Vec<u8>>> {
    let mut seen: Vec<_> = (0..200)
        .map(|seed| {
            let fork = sim.fork(seed);
            fork.crash(CrashPolicy::Random);
            read(&fork, name)
        })
        .collect();
    seen.sort();
    seen.dedup();
    seen
}

#[test]
fn bytes_that_were_not_synced_are_lost() {
    let sim = SimFs::new(1);
    let file = durable(&sim, "/f", &[1; 2000]);
    file.write_all_at(&[2; 100], 300).unwrap();
    file.write_all_at(&[2; 100], 1990).unwrap();
    assert_eq!(sim.read_durable(path("/f")), Some(vec![1; 2000]));
    sim.crash(CrashPolicy::DropAll);
    assert_eq!(read(&sim, "/f"), Some(vec![1; 2000]));
}

#[test]
fn a_synced_file_whose_directory_was_not_synced_is_lost() {
    let sim = SimFs::new(1);
    let file = sim.create_new(path("/f")).unwrap();
    file.write_all_at(b"synced", 0).unwrap();
    file.sync_all().unwrap();
    sim.crash(CrashPolicy::DropAll);
    assert_eq!(read(&sim, "/f"), None);
}

#[test]
fn a_synced_name_without_synced_bytes_is_an_empty_file() {
    let sim = SimFs::new(1);
    let file = sim.create_new(path("/f")).unwrap();
    file.write_all_at(b"lost", 0).unwrap();
    sim.sync_dir(path(ROOT)).unwrap();
    sim.crash(CrashPolicy::DropAll);
    assert_eq!(read(&sim, "/f"), Some(vec![]));
}

#[test]
fn an_unsynced_removal_is_undone_with_the_bytes() {
    let sim = SimFs::new(1);
    durable(&sim, "/f", b"back again");
    sim.remove_file(path("/f")).unwrap();
    // Many creations make the disk free what nothing refers to any more.
    for round in 0..2000 {
        sim.create_new(path("/other")).unwrap();
        sim.remove_file(path("/other")).unwrap();
        assert_eq!(read(&sim, "/f"), None, "round {round}");
    }
    sim.crash(CrashPolicy::DropAll);
    assert_eq!(read(&sim, "/f"), Some(b"back again".to_vec()));
}

#[test]
fn an_unsynced_rename_leaves_the_old_name_or_the_new_one() {
    let sim = SimFs::new(1);
    durable(&sim, "/current", b"old");
    durable(&sim, "/next", b"new");
    sim.rename(path("/next"), path("/current")).unwrap();
    let strict = sim.fork(0);
    strict.crash(CrashPolicy::DropAll);
    assert_eq!(read(&strict, "/current"), Some(b"old".to_vec()));
    assert_eq!(read(&strict, "/next"), Some(b"new".to_vec()));
    for seed in 0..100 {
        let fork = sim.fork(seed);
        fork.crash(CrashPolicy::Random);
        let renamed = read(&fork, "/next").is_none();
        let wanted: &[u8] = if renamed { b"new" } else { b"old" };
        assert_eq!(read(&fork, "/current").as_deref(), Some(wanted), "seed {seed}");
    }
}

#[test]
fn a_renamed_file_never_loses_both_names_whichever_directory_was_synced() {
    for synced in ["/", "/sub"] {
        let sim = SimFs::new(1);
        sim.create_dir_all(path("/sub")).unwrap();
        durable(&sim, "/f", b"bytes");
        sim.rename(path("/f"), path("/sub/f")).unwrap();
        sim.sync_dir(path(synced)).unwrap();
        for seed in 0..50 {
            let fork = sim.fork(seed);
            fork.crash(CrashPolicy::Random);
            assert!(
                read(&fork, "/f").is_some() || read(&fork, "/sub/f").is_some(),
                "lost with {synced} synced, seed {seed}"
            );
        }
        // In either order: with both directories synced, the rename is durable.
        sim.sync_dir(path("/sub")).unwrap();
        sim.sync_dir(path("/")).unwrap();
        sim.crash(CrashPolicy::DropAll);
        assert_eq!(read(&sim, "/f"), None);
        assert_eq!(read(&sim, "/sub/f"), Some(b"bytes".to_vec()));
    }
}

#[test]
fn a_new_file_under_a_renamed_file_s_old_name_never_replaces_it() {
    let sim = SimFs::new(1);
    durable(&sim, "/a", b"precious");
    sim.rename(path("/a"), path("/b")).unwrap();
    sim.create_new(path("/a")).unwrap();
    for seed in 0..100 {
        let fork = sim.fork(seed);
        fork.crash(CrashPolicy::Random);
        let found = [read(&fork, "/a"), read(&fork, "/b")];
        assert!(found.contains(&Some(b"precious".to_vec())), "seed {seed}: {found:?}");
    }
}

#[test]
fn a_removal_that_becomes_durable_late_spares_a_newer_file_of_that_name() {
    let sim = SimFs::new(1);
    sim.create_dir_all(path("/sub")).unwrap();
    durable(&sim, "/f", b"moved");
    sim.rename(path("/f"), path("/sub/f")).unwrap();
    sim.sync_dir(path(ROOT)).unwrap();
    durable(&sim, "/f", b"newer");
    sim.sync_dir(path("/sub")).unwrap();
    sim.crash(CrashPolicy::DropAll);
    assert_eq!(read(&sim, "/f"), Some(b"newer".to_vec()));
    assert_eq!(read(&sim, "/sub/f"), Some(b"moved".to_vec()));
}

#[test]
fn a_creation_can_survive_without_the_removal_that_followed() {
    let sim = SimFs::new(1);
    let file = sim.create_new(path("/f")).unwrap();
    file.write_all_at(b"undead", 0).unwrap();
    file.sync_data().unwrap();
    drop(file);
    sim.remove_file(path("/f")).unwrap();
    for other in 0..1000 {
        sim.create_new(path(&format!("/other{other}"))).unwrap();
    }
    assert_eq!(outcomes(&sim, "/f"), [None, Some(b"undead".to_vec())]);
}

#[test]
fn a_torn_write_keeps_any_of_its_sectors() {
    let sim = SimFs::new(1);
    let file = durable(&sim, "/f", &[0; 3 * SECTOR]);
    file.write_all_at(&[1; 3 * SECTOR], 0).unwrap();
    let seen = outcomes(&sim, "/f");
    let kept =
        |bytes: &Vec<u8>| [0, 1, 2].map(|sector| bytes[sector * SECTOR..][..SECTOR] == [1; SECTOR]);
    let all: Vec<_> = seen.iter().flatten().map(kept).collect();
    for wanted in 0..8_u8 {
        let wanted = [0, 1, 2].map(|bit| wanted & (1 << bit) != 0);
        assert!(all.contains(&wanted), "no crash kept exactly the sectors {wanted:?}");
    }
    let torn = seen
        .iter()
        .flatten()
        .any(|bytes| bytes.chunks(SECTOR).any(|sector| sector.contains(&0) && sector.contains(&1)));
    assert!(torn, "no crash tore a sector");
}

#[test]
fn unsynced_growth_survives_with_zeros_or_in_part_or_not() {
    let sim = SimFs::new(1);
    let file = durable(&sim, "/f", b"x");
    file.write_all_at(&[7; 4 * SECTOR], SECTOR as u64).unwrap();
    let lens: Vec<usize> = outcomes(&sim, "/f").iter().flatten().map(Vec::len).collect();
    assert!(lens.contains(&1), "the old length never survived");
    assert!(lens.contains(&(5 * SECTOR)), "the new length never survived");
    assert!(lens.iter().any(|&len| len > 1 && len < 5 * SECTOR), "no length in between");
    let holes = outcomes(&sim, "/f")
        .into_iter()
        .flatten()
        .any(|bytes| bytes.len() == 5 * SECTOR && bytes[SECTOR..2 * SECTOR] == [0; SECTOR]);
    assert!(holes, "the length never survived without its bytes");
}

#[test]
fn an_allocation_is_durable_only_after_a_sync() {
    let sim = SimFs::new(1);
    let file = durable(&sim, "/f", b"x");
    file.allocate(4096).unwrap();
    assert_eq!(sim.read_durable(path("/f")).map(|bytes| bytes.len()), Some(1));
    file.sync_all().unwrap();
    sim.crash(CrashPolicy::DropAll);
    assert_eq!(read(&sim, "/f").map(|bytes| bytes.len()), Some(4096));
}

#[test]
fn handles_locks_and_processes_end_with_the_power_and_mappings_stay() {
    let sim = SimFs::new(1);
    let process = sim.process();
    let file = durable(&process, "/f", b"bytes");
    let map = process.map(path("/f")).unwrap();
    let lock = process.try_lock(path("/LOCK"), "first").unwrap();
    sim.crash(CrashPolicy::KeepAll);
    assert!(is_power_lost(&file.write_all_at(b"late", 0).unwrap_err()));
    assert!(is_power_lost(&file.sync_data().unwrap_err()));
    assert!(is_power_lost(&process.create_new(path("/late")).unwrap_err()));
    assert_eq!(&*map, b"bytes");
    let next = sim.process();
    let held = next.try_lock(path("/LOCK"), "second").unwrap();
    drop(lock); // a dead process's lock releases nothing
    assert!(next.try_lock(path("/LOCK"), "third").is_err());
    drop(held);
}

#[test]
fn a_killed_process_loses_nothing_until_the_power_goes_too() {
    let sim = SimFs::new(1);
    let file = sim.process().create_new(path("/f")).unwrap();
    file.write_all_at(b"in the cache", 0).unwrap();
    sim.kill();
    assert!(is_power_lost(&file.len().unwrap_err()));
    assert_eq!(read(&sim, "/f"), Some(b"in the cache".to_vec()));
    sim.crash(CrashPolicy::DropAll);
    assert_eq!(read(&sim, "/f"), None);
}

#[test]
fn a_directory_left_behind_by_a_killed_process_is_made_durable_too() {
    let sim = SimFs::new(1);
    // The process dies between creating the directory and syncing its parent; only then does the
    // power go. The next process finds the directory and must not take its name for durable.
    sim.inject(Fault::new(FaultKind::Eio).on(FsOp::SyncDir).nth(2));
    sim.process().create_dir_all(path("/data")).unwrap_err();
    sim.kill();
    assert!(sim.metadata(path("/data")).is_ok(), "the directory was created");
    sim.create_dir_all(path("/data/deep")).unwrap();
    sim.crash(CrashPolicy::DropAll);
    sim.list_dir(path("/data/deep")).unwrap();
}

#[test]
fn nested_directories_are_durable_after_any_interrupted_attempt() {
    let whole = SimFs::new(1);
    whole.create_dir_all(path("/a/b/c")).unwrap();
    for nth in 1..=whole.calls() {
        let sim = SimFs::new(nth);
        sim.power_off_at(nth);
        sim.create_dir_all(path("/a/b/c")).unwrap_err();
        sim.reboot(CrashPolicy::Random);
        sim.create_dir_all(path("/a/b/c")).unwrap();
        sim.crash(CrashPolicy::DropAll);
        sim.list_dir(path("/a/b/c")).unwrap();
    }
}

#[test]
fn a_plan_to_lose_power_strikes_the_chosen_call_at_the_chosen_moment() {
    for (moment, lens) in [
        (PowerMoment::Before, 0..=0),
        (PowerMoment::Middle, 1..=99),
        (PowerMoment::After, 100..=100),
    ] {
        let sim = SimFs::new(3);
        let file = durable(&sim, "/f", b"");
        sim.power_off_at_moment(2, moment);
        file.sync_data().unwrap();
        assert!(is_power_lost(&file.write_all_at(&[9; 100], 0).unwrap_err()));
        assert!(!sim.is_powered());
        assert!(is_power_lost(&sim.metadata(path("/f")).unwrap_err()));
        sim.reboot(CrashPolicy::KeepAll);
        let len = read(&sim, "/f").unwrap().len();
        assert!(lens.contains(&len), "{moment:?} left {len} bytes");
    }
}

#[test]
fn a_file_replaced_durably_is_the_old_or_the_new_one_at_every_crash() {
    let start = SimFs::new(0);
    write_file_durably(&start, path("/f"), &[1; 1500]).unwrap();
    let calls = start.calls();
    let mut seen = [false; 2];
    // One more than there are calls: the plan never strikes, and the replacement is acknowledged.
    for nth in 1..=calls + 1 {
        for moment in [PowerMoment::Before, PowerMoment::Middle, PowerMoment::After] {
            for policy in [CrashPolicy::DropAll, CrashPolicy::KeepAll, CrashPolicy::Random] {
                let sim = start.fork(nth);
                sim.power_off_at_moment(nth, moment);
                let acknowledged = write_file_durably(&sim, path("/f"), &[2; 1500]).is_ok();
                sim.reboot(policy);
                let bytes = read(&sim, "/f").expect("the name is never lost");
                assert!(bytes == [1; 1500] || bytes == [2; 1500], "torn at call {nth} {moment:?}");
                assert!(
                    !acknowledged || bytes == [2; 1500],
                    "an acknowledged replacement was lost"
                );
                seen[usize::from(bytes[0] == 2)] = true;
                // A leftover temporary file does not disturb the next attempt.
                write_file_durably(&sim, path("/f"), &[3; 10]).unwrap();
            }
        }
    }
    assert_eq!(seen, [true; 2], "both outcomes were met");
}

#[test]
fn the_same_seed_and_calls_leave_the_same_image() {
    let run = |seed| {
        let sim = SimFs::new(seed);
        for at in 0..40_u8 {
            let file = sim.create_new(path(&format!("/f{at}"))).unwrap();
            file.write_all_at(&vec![at; 100 * usize::from(at)], 0).unwrap();
            if at % 3 == 0 {
                file.sync_data().unwrap();
            }
            if at % 7 == 0 {
                sim.sync_dir(path(ROOT)).unwrap();
            }
        }
        sim.crash(CrashPolicy::Random);
        (sim.image(), sim.crash_effects(), sim.trace_hash())
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5).0, run(6).0, "another seed, another crash");
    assert_eq!(run(5).2, run(6).2, "the trace is of the calls, not of chance");
    let effects = run(5).1;
    assert_ne!(effects, CrashEffects::default());
}

/// A step of a random history of one file.
#[derive(Clone, Debug)]
enum Step {
    Write { offset: usize, len: usize, byte: u8 },
    Allocate { len: usize },
    Sync,
    Crash { random: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4000_usize, 1..1500_usize, 1..=255_u8)
            .prop_map(|(offset, len, byte)| Step::Write { offset, len, byte }),
        1 => (0..6000_usize).prop_map(|len| Step::Allocate { len }),
        2 => Just(Step::Sync),
        1 => any::<bool>().prop_map(|random| Step::Crash { random }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Whatever is written after it, each byte of a synced file is, after a crash, its synced
    /// value or one written later; without crash policy chance, exactly the synced one. The live
    /// view is always what was written.
    #[test]
    fn synced_bytes_survive_and_only_newer_ones_may_replace_them(
        seed in any::<u64>(),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let sim = SimFs::new(seed);
        let mut file = durable(&sim, "/f", b"");
        let mut live: Vec<u8> = Vec::new();
        let mut synced: Vec<u8> = Vec::new();
        for step in steps {
            match step {
                Step::Write { offset, len, byte } => {
                    file.write_all_at(&vec![byte; len], offset as u64).unwrap();
                    live.resize(live.len().max(offset + len), 0);
                    live[offset..offset + len].fill(byte);
                }
                Step::Allocate { len } => {
                    file.allocate(len as u64).unwrap();
                    live.resize(live.len().max(len), 0);
                }
                Step::Sync => {
                    file.sync_data().unwrap();
                    synced.clone_from(&live);
                }
                Step::Crash { random: false } => {
                    sim.crash(CrashPolicy::DropAll);
                    file = sim.open(path("/f"), OpenMode::ReadWrite).unwrap();
                    live.clone_from(&synced);
                }
                Step::Crash { random: true } => {
                    sim.crash(CrashPolicy::Random);
                    file = sim.open(path("/f"), OpenMode::ReadWrite).unwrap();
                    let found = read(&sim, "/f").unwrap();
                    prop_assert!(found.len() >= synced.len() && found.len() <= live.len());
                    for (at, &byte) in found.iter().enumerate() {
                        let old = synced.get(at).copied().unwrap_or(0);
                        prop_assert!(byte == old || byte == live[at], "byte {}", at);
                    }
                    live.clone_from(&found);
                    synced = found;
                }
            }
            prop_assert_eq!(read(&sim, "/f").unwrap(), live.clone());
            prop_assert_eq!(sim.read_durable(path("/f")).unwrap(), synced.clone());
        }
    }
}

/// Two files, one growing by overwriting and one renamed, with syncs in between.
fn little_life(sim: &SimFs) -> Result<(), akidb_vfs::FsError> {
    let file = sim.create_new(path("/f"))?;
    file.write_all_at(&[1; 700], 0)?;
    file.sync_data()?;
    sim.sync_dir(path(ROOT))?;
    file.write_all_at(&[2; 700], 300)?;
    write_file_durably(sim, path("/g"), &[3; 600])?;
    sim.remove_file(path("/f"))
}

#[test]
fn a_recorded_crash_point_holds_what_a_loss_of_power_there_would_have_left() {
    let sim = SimFs::new(1);
    sim.record_crash_points(1, 1);
    little_life(&sim).unwrap();
    let points = sim.take_crash_points();
    let before = points.iter().filter(|point| point.moment == PowerMoment::Before);
    assert_eq!(before.clone().count() as u64, sim.calls(), "one before each call");
    for point in before {
        for policy in [CrashPolicy::DropAll, CrashPolicy::KeepAll] {
            let cut = SimFs::new(1);
            cut.power_off_at(point.call);
            drop(little_life(&cut));
            cut.reboot(policy);
            let recorded = point.crashed(policy, 9);
            assert_eq!(recorded.image(), cut.image(), "{policy:?} at {point:?}");
            assert_eq!(recorded.image_hash(|_| false), cut.image_hash(|_| false));
        }
    }
    let middles = points.iter().filter(|point| point.moment == PowerMoment::Middle);
    assert!(middles.count() >= 3, "within each write");
    assert!(sim.take_crash_points().is_empty(), "they are given out once");
}

#[test]
fn recording_crash_points_changes_nothing_in_the_run() {
    let (plain, recorded) = (SimFs::new(1), SimFs::new(1));
    recorded.record_crash_points(2, 5);
    little_life(&plain).unwrap();
    little_life(&recorded).unwrap();
    assert_eq!(plain.trace_hash(), recorded.trace_hash());
    plain.crash(CrashPolicy::Random);
    recorded.crash(CrashPolicy::Random);
    assert_eq!(plain.image(), recorded.image());
    assert_ne!(plain.image_hash(|_| false), SimFs::new(1).image_hash(|_| false));
}
