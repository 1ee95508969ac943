//! A store that fails, a disk that is full, a process that dies: nothing is lost, nothing is stuck.

use crate::rig::{HOUR, Rig, all, filled, full_address, row};
use akidb::{
    Cause, ErrorKind, Tier,
    tiering::{Capabilities, ObjectKey, ObjectStore, Outcome, PutOptions, StoreErrorKind},
};
use akidb_s3server::{Fault, Strike};
use akidb_tiering::s3::S3Store;
use akidb_vfs::{Fs, RealFs, write_file_durably};
use std::{sync::Arc, time::Duration};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn a_500_is_tried_again_and_a_403_is_not() {
    let rig = Rig::of_our_own();
    let db = rig.open();
    let docs = filled(&db, "docs", 30);
    rig.server.fail(Strike::next(3).of("PUT"), Fault::status(500, "InternalError"));
    assert!(docs.demote().expect("after some tries"));
    docs.promote().expect("a promotion");

    let before = rig.server.requests();
    rig.server.fail(Strike::always().of("PUT"), Fault::status(403, "AccessDenied"));
    let error = docs.demote().expect_err("it is forbidden");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert_eq!(rig.server.requests() - before, 1, "asked once");
    assert_eq!(docs.tier(), Tier::Warm);
    assert_eq!(all(&docs).len(), 30);
}

#[test]
fn throttling_for_a_while_delays_and_does_not_fail() {
    let rig = Rig::of_our_own();
    let db = rig.open();
    let docs: Vec<_> = (0..4).map(|n| filled(&db, &format!("c{n}"), 20)).collect();
    rig.server.fail(Strike::next(9), Fault::status(503, "SlowDown").retry_after(1));
    for docs in &docs {
        assert!(docs.demote().expect("in the end"));
    }
    assert_eq!(rig.objects(), 4);
}

#[test]
fn a_connection_lost_in_mid_transfer_is_no_failure_of_the_move() {
    a_lost_connection_is_no_failure(&Rig::of_our_own());
}

#[test]
fn nor_is_one_that_is_lost_between_the_pieces_of_an_object() {
    let mut rig = Rig::of_our_own();
    rig.settings.tiers.read_bytes = 4 << 10;
    a_lost_connection_is_no_failure(&rig);
}

fn a_lost_connection_is_no_failure(rig: &Rig) {
    let db = rig.open();
    let docs = filled(&db, "docs", 500);
    let before = all(&docs);
    for fault in [Fault::reset_before(), Fault::reset_after()] {
        rig.server.fail(Strike::next(1).of("PUT"), fault);
        assert!(docs.demote().expect("a demotion"));
        assert_eq!(rig.objects(), 1, "no second object");
        for fault in [Fault::reset_before(), Fault::truncated()] {
            rig.server.fail(Strike::next(1).of("GET"), fault);
            assert!(docs.promote().expect("a promotion"));
            assert_eq!(all(&docs), before);
            assert!(docs.demote().expect("a demotion"));
        }
        assert!(docs.promote().expect("a promotion"));
    }
    assert_eq!(all(&docs), before);
}

#[test]
fn while_the_store_is_down_moves_roll_back_and_everything_local_goes_on() {
    let rig = Rig::of_our_own();
    let db = rig.open();
    let docs: Vec<_> = (0..5).map(|n| filled(&db, &format!("c{n}"), 50)).collect();
    rig.server.fail(Strike::always(), Fault::status(500, "InternalError"));
    rig.clock.advance(DAY * 8);
    db.run_tiering().expect("from hot to warm");
    for cycle in 1..=6 {
        let done = db.run_tiering().expect("a cycle");
        assert_eq!(done.moved, 0);
        for (n, docs) in (0..).zip(&docs) {
            docs.upsert([row(1_000 + cycle)]).run().expect("writes go on");
            assert_eq!(docs.count(None).expect("reads go on"), 50 + cycle, "collection {n}");
            assert_eq!(docs.tier(), Tier::Warm);
        }
        rig.clock.advance(DAY * 8);
    }
    let letters = db.dead_letters().expect("a list");
    assert_eq!(letters.len(), 5, "one for each, however often it failed");
    assert!(letters.iter().all(|letter| letter.to == Some("cold")), "{letters:?}");
    let stats = db.stats();
    assert_eq!((stats.tiering.dead_letters, stats.poisoned), (5, None));

    rig.server.heal();
    assert_eq!(db.run_tiering().expect("a cycle").due, 0, "what was given up waits for somebody");
    drop(docs);
    drop(db);
    let db = rig.open();
    let letters = db.dead_letters().expect("a list");
    assert_eq!(letters.len(), 5, "across a restart");
    assert!(db.retry_dead_letter(letters[0].id).expect("it works now"));
    db.drop_dead_letter(letters[1].id).expect("it is there");
    let error = db.retry_dead_letter(letters[0].id).expect_err("it is gone");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let name = letters[2].collection.clone().expect("it has a name");
    assert!(db.collection(&name).expect("it is there").demote().expect("by hand"));
    assert_eq!(db.dead_letters().expect("a list").len(), 2, "made by hand, so settled");
    assert_eq!(rig.objects(), 2);
}

