//! The page `docs/format/manifest.md` and the golden file of version 3 show the same records, and
//! the store makes the golden file; those of versions 1 and 2 are read. Hostile bytes: every flip is found or harmless.

use super::{
    ColdMeta, CollectionManifest, Edit, KIND, ManifestState, ManifestStore, Slice,
    SnapshotManifest, state::Record, store::read_state,
};
use crate::{
    FieldType, Metric, Schema,
    error::{ErrorKind, Result},
    segment::{SegmentMeta, tests::golden::check_golden},
    tombstones::TombstoneMeta,
};
use akidb_tiering::TierOverrides;
use akidb_vfs::{Fs, Random, RealFs, SystemRandom, read_file, sim::SimFs};
use akidb_wal::{Lsn, framed::FramedFile};
use std::{path::Path, sync::Arc};
use uuid::Uuid;

const PAGE: &str = include_str!("../../../docs/format/manifest.md");
const DIR: &str = "/db";
const FILE: &str = "/db/MANIFEST-000000000001";

fn first_state() -> ManifestState {
    let database = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
    ManifestState { database, next_file: 1, ..ManifestState::default() }
}

fn empty_collection() -> CollectionManifest {
    let schema = Schema::new(2, Metric::Cosine).field("pos", FieldType::Keyword);
    CollectionManifest::new(0, "docs", schema)
}

pub(crate) fn object(key: &str) -> ColdMeta {
    ColdMeta {
        key: key.to_owned(),
        len: 2773,
        crc32: 1,
        rows: 2,
        min_lsn: 1,
        max_lsn: 6,
        slice: None,
    }
}

fn creation() -> Edit {
    Edit { put: vec![empty_collection()], next_file: 1, ..Edit::default() }
}

/// An edit in which every key says something.
fn full_edit() -> Edit {
    let segment = SegmentMeta {
        number: 3,
        len: 5120,
        crc32: 0xdead_beef,
        rows: 3,
        deletes: 1,
        min_lsn: 7,
        max_lsn: 9,
        fields: empty_collection().schema.fields,
    };
    let slice = Slice { offset: 4096, object_len: 8192 };
    let collection = CollectionManifest {
        flushed: Lsn::new(9),
        segments: vec![segment],
        tombstones: Some(TombstoneMeta { number: 4, len: 162, crc32: 0x1234_5678, segments: 1 }),
        cold: vec![ColdMeta { slice: Some(slice), ..object("packs/5f.pack") }],
        pinned: true,
        warm: true,
        namespace: Some("team-a".to_owned()),
        overrides: TierOverrides { warm_idle_ms: Some(60_000), ..TierOverrides::default() },
        ..empty_collection()
    };
    let snapshot = SnapshotManifest {
        name: "friday".to_owned(),
        collection: "docs".to_owned(),
        schema: collection.schema.clone(),
        object: object("snapshots/60.parquet"),
        creator: "akidb 0.1.0".to_owned(),
        namespace: Some("team-a".to_owned()),
    };
    Edit {
        put: vec![collection],
        put_snapshot: vec![snapshot],
        add_garbage: vec!["c0/5e.parquet".to_owned()],
        next_file: 5,
        log_floor: Lsn::new(8),
        ..Edit::default()
    }
}

fn example() -> [Record; 3] {
    [Record::Full(first_state()), Record::Edit(creation()), Record::Edit(full_edit())]
}

/// A new database with one collection, as the store writes it.
fn written() -> (SimFs, Vec<u8>) {
    let sim = SimFs::new(1);
    sim.create_dir_all(Path::new(DIR)).unwrap();
    let fs: Arc<dyn Fs> = Arc::new(sim.clone());
    let random: Arc<dyn Random> = Arc::new(SystemRandom::from_seed(1));
    let mut store = ManifestStore::create(&fs, &random, Path::new(DIR), first_state()).unwrap();
    for edit in [creation(), full_edit()] {
        assert!(store.commit(&[edit])[0].is_ok());
    }
    let bytes = read_file(&sim, Path::new(FILE)).unwrap();
    (sim, bytes)
}

