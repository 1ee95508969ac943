//! Bad input: each kind is answered with a typed error that says what to fix, and changes nothing.
//! Directories that cannot be opened are in `bad_directory.rs`.

use akidb::{
    Cause, DbStats, ErrorKind, FieldType, Filter, InputError, Metric, Point, PointId, Result,
    Schema,
    blocking::{Collection, Db},
    field,
};
use akidb_tests::{
    run::scan_all,
    world::{World, tiny_settings},
};
use serde_json::{Value, json};

/// A database with rows in a segment, in a memtable, and a tombstone.
struct Fixture {
    _world: World,
    db: Db,
    docs: Collection,
}

impl Fixture {
    fn new() -> Self {
        let mut settings = tiny_settings();
        settings.metadata_bytes_max = 200;
        settings.metadata_depth_max = 4;
        settings.k_max = 50;
        let world = World::new(5, settings);
        let db = world.open().expect("an empty disk opens");
        let schema = Schema::new(3, Metric::Cosine)
            .field("pos", FieldType::Keyword)
            .field("year", FieldType::Integer)
            .field("good", FieldType::Bool)
            .field("at", FieldType::Timestamp);
        let docs = db.create_collection("docs", schema).expect("a new name");
        let row = |n: u64| Point::new(n, vec![n as f32, 1.0, 0.0]).meta(json!({"year": n}));
        docs.upsert((0..6).map(row)).run().expect("rows");
        docs.flush().expect("a flush");
        docs.delete([0_u64]).run().expect("a delete");
        docs.upsert((4..9).map(row)).run().expect("rows");
        Self { _world: world, db, docs }
    }

    /// All that a call could change; looking counts as a read, so that the count of reads is no part of it.
    fn all(&self) -> (impl PartialEq + std::fmt::Debug + use<>, DbStats) {
        let (rows, mut stats) = (scan_all(&self.docs, 5).expect("a scan"), self.db.stats());
        stats.collections.iter_mut().for_each(|collection| collection.accesses = 0);
        (rows, stats)
    }

    /// Runs a call that must fail; returns its cause's rule. Everything stays as it was.
    fn refuses<T: std::fmt::Debug>(&self, call: impl FnOnce(&Self) -> Result<T>) -> akidb::Error {
        let before = self.all();
        let error = call(self).expect_err("bad input is refused");
        assert_eq!(before, self.all(), "a refused call changed something: {error}");
        assert!(!error.to_string().is_empty());
        error
    }

    fn input<T: std::fmt::Debug>(&self, call: impl FnOnce(&Self) -> Result<T>) -> InputError {
        let error = self.refuses(call);
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        match error.cause() {
            Cause::Input(rule) => rule.clone(),
            other => panic!("not an input error: {other:?}"),
        }
    }
}

/// A call that is to be refused.
type Call<'a> = &'a dyn Fn(&Fixture) -> Result<()>;

fn good() -> Vec<f32> {
    vec![1.0, 2.0, 3.0]
}

#[test]
fn a_vector_of_another_dimension() {
    let fixture = Fixture::new();
    for vector in [vec![], vec![1.0; 2], vec![1.0; 4]] {
        let found = vector.len();
        let rule = fixture.input(|f| f.docs.upsert([Point::new(1, vector.clone())]).run());
        assert!(
            matches!(&rule, InputError::WrongDimension { what, expected: 3, found: n }
            if what == "row 1" && *n == found),
            "{rule:?}"
        );
        let rule = fixture.input(|f| f.docs.search(&vector).run());
        assert!(matches!(rule, InputError::WrongDimension { .. }), "{rule:?}");
    }
}

#[test]
fn a_dimension_of_nothing_or_too_much() {
    let fixture = Fixture::new();
    for dim in [0, 65_536] {
        let rule = fixture.input(|f| f.db.create_collection("new", Schema::new(dim, Metric::L2)));
        assert!(matches!(rule, InputError::BadDimension { .. }), "{rule:?}");
    }
    fixture.db.create_collection("widest", Schema::new(65_535, Metric::L2)).expect("the limit");
}

