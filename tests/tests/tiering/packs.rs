//! Small collections that become cold together: they share an object, and nothing else.

use crate::rig::{HOUR, Rig, all, filled, lose_power_anywhere, row};
use akidb::{
    Cause, DbBuilder, ErrorKind, Severity, Tier, Verify,
    blocking::{Collection, Db},
    tiering::{
        BatchSettings, MemoryStore, ObjectKey, ObjectStore, PutOptions,
        faulty::{Fault, FaultyStore, Verb},
    },
};
use akidb_tests::{
    oracle::Rows,
    world::{World, tiny_settings},
};
use parking_lot::Mutex;
use std::{collections::BTreeSet, sync::Arc};

/// So many collections of some rows each, and what is in them.
fn many(db: &Db, count: u64) -> (Vec<String>, Vec<Collection>, Vec<Rows>) {
    let names: Vec<String> = (0..count).map(|n| format!("c{n:02}")).collect();
    let docs: Vec<_> = names.iter().zip(5..).map(|(name, rows)| filled(db, name, rows)).collect();
    let before = docs.iter().map(all).collect();
    (names, docs, before)
}

fn demoted(db: &Db, names: &[String]) -> usize {
    let ends = db.demote_many(names).expect("an open database");
    assert_eq!(ends.len(), names.len());
    ends.into_iter().filter(|end| *end.as_ref().expect("a demotion")).count()
}

#[test]
fn twenty_five_collections_take_three_objects_and_each_comes_back_by_itself() {
    let rig = Rig::new();
    let db = rig.open();
    let (names, docs, before) = many(&db, 25);
    assert_eq!(demoted(&db, &names), 25);
    assert!(docs.iter().all(|docs| docs.tier() == Tier::Cold));
    let objects = |docs: &[Collection]| {
        let keys = docs.iter().flat_map(|docs| docs.stats().cold).map(|object| object.key);
        keys.collect::<BTreeSet<_>>().len()
    };
    assert_eq!([&docs[..10], &docs[10..20], &docs[20..]].map(objects), [1, 1, 1]);
    assert_eq!((objects(&docs), rig.objects()), (3, 3), "10, 10 and 5");
    assert_eq!(demoted(&db, &names), 0, "they are there");
    for (n, (docs, before)) in docs.iter().zip(&before).enumerate() {
        assert_eq!(rig.objects(), 3 - n / 10, "a pack stays for as long as something is in it");
        assert!(docs.promote().expect("a promotion"));
        assert_eq!(&all(docs), before);
    }
    assert_eq!(rig.objects(), 0);
}

#[test]
fn a_pack_is_one_put_and_one_change_of_the_bucket() {
    let rig = Rig::new();
    let store = Arc::new(FaultyStore::new(rig.store(), 1));
    let builder = rig.builder().clock(Arc::new(rig.clock.clone())).inline();
    let db = builder.object_store(store.clone()).open_blocking().expect("it opens");
    let (names, ..) = many(&db, 10);
    let (puts, commits) = (store.counts().of(Verb::Put), db.stats().bucket.expect("one").commits);
    assert_eq!(demoted(&db, &names), 10);
    let bucket = db.stats().bucket.expect("a bucket");
    assert_eq!(store.counts().of(Verb::Put) - puts, 2, "the pack, and the bucket's manifest");
    assert_eq!(bucket.commits - commits, 1);
}

#[test]
fn a_lost_machine_leaves_packs_that_the_next_one_reads() {
    let rig = Rig::new();
    let db = rig.open();
    let (names, docs, before) = many(&db, 12);
    assert_eq!(demoted(&db, &names), 12);
    docs[3].snapshot("s").expect("a snapshot shares the place of its collection");
    assert_eq!(rig.objects(), 2);
    drop((docs, db));
    let other = tempfile::tempdir().expect("a directory");
    let builder = DbBuilder::new(other.path()).settings(rig.settings.clone()).inline();
    let builder = builder.clock(Arc::new(rig.clock.clone())).object_store(rig.store());
    let db = builder.restore_from_store().open_blocking().expect("the bucket is enough");
    for (name, before) in names.iter().zip(&before) {
        assert_eq!(&all(&db.collection(name).expect("it is there")), before);
    }
    assert_eq!(rig.objects(), 1, "the snapshot is in one of them");
    assert_eq!(db.verify_snapshot("s").expect("it is whole"), 8);
    let copy = db.restore_snapshot("s", "copy").expect("a restore");
    assert_eq!(all(&copy), before[3]);
    db.copy_snapshot("s", &*rig.store(), "copies/s.parquet").expect("a copy is a file of its own");
    let again = db.restore_copy(&*rig.store(), "copies/s.parquet", "again").expect("a restore");
    let vectors = |rows: &Rows| rows.values().map(|row| row.vector.clone()).collect::<Vec<_>>();
    assert_eq!(vectors(&all(&again)), vectors(&before[3]), "under LSNs of their own");
    db.delete_snapshot("s").expect("it is there");
    assert_eq!(rig.keys(), ["copies/s.parquet"]);
}

