//! Edits against a model that copies the whole state and checks all of it; groups of edits on a disk that
//! fails.

use super::{
    ColdMeta, CollectionManifest, Edit, ManifestState, ManifestStore, SnapshotManifest,
    store::read_state,
};
use crate::{Metric, Schema, bucket::Lineage, segment::SegmentMeta};
use akidb_vfs::{
    Fs, FsOp, Random, SystemRandom,
    sim::{Fault, FaultKind, SimFs},
};
use akidb_wal::Lsn;
use proptest::{collection::vec, prelude::*};
use std::{path::Path, sync::Arc};

const DIR: &str = "/db";

/// The state after an edit, as slowly as it can be said.
fn model(state: &ManifestState, edit: &Edit) -> Option<ManifestState> {
    let mut next = state.clone();
    if edit.next_file < state.next_file || edit.log_floor < state.log_floor {
        return None;
    }
    for id in &edit.drop {
        next.collections.remove(id)?;
    }
    for put in &edit.put {
        next.next_collection = next.next_collection.max(put.id + 1);
        let old = next.collections.insert(put.id, put.clone());
        if old.is_some_and(|old| put.flushed < old.flushed) {
            return None;
        }
    }
    edit.drop_snapshot.iter().for_each(|name| drop(next.snapshots.remove(name)));
    let put = edit.put_snapshot.iter().map(|snapshot| (snapshot.name.clone(), snapshot.clone()));
    next.snapshots.extend(put);
    next.garbage.extend(edit.add_garbage.iter().cloned());
    next.garbage.retain(|key| !edit.remove_garbage.contains(key));
    next.lineage = edit.lineage.clone().unwrap_or(next.lineage);
    (next.next_file, next.log_floor) = (edit.next_file, edit.log_floor);
    next.check().ok().map(|()| next)
}

fn object(key: &str) -> ColdMeta {
    ColdMeta { key: key.to_owned(), len: 9, crc32: 1, rows: 1, min_lsn: 1, max_lsn: 1, slice: None }
}

fn segment(number: u64, max_lsn: u64) -> SegmentMeta {
    let fields = Vec::new();
    SegmentMeta { number, len: 9, crc32: 1, rows: 1, deletes: 0, min_lsn: 1, max_lsn, fields }
}

fn name(number: u8) -> String {
    ["a", "b", "c", "../d"][usize::from(number % 4)].to_owned()
}

