//! Every store of this crate keeps the contract, and keeps it under threads.

use akidb_tiering::{
    Conditions, LocalStore, MemoryStore, ObjectKey, ObjectStore, PutCondition, PutOptions,
    StoreErrorKind, contract, probe,
};
use akidb_vfs::{RealFs, sim::SimFs, thread::spawn_scoped};
use futures_lite::future::block_on;
use std::sync::Arc;

#[test]
fn the_memory_store_keeps_the_contract() {
    block_on(contract::run(&MemoryStore::new()));
}

/// A store in memory that lacks what a store may lack.
fn less() -> MemoryStore {
    MemoryStore::new().with_conditions(Conditions::Refused).without_parts()
}

#[test]
fn a_store_that_lacks_something_and_says_so_keeps_the_contract_of_the_rest() {
    block_on(contract::run(&less()));
    let key = ObjectKey::new("pointer").expect("a valid key");
    let put = block_on(less().put(&key, "rows".into(), PutOptions::if_absent()));
    assert_eq!(put.map(drop).expect_err("it says so").kind, StoreErrorKind::Unsupported);
}

#[test]
fn the_local_store_keeps_the_contract_on_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(Arc::new(RealFs), dir.path().join("a/b")).unwrap();
    block_on(contract::run(&store));
    assert_eq!(store.sweep_unfinished().unwrap(), 0, "no put leaves a temporary file");
}

#[test]
fn the_local_store_keeps_the_contract_on_a_simulated_disk() {
    let store = LocalStore::open(Arc::new(SimFs::new(1)), "/bucket").unwrap();
    block_on(contract::run(&store));
}

/// The probe believes nothing that it can try: it finds what each store says of itself.
#[test]
fn the_probe_finds_what_the_stores_promise_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let local = LocalStore::open(Arc::new(RealFs), dir.path()).unwrap();
    let (memory, less) = (MemoryStore::new(), less());
    for store in [&local as &dyn ObjectStore, &memory, &less] {
        let scratch = ObjectKey::new("probe/1").expect("a valid key");
        let found = block_on(probe(store, &scratch)).expect("the store answers");
        assert_eq!(found, store.capabilities());
        let left = block_on(store.list("", None, 10)).expect("it lists");
        assert!(left.objects.is_empty(), "{left:?}");
    }
}

/// Eight writers race to create one object, then to replace it: one wins each time.
fn one_winner(store: &dyn ObjectStore) {
    let key = ObjectKey::new("pointer").expect("a valid key");
    let mut condition = PutCondition::IfAbsent;
    for round in 0..8_u8 {
        let mut options = PutOptions::default();
        options.condition = condition.clone();
        let (key, options) = (&key, &options);
        let results: Vec<_> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..8_u8)
                .map(|racer| {
                    let race = move || {
                        let body = vec![round, racer].into();
                        (racer, block_on(store.put(key, body, options.clone())))
                    };
                    spawn_scoped(scope, "racer", race).expect("a thread")
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().expect("a racer does not panic")).collect()
        });
        let winners: Vec<u8> = results.iter().filter(|r| r.1.is_ok()).map(|r| r.0).collect();
        assert_eq!(winners.len(), 1, "round {round}: {results:?}");
        for error in results.iter().filter_map(|r| r.1.as_ref().err()) {
            assert_eq!(error.kind, StoreErrorKind::PreconditionFailed, "{error}");
        }
        let object = block_on(store.get(key)).expect("the object exists");
        assert_eq!(object.body, vec![round, winners[0]], "the winner's bytes are there");
        condition = PutCondition::IfMatch(object.head.etag);
    }
}

#[test]
fn racing_conditional_puts_have_one_winner() {
    one_winner(&MemoryStore::new());
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(Arc::new(RealFs), dir.path()).unwrap();
    one_winner(&store);
    assert_eq!(store.sweep_unfinished().unwrap(), 0, "losers remove their temporary files");
}