#[test]
fn what_may_not_move_any_more_is_left_out_and_the_others_go() {
    let store = Arc::new(MemoryStore::new());
    let pins: Arc<Mutex<Vec<Collection>>> = Arc::default();
    let during = pins.clone();
    // While the pack is on its way.
    let pin = move |verb| {
        if verb == Verb::Put {
            let pins = std::mem::take(&mut *during.lock());
            pins.iter().for_each(|docs| docs.pin(true).expect("a pin"));
        }
    };
    let faulty = Arc::new(FaultyStore::new(store.clone(), 1).with_before_each(pin));
    let rig = Rig::of_our_own();
    let builder = rig.builder().clock(Arc::new(rig.clock.clone())).inline();
    let db = builder.object_store(faulty).open_blocking().expect("it opens");
    let (names, docs, before) = many(&db, 6);
    *pins.lock() = vec![docs[1].clone(), docs[4].clone()];
    let ends = db.demote_many(&names).expect("an open database");
    for (n, end) in ends.into_iter().enumerate() {
        if n == 1 || n == 4 {
            let error = end.expect_err("it was pinned");
            assert!(
                matches!(error.cause(), Cause::Pinned { name } if *name == names[n]),
                "{error}"
            );
            assert_ne!(docs[n].tier(), Tier::Cold);
        } else {
            assert!(end.expect("a demotion"));
            assert_eq!(docs[n].tier(), Tier::Cold);
        }
    }
    // Of a pack of which nothing may move, nothing stays.
    let (left, _) = (docs[1].pin(false).expect("no pin"), docs[4].pin(false).expect("no pin"));
    *pins.lock() = vec![docs[1].clone(), docs[4].clone()];
    let packs = || {
        let page = futures_lite::future::block_on(store.list("", None, 100)).expect("a listing");
        page.objects.iter().filter(|object| object.key.as_str().contains("/packs/")).count()
    };
    assert_eq!((left, packs()), ((), 1));
    let ends = db.demote_many([&*names[1], &*names[4]]).expect("an open database");
    for (end, n) in ends.into_iter().zip([1, 4]) {
        let error = end.expect_err("it was pinned");
        assert!(matches!(error.cause(), Cause::Pinned { name } if *name == names[n]), "{error}");
    }
    assert_eq!(packs(), 1);
    // The bucket says the same.
    drop((docs, db));
    let other = tempfile::tempdir().expect("a directory");
    let builder = DbBuilder::new(other.path()).settings(rig.settings.clone()).inline();
    let builder = builder.clock(Arc::new(rig.clock.clone())).object_store(store);
    let db = builder.restore_from_store().open_blocking().expect("the bucket is enough");
    for (n, (name, before)) in names.iter().zip(&before).enumerate() {
        let docs = db.collection(name).expect("it is there");
        match n {
            1 | 4 => assert_eq!((docs.tier() == Tier::Cold, all(&docs).len()), (false, 0)),
            _ => assert_eq!(&all(&docs), before),
        }
    }
}

#[test]
fn unknown_names_names_given_twice_and_empty_collections_are_told_by_name() {
    let rig = Rig::new();
    let db = rig.open();
    let (_, docs, _) = many(&db, 2);
    filled(&db, "empty", 0);
    let names = ["c00", "nobody", "c01", "empty", "c00"];
    let ends = db.demote_many(names).expect("an open database");
    let told: Vec<_> = ends.into_iter().map(|end| end.map_err(|error| error.kind())).collect();
    let twice = Err(ErrorKind::Unavailable);
    assert_eq!(told, [Ok(true), Err(ErrorKind::NotFound), Ok(true), Ok(false), twice]);
    assert_eq!(docs.iter().filter(|docs| docs.tier() == Tier::Cold).count(), 2);
}

#[test]
fn what_is_large_goes_alone_and_switched_off_all_do() {
    let mut rig = Rig::new();
    rig.settings.tiers.packs = BatchSettings { bytes_max: 16 << 10, ..Default::default() };
    let db = rig.open();
    let (mut names, ..) = many(&db, 4);
    filled(&db, "large", 1_000);
    names.insert(2, "large".to_owned());
    assert_eq!(demoted(&db, &names), 5);
    let packs = |rig: &Rig| rig.keys().iter().filter(|key| key.ends_with(".pack")).count();
    assert_eq!((rig.objects(), packs(&rig)), (2, 1));
    drop(db);
    let mut rig = Rig::new();
    rig.settings.tiers.packs.enabled = false;
    let db = rig.open();
    let (names, ..) = many(&db, 4);
    assert_eq!(demoted(&db, &names), 4);
    assert_eq!((rig.objects(), packs(&rig)), (4, 0));
}