fn lineage(commit: u64) -> Lineage {
    let held =
        format!(r#"{{"writer":"{:032x}","commit":{commit},"attempt":0,"adopted":false}}"#, 7);
    serde_json::from_str(&format!(r#"{{"held":{held}}}"#)).unwrap()
}

prop_compose! {
    fn collection()(
        id in 0_u32..4, named in 0_u8..16, flushed in 0_u64..4,
        segments in vec((0_u64..8, 0_u64..4), 0..3),
    ) -> CollectionManifest {
        // A bad name now and then.
        let name = name(if named == 15 { 3 } else { named % 3 });
        CollectionManifest {
            flushed: Lsn::new(flushed),
            segments: segments.into_iter().map(|(number, lsn)| segment(number, lsn)).collect(),
            ..CollectionManifest::new(id, &name, Schema::new(2, Metric::Dot))
        }
    }
}

prop_compose! {
    fn edit()(
        put in vec(collection(), 0..3), drop in vec(0_u32..4, 0..2),
        snapshots in vec(0_u8..3, 0..2), drop_snapshot in vec(0_u8..3, 0..2),
        add in vec(0_u8..3, 0..3), remove in vec(0_u8..3, 0..3),
        commit in proptest::option::of(1_u64..9), next_file in 0_u64..9, log_floor in 0_u64..4,
    ) -> Edit {
        let snapshot = |number: u8| SnapshotManifest {
            name: name(number),
            collection: "a".to_owned(),
            schema: Schema::new(2, Metric::Dot),
            object: object("k"),
            creator: String::new(),
            namespace: None,
        };
        Edit {
            put,
            drop,
            put_snapshot: snapshots.into_iter().map(snapshot).collect(),
            drop_snapshot: drop_snapshot.into_iter().map(name).collect(),
            add_garbage: add.into_iter().map(name).collect(),
            remove_garbage: remove.into_iter().map(name).collect(),
            lineage: commit.map(lineage),
            next_file,
            log_floor: Lsn::new(log_floor),
        }
    }
}

proptest! {
    #[test]
    fn an_edit_does_what_copying_and_checking_everything_does(edits in vec(edit(), 1..12)) {
        let mut state = ManifestState::default();
        for edit in edits {
            let before = state.clone();
            let expected = model(&state, &edit);
            let undo = state.apply(&edit).ok();
            prop_assert_eq!(undo.is_some(), expected.is_some());
            if let Some(undo) = undo {
                let after = state.clone();
                state.take_back(undo);
                prop_assert_eq!(&state, &before, "taken back");
                state = after;
            }
            prop_assert_eq!(&state, &expected.unwrap_or(before));
        }
    }
}

fn made(id: u32, name: &str) -> Edit {
    let schema = Schema::new(2, Metric::Dot);
    Edit { put: vec![CollectionManifest::new(id, name, schema)], next_file: 1, ..Edit::default() }
}

fn store() -> (SimFs, ManifestStore) {
    let sim = SimFs::new(1);
    sim.create_dir_all(Path::new(DIR)).unwrap();
    let fs: Arc<dyn Fs> = Arc::new(sim.clone());
    let random: Arc<dyn Random> = Arc::new(SystemRandom::from_seed(1));
    let state = ManifestState { next_file: 1, ..ManifestState::default() };
    let store = ManifestStore::create(&fs, &random, Path::new(DIR), state).unwrap();
    (sim, store)
}

fn on_disk(sim: &SimFs) -> ManifestState {
    let files = ManifestStore::files(sim, Path::new(DIR)).unwrap();
    read_state(sim, files.last().unwrap()).unwrap()
}

#[test]
fn edits_that_come_together_are_synced_once_and_one_that_breaks_a_rule_fails_alone() {
    let (sim, mut store) = store();
    sim.remember_calls(1_000);
    let done = store.commit(&[made(0, "a"), made(1, "a"), made(2, "b")]);
    assert_eq!(done.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    let syncs = |call: &&akidb_vfs::sim::TraceEntry| call.op == FsOp::SyncData;
    let together = sim.trace().iter().filter(syncs).count();
    assert!(store.commit(&[made(3, "c")])[0].is_ok());
    assert_eq!(sim.trace().iter().filter(syncs).count(), 2 * together, "as many as for one");
    assert_eq!(store.state().collections.keys().collect::<Vec<_>>(), [&0, &2, &3]);
    assert_eq!(&on_disk(&sim), store.state());
}

#[test]
fn what_the_disk_refuses_fails_every_edit_and_the_state_stays() {
    // Where there is room left in the file, and where a file has to be begun.
    for names in [1, 2_000] {
        let (sim, mut store) = store();
        assert!(store.commit(&[made(0, "first")])[0].is_ok());
        let before = store.state().clone();
        let edits: Vec<_> = (1..=names).map(|id| made(id, &format!("c{id}"))).collect();
        sim.inject(Fault::new(FaultKind::NoSpace).sticky());
        let failed = store.commit(&edits);
        assert!(failed.iter().all(Result::is_err));
        let begins = names > 1;
        assert!(failed.iter().all(|done| done.as_ref().is_err_and(|f| f.maybe_written != begins)));
        assert_eq!(store.state(), &before);
        sim.clear_faults();
        assert_eq!(on_disk(&sim), before);
        if begins {
            assert!(store.commit(&edits).iter().all(Result::is_ok), "nothing was begun");
            assert_eq!(&on_disk(&sim), store.state());
        }
    }
}