#[test]
fn nan_and_infinity() {
    let fixture = Fixture::new();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let vector = vec![1.0, bad, 0.0];
        let rule = fixture.input(|f| f.docs.upsert([Point::new(1, vector.clone())]).run());
        assert!(matches!(rule, InputError::NotFinite { position: 1, .. }), "{rule:?}");
        let rule = fixture.input(|f| f.docs.insert([Point::new(100, vector.clone())]).run());
        assert!(matches!(rule, InputError::NotFinite { position: 1, .. }), "{rule:?}");
        let rule = fixture.input(|f| f.docs.search(&vector).run());
        assert!(matches!(rule, InputError::NotFinite { position: 1, .. }), "{rule:?}");
    }
}

#[test]
fn a_vector_without_direction_under_cosine() {
    let fixture = Fixture::new();
    for bad in [vec![0.0; 3], vec![0.0, -0.0, 0.0], vec![1e-42; 3]] {
        let rule = fixture.input(|f| f.docs.upsert([Point::new(1, bad.clone())]).run());
        assert!(matches!(rule, InputError::ZeroVector { .. }), "{rule:?}");
        let rule = fixture.input(|f| f.docs.search(&bad).run());
        assert!(matches!(rule, InputError::ZeroVector { .. }), "{rule:?}");
    }
    let flat = fixture.db.create_collection("flat", Schema::new(3, Metric::L2)).expect("new");
    flat.upsert([Point::new(1, vec![0.0; 3])]).run().expect("only cosine needs a direction");
}

#[test]
fn an_id_of_nothing_or_too_long() {
    let fixture = Fixture::new();
    let rule = fixture.input(|f| f.docs.upsert([Point::new("", good())]).run());
    assert_eq!(rule, InputError::EmptyId);
    let long = "é".repeat(33);
    let calls: [Call<'_>; 4] = [
        &|f| f.docs.upsert([Point::new(long.as_str(), good())]).run().map(drop),
        &|f| f.docs.delete([long.as_str()]).run().map(drop),
        &|f| f.docs.get([long.as_str()]).map(drop),
        &|f| f.docs.update_metadata([(long.as_str(), json!({}))]).run().map(drop),
    ];
    for call in calls {
        let rule = fixture.input(call);
        assert!(matches!(rule, InputError::IdTooLong { found: 66, max: 64, .. }), "{rule:?}");
    }
    let longest = "x".repeat(64);
    fixture.docs.upsert([Point::new(longest.as_str(), good())]).run().expect("the limit");
    assert!(fixture.docs.get([longest.as_str()]).expect("a read")[0].is_some());
}

#[test]
fn of_repeated_ids_in_a_batch_the_last_wins() {
    let fixture = Fixture::new();
    let point = |n: u64| Point::new("twice", good()).meta(json!({"year": n}));
    let receipt = fixture.docs.upsert((1..=3).map(point)).run().expect("a batch");
    assert_eq!(receipt.rows, 1);
    let found = fixture.docs.get(["twice"]).expect("a read").remove(0).expect("the row");
    assert_eq!(found.metadata["year"], 3);
    assert_eq!(fixture.docs.count(None).expect("a count"), 9);
}

#[test]
fn metadata_that_is_not_an_object() {
    let fixture = Fixture::new();
    for (bad, name) in [(json!([1]), "array"), (json!("text"), "string"), (json!(null), "null")] {
        let rule =
            fixture.input(|f| f.docs.upsert([Point::new(1, good()).meta(bad.clone())]).run());
        assert!(
            matches!(&rule, InputError::MetadataNotObject { found, .. } if *found == name),
            "{rule:?}"
        );
        let rule = fixture.input(|f| f.docs.update_metadata([(1_u64, bad.clone())]).run());
        assert!(matches!(rule, InputError::MetadataNotObject { .. }), "{rule:?}");
    }
}

/// Objects within objects, and a number in the innermost, which is a level of its own.
fn nested(levels: usize) -> Value {
    (1..levels).fold(json!({"leaf": 1}), |inner, _| json!({"in": inner}))
}