fn records_in(fs: &dyn Fs, path: &Path) -> Vec<Record> {
    let mut records = Vec::new();
    let mut keep = |payload: &[u8]| -> Result<()> {
        records.push(serde_json::from_slice(payload).unwrap());
        Ok(())
    };
    FramedFile::read(fs, path, KIND).unwrap().scan(&mut |frame| keep(frame.payload)).unwrap();
    records
}

#[test]
fn the_page_and_the_golden_file_show_the_same_manifest() {
    let block = PAGE.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let on_the_page: Vec<Record> =
        block.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(on_the_page, example());
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/manifest-v3.bin");
    assert_eq!(records_in(&RealFs, &golden), on_the_page);
    let bytes = read_file(&RealFs, &golden).unwrap();
    let hex = PAGE.split("```hex\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    for line in hex.lines() {
        let mut columns = line.split("  ");
        let offset = usize::from_str_radix(columns.next().unwrap(), 16).unwrap();
        let shown = columns.next().unwrap().split(' ');
        let shown: Vec<u8> = shown.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        assert_eq!(bytes[offset..offset + shown.len()], shown, "offset {offset:#x}");
    }
    assert!(hex.lines().count() > 10);
    let state = read_state(&RealFs, &golden).unwrap();
    assert_eq!(state.collections[&0].segments[0].number, 3);
    assert_eq!(state.snapshots["friday"].object.rows, 2);
}

#[test]
fn the_store_makes_the_golden_manifest() {
    check_golden("manifest-v3.bin", &written().1);
}

#[test]
fn a_manifest_of_version_2_is_read() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/manifest-v2.bin");
    let state = read_state(&RealFs, &golden).unwrap();
    assert_eq!(state.collections[&0].cold, [object("c0/5f.parquet")]);
    assert_eq!(state.collections[&0].overrides.warm_idle_ms, Some(60_000));
    assert_eq!(state.snapshots["friday"].namespace.as_deref(), Some("team-a"));
}

#[test]
fn a_slice_that_leaves_its_object_is_refused() {
    let bad = |offset, object_len| {
        let slice = Some(Slice { offset, object_len });
        ColdMeta { slice, ..object("packs/5f.pack") }
    };
    for bad in [bad(1, 2773), bad(u64::MAX, u64::MAX)] {
        let in_collection = CollectionManifest { cold: vec![bad.clone()], ..empty_collection() };
        let in_snapshot =
            SnapshotManifest { object: bad, ..full_edit().put_snapshot.pop().unwrap() };
        for edit in [
            Edit { put: vec![in_collection], ..creation() },
            Edit { put_snapshot: vec![in_snapshot], ..creation() },
        ] {
            let mut state = first_state();
            let error = state.apply(&edit).unwrap_err();
            assert!(error.to_string().contains("packs/5f.pack#"), "{error}");
            assert_eq!(state, first_state());
        }
    }
}

#[test]
fn a_manifest_of_version_1_is_read() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/manifest-v1.bin");
    let state = read_state(&RealFs, &golden).unwrap();
    let docs = &state.collections[&0];
    assert_eq!((docs.segments.len(), docs.cold.len(), docs.pinned), (1, 1, true));
    assert_eq!((docs.warm, &docs.overrides), (false, &TierOverrides::default()));
    assert_eq!(state.snapshots["friday"].object.rows, 2);
}

#[test]
fn every_flipped_byte_of_a_manifest_is_found_or_harmless() {
    let (sim, bytes) = written();
    let path = Path::new(FILE);
    let intact = read_state(&sim, path).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    for at in 0..=used {
        sim.corrupt(path, at as u64, 0x5a).unwrap();
        match read_state(&sim, path) {
            Ok(state) => assert_eq!(state, intact, "byte {at}"),
            Err(error) => {
                let kind = error.kind();
                // The first ten bytes say what the file is.
                let foreign = at < 10 && kind == ErrorKind::Incompatible;
                assert!(kind == ErrorKind::Corruption || foreign, "byte {at}: {error}");
            }
        }
        sim.corrupt(path, at as u64, 0x5a).unwrap();
    }
}

#[test]
fn every_truncation_of_a_manifest_is_found() {
    let (sim, bytes) = written();
    for len in (0..bytes.len()).step_by(97) {
        let disk = sim.fork(1);
        disk.truncate(Path::new(FILE), len as u64).unwrap();
        let error = read_state(&disk, Path::new(FILE)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{len} bytes: {error}");
    }
}
