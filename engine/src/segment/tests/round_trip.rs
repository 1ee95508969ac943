//! What goes in comes out, in both read modes.

use super::*;
use crate::{ErrorKind, segment::describe};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn any_id() -> impl Strategy<Value = PointId> {
    prop_oneof![
        any::<u64>().prop_map(PointId::U64),
        any::<u128>().prop_map(|n| PointId::Uuid(Uuid::from_u128(n))),
        "\\PC{1,16}".prop_map(PointId::from),
    ]
}

fn any_metadata() -> impl Strategy<Value = String> {
    prop::collection::btree_map("[a-z]{1,4}", any::<i32>(), 0..4)
        .prop_map(|map| serde_json::to_string(&map).unwrap())
}

fn any_content() -> impl Strategy<Value = (u32, Content)> {
    let dim = prop_oneof![8 => 1_u32..70, 1 => 16_000_u32..16_500];
    let rows = prop::collection::btree_map(any_id(), (any::<u64>(), any_metadata()), 0..20);
    let deletes = prop::collection::vec((any_id(), any::<u64>()), 0..5);
    let fields =
        prop::collection::btree_map("[a-z]{1,9}", prop::collection::vec(any::<u8>(), 0..99), 0..4);
    (dim, rows, deletes, fields, -1e30_f32..1e30).prop_map(|(dim, rows, deletes, fields, x)| {
        let rows = rows.into_iter().enumerate().map(|(n, (id, (lsn, metadata)))| Row {
            id,
            lsn,
            vector: (0..dim).map(|d| x + (n as f32) - d as f32).collect(),
            metadata,
        });
        let rows = rows.collect();
        let field = |name| FieldDef { name, field_type: FieldType::Float };
        let fields = fields.into_iter().map(|(name, bytes)| (field(name), bytes)).collect();
        (dim, Content { rows, deletes, fields })
    })
}