#[test]
fn metadata_too_deep_or_too_large() {
    let fixture = Fixture::new();
    fixture.docs.upsert([Point::new(1, good()).meta(nested(3))]).run().expect("the limit");
    let rule = fixture.input(|f| f.docs.upsert([Point::new(1, good()).meta(nested(4))]).run());
    assert!(matches!(rule, InputError::MetadataTooDeep { max: 4, .. }), "{rule:?}");
    let large = json!({"text": "x".repeat(200)});
    let rule = fixture.input(|f| f.docs.upsert([Point::new(1, good()).meta(large.clone())]).run());
    assert!(matches!(rule, InputError::MetadataTooLarge { max: 200, .. }), "{rule:?}");
    // Small patches that add up are refused where they would pass the limit.
    let half = |key: &str| json!({ key: "x".repeat(120) });
    fixture.docs.update_metadata([(2_u64, half("a"))]).run().expect("below the limit");
    let rule = fixture.input(|f| f.docs.update_metadata([(2_u64, half("b"))]).run());
    assert!(matches!(rule, InputError::MetadataTooLarge { max: 200, .. }), "{rule:?}");
}

#[test]
fn metadata_deep_enough_to_overflow_a_stack() {
    let fixture = Fixture::new();
    let rule = fixture.input(|f| f.docs.upsert([Point::new(1, good()).meta(nested(3_000))]).run());
    assert!(matches!(rule, InputError::MetadataTooDeep { .. }), "{rule:?}");
}

#[test]
fn k_of_nothing_or_above_the_limit() {
    let fixture = Fixture::new();
    for bad in [0, 51, usize::MAX] {
        let rule = fixture.input(|f| f.docs.search(&good()).k(bad).run());
        assert_eq!(rule, InputError::BadK { k: bad, max: 50 });
    }
    for bad in [0, 10_001, usize::MAX] {
        let rule = fixture.input(|f| f.docs.scan().limit(bad).run());
        assert_eq!(rule, InputError::BadLimit { limit: bad, max: 10_000 });
    }
    assert_eq!(fixture.docs.search(&good()).k(50).run().expect("the limit").len(), 8);
}

#[test]
fn a_recall_or_a_number_of_cells_that_cannot_be() {
    let fixture = Fixture::new();
    for bad in [0.0, -0.5, 1.001, f32::INFINITY] {
        let rule = fixture.input(|f| f.docs.search(&good()).recall_target(bad).run());
        assert_eq!(rule, InputError::BadRecall { target: bad });
    }
    let rule = fixture.input(|f| f.docs.search(&good()).recall_target(f32::NAN).run());
    assert!(matches!(rule, InputError::BadRecall { .. }), "{rule:?}");
    let rule = fixture.input(|f| f.docs.search(&good()).nprobe(0).run());
    assert_eq!(rule, InputError::BadNprobe);
    // The last word counts.
    for fine in [
        fixture.docs.search(&good()).recall_target(2.0).exact(true),
        fixture.docs.search(&good()).nprobe(0).exact(false),
        fixture.docs.search(&good()).exact(true).nprobe(usize::MAX),
    ] {
        assert_eq!(fine.run().expect("a search").len(), 8);
    }
}