#[test]
fn a_failed_retry_is_counted_on_its_letter() {
    let rig = Rig::of_our_own();
    let db = rig.open();
    let docs = filled(&db, "docs", 5);
    docs.move_to(Tier::Warm).expect("a move");
    rig.server.fail(Strike::always(), Fault::status(403, "AccessDenied"));
    rig.clock.advance(DAY * 8);
    let done = db.run_tiering().expect("a cycle");
    assert_eq!((done.failed, done.given_up), (1, 1), "what cannot succeed is given up at once");
    let letter = db.dead_letters().expect("a list").remove(0);
    assert!(letter.error.contains("AccessDenied"), "{}", letter.error);
    let error = db.retry_dead_letter(letter.id).expect_err("still forbidden");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert_eq!(db.dead_letters().expect("a list")[0].failures, 2);
}

#[test]
fn a_server_that_nobody_listens_at_is_a_failure_that_passes() {
    let rig = Rig::of_our_own();
    let store = rig.bucket();
    let db = rig.builder().inline().object_store(Arc::new(store)).open_blocking();
    let db = db.expect("it opens");
    let docs = filled(&db, "docs", 5);
    let Rig { server, dir, .. } = rig;
    drop(server);
    let error = docs.demote().expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!((docs.tier(), all(&docs).len()), (Tier::Hot, 5));
    drop(dir);
}

#[test]
fn an_object_that_is_damaged_is_named_and_never_served() {
    damage_is_named(&Rig::of_our_own());
}

#[test]
fn an_object_that_is_damaged_is_named_when_it_is_read_in_pieces_too() {
    let mut rig = Rig::of_our_own();
    rig.settings.tiers.read_bytes = 1 << 10;
    damage_is_named(&rig);
}

