//! Writers of one bucket, step by step: who is told what, and what is never deleted.

use super::{
    error::BucketError,
    keys::MANIFEST_KEY,
    lineage::Lineage,
    open::{Opening, open_writer},
    root::{Found, Root},
    session::{CommitFailure, Session},
    state::{BucketState, Contents, cut_holder},
    sweep::{GRACE_DEFAULT, GRACE_FLOOR},
};
use crate::{
    Metric, Schema,
    error::{Cause, Error, ErrorKind, Result},
    manifest::{CollectionManifest, ManifestState, page_tests::object},
};
use akidb_tiering::{
    Conditions, MemoryStore, ObjectKey, ObjectStore, PutOptions,
    faulty::{Fault, FaultyStore, Verb},
};
use akidb_vfs::{SystemRandom, sim::SimClock};
use akidb_wal::Lsn;
use futures_lite::future::block_on;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use uuid::Uuid;

const DATABASE: Uuid = Uuid::from_u128(0xa1);
const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) fn collection(id: u32, name: &str, keys: &[&str]) -> CollectionManifest {
    let schema = Schema::new(2, Metric::Dot);
    let cold = keys.iter().copied().map(object).collect();
    CollectionManifest { flushed: Lsn::new(9), cold, ..CollectionManifest::new(id, name, schema) }
}

fn naming(keys: &[&str]) -> Contents {
    let collections = [(0, collection(0, "docs", keys))].into();
    Contents { next_collection: 1, collections, ..Contents::default() }
}

/// A directory: what it has made durable.
#[derive(Clone, Debug, Default)]
struct Directory {
    lineage: Lineage,
    contents: Contents,
}

/// A store with faults over one with a clock.
struct World {
    clock: SimClock,
    memory: Arc<MemoryStore>,
    faulty: Arc<FaultyStore>,
}

impl World {
    fn new() -> Self {
        Self::whose(Conditions::Hold)
    }

    fn whose(conditions: Conditions) -> Self {
        let clock = SimClock::new();
        let memory = MemoryStore::with_clock(Arc::new(clock.clone())).with_conditions(conditions);
        let memory = Arc::new(memory);
        let faulty = Arc::new(FaultyStore::new(memory.clone(), 1));
        Self { clock, memory, faulty }
    }

    fn root(&self) -> Root {
        Root::new(self.faulty.clone(), "mem/")
    }

    fn open(&self, directory: &mut Directory, seed: u64) -> Result<Session> {
        open(self.root(), directory, seed)
    }

    fn put(&self, key: &str) {
        let key = ObjectKey::new(key).unwrap();
        block_on(self.memory.put(&key, "rows".into(), PutOptions::default())).unwrap();
    }

    fn has(&self, key: &str) -> bool {
        block_on(self.memory.head(&ObjectKey::new(key).unwrap())).is_ok()
    }

    fn manifest(&self) -> BucketState {
        let found = block_on(Root::new(self.memory.clone(), "mem/").look()).unwrap();
        found.expect("there is a manifest").state
    }

    /// Uploads an object under a key of the session, and returns the key.
    fn upload(&self, session: &Session) -> String {
        let key = session.cold_key(0).unwrap().to_string();
        self.put(&key);
        key
    }
}

/// A bucket, and the first writer of it.
fn opened() -> (World, Directory, Session) {
    let (world, mut directory) = (World::new(), Directory::default());
    let writer = world.open(&mut directory, 1).unwrap();
    (world, directory, writer)
}

fn open(root: Root, directory: &mut Directory, seed: u64) -> Result<Session> {
    let opening = Opening {
        root,
        random: Arc::new(SystemRandom::from_seed(seed)),
        database: DATABASE,
        holder: format!("machine {seed}"),
        lineage: directory.lineage.clone(),
        contents: directory.contents.clone(),
    };
    let mut record = |lineage: &Lineage| {
        directory.lineage = lineage.clone();
        Ok(())
    };
    block_on(open_writer(opening, &mut record))
}

/// Commits and records, as the engine does.
fn commit(
    session: &mut Session,
    directory: &mut Directory,
    keys: &[&str],
) -> Result<(), CommitFailure> {
    let contents = naming(keys);
    let lineage = block_on(session.commit(contents.clone()))?;
    *directory = Directory { lineage, contents };
    session.recorded(&directory.lineage);
    Ok(())
}

/// A directory that is made from what is in the bucket.
fn restored(world: &World) -> Directory {
    let restored = world.manifest().restored();
    Directory { lineage: restored.lineage, contents: Contents::of(&restored.manifest) }
}

