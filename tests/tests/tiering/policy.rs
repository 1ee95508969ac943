//! What moves by itself: by time, by use, by budgets, and what must not.

use crate::rig::{HOUR, Rig, all, filled};
use akidb::{
    Tier,
    blocking::Collection,
    tiering::{TierOverrides, TierPolicy},
};

const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

#[test]
fn a_collection_that_nobody_reads_goes_from_hot_to_cold_and_comes_back_when_it_is_read() {
    let rig = Rig::new();
    let db = rig.open();
    let docs = filled(&db, "docs", 100);
    let before = all(&docs);
    rig.clock.advance(HOUR * 5);
    assert_eq!(db.run_tiering().expect("a cycle").due, 0, "not idle for long enough");
    rig.clock.advance(HOUR);
    assert_eq!(db.run_tiering().expect("a cycle").moved, 1);
    assert_eq!((docs.tier(), rig.objects()), (Tier::Warm, 0));
    rig.clock.advance(DAY * 7);
    assert_eq!(db.run_tiering().expect("a cycle").moved, 1);
    assert_eq!((docs.tier(), rig.objects()), (Tier::Cold, 1));
    assert_eq!(db.run_tiering().expect("a cycle").due, 0);
    assert_eq!(all(&docs), before);
    assert_eq!(docs.tier(), Tier::Warm, "read, so it is back");
}

#[test]
fn cycles_come_by_time_at_the_end_of_writes_and_not_while_they_are_paused() {
    let rig = Rig::new();
    let db = rig.open();
    let (docs, busy) = (filled(&db, "docs", 10), filled(&db, "busy", 10));
    rig.clock.advance(HOUR * 7);
    db.pause_tiering();
    busy.delete([1_u64]).run().expect("a write");
    assert_eq!((docs.tier(), db.stats().tiering.paused), (Tier::Hot, true));
    db.resume_tiering();
    busy.delete([2_u64]).run().expect("a write");
    let stats = db.stats().tiering;
    assert_eq!((docs.tier(), stats.cycles, stats.moved), (Tier::Warm, 1, 2), "{stats:?}");
    busy.delete([3_u64]).run().expect("a write");
    assert_eq!(db.stats().tiering.cycles, 1, "one a minute");
    db.pause_tiering();
    rig.clock.advance(DAY * 8);
    assert_eq!(db.run_tiering().expect("by hand").moved, 2, "a pause is no lock");
}

#[test]
fn a_collection_that_is_read_often_becomes_hot_and_its_count_begins_anew() {
    let rig = Rig::new();
    let db = rig.open();
    let docs = filled(&db, "docs", 50);
    docs.move_to(Tier::Warm).expect("a move");
    assert_eq!(docs.stats().accesses, 0);
    for reads in 1..=10 {
        assert_eq!(db.run_tiering().expect("a cycle").due, 0, "after {} reads", reads - 1);
        docs.search(&[1.0; 16]).k(1).run().expect("a search");
        assert_eq!(docs.stats().accesses, reads);
    }
    assert_eq!(db.run_tiering().expect("a cycle").moved, 1);
    assert_eq!((docs.tier(), docs.stats().accesses), (Tier::Hot, 0));
    docs.move_to(Tier::Warm).expect("a move");
    docs.search(&[1.0; 16]).k(1).run().expect("a search");
    rig.clock.advance(HOUR * 2);
    assert_eq!(docs.stats().accesses, 0, "an hour ago is out of the window");
}

#[test]
fn counts_begin_anew_after_a_promotion() {
    let rig = Rig::new();
    let db = rig.open();
    let docs = filled(&db, "docs", 50);
    for _ in 0..20 {
        docs.search(&[1.0; 16]).k(1).run().expect("a search");
    }
    docs.demote().expect("a demotion");
    docs.search(&[1.0; 16]).k(1).run().expect("a search");
    assert_eq!((docs.tier(), docs.stats().accesses), (Tier::Warm, 0), "what brought it back");
    assert_eq!(db.run_tiering().expect("a cycle").due, 0, "one read is not busy");
}

