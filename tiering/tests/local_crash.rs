//! The local store loses power, is killed, or meets a failing disk at every single call: an
//! acknowledged object survives, and nobody ever sees half of one.

use akidb_tiering::{
    LocalStore, ObjectKey, ObjectStore, Outcome, PutOptions, StoreErrorKind, StoreResult,
    get_verified,
};
use akidb_vfs::{
    Fs, FsOp,
    sim::{CrashPolicy, Fault, FaultKind, PowerMoment, SimFs},
};
use futures_lite::future::block_on;
use std::{collections::BTreeMap, path::Path, sync::Arc};

const MANY_BYTES: usize = 3000;

fn open(disk: &SimFs) -> LocalStore {
    LocalStore::open(Arc::new(disk.process()), "/db/bucket").expect("the bucket opens")
}

fn key(text: &str) -> ObjectKey {
    ObjectKey::new(text).expect("the test's keys are valid")
}

fn put(store: &LocalStore, name: &str, fill: u8) -> StoreResult<()> {
    let body = vec![fill; MANY_BYTES].into();
    block_on(store.put(&key(name), body, PutOptions::default())).map(drop)
}

/// The fill byte of a whole object; `None` if there is none.
fn read(store: &LocalStore, name: &str) -> Option<u8> {
    match block_on(store.get(&key(name))) {
        Ok(object) => {
            assert_eq!(object.body.len(), MANY_BYTES, "{name} is cut");
            assert!(object.body.iter().all(|b| *b == object.body[0]), "{name} is torn");
            Some(object.body[0])
        }
        Err(error) => {
            assert_eq!(error.kind, StoreErrorKind::NotFound, "{error}");
            None
        }
    }
}

/// Puts, replaces and deletes, each in turn until the power goes.
const STEPS: [(&str, Option<u8>); 7] = [
    ("a", Some(1)),
    ("dir/b", Some(2)),
    ("a", Some(3)),
    ("dir/deeper/c", Some(4)),
    ("dir/b", None),
    ("a", Some(5)),
    ("a", None),
];

/// What was acknowledged, and the step that was not.
type Run = (BTreeMap<&'static str, u8>, Option<(&'static str, Option<u8>)>);

fn run_steps(store: &LocalStore) -> Run {
    let mut acknowledged = BTreeMap::new();
    for (name, fill) in STEPS {
        let done = match fill {
            Some(fill) => put(store, name, fill),
            None => block_on(store.delete(&key(name))),
        };
        if done.is_err() {
            return (acknowledged, Some((name, fill)));
        }
        match fill {
            Some(fill) => acknowledged.insert(name, fill),
            None => acknowledged.remove(name),
        };
    }
    (acknowledged, None)
}

fn check(store: &LocalStore, (acknowledged, in_doubt): &Run, context: &str) {
    for name in ["a", "dir/b", "dir/deeper/c"] {
        let found = read(store, name);
        let wanted = acknowledged.get(name).copied();
        let maybe = in_doubt.filter(|(doubted, _)| *doubted == name).map(|(_, fill)| fill);
        assert!(
            found == wanted || Some(found) == maybe,
            "{context}: {name} is {found:?}, acknowledged {wanted:?}, in doubt {maybe:?}"
        );
    }
}

fn calls_of_a_whole_run() -> u64 {
    let disk = SimFs::new(0);
    let store = open(&disk);
    let before = disk.calls();
    assert_eq!(run_steps(&store).1, None);
    disk.calls() - before
}

#[test]
fn acknowledged_objects_survive_power_loss_at_every_call() {
    let calls = calls_of_a_whole_run();
    assert!(calls > 30, "the workload is too small to mean anything: {calls} calls");
    for policy in [CrashPolicy::DropAll, CrashPolicy::KeepAll, CrashPolicy::Random] {
        for moment in [PowerMoment::Before, PowerMoment::Middle, PowerMoment::After] {
            for (nth, seed) in (1..=calls).flat_map(|nth| (0..4).map(move |seed| (nth, seed))) {
                let disk = SimFs::new(seed);
                let store = open(&disk);
                disk.power_off_at_moment(nth, moment);
                let run = run_steps(&store);
                disk.reboot(policy);
                let store = open(&disk);
                let context = format!("{policy:?}, {moment:?} call {nth}, seed {seed}");
                check(&store, &run, &context);
                store.sweep_unfinished().unwrap();
                check(&store, &run, &context);
                assert!(
                    disk.files().iter().all(|(path, _)| !path.to_string_lossy().contains('~')),
                    "{context}: a temporary file is left after the sweep"
                );
            }
        }
    }
}

/// A process dies between any two calls of a put. Its successor finds the object with `head`,
/// takes it for verified and deletes its own copy; then the power goes. The rename was never
/// synced by the dead process, so `head` must have done it.
#[test]
fn an_object_that_head_reported_survives_although_its_putter_was_killed() {
    let mut found_without_ack = 0;
    for nth in 1.. {
        let disk = SimFs::new(nth);
        let store = open(&disk);
        disk.inject(Fault::new(FaultKind::Eio).nth(nth).sticky());
        let acknowledged = put(&store, "dir/a", 1).is_ok();
        disk.clear_faults();
        disk.kill();

        let store = open(&disk);
        let reported = block_on(store.head(&key("dir/a"))).is_ok();
        found_without_ack += u32::from(reported && !acknowledged);
        if !reported {
            put(&store, "dir/a", 1).unwrap();
        }
        disk.crash(CrashPolicy::DropAll);
        assert_eq!(read(&open(&disk), "dir/a"), Some(1), "killed before call {nth}");
        if acknowledged {
            break;
        }
    }
    assert!(found_without_ack > 0, "no kill fell between the rename and its sync");
}