#[track_caller]
fn assert_fenced(error: &Error, by: &str) {
    match error.cause() {
        Cause::Fenced { file, holder, .. } => {
            assert_eq!((file.as_str(), holder.as_str()), ("mem/manifest", by));
        }
        other => panic!("not fenced: {other}"),
    }
    assert_eq!(error.kind(), ErrorKind::Locked);
}

#[test]
fn d9_the_machine_that_was_replaced_is_told_at_its_next_commit_and_ever_after() {
    let (world, mut first, mut writer) = opened();
    let key = world.upload(&writer);
    commit(&mut writer, &mut first, &[&key]).unwrap();
    let mut second = restored(&world);
    let successor = world.open(&mut second, 2).unwrap();
    assert_eq!(successor.state().version.epoch, 2);
    let failure = commit(&mut writer, &mut first, &[]).unwrap_err();
    assert_fenced(&failure.error.into(), "machine 2");
    let before = world.faulty.counts();
    let failure = commit(&mut writer, &mut first, &[]).unwrap_err();
    assert!(!failure.maybe_committed);
    assert_fenced(&failure.error.into(), "machine 2");
    assert!(block_on(writer.sweep(DAY)).is_err() && block_on(writer.delete_garbage()).is_err());
    assert_eq!(world.faulty.counts(), before, "a fenced session asks the store nothing");
    assert_fenced(&world.open(&mut first, 3).unwrap_err(), "machine 2");
    assert_eq!(world.manifest().contents.named(), BTreeSet::from([key]), "nothing is lost");
}

#[test]
fn d9_of_two_that_restore_one_bucket_exactly_one_has_it() {
    let world = World::new();
    let mut first = Directory::default();
    drop(world.open(&mut first, 1).unwrap());
    let (mut left, mut right) = (restored(&world), restored(&world));
    world.open(&mut right, 3).unwrap();
    assert_fenced(&world.open(&mut left, 2).unwrap_err(), "machine 3");
    // Also one that already was about to: its put meets another tag.
    world.open(&mut right, 4).unwrap();
}

#[test]
fn a_directory_opens_again_and_a_copy_of_it_does_not() {
    let (world, mut directory, mut writer) = opened();
    let key = world.upload(&writer);
    commit(&mut writer, &mut directory, &[&key]).unwrap();
    drop(writer);
    let mut copy = directory.clone();
    let writer = world.open(&mut directory, 2).unwrap();
    let snapshot = writer.snapshot_key().unwrap();
    assert!(snapshot.as_str().contains("/e2/snapshots/"), "{snapshot}");
    assert_eq!((writer.state().version.epoch, writer.state().version.commit), (2, 3));
    assert_fenced(&world.open(&mut copy, 3).unwrap_err(), "machine 2");
}

#[test]
fn a_commit_that_was_not_recorded_is_undone_and_nothing_it_gave_up_is_gone() {
    let (world, mut directory, mut writer) = opened();
    let old = world.upload(&writer);
    commit(&mut writer, &mut directory, &[&old]).unwrap();
    let new = world.upload(&writer);
    let lineage = block_on(writer.commit(naming(&[&new]))).unwrap();
    // The machine dies before it records; a deletion before that does nothing.
    assert_eq!(block_on(writer.delete_garbage()).unwrap(), Vec::<String>::new());
    let ahead = block_on(writer.commit(naming(&[]))).unwrap_err();
    assert!(matches!(ahead.error, BucketError::Bug(_)), "a second one has to wait");
    assert_ne!(lineage, directory.lineage);
    // An opening that fails must not forget that the directory is behind.
    world.faulty.fail_next(Some(Verb::Put), 1, Fault::Forbidden);
    assert!(world.open(&mut directory, 2).is_err());
    let mut writer = world.open(&mut directory, 3).unwrap();
    assert_eq!(writer.state().contents.named(), BTreeSet::from([old.clone()]));
    assert_eq!(writer.state().contents.garbage, BTreeSet::from([new.clone()]));
    assert_eq!(block_on(writer.delete_garbage()).unwrap(), [new.as_str()]);
    assert!(world.has(&old) && !world.has(&new));
}