fn check(dim: u32, content: &Content) {
    let fs = disk(1);
    let meta = write(&fs, 9, dim, content).unwrap();
    assert_eq!(meta.rows as usize, content.rows.len());
    assert_eq!(meta.deletes as usize, content.deletes.len());
    for mode in BOTH_MODES {
        let segment = open(&fs, &meta, dim, mode).unwrap();
        assert_eq!(read(&segment).unwrap(), *content);
        segment.verify().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_goes_in_comes_out((dim, content) in any_content()) {
        check(dim, &content);
    }
}

#[test]
fn rows_of_many_extents_come_out() {
    check(33, &large());
}

#[test]
fn the_widest_and_the_narrowest_vectors_come_out() {
    for dim in [1, 3, 65_535] {
        let vector = |x: f32| (0..dim).map(|d| x + d as f32).collect::<Vec<_>>();
        let rows = (0..3_u64).map(|n| Row {
            id: PointId::from(n),
            lsn: n,
            vector: vector(n as f32 + 1.0),
            metadata: "{}".to_owned(),
        });
        check(dim, &Content { rows: rows.collect(), deletes: Vec::new(), fields: Vec::new() });
    }
}

#[test]
fn a_segment_may_hold_nothing_or_deletes_alone() {
    let nothing = Content { rows: Vec::new(), deletes: Vec::new(), fields: Vec::new() };
    check(4, &nothing);
    check(4, &Content { deletes: small().deletes, ..nothing });
}

#[test]
fn a_run_of_vectors_is_the_rows_one_after_the_other() {
    let (fs, content) = (disk(1), large());
    let meta = write(&fs, 9, 33, &content).unwrap();
    for mode in BOTH_MODES {
        let segment = open(&fs, &meta, 33, mode).unwrap();
        for (first, count) in [(0, 6000), (490, 20), (5999, 1), (6000, 0), (17, 2000)] {
            let rows = &content.rows[first as usize..(first + count) as usize];
            let expected: Vec<f32> = rows.iter().flat_map(|row| row.vector.clone()).collect();
            assert_eq!(*segment.vectors(first, count).unwrap(), *expected);
            assert_eq!(segment.inv_norms(first, count).unwrap().len(), count as usize);
        }
    }
}

#[test]
fn an_id_that_is_not_there_is_not_found() {
    let (fs, content) = (disk(1), large());
    let meta = write(&fs, 9, 33, &content).unwrap();
    for mode in BOTH_MODES {
        let segment = open(&fs, &meta, 33, mode).unwrap();
        for n in 6000_u64..9000 {
            assert_eq!(segment.find(&PointId::from(format!("row-{n:05}"))).unwrap(), None);
            assert_eq!(segment.find(&PointId::from(n)).unwrap(), None);
        }
    }
}

#[test]
fn the_meta_says_what_the_file_is() {
    let fs = disk(1);
    let meta = write(&fs, 9, 3, &small()).unwrap();
    let image: BTreeMap<_, _> = fs.image().into_iter().collect();
    let bytes = &image[&Path::new(DIR).join("000000000009.seg")];
    assert_eq!(meta.len, bytes.len() as u64);
    assert_eq!(meta.crc32, crc32fast::hash(bytes));
    assert_eq!((meta.min_lsn, meta.max_lsn), (11, 14));
    assert_eq!(meta.fields, [small().fields[0].0.clone()]);
    let again: SegmentMeta = serde_json::from_str(&serde_json::to_string(&meta).unwrap()).unwrap();
    assert_eq!(again, meta);
}

#[test]
fn a_description_needs_no_manifest() {
    let fs = disk(1);
    write(&fs, 9, 3, &small()).unwrap();
    let path = Path::new(DIR).join("000000000009.seg");
    let told = describe(&fs, &path).unwrap();
    assert_eq!((told.number, told.rows, told.deletes, told.dim), (9, 3, 1, 3));
    assert_eq!(told.blocks.len(), 8);
    assert!(told.blocks.iter().all(|block| block.damaged_at.is_none()));
    let vectors = told.blocks.iter().find(|block| block.kind == "vectors").unwrap();
    assert_eq!((vectors.offset, vectors.bytes, vectors.items), (4096, 36, 3));

    fs.corrupt(&path, vectors.offset + 5, 1).unwrap();
    let told = describe(&fs, &path).unwrap();
    assert_eq!(told.blocks[0].damaged_at, Some(4096));
}

#[test]
fn rows_that_validation_should_have_stopped_are_bugs_not_files() {
    let fs = disk(1);
    let id = PointId::from(1);
    let start = |number| {
        let random = SystemRandom::from_seed(1);
        let disk = Arc::new(fs.clone());
        SegmentWriter::create(disk, &random, Path::new(DIR), number, params(2), None).unwrap()
    };
    let row = RowRef { id: &id, lsn: 1, vector: &[1.0, 2.0], inv_norm: 0.0, metadata: b"{}" };

    let mut writer = start(1);
    let narrow = writer.push(RowRef { vector: &[1.0], ..row });
    assert_eq!(narrow.unwrap_err().kind(), ErrorKind::Bug);
    for bad in [PointId::from(""), PointId::from("x".repeat(65))] {
        let pushed = writer.push(RowRef { id: &bad, ..row });
        assert_eq!(pushed.unwrap_err().kind(), ErrorKind::Bug);
    }
    writer.push(row).unwrap();
    writer.push(row).unwrap();
    assert_eq!(writer.finish(Vec::new()).unwrap_err().kind(), ErrorKind::Bug, "one id twice");

    let mut writer = start(2);
    writer.push(row).unwrap();
    drop(writer);
    assert_eq!(fs.files(), [], "an unfinished file does not stay");

    let meta = start(3).finish(Vec::new()).unwrap();
    let (disk, random) = (Arc::new(fs.clone()), SystemRandom::from_seed(1));
    let reused = SegmentWriter::create(disk, &random, Path::new(DIR), 3, params(2), None);
    assert_eq!(reused.unwrap_err().kind(), ErrorKind::Bug, "a number is used once");
    open(&fs, &meta, 2, ReadMode::Mmap).unwrap().verify().unwrap();
}

#[test]
fn a_row_number_beyond_the_segment_is_a_bug_not_a_panic() {
    let fs = disk(1);
    let meta = write(&fs, 9, 3, &small()).unwrap();
    let segment = open(&fs, &meta, 3, ReadMode::Mmap).unwrap();
    for row in [3, u32::MAX] {
        assert_eq!(segment.id(row).unwrap_err().kind(), ErrorKind::Bug);
        assert_eq!(segment.lsn(row).unwrap_err().kind(), ErrorKind::Bug);
        assert_eq!(segment.metadata(row).unwrap_err().kind(), ErrorKind::Bug);
        assert_eq!(segment.vectors(row, 1).unwrap_err().kind(), ErrorKind::Bug);
    }
    assert_eq!(segment.vectors(1, 3).unwrap_err().kind(), ErrorKind::Bug);
}

#[test]
fn many_threads_read_one_segment() {
    let (fs, content) = (disk(1), Arc::new(large()));
    let meta = write(&fs, 9, 33, &content).unwrap();
    for mode in BOTH_MODES {
        let segment = Arc::new(open(&fs, &meta, 33, mode).unwrap());
        let readers: Vec<_> = (0..4)
            .map(|part| {
                let (segment, content) = (segment.clone(), content.clone());
                let read = move || {
                    for row in (part..segment.rows()).step_by(7) {
                        let expected = &content.rows[row as usize];
                        assert_eq!(segment.id(row).unwrap(), expected.id);
                        assert_eq!(*segment.vectors(row, 1).unwrap(), *expected.vector);
                        let json = segment.metadata_json(row).unwrap();
                        assert_eq!(*json, *expected.metadata.as_bytes());
                    }
                };
                akidb_vfs::thread::spawn("test-reader", read).unwrap()
            })
            .collect();
        for reader in readers {
            reader.join().expect("a reader's assertion failed");
        }
    }
}