fn damage_is_named(rig: &Rig) {
    let db = rig.open();
    let docs = filled(&db, "docs", 40);
    docs.snapshot("before").expect("a snapshot");
    docs.demote().expect("a demotion");
    let key = docs.stats().cold[0].key.clone();
    assert!(rig.server.damage(&key));
    for error in [
        docs.promote().map(drop).expect_err("damaged"),
        docs.search(&[1.0; 16]).run().map(drop).expect_err("damaged"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
        assert!(error.to_string().contains(&key), "{error}");
    }
    assert_eq!(docs.tier(), Tier::Cold);
    let copy = db.restore_snapshot("before", "copy").expect("an older copy");
    assert_eq!(all(&copy).len(), 40);
}

#[test]
fn parts_that_a_crash_left_in_the_store_are_ended_by_the_next_process() {
    let mut rig = Rig::of_our_own();
    rig.settings.tiers.uploads.single_put_max_bytes = 5 << 20;
    rig.settings.tiers.uploads.part_bytes = 5 << 20;
    let db = rig.open();
    let docs = filled(&db, "docs", 100_000);
    // The parts arrive, the end does not, nor the abort: as if the process had died in between.
    rig.server
        .fail(Strike::always().of("POST").to("uploadId"), Fault::status(500, "InternalError"));
    rig.server.fail(Strike::always().of("DELETE"), Fault::status(500, "InternalError"));
    let error = docs.demote().expect_err("it cannot be completed");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!((docs.tier(), rig.server.uploads()), (Tier::Hot, 1));
    drop((docs, db));
    rig.server.heal();
    let db = rig.open();
    db.run_tiering().expect("a cycle");
    db.create_collection("other", crate::rig::schema()).expect("a new name");
    db.collection("other").expect("it is there").upsert([row(1)]).run().expect("a write");
    assert_eq!((rig.server.uploads(), rig.objects()), (0, 0));
    assert_eq!(db.collection("docs").expect("it is there").count(None).expect("a read"), 100_000);
}

#[test]
fn parts_that_a_failed_upload_left_in_the_store_are_ended_by_the_next_cycle() {
    let mut rig = Rig::of_our_own();
    rig.settings.tiers.uploads.single_put_max_bytes = 5 << 20;
    rig.settings.tiers.uploads.part_bytes = 5 << 20;
    let db = rig.open();
    let docs = filled(&db, "docs", 100_000);
    db.run_tiering().expect("a cycle that has nothing to tidy");
    rig.server
        .fail(Strike::always().of("POST").to("uploadId"), Fault::status(500, "InternalError"));
    rig.server.fail(Strike::always().of("DELETE"), Fault::status(500, "InternalError"));
    docs.demote().expect_err("it cannot be completed");
    db.run_tiering().expect("a cycle, while nothing can be ended");
    assert_eq!(rig.server.uploads(), 1);
    rig.server.heal();
    // The endpoint rested.
    rig.clock.advance(HOUR);
    db.run_tiering().expect("a cycle");
    assert_eq!((rig.server.uploads(), rig.objects()), (0, 0));
    assert!(docs.demote().expect("a demotion"));
    assert_eq!((rig.server.uploads(), rig.objects()), (0, 1));
}

#[test]
fn of_a_hundred_moves_with_failures_at_random_none_loses_a_row() {
    let rig = Rig::of_our_own();
    let db = rig.open();
    let docs: Vec<_> = (0..10).map(|n| filled(&db, &format!("c{n}"), 30)).collect();
    let before: Vec<_> = docs.iter().map(all).collect();
    for fault in [
        Fault::status(500, "InternalError"),
        Fault::status(503, "SlowDown"),
        Fault::reset_before(),
        Fault::reset_after(),
        Fault::truncated(),
        Fault::error_inside(),
    ] {
        rig.server.fail(Strike::by_chance(60), fault);
    }
    let mut moved = 0;
    for round in 0..10 {
        for docs in &docs {
            let to = if round % 2 == 0 { Tier::Cold } else { Tier::Warm };
            match docs.move_to(to) {
                Ok(done) => moved += u32::from(done),
                Err(error) => assert!(
                    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Corruption),
                    "{error:?}"
                ),
            }
        }
    }
    assert!(moved >= 50, "most go well after some tries: {moved}");
    rig.server.heal();
    let after: Vec<_> = docs.iter().map(all).collect();
    assert_eq!(after, before);
    db.run_tiering().expect("garbage is collected by cycles");
    assert_eq!(rig.objects(), 0, "nothing is left of moves that failed or went back");
}

#[test]
fn of_mixed_failures_those_that_pass_are_retried_and_those_that_do_not_are_given_up() {
    let mut rig = Rig::of_our_own();
    // So that one of them can fail, and not its neighbours.
    rig.settings.tiers.packs.enabled = false;
    let db = rig.open();
    let docs: Vec<_> = (0..6).map(|n| filled(&db, &format!("c{n}"), 10)).collect();
    for docs in &docs {
        docs.move_to(Tier::Warm).expect("a move");
    }
    rig.clock.advance(DAY * 8);
    for n in [0, 2] {
        let key = format!("/c{n}/");
        rig.server.fail(Strike::always().of("PUT").to(key), Fault::status(403, "AccessDenied"));
    }
    rig.server.fail(Strike::next(4).of("PUT").to("/c1/"), Fault::status(500, "InternalError"));
    let done = db.run_tiering().expect("a cycle");
    assert_eq!((done.due, done.moved, done.failed, done.given_up), (6, 4, 2, 2));
    let named = |letter: akidb::DeadMove| letter.collection;
    let names: Vec<_> = db.dead_letters().expect("a list").into_iter().filter_map(named).collect();
    assert_eq!(names, ["c0", "c2"]);
}

#[test]
fn a_slow_store_is_slow_and_nothing_else() {
    let rig = Rig::of_our_own();
    let db = rig.open();
    let docs = filled(&db, "docs", 20);
    let before = all(&docs);
    rig.server.set_latency(Duration::from_millis(500));
    assert!(docs.demote().expect("a demotion"));
    assert_eq!(all(&docs), before);
}