#[test]
fn d10_what_a_commit_gives_up_goes_after_it_is_recorded_and_leaves_the_list() {
    let (world, mut directory, mut writer) = opened();
    let (a, b) = (world.upload(&writer), world.upload(&writer));
    commit(&mut writer, &mut directory, &[&a, &b]).unwrap();
    commit(&mut writer, &mut directory, &[&b]).unwrap();
    assert!(world.has(&a), "a commit deletes nothing");
    world.faulty.fail_next(Some(Verb::DeleteMany), 1, Fault::ServerError);
    assert_eq!(block_on(writer.delete_garbage()).unwrap(), Vec::<String>::new());
    assert_eq!(block_on(writer.delete_garbage()).unwrap(), [a.as_str()]);
    assert!(!world.has(&a) && world.has(&b));
    commit(&mut writer, &mut directory, &[&b]).unwrap();
    assert!(world.manifest().contents.garbage.is_empty());
    let again = commit(&mut writer, &mut directory, &[&a, &b]);
    assert!(again.is_ok(), "the list is empty, so nothing says that it was garbage");
}

#[test]
fn a_lost_answer_is_read_back() {
    for fault in [Fault::TimeoutAfter, Fault::Reset] {
        let (world, mut directory, mut writer) = opened();
        let key = world.upload(&writer);
        world.faulty.fail_next(Some(Verb::Put), 1, fault);
        match commit(&mut writer, &mut directory, &[&key]) {
            Ok(()) => assert!(world.manifest().contents.named().contains(&key)),
            Err(failure) => {
                assert!(fault == Fault::Reset && failure.maybe_committed);
                commit(&mut writer, &mut directory, &[&key]).unwrap();
            }
        }
    }
}

#[test]
fn what_a_doubtful_commit_named_stays_until_a_commit_settles_it() {
    let (world, mut directory, mut writer) = opened();
    let old = world.upload(&writer);
    commit(&mut writer, &mut directory, &[&old]).unwrap();
    commit(&mut writer, &mut directory, &[]).unwrap();
    let key = world.upload(&writer);
    world.faulty.fail_next(Some(Verb::Put), 1, Fault::TimeoutBefore);
    let failure = commit(&mut writer, &mut directory, &[&key]).unwrap_err();
    assert!(failure.maybe_committed);
    assert_eq!(Error::from(failure.error).kind(), ErrorKind::Unavailable);
    assert_eq!(block_on(writer.delete_garbage()).unwrap(), Vec::<String>::new());
    assert_eq!(block_on(writer.sweep(DAY)).unwrap().listed, 0, "not while in doubt");
    // The answer was lost together with the read-back, and the put had arrived.
    world.faulty.fail_next(Some(Verb::Put), 1, Fault::TimeoutAfter);
    world.faulty.fail_next(Some(Verb::Head), 1, Fault::ServerError);
    let failure = commit(&mut writer, &mut directory, &[&key]).unwrap_err();
    assert!(failure.maybe_committed && world.manifest().contents.named().contains(&key));
    commit(&mut writer, &mut directory, &[]).unwrap();
    assert_eq!(block_on(writer.delete_garbage()).unwrap().len(), 2);
    assert!(!world.has(&key) && !world.has(&old));
}

#[test]
fn a_put_of_a_process_that_died_may_arrive_before_the_next_one_opens() {
    let world = World::new();
    let mut directory = Directory::default();
    world.faulty.fail_next(Some(Verb::Put), 1, Fault::TimeoutAfter);
    world.faulty.fail_nth(Verb::Head, 2, Fault::ServerError);
    assert!(world.open(&mut directory, 1).is_err(), "it took the bucket and does not know it");
    let before = directory.clone();
    world.faulty.fail_next(Some(Verb::Put), 1, Fault::Forbidden);
    assert!(world.open(&mut directory, 2).is_err());
    assert_ne!(before.lineage, directory.lineage);
    assert_eq!(world.open(&mut directory, 3).unwrap().state().version.epoch, 2);
}

#[test]
fn a_directory_restored_from_an_attempt_that_another_replaced_is_not_the_owner() {
    let (world, mut first, mut writer) = opened();
    let (a, b) = (world.upload(&writer), world.upload(&writer));
    // It arrives, and its writer does not come to know.
    world.faulty.fail_next(Some(Verb::Put), 1, Fault::TimeoutAfter);
    world.faulty.fail_next(Some(Verb::Head), 1, Fault::ServerError);
    assert!(commit(&mut writer, &mut first, &[&a]).unwrap_err().maybe_committed);
    let mut second = restored(&world);
    commit(&mut writer, &mut first, &[&a, &b]).unwrap();
    assert_fenced(&world.open(&mut second, 2).unwrap_err(), "machine 1");
    assert_eq!(world.open(&mut first, 3).unwrap().state().contents.named(), [a, b].into());
}

