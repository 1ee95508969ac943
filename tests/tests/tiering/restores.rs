//! A snapshot that takes the place of a collection: in one step, with room for one of them.

use crate::rig::{all, filled, lose_power_anywhere, row, schema};
use akidb::{
    Cause, ErrorKind, Point, Settings, Tier,
    blocking::Db,
    tiering::{
        MemoryStore, TierOverrides,
        faulty::{FaultyStore, Verb},
    },
};
use akidb_tests::world::{World, tiny_settings};
use parking_lot::Mutex;
use std::sync::Arc;

fn world(seed: u64, settings: Settings) -> World {
    let mut world = World::new(seed, settings);
    world.store = Some(Arc::new(MemoryStore::new()));
    world
}

fn large_parts() -> Settings {
    Settings { disk_reserve_bytes: 0, wal_file_bytes: 64 << 10, ..Settings::default() }
}

fn used(world: &World) -> u64 {
    world.sim.files().iter().map(|(_, len)| len).sum()
}

#[test]
fn a_restore_over_a_collection_needs_no_room_for_both() {
    for tier in Tier::ALL {
        let world = world(1, large_parts());
        let db = world.open().expect("an empty disk opens");
        let docs = filled(&db, "docs", 8_000);
        docs.flush().expect("a flush");
        docs.snapshot("good").expect("a snapshot");
        let before = all(&docs);
        docs.upsert((0..8_000).map(|id| Point { id: id.into(), ..row(id + 1) }))
            .run()
            .expect("a mistake");
        docs.compact().expect("a compaction");
        docs.move_to(tier).expect("a move");
        let segment: u64 = docs.stats().segments.iter().map(|segment| segment.bytes).sum();
        assert!(tier == Tier::Cold || segment > 500_000, "{segment}");
        let room = if tier == Tier::Cold { 1 << 20 } else { segment / 2 };
        world.sim.set_capacity(Some(used(&world) + room));
        let docs = db.restore_snapshot_over("good", "docs").expect("there is room for one");
        let came_to = if tier == Tier::Hot { Tier::Hot } else { Tier::Warm };
        assert_eq!((docs.tier(), all(&docs) == before), (came_to, true), "from {tier}");
        assert_eq!(docs.stats().cold.len(), 0, "{tier}");
    }
}

#[test]
fn where_the_disk_is_full_of_other_things_what_is_restored_is_cold() {
    let world = world(2, large_parts());
    let db = world.open().expect("an empty disk opens");
    let docs = filled(&db, "docs", 8_000);
    docs.snapshot("good").expect("a snapshot");
    let before = all(&docs);
    docs.delete((0..7_990_u64).collect::<Vec<_>>()).run().expect("a mistake");
    docs.compact().expect("a compaction");
    world.sim.set_capacity(Some(used(&world) + (100 << 10)));
    let docs = db.restore_snapshot_over("good", "docs").expect("a record has room");
    assert_eq!(docs.tier(), Tier::Cold);
    assert_eq!(docs.get([1_u64]).expect_err("no room for a segment").kind(), ErrorKind::NoSpace);
    db.delete_snapshot("good").expect("it is there");
    world.sim.set_capacity(None);
    assert!(all(&docs) == before, "its object stays while the collection is in it");
    assert_eq!(docs.tier(), Tier::Warm);
}

#[test]
fn power_lost_anywhere_in_a_restore_over_a_collection_leaves_the_one_or_the_other() {
    let prepare = |nth| {
        let world = world(nth, tiny_settings());
        let db = world.open().expect("an empty disk opens");
        let docs = filled(&db, "docs", 40);
        docs.snapshot("good").expect("a snapshot");
        let good = all(&docs);
        docs.delete((0..30_u64).collect::<Vec<_>>()).run().expect("a mistake");
        docs.flush().expect("a flush");
        docs.upsert([row(77)]).run().expect("a write");
        let bad = all(&docs);
        (world, db, (good, bad))
    };
    let restore = |db: &Db| db.restore_snapshot_over("good", "docs").map(drop);
    lose_power_anywhere(3, prepare, restore, |db, (good, bad), done, nth| {
        let docs = db.collection("docs").expect("it is there");
        let rows = all(&docs);
        assert!(rows == good || (rows == bad && done.is_err()), "call {nth}: {}", rows.len());
        assert_eq!(db.verify_snapshot("good").expect("it is whole"), 40);
        docs.upsert([row(99)]).run().expect("a write");
        assert_eq!(all(&docs).len(), rows.len() + 1, "call {nth}");
    });
}

#[test]
fn a_snapshot_that_goes_while_it_is_checked_takes_the_place_of_nothing() {
    let deletes: Arc<Mutex<Option<Db>>> = Arc::default();
    let during = deletes.clone();
    let delete = move |verb| {
        if verb == Verb::Get {
            let db = during.lock().take();
            db.into_iter().for_each(|db| db.delete_snapshot("good").expect("it is there"));
        }
    };
    let mut world = World::new(3, tiny_settings());
    let store = FaultyStore::new(Arc::new(MemoryStore::new()), 1).with_before_each(delete);
    world.store = Some(Arc::new(store));
    let db = world.open().expect("an empty disk opens");
    let docs = filled(&db, "docs", 40);
    docs.snapshot("good").expect("a snapshot");
    docs.delete([3_u64]).run().expect("a delete");
    let now = all(&docs);
    *deletes.lock() = Some(db.clone());
    assert!(db.restore_snapshot_over("good", "docs").is_err());
    assert!(deletes.lock().is_none(), "it went");
    assert_eq!(all(&docs), now, "nothing was changed");
}

#[test]
fn what_is_restored_over_a_collection_keeps_its_pin_its_rules_and_its_namespace() {
    let world = world(4, tiny_settings());
    let db = world.open().expect("an empty disk opens");
    let docs = db.create_collection_in("ours", "docs", schema()).expect("a new name");
    docs.upsert((0..40).map(row)).run().expect("rows");
    docs.snapshot("good").expect("a snapshot");
    docs.move_to(Tier::Warm).expect("a move");
    docs.pin(true).expect("a pin");
    let rules = TierOverrides { warm_idle_ms: Some(77), ..TierOverrides::default() };
    docs.set_tier_overrides(rules.clone()).expect("rules");
    let check = |db: &Db| {
        let docs = db.collection("docs").expect("it is there");
        let stats = docs.stats();
        assert_eq!((stats.pinned, stats.tier), (true, "warm"));
        assert_eq!(
            (stats.tier_overrides, stats.namespace.as_deref()),
            (rules.clone(), Some("ours"))
        );
        let error = docs.demote().expect_err("it is pinned");
        assert!(matches!(error.cause(), Cause::Pinned { .. }), "{error}");
    };
    drop(db.restore_snapshot_over("good", "docs").expect("a restore"));
    check(&db);
    drop((docs, db));
    check(&world.open().expect("it opens"));
}