#[test]
fn a_full_disk_at_a_promotion_leaves_the_collection_cold() {
    use akidb_tests::world::{World, tiny_settings};
    let rig = Rig::new();
    let mut world = World::new(31, tiny_settings());
    world.store = Some(rig.store());
    let db = world.open().expect("an empty disk opens");
    let docs = filled(&db, "docs", 100);
    let before = all(&docs);
    assert!(docs.demote().expect("a demotion"));
    world.sim.set_capacity(Some(0));
    let error = docs.promote().expect_err("no room for a segment");
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert_eq!((docs.tier(), rig.objects(), db.stats().poisoned), (Tier::Cold, 1, None));
    world.sim.set_capacity(None);
    assert_eq!(all(&docs), before);
}

#[test]
fn a_server_that_takes_no_connection_is_given_up_and_is_known_to_have_done_nothing() {
    let rig = Rig::of_our_own();
    let (listener, _waiting) = full_address();
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let settings = rig.bucket_settings().endpoint(endpoint).assume(Capabilities::ALL_BUT_AGES);
    let bucket = Arc::new(
        futures_lite::future::block_on(S3Store::open(settings)).expect("nothing is asked"),
    );
    let key = ObjectKey::new("a").expect("a key");
    let put = bucket.put(&key, "rows".into(), PutOptions::default());
    let error = futures_lite::future::block_on(put).map(drop).expect_err("nobody is there");
    assert_eq!((error.kind, error.outcome), (StoreErrorKind::Unavailable, Outcome::NotDone));
    assert!(error.to_string().contains("connect"), "{error}");
    let builder = rig.builder().clock(Arc::new(rig.clock.clone())).inline();
    let db = builder.object_store(bucket).open_blocking().expect("local work needs no bucket");
    let docs = filled(&db, "docs", 5);
    assert_eq!(docs.demote().expect_err("no bucket").kind(), ErrorKind::Unavailable);
    assert_eq!((all(&docs).len(), docs.tier()), (5, Tier::Hot));
}

#[test]
fn a_store_error_is_a_cause_that_can_be_looked_at() {
    let rig = Rig::of_our_own();
    let db = rig.open();
    let docs = filled(&db, "docs", 5);
    rig.server.fail(Strike::always().of("PUT"), Fault::status(404, "NoSuchBucket"));
    let error = docs.demote().expect_err("no bucket");
    let Cause::Upload(akidb::tiering::UploadError::Store(inner)) = error.cause() else {
        panic!("{error:?}");
    };
    assert_eq!(inner.kind, StoreErrorKind::Misconfigured, "{inner}");
}

#[test]
fn a_store_that_is_down_is_asked_once_a_cycle_and_not_by_every_write() {
    let rig = Rig::of_our_own();
    let bucket = Arc::new(rig.bucket());
    rig.server.fail(Strike::always(), Fault::status(503, "SlowDown"));
    let builder = rig.builder().clock(Arc::new(rig.clock.clone())).inline();
    let db = builder.object_store(bucket).open_blocking().expect("local work needs no bucket");
    let docs = filled(&db, "docs", 5);
    for paused in [false, true] {
        if paused {
            db.pause_tiering();
        }
        let before = rig.server.requests();
        for id in 0..20 {
            docs.upsert([row(id)]).run().expect("a write");
        }
        assert_eq!(rig.server.requests(), before, "paused: {paused}");
        rig.clock.advance(Duration::from_secs(61));
        docs.upsert([row(1)]).run().expect("a write");
        assert!(rig.server.requests() > before, "paused: {paused}");
    }
    rig.server.heal();
    rig.clock.advance(Duration::from_secs(61));
    docs.upsert([row(1)]).run().expect("a write");
    assert!(db.stats().bucket.is_some_and(|bucket| bucket.epoch == 1), "it was taken");
}

#[test]
fn a_file_of_notes_that_is_damaged_is_told_and_keeps_nothing_shut() {
    let rig = Rig::new();
    let db = rig.open();
    let docs = filled(&db, "docs", 5);
    drop((docs, db));
    for name in ["uploads", "dead-letters"] {
        write_file_durably(&RealFs, &rig.dir.path().join(name), b"what is this?").expect("a file");
        let db = rig.open();
        let told = db.stats().cleanup_error.expect("a note");
        assert!(told.contains(name), "{told}");
        assert!(db.collection("docs").expect("it is there").demote().expect("a demotion"));
        assert!(db.collection("docs").expect("it is there").promote().expect("a promotion"));
        drop(db);
        RealFs.remove_file(&rig.dir.path().join(name)).expect("it is there");
    }
}