#[test]
fn a_worker_demotes_many_that_are_idle_and_promotes_many_that_are_busy() {
    let rig = Rig::new();
    let db = rig.open();
    let names: Vec<_> = (0..20).map(|n| format!("c{n}")).collect();
    let docs: Vec<_> = names.iter().map(|name| filled(&db, name, 20)).collect();
    rig.clock.advance(HOUR * 6);
    assert_eq!(db.run_tiering().expect("a cycle").moved, 20);
    rig.clock.advance(DAY * 7);
    assert_eq!(db.run_tiering().expect("a cycle").moved, 20);
    assert_eq!(rig.objects(), 2, "ten share one");
    for docs in &docs[..12] {
        for _ in 0..11 {
            docs.search(&[1.0; 16]).k(1).run().expect("a search");
        }
    }
    let cycle = db.run_tiering().expect("a cycle");
    assert_eq!((cycle.due, cycle.moved, cycle.failed), (12, 12, 0));
    let hot = docs.iter().filter(|docs| docs.tier() == Tier::Hot).count();
    assert_eq!((hot, rig.objects()), (12, 1), "one of them has nothing left");
}

#[test]
fn what_is_pinned_or_has_opted_out_stays_whatever_the_policy_says() {
    let rig = Rig::new();
    let db = rig.open();
    let [pinned, out, slow, plain] = ["pinned", "out", "slow", "plain"].map(|n| filled(&db, n, 10));
    pinned.pin(true).expect("a pin");
    let own =
        |automatic, hot_idle_ms| TierOverrides { automatic, hot_idle_ms, ..Default::default() };
    out.set_tier_overrides(own(Some(false), None)).expect("overrides");
    slow.set_tier_overrides(own(None, Some(100 * 3_600_000))).expect("overrides");
    for _ in 0..3 {
        rig.clock.advance(HOUR * 24);
        db.run_tiering().expect("a cycle");
    }
    assert_eq!(
        [&pinned, &out, &slow, &plain].map(Collection::tier),
        [Tier::Hot, Tier::Hot, Tier::Hot, Tier::Warm]
    );
    rig.clock.advance(DAY * 30);
    db.run_tiering().expect("a cycle");
    assert_eq!(
        [&pinned, &out, &slow, &plain].map(Collection::tier),
        [Tier::Hot, Tier::Hot, Tier::Warm, Tier::Cold]
    );
}

#[test]
fn with_tiering_off_everything_stays_hot() {
    let rig = Rig::with_policy(TierPolicy { enabled: false, ..TierPolicy::default() });
    let db = rig.open();
    let docs = filled(&db, "docs", 10);
    for _ in 0..5 {
        rig.clock.advance(DAY * 30);
        docs.upsert([crate::rig::row(1)]).run().expect("a write");
        assert_eq!(db.run_tiering().expect("a cycle").due, 0);
    }
    assert_eq!((docs.tier(), rig.objects()), (Tier::Hot, 0));
    assert!(docs.demote().expect("by hand it goes"));
}

#[test]
fn nothing_becomes_cold_by_itself_where_the_object_would_take_the_same_disk() {
    let rig = Rig::new();
    let db = rig.builder().clock(std::sync::Arc::new(rig.clock.clone())).inline();
    let db = db.open_blocking().expect("it opens, without a store");
    let docs = filled(&db, "docs", 10);
    rig.clock.advance(HOUR * 6);
    db.run_tiering().expect("a cycle");
    rig.clock.advance(DAY * 30);
    assert_eq!(db.run_tiering().expect("a cycle").due, 0);
    assert_eq!(docs.tier(), Tier::Warm);
}

#[test]
fn beyond_the_budget_of_disk_the_least_recently_read_goes() {
    let rig =
        Rig::with_policy(TierPolicy { disk_budget_bytes: Some(40 << 10), ..TierPolicy::default() });
    let db = rig.open();
    let docs: Vec<_> = (0..4).map(|n| filled(&db, &format!("c{n}"), 200)).collect();
    db.flush().expect("a flush");
    for at in [2, 0, 3, 1] {
        rig.clock.advance(HOUR / 10);
        docs[at].count(None).expect("a read");
    }
    let bytes =
        |c: &Collection| -> u64 { c.stats().segments.iter().map(|segment| segment.bytes).sum() };
    assert!(docs.iter().map(bytes).sum::<u64>() > 40 << 10);
    db.run_tiering().expect("a cycle");
    assert!(docs.iter().map(bytes).sum::<u64>() <= 40 << 10);
    assert_eq!(docs[2].tier(), Tier::Cold, "read before all others");
    assert_ne!(docs[1].tier(), Tier::Cold, "read last");
}