#[test]
fn a_store_that_is_down_leaves_all_where_they_were_and_says_so_to_each() {
    let rig = Rig::of_our_own();
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new()), 1));
    let builder = rig.builder().clock(Arc::new(rig.clock.clone())).inline();
    let db = builder.object_store(store.clone()).open_blocking().expect("it opens");
    let (names, docs, before) = many(&db, 12);
    store.fail_always(None, Fault::TimeoutAfter);
    for end in db.demote_many(&names).expect("an open database") {
        assert_eq!(end.expect_err("it is down").kind(), ErrorKind::Unavailable);
    }
    let after: Vec<_> = docs.iter().map(all).collect();
    assert!(after == before && docs.iter().all(|docs| docs.tier() != Tier::Cold));
    store.heal();
    rig.clock.advance(HOUR);
    db.run_tiering().expect("a cycle tidies up");
    assert_eq!(demoted(&db, &names), 12);
    let after: Vec<_> = docs.iter().map(all).collect();
    assert_eq!(after, before);
}

#[test]
fn slices_are_read_in_pieces_as_whole_objects_are() {
    let mut rig = Rig::new();
    rig.settings.tiers.read_bytes = 1024;
    let db = rig.open();
    let (names, docs, _) = many(&db, 6);
    for docs in &docs {
        docs.upsert((100..200).map(row)).run().expect("rows");
    }
    let before: Vec<_> = docs.iter().map(all).collect();
    assert_eq!(demoted(&db, &names), 6);
    assert!(docs[5].stats().cold[0].bytes > 4 * 1024, "{:?}", docs[5].stats().cold);
    let after: Vec<_> = docs.iter().map(all).collect();
    assert_eq!(after, before);
    assert_eq!(rig.objects(), 0);
}

#[test]
fn a_damaged_slice_is_named_and_its_neighbours_are_well() {
    let rig = Rig::of_our_own();
    let db = rig.open();
    let (names, docs, before) = many(&db, 5);
    assert_eq!(demoted(&db, &names), 5);
    let key = ObjectKey::new(docs[2].stats().cold[0].key.clone()).expect("a key");
    let bucket = rig.bucket();
    let object = futures_lite::future::block_on(bucket.get(&key)).expect("it is there").body;
    let offset = docs[2].stats().cold[0].offset;
    assert!(offset > 0, "it is the third");
    let mut bytes = object.to_vec();
    bytes[offset as usize + 100] ^= 1;
    futures_lite::future::block_on(bucket.put(&key, bytes.into(), PutOptions::default()))
        .expect("a put");
    let named = format!("{key}#{offset}");
    drop((docs, db));
    let report = Verify::new(rig.dir.path()).object_store(rig.store()).run().expect("a look");
    let found: Vec<_> = report.findings.iter().filter(|f| f.severity > Severity::Note).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].file.to_string_lossy().contains(&named), "{found:?}, {named}");
    let db = rig.open();
    for (n, (name, before)) in names.iter().zip(&before).enumerate() {
        let docs = db.collection(name).expect("it is there");
        if n == 2 {
            let error = docs.promote().map(drop).expect_err("it is damaged");
            assert_eq!(error.kind(), ErrorKind::Corruption);
            assert!(error.to_string().contains(key.as_str()), "{error}");
            continue;
        }
        assert_eq!(&all(&docs), before);
    }
    assert_eq!(rig.objects(), 1, "what is damaged is kept: a repair may read of it");
}

#[test]
fn a_pack_of_which_most_has_left_is_emptied_by_the_next_cycle() {
    let rig = Rig::new();
    let db = rig.open();
    let (names, docs, before) = many(&db, 20);
    assert_eq!(demoted(&db, &names), 20);
    let promote = |range: std::ops::Range<usize>| {
        docs[range].iter().for_each(|docs| assert!(docs.promote().expect("a promotion")));
    };
    promote(0..4);
    promote(10..14);
    db.run_tiering().expect("a cycle");
    assert_eq!((db.stats().tiering.repacked, rig.objects()), (0, 2), "most is there");
    promote(4..7);
    promote(14..17);
    let old = rig.keys();
    docs[7].snapshot("s").expect("a snapshot keeps the first as it is");
    db.run_tiering().expect("a cycle");
    let keys = rig.keys();
    assert_eq!((db.stats().tiering.repacked, keys.len()), (3, 2), "of the second, three are left");
    assert_eq!(keys.iter().filter(|key| old.contains(key)).count(), 1);
    assert!(docs[17..].iter().all(|docs| docs.tier() == Tier::Cold));
    db.delete_snapshot("s").expect("it is there");
    promote(17..19);
    db.run_tiering().expect("a cycle");
    assert_eq!(db.stats().tiering.repacked, 7, "the rest of both in one");
    assert_eq!(rig.objects(), 1);
    db.run_tiering().expect("a cycle");
    assert_eq!(db.stats().tiering.repacked, 7);
    drop(db);
    let other = tempfile::tempdir().expect("a directory");
    let builder = DbBuilder::new(other.path()).settings(rig.settings.clone()).inline();
    let builder = builder.clock(Arc::new(rig.clock.clone())).object_store(rig.store());
    let db = builder.restore_from_store().open_blocking().expect("the bucket is enough");
    for n in [7, 8, 9, 19] {
        assert_eq!(all(&db.collection(&names[n]).expect("it is there")), before[n]);
    }
}

