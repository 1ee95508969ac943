//! The server is killed without a warning while a database moves rows to it and back: moves go back with an
//! error that says so, or go on when it is there again; no row is lost, and nothing is stuck.

use crate::{
    rig::{Rig, all, assert_same, filled},
    watched::Watched,
};
use akidb::{
    ErrorKind, Tier,
    blocking::{Collection, Db},
    tiering::{
        Sleep, TimerSleep,
        faulty::Verb::{self, Complete, CreateUpload, PutPart},
    },
};
use akidb_tests::{oracle::Rows, real_server};
use akidb_vfs::thread::spawn;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// 31 MiB that do not compress: six parts.
const LARGE: u64 = 20_000;

/// There, a snapshot, and back.
fn round_trip(db: &Db, docs: &Collection) -> akidb::Result<()> {
    docs.demote()?;
    docs.snapshot("s")?;
    docs.demote()?;
    docs.promote()?;
    db.delete_snapshot("s")
}

/// After the server has come back: everything is there, works, and leaves nothing behind.
fn assert_well(rig: &Rig, db: &Db, docs: &Collection, before: &Rows, when: &str) {
    // A breaker rests for a minute at most.
    rig.clock.advance(Duration::from_secs(120));
    assert_same(&all(docs), before, when);
    if db.list_snapshots().len() == 1 {
        db.delete_snapshot("s").expect("it is listed");
    }
    round_trip(db, docs).unwrap_or_else(|error| panic!("{when}: {error:?}"));
    assert_same(&all(docs), before, when);
    let cycle = db.run_tiering().expect("a cycle tidies up");
    assert_eq!(cycle.failed, 0, "{when}");
    let stats = db.stats();
    assert_eq!((rig.objects(), rig.uploads()), (Vec::new(), 0), "{when}: {stats:?}");
    assert_eq!(stats.poisoned, None, "{when}");
}

#[test]
#[ignore = "needs a server: scripts/s3-real.sh"]
fn a_server_that_dies_at_any_call_of_a_round_trip_loses_nothing() {
    let rig = Rig::new();
    let watched = Watched::new(Arc::new(rig.bucket()));
    let db = rig.open(watched.store.clone());
    let docs = filled(&db, "docs", 100);
    let before = all(&docs);
    watched.seen();
    round_trip(&db, &docs).expect("a server that lives");
    let calls = watched.seen();
    assert!(calls.contains(&Verb::Put) && calls.len() > 10, "{calls:?}");
    let mut failed = 0;
    for nth in 1.. {
        watched.strike(None, nth);
        let done = round_trip(&db, &docs);
        if !watched.is_back() {
            done.expect("nothing struck");
            assert!(nth > 10, "only {nth} calls");
            break;
        }
        let when = format!("call {nth}, {done:?}");
        if let Err(error) = done {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{when}");
            failed += 1;
        }
        assert_well(&rig, &db, &docs, &before, &when);
    }
    assert!(failed > 5, "{failed} round trips failed");
}

#[test]
#[ignore = "needs a server: scripts/s3-real.sh"]
fn a_demotion_in_parts_goes_back_or_goes_on_when_its_server_dies_in_between() {
    for patient in [false, true] {
        let rig = Rig::new();
        let inner = if patient { rig.patient() } else { Arc::new(rig.bucket()) };
        let watched = Watched::new(inner);
        let db = rig.open(watched.store.clone());
        let docs = filled(&db, "docs", LARGE);
        let before = all(&docs);
        for (verb, nth) in
            [(CreateUpload, 1), (PutPart, 1), (PutPart, 3), (PutPart, 6), (Complete, 1)]
        {
            let when = format!("{verb:?} {nth}, patient: {patient}");
            watched.strike(Some(verb), nth);
            let done = docs.demote();
            assert!(watched.is_back(), "{when}: {:?}", watched.seen());
            if patient {
                assert!(done.expect("it waited"), "{when}");
                assert_eq!(docs.tier(), Tier::Cold, "{when}");
            } else {
                let error = done.expect_err(&when);
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{when}: {error:?}");
                assert_ne!(docs.tier(), Tier::Cold, "{when}");
            }
            assert_well(&rig, &db, &docs, &before, &when);
        }
    }
}