#[test]
fn a_put_whose_directory_sync_failed_is_unknown_and_stays_in_doubt_until_put_again() {
    let mut in_doubt = 0;
    for nth in 1.. {
        let disk = SimFs::new(1);
        let store = open(&disk);
        put(&store, "dir/other", 9).unwrap();
        disk.inject(Fault::new(FaultKind::SyncFailsCacheKept).on(FsOp::SyncDir).nth(nth));
        let Err(error) = put(&store, "dir/a", 1) else {
            break;
        };
        assert_eq!(error.kind, StoreErrorKind::Unavailable, "{error}");
        if error.outcome == Outcome::NotDone {
            assert_eq!(read(&store, "dir/a"), None, "failed before the rename");
            continue;
        }
        in_doubt += 1;
        // The object can be seen, and a second sync would succeed and prove nothing.
        assert_eq!(read(&store, "dir/a"), Some(1));
        let error = block_on(store.head(&key("dir/a"))).unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Unavailable);

        put(&store, "dir/a", 2).unwrap();
        assert!(block_on(store.head(&key("dir/a"))).is_ok());
        disk.crash(CrashPolicy::DropAll);
        assert_eq!(read(&open(&disk), "dir/a"), Some(2), "after failed sync {nth}");
    }
    assert!(in_doubt > 0, "no sync of a directory followed the rename");
}

#[test]
fn a_failed_write_or_sync_of_the_body_changes_nothing_and_leaves_nothing() {
    for (kind, op, expected) in [
        (FaultKind::NoSpace, FsOp::Write, StoreErrorKind::NoSpace),
        (FaultKind::NoSpace, FsOp::Create, StoreErrorKind::NoSpace),
        (FaultKind::Eio, FsOp::Write, StoreErrorKind::Unavailable),
        (FaultKind::SyncFailsCacheKept, FsOp::SyncAll, StoreErrorKind::Unavailable),
        (FaultKind::TooManyFiles, FsOp::Create, StoreErrorKind::Unavailable),
    ] {
        let disk = SimFs::new(1);
        let store = open(&disk);
        put(&store, "a", 1).unwrap();
        disk.inject(Fault::new(kind).on(op));
        let error = put(&store, "a", 2).unwrap_err();
        assert_eq!((error.kind, error.outcome), (expected, Outcome::NotDone), "{error}");
        assert_eq!(read(&store, "a"), Some(1));
        assert_eq!(disk.files().len(), 1, "{kind:?} at {op:?} leaves a temporary file");
        put(&store, "a", 3).unwrap();
        assert_eq!(read(&store, "a"), Some(3));
    }
}

#[test]
fn a_read_only_disk_refuses_puts_and_serves_reads() {
    let disk = SimFs::new(1);
    let store = open(&disk);
    put(&store, "a", 1).unwrap();
    disk.set_read_only(true);
    let error = put(&store, "a", 2).unwrap_err();
    assert_eq!((error.kind, error.outcome), (StoreErrorKind::PermissionDenied, Outcome::NotDone));
    assert_eq!(read(&store, "a"), Some(1));
}

#[test]
fn rot_shows_in_head_and_is_refused_by_a_verified_get() {
    let disk = SimFs::new(1);
    let store = open(&disk);
    put(&store, "a", 1).unwrap();
    let before = block_on(store.head(&key("a"))).unwrap();
    disk.corrupt(Path::new("/db/bucket/a"), 1234, 0x10).unwrap();
    let after = block_on(store.head(&key("a"))).unwrap();
    assert_ne!(before.crc32, after.crc32, "head tells what is stored, not what was put");
    let result = block_on(get_verified(&store, &key("a"), before.len, before.crc32));
    assert_eq!(result.unwrap_err().kind, StoreErrorKind::Corrupt);
}

#[test]
fn a_key_cannot_be_the_directory_of_another() {
    let disk = SimFs::new(1);
    let store = open(&disk);
    put(&store, "a", 1).unwrap();
    put(&store, "d/b", 2).unwrap();
    for name in ["a/b", "a/b/c", "d"] {
        let error = put(&store, name, 3).unwrap_err();
        let found = (error.kind, error.outcome);
        assert_eq!(found, (StoreErrorKind::Unsupported, Outcome::NotDone), "{name}: {error}");
        assert_eq!(read(&store, name), None);
        assert!(block_on(store.delete(&key(name))).is_ok());
    }
    assert_eq!((read(&store, "a"), read(&store, "d/b")), (Some(1), Some(2)));
}

#[test]
fn files_that_are_no_objects_are_skipped_and_kept() {
    let disk = SimFs::new(1);
    let store = open(&disk);
    put(&store, "c/a", 1).unwrap();
    for stray in ["/db/bucket/.DS_Store", "/db/bucket/c/a~b", "/db/bucket/c/Upper"] {
        disk.create_new(Path::new(stray)).unwrap();
    }
    disk.create_new(Path::new("/db/bucket/c/a~17")).unwrap();
    let page = block_on(store.list("", None, 100)).unwrap();
    assert_eq!(page.objects.iter().map(|o| o.key.as_str()).collect::<Vec<_>>(), ["c/a"]);
    assert_eq!(store.sweep_unfinished().unwrap(), 1, "only a~17 is a name we give");
    assert_eq!(disk.files().len(), 4);
}