#[test]
fn each_verb_may_fail_in_each_way_at_each_call_and_the_directory_opens_again() {
    let verbs = [Verb::Put, Verb::Get, Verb::Head, Verb::DeleteMany, Verb::List];
    for verb in verbs {
        for fault in Fault::ALL {
            for nth in 1..=9 {
                let what = format!("{verb:?} {nth}: {fault:?}");
                let world = World::new();
                world.faulty.fail_nth(verb, nth, fault);
                let mut directory = Directory::default();
                let promised = life(&world, &mut directory);
                world.faulty.heal();
                let writer = world.open(&mut directory, 9);
                let writer = writer.unwrap_or_else(|error| panic!("{what}: {error}"));
                let named = writer.state().contents.named();
                assert!(named.iter().all(|key| world.has(key)), "{what}: {named:?}");
                assert!(promised.is_none_or(|key| named.contains(&key)), "{what}: lost");
            }
        }
    }
}

/// A day of a writer, up to the first failure. Returns a key that was acknowledged and not given up.
fn life(world: &World, directory: &mut Directory) -> Option<String> {
    let mut writer = world.open(directory, 1).ok()?;
    let (a, b) = (world.upload(&writer), world.upload(&writer));
    commit(&mut writer, directory, &[&a, &b]).ok()?;
    let promised = Some(b.clone());
    if commit(&mut writer, directory, &[&b]).is_ok() {
        drop(block_on(writer.delete_garbage()));
        drop(block_on(writer.sweep(DAY)));
        drop(commit(&mut writer, directory, &[&b]));
    }
    drop(writer);
    drop(world.open(directory, 2));
    promised
}

#[test]
fn the_sweep_takes_what_older_writers_left_when_it_is_old_and_nothing_else() {
    let (world, mut directory, mut writer) = opened();
    let (named, orphan) = (world.upload(&writer), world.upload(&writer));
    commit(&mut writer, &mut directory, &[&named]).unwrap();
    let prefix = DATABASE.simple().to_string();
    let foreign = [
        "notes.txt".to_owned(),
        format!("{prefix}/notes.txt"),
        format!("{}/e1/c0/{:032x}.parquet", Uuid::from_u128(0xa2).simple(), 1),
    ];
    foreign.iter().for_each(|key| world.put(key));
    world.clock.advance(DAY * 8);
    assert_eq!(block_on(writer.sweep(GRACE_DEFAULT)).unwrap().deleted, Vec::<String>::new());
    drop(writer);
    let mut writer = world.open(&mut directory, 2).unwrap();
    let own = world.upload(&writer);
    let swept = block_on(writer.sweep(GRACE_DEFAULT)).unwrap();
    assert_eq!((swept.deleted, swept.left), (vec![orphan], 0));
    world.clock.advance(DAY * 300);
    assert_eq!(block_on(writer.sweep(Duration::ZERO)).unwrap().deleted, Vec::<String>::new());
    assert!(foreign.iter().chain([&named, &own]).all(|key| world.has(key)));
}

#[test]
fn an_orphan_is_safe_for_a_day_whatever_was_asked_and_for_ever_without_a_clock() {
    let world = World::new();
    let mut directory = Directory::default();
    let orphan = world.upload(&world.open(&mut directory, 1).unwrap());
    let mut writer = world.open(&mut directory, 2).unwrap();
    world.clock.advance(GRACE_FLOOR - Duration::from_secs(1));
    assert_eq!(block_on(writer.sweep(Duration::ZERO)).unwrap().left, 1);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(block_on(writer.sweep(Duration::ZERO)).unwrap().deleted, [orphan]);

    let memory = Arc::new(MemoryStore::new());
    let mut directory = Directory::default();
    let root = Root::new(memory.clone(), "");
    let key = open(root.clone(), &mut directory, 1).unwrap().cold_key(0).unwrap();
    block_on(memory.put(&key, "rows".into(), PutOptions::default())).unwrap();
    let mut writer = open(root, &mut directory, 2).unwrap();
    let report = block_on(writer.sweep(DAY)).unwrap();
    assert!(report.without_ages && report.left == 1 && report.deleted.is_empty());
}