#[test]
fn a_slice_that_cannot_be_read_keeps_no_other_pack_from_being_emptied() {
    let rig = Rig::of_our_own();
    let db = rig.open();
    let (names, docs, before) = many(&db, 20);
    assert_eq!(demoted(&db, &names), 20);
    docs[..7].iter().for_each(|docs| assert!(docs.promote().expect("a promotion")));
    docs[10..17].iter().for_each(|docs| assert!(docs.promote().expect("a promotion")));
    let file = docs[7].stats().cold.remove(0);
    let (key, bucket) = (ObjectKey::new(file.key).expect("a key"), rig.bucket());
    let mut bytes =
        futures_lite::future::block_on(bucket.get(&key)).expect("it is there").body.to_vec();
    bytes[file.offset as usize + 100] ^= 1;
    futures_lite::future::block_on(bucket.put(&key, bytes.into(), PutOptions::default()))
        .expect("a put");
    db.run_tiering().expect("a cycle");
    let stats = db.stats().tiering;
    assert_eq!(stats.repacked, 5, "all of what is left, but for one: {stats:?}");
    assert!(stats.last_error.expect("it is told").contains(key.as_str()));
    assert_eq!(docs[7].promote().map(drop).expect_err("damaged").kind(), ErrorKind::Corruption);
    for n in [8, 9, 17, 18, 19] {
        assert_eq!(all(&docs[n]), before[n]);
    }
    assert_eq!(rig.keys(), [key.as_str()], "a repair may read of it");
}

/// Loses power anywhere in `work`: every row is there, once, and the store has what the manifest names and
/// nothing else.
fn loses_and_leaves_nothing(
    before: impl Fn(&Db, &[String], &[Collection]),
    work: impl Fn(&Db, &[String]) -> akidb::Result<()>,
) {
    let names: Vec<String> = (0..5).map(|n| format!("c{n:02}")).collect();
    let prepare = |nth| {
        let store = Arc::new(MemoryStore::new());
        let mut world = World::new(nth, tiny_settings());
        world.store = Some(store.clone());
        let db = world.open().expect("an empty disk opens");
        let (_, docs, _) = many(&db, 5);
        docs[0].flush().expect("a flush");
        docs[0].delete([3_u64]).run().expect("a delete");
        docs[1].upsert([row(77)]).run().expect("a write");
        let rows: Vec<_> = docs.iter().map(all).collect();
        before(&db, &names, &docs);
        (world, db, (store, rows))
    };
    lose_power_anywhere(
        3,
        prepare,
        |db| work(db, &names),
        |db, (store, rows), _, nth| {
            db.run_tiering().expect("a cycle tidies up");
            let docs: Vec<_> =
                names.iter().map(|name| db.collection(name).expect("there")).collect();
            let cold = docs.iter().flat_map(|docs| docs.stats().cold);
            let named: BTreeSet<_> = cold.map(|object| object.key).collect();
            let page =
                futures_lite::future::block_on(store.list("", None, 1_000)).expect("a listing");
            let keys = page.objects.iter().map(|object| object.key.as_str());
            let there: BTreeSet<_> =
                keys.filter(|key| *key != "manifest").map(str::to_owned).collect();
            assert_eq!(there, named, "call {nth}");
            assert!(docs.iter().map(all).eq(rows), "call {nth}");
        },
    );
}

#[test]
fn power_lost_anywhere_while_a_pack_is_made_loses_and_leaves_nothing() {
    loses_and_leaves_nothing(|_, _, _| {}, |db, names| db.demote_many(names).map(drop));
}

#[test]
fn power_lost_anywhere_while_a_pack_is_emptied_loses_and_leaves_nothing() {
    let before = |db: &Db, names: &[String], docs: &[Collection]| {
        assert_eq!(demoted(db, names), 5);
        docs[..3].iter().for_each(|docs| assert!(docs.promote().expect("a promotion")));
    };
    loses_and_leaves_nothing(before, |db, _| db.run_tiering().map(drop));
}