#[test]
#[ignore = "needs a server: scripts/s3-real.sh"]
fn a_promotion_fails_and_stays_cold_or_goes_on_when_its_server_dies_in_between() {
    let rig = Rig::new();
    let watched = Watched::new(Arc::new(rig.bucket()));
    let db = rig.open(watched.store.clone());
    let docs = filled(&db, "docs", LARGE);
    let before = all(&docs);
    assert!(docs.demote().expect("a demotion"));
    watched.seen();
    assert!(docs.promote().expect("a promotion"));
    let calls = watched.seen();
    assert!(calls.iter().any(|verb| matches!(verb, Verb::Get | Verb::GetRanges)), "{calls:?}");
    for nth in 1..=calls.len().min(8) as u64 {
        docs.demote().expect("a demotion");
        watched.strike(None, nth);
        let done = docs.promote();
        assert!(watched.is_back());
        let when = format!("call {nth}, {done:?}");
        if let Err(error) = done {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{when}");
            assert_eq!(docs.tier(), Tier::Cold, "{when}");
        }
        assert_well(&rig, &db, &docs, &before, &when);
    }
    drop((docs, db));
    let watched = Watched::new(rig.patient());
    let db = rig.open(watched.store.clone());
    let docs = db.collection("docs").expect("it is there");
    docs.demote().expect("a demotion");
    watched.strike(None, 1);
    assert!(docs.promote().expect("it waited"));
    assert!(watched.is_back());
    assert_well(&rig, &db, &docs, &before, "a promotion that waited");
}

#[test]
#[ignore = "needs a server: scripts/s3-real.sh"]
fn while_its_server_dies_again_and_again_no_row_is_lost_and_in_the_end_the_bucket_has_all() {
    let rig = Rig::new();
    let open = || {
        let builder = rig.builder(rig.dir.path()).object_store(Arc::new(rig.bucket()));
        builder.open_blocking().expect("it opens")
    };
    let db = open();
    let docs: Vec<_> = (0..5).map(|n| filled(&db, &format!("c{n}"), 1_000)).collect();
    let before: Vec<_> = docs.iter().map(all).collect();
    let over = Arc::new(AtomicBool::new(false));
    let told = over.clone();
    let killer = spawn("killer", move || {
        let mut rng = fastrand::Rng::with_seed(1);
        let timer = TimerSleep::start().expect("a thread");
        for _ in 0..8 {
            futures_lite::future::block_on(timer.sleep(Duration::from_millis(rng.u64(50..1_500))));
            real_server::restart().expect("the server comes back");
        }
        told.store(true, Ordering::SeqCst);
    })
    .expect("a thread");
    let (mut moved, mut refused) = (0, 0);
    while !over.load(Ordering::SeqCst) {
        for docs in &docs {
            let to = if docs.tier() == Tier::Cold { Tier::Warm } else { Tier::Cold };
            match docs.move_to(to) {
                Ok(_) => moved += 1,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                    refused += 1;
                }
            }
        }
    }
    killer.join().expect("no panic");
    assert!(moved > 0 && refused > 0, "{moved} moved, {refused} refused");
    for (docs, before) in docs.iter().zip(&before) {
        assert_same(&all(docs), before, docs.name());
        docs.demote().expect("it is back");
    }
    db.run_tiering().expect("a cycle tidies up");
    assert_eq!((rig.objects().len(), rig.uploads()), (5, 0));
    drop((docs, db));
    let other = tempfile::tempdir().expect("a directory");
    let db = rig.restored(other.path());
    for (n, before) in before.iter().enumerate() {
        let docs = db.collection(&format!("c{n}")).expect("it is there");
        assert_same(&all(&docs), before, docs.name());
    }
}