#[test]
fn what_is_not_ours_is_refused_and_nothing_is_written() {
    let world = World::new();
    let mut other = Directory::default();
    let opening = |database| Opening {
        root: world.root(),
        random: Arc::new(SystemRandom::from_seed(5)),
        database,
        holder: "another".to_owned(),
        lineage: Lineage::default(),
        contents: Contents::default(),
    };
    let foreign = opening(Uuid::from_u128(0xbb));
    block_on(open_writer(foreign, &mut |_| Ok(()))).unwrap();
    let before = world.manifest();
    let error = world.open(&mut other, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.to_string().contains("00000000-0000-0000-0000-0000000000bb"), "{error}");
    // A new directory of the same database that never was here: somebody else's, too.
    let error = block_on(open_writer(opening(Uuid::from_u128(0xbb)), &mut |_| Ok(())));
    assert_fenced(&error.unwrap_err(), "another");
    assert_eq!(world.manifest(), before);
    assert_eq!(world.faulty.counts().of(Verb::Put), 1, "the first opening's");
    assert_eq!(other.lineage, Lineage::default());
    world.put(MANIFEST_KEY);
    assert_eq!(world.open(&mut other, 2).unwrap_err().kind(), ErrorKind::Corruption);
    assert_eq!(world.faulty.counts().of(Verb::Put), 1);
}

#[test]
fn a_manifest_that_is_gone_and_a_directory_of_the_past_are_damage() {
    let (world, mut directory, mut writer) = opened();
    let key = world.upload(&writer);
    commit(&mut writer, &mut directory, &[&key]).unwrap();
    drop(writer);
    let mut past = directory.clone();
    past.contents = naming(&["00000000/e1/c0/never.parquet"]);
    let error = world.open(&mut past, 2).unwrap_err();
    assert!(error.to_string().contains("older copy"), "{error}");
    block_on(world.memory.delete(&ObjectKey::new(MANIFEST_KEY).unwrap())).unwrap();
    let error = world.open(&mut directory, 3).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert!(error.to_string().contains("gone"), "{error}");
}

#[test]
fn a_fresh_directory_begins_with_what_the_bucket_says() {
    let mut local = collection(0, "docs", &["a/e1/c0/5f.parquet"]);
    local.flushed = Lsn::new(3);
    let mut warm = collection(1, "warm", &[]);
    warm.segments.push(crate::segment::SegmentMeta {
        number: 4,
        len: 1,
        crc32: 1,
        rows: 1,
        deletes: 0,
        min_lsn: 8,
        max_lsn: 9,
        fields: Vec::new(),
    });
    let state = ManifestState {
        database: DATABASE,
        collections: [(0, local), (1, warm)].into(),
        next_file: 5,
        next_collection: 2,
        ..ManifestState::default()
    };
    let world = World::new();
    let mut directory = Directory { contents: Contents::of(&state), ..Directory::default() };
    world.open(&mut directory, 1).unwrap();
    let restored = world.manifest().restored();
    restored.manifest.check().unwrap();
    assert_eq!(restored.partial, ["warm"]);
    assert_eq!(restored.manifest.database, DATABASE);
    assert_eq!((restored.manifest.next_file, restored.manifest.next_collection), (1, 2));
    assert_eq!(restored.manifest.log_floor, Lsn::new(9), "above everything that was written");
    assert!(restored.manifest.collections[&1].segments.is_empty());
    assert_eq!(restored.manifest.collections[&0].cold[0].key, "a/e1/c0/5f.parquet");
}

#[test]
fn a_lineage_survives_its_json_form_and_a_holder_is_cut_to_what_fits() {
    let world = World::new();
    let mut directory = Directory::default();
    world.faulty.fail_nth(Verb::Put, 2, Fault::Forbidden);
    drop(world.open(&mut directory, 1).unwrap());
    assert!(world.open(&mut directory, 2).is_err());
    let json = serde_json::to_string(&directory.lineage).unwrap();
    assert!(json.contains("taking") && json.contains("held"), "{json}");
    assert_eq!(serde_json::from_str::<Lineage>(&json).unwrap(), directory.lineage);
    assert_eq!(serde_json::from_str::<Lineage>("{}").unwrap(), Lineage::default());
    assert_eq!(cut_holder(&"ü".repeat(200)).len(), 256);
}

#[test]
fn where_conditions_do_not_hold_one_writer_works_and_a_second_one_shows_at_the_next_commit() {
    // A condition that was asked for all the same would be an error.
    let world = World::whose(Conditions::Refused);
    let mut first = Directory::default();
    let mut writer = world.open(&mut first, 1).unwrap();
    assert!(!writer.is_fenced_safely() && world.open(&mut restored(&world), 7).is_ok());
    let failure = commit(&mut writer, &mut first, &[]).unwrap_err();
    assert_fenced(&failure.error.into(), "machine 7");
    let mut second = restored(&world);
    let mut writer = world.open(&mut second, 8).unwrap();
    let key = world.upload(&writer);
    commit(&mut writer, &mut second, &[&key]).unwrap();
    let found: Option<Found> = block_on(world.root().look()).unwrap();
    assert_eq!(found.unwrap().state.contents.named(), BTreeSet::from([key]));
}