#[test]
fn a_collection_or_snapshot_that_does_not_exist() {
    let fixture = Fixture::new();
    let error = fixture.refuses(|f| f.db.collection("nobody"));
    assert!(matches!(error.cause(), Cause::CollectionNotFound { name } if name == "nobody"));
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = fixture.refuses(|f| f.db.drop_collection("nobody"));
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = fixture.refuses(|f| f.db.restore_snapshot("nobody", "new"));
    assert!(matches!(error.cause(), Cause::SnapshotNotFound { .. }));
    let error = fixture.refuses(|f| f.db.delete_snapshot("nobody"));
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn a_collection_that_was_dropped_under_a_handle() {
    let fixture = Fixture::new();
    let doomed = fixture.db.create_collection("doomed", Schema::new(3, Metric::Dot)).expect("new");
    doomed.upsert([Point::new(1, good())]).run().expect("a row");
    fixture.db.drop_collection("doomed").expect("it exists");
    for (verb, result) in [
        ("upsert", doomed.upsert([Point::new(1, good())]).run().map(drop)),
        ("delete", doomed.delete([1_u64]).run().map(drop)),
        ("search", doomed.search(&good()).run().map(drop)),
        ("get", doomed.get([1_u64]).map(drop)),
        ("count", doomed.count(None).map(drop)),
        ("flush", doomed.flush()),
        ("compact", doomed.compact()),
        ("demote", doomed.demote().map(drop)),
        ("promote", doomed.promote().map(drop)),
        ("pin", doomed.pin(true)),
        ("add_field", doomed.add_field("f", FieldType::Bool)),
        ("snapshot", doomed.snapshot("late").map(drop)),
    ] {
        let error = result.expect_err(verb);
        assert_eq!(error.kind(), ErrorKind::NotFound, "{verb}: {error:?}");
    }
}

#[test]
fn names_that_break_the_rule() {
    let fixture = Fixture::new();
    let long = "x".repeat(100);
    for bad in ["", ".", "..", "a/b", "../up", "a\\b", "Docs", "ß", "a b", "-a", "a\0b", &long] {
        let schema = Schema::new(3, Metric::L2);
        let rule = fixture.input(|f| f.db.create_collection(bad, schema));
        assert!(matches!(&rule, InputError::BadName { name } if name == bad), "{rule:?}");
        let rule = fixture.input(|f| f.docs.snapshot(bad));
        assert!(matches!(&rule, InputError::BadName { name } if name == bad), "{rule:?}");
    }
    fixture.docs.snapshot("good").expect("a good name");
    let rule = fixture.input(|f| f.db.restore_snapshot("good", "../up"));
    assert!(matches!(rule, InputError::BadName { .. }), "{rule:?}");
}

#[test]
fn a_name_that_is_taken() {
    let fixture = Fixture::new();
    let error = fixture.refuses(|f| f.db.create_collection("docs", Schema::new(3, Metric::L2)));
    assert!(matches!(error.cause(), Cause::CollectionExists { .. }));
    fixture.docs.snapshot("s").expect("a new name");
    let error = fixture.refuses(|f| f.docs.snapshot("s"));
    assert!(matches!(error.cause(), Cause::SnapshotExists { .. }));
    let error = fixture.refuses(|f| f.db.restore_snapshot("s", "docs"));
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
}

#[test]
fn a_row_that_exists_or_does_not() {
    let fixture = Fixture::new();
    let batch = || [100, 3].map(|n: u64| Point::new(n, good()));
    let error = fixture.refuses(|f| f.docs.insert(batch()).run());
    assert!(matches!(error.cause(), Cause::RowExists { id } if *id == PointId::from(3)));
    let patches = || [(3_u64, json!({})), (0, json!({}))];
    let error = fixture.refuses(|f| f.docs.update_metadata(patches()).run());
    assert!(matches!(error.cause(), Cause::RowNotFound { id } if *id == PointId::from(0)));
}

#[test]
fn a_filter_on_a_field_of_another_type() {
    let fixture = Fixture::new();
    let filters: [(&str, Filter); 6] = [
        ("year", field("year").eq("noun")),
        ("pos", field("pos").eq(7)),
        ("year", field("year").contains("x")),
        ("good", field("good").eq("true")),
        ("at", field("at").eq("yesterday")),
        ("year", field("year").eq(1) & !field("year").eq("x")),
    ];
    for (name, filter) in filters {
        let calls: [Call<'_>; 4] = [
            &|f| f.docs.search(&good()).filter(filter.clone()).run().map(drop),
            &|f| f.docs.scan().limit(5).filter(filter.clone()).run().map(drop),
            &|f| f.docs.count(Some(&filter)).map(drop),
            &|f| f.docs.delete_where(filter.clone()).run().map(drop),
        ];
        for call in calls {
            let rule = fixture.input(call);
            assert!(
                matches!(&rule, InputError::FilterType { field, .. } if field == name),
                "{filter:?}: {rule:?}"
            );
        }
    }
}

#[test]
fn filters_too_deep_too_large_or_not_filters() {
    let fixture = Fixture::new();
    let deep = (0..40).fold(field("pos").eq("noun"), |inner, _| !inner);
    let rule = fixture.input(|f| f.docs.count(Some(&deep)));
    assert!(matches!(rule, InputError::FilterTooDeep { .. }), "{rule:?}");
    let large = field("year").is_in(0..2_000);
    let rule = fixture.input(|f| f.docs.count(Some(&large)));
    assert!(matches!(rule, InputError::FilterTooLarge { .. }), "{rule:?}");
    for bad in [json!(null), json!({"field": "a"}), json!({"and": 1}), json!({"eq": 1}), json!([])]
    {
        let error = Filter::from_json(&bad).expect_err("not a filter");
        assert!(matches!(error, InputError::FilterSyntax { .. }), "{bad}: {error:?}");
    }
}

#[test]
fn fields_that_cannot_be() {
    let fixture = Fixture::new();
    let rule = fixture.input(|f| f.docs.add_field("pos", FieldType::Keyword));
    assert!(matches!(rule, InputError::DuplicateField { .. }), "{rule:?}");
    for bad in ["", &"x".repeat(129)] {
        let rule = fixture.input(|f| f.docs.add_field(bad, FieldType::Keyword));
        assert!(matches!(rule, InputError::BadFieldName { .. }), "{rule:?}");
    }
    let many = (0..65).fold(Schema::new(3, Metric::L2), |schema, n| {
        schema.field(format!("f{n}"), FieldType::Bool)
    });
    let rule = fixture.input(|f| f.db.create_collection("many", many));
    assert!(matches!(rule, InputError::TooManyFields { found: 65, .. }), "{rule:?}");
}

#[test]
fn a_batch_larger_than_a_frame_of_the_log() {
    let fixture = Fixture::new();
    let wide = fixture.db.create_collection("wide", Schema::new(65_535, Metric::L2)).expect("new");
    let rows = (0..70_u64).map(|n| Point::new(n, vec![1.0; 65_535]));
    let rule = fixture.input(|_| wide.upsert(rows).run());
    assert!(matches!(rule, InputError::BatchTooLarge { .. }), "{rule:?}");
    assert_eq!(wide.count(None).expect("a count"), 0);
}

#[test]
fn a_cursor_that_no_scan_gave_out() {
    let fixture = Fixture::new();
    for bad in ["", "zz", "01", "ff00"] {
        let cursor = serde_json::from_value(json!({"after": bad})).expect("a cursor's form");
        let rule = fixture.input(|f| f.docs.scan().limit(5).after(cursor).run());
        assert_eq!(rule, InputError::BadCursor, "{bad}");
    }
}

#[test]
fn demoting_a_pinned_collection() {
    let fixture = Fixture::new();
    fixture.docs.pin(true).expect("a pin");
    let error = fixture.refuses(|f| f.docs.demote());
    assert!(matches!(error.cause(), Cause::Pinned { name } if name == "docs"));
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_database_that_is_closed() {
    let fixture = Fixture::new();
    fixture.db.clone().close().expect("it closes");
    let errors = [
        fixture.docs.upsert([Point::new(1, good())]).run().map(drop),
        fixture.docs.get([1_u64]).map(drop),
        fixture.docs.search(&good()).run().map(drop),
        fixture.docs.flush(),
        fixture.db.collection("docs").map(drop),
        fixture.db.list_collections().map(drop),
        fixture.db.create_collection("new", Schema::new(3, Metric::L2)).map(drop),
    ];
    for error in errors.map(|result| result.expect_err("it is closed")) {
        assert_eq!(error.kind(), ErrorKind::Closed, "{error:?}");
    }
}

#[test]
fn settings_outside_their_range() {
    let changes: [&dyn Fn(&mut akidb::Settings); 6] = [
        &|s| s.wal_file_bytes = 100,
        &|s| s.compaction_fanout = 1,
        &|s| s.compaction_dead_share = 0.0,
        &|s| s.k_max = 0,
        &|s| s.memtable_pool_bytes = 1,
        &|s| s.metadata_depth_max = 1000,
    ];
    for change in changes {
        let mut world = World::new(1, tiny_settings());
        change(&mut world.settings);
        let error = world.open().expect_err("out of range");
        assert!(matches!(error.cause(), Cause::Input(InputError::BadSetting { .. })), "{error}");
        assert!(world.sim.files().is_empty(), "it touched the disk: {:?}", world.sim.files());
    }
}
