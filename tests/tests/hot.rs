//! Hot segments, remembered answers of filters, and searches by several threads: none of them changes an
//! answer. A hot copy is bounded, given back, and never made of damaged bytes; an answer is forgotten
//! when a row is hidden; threads that help give what one alone would have merged.

use akidb::{
    ErrorKind, Explain, FieldType, FilterStrategy, Hit, Metric, Point, Schema, Settings,
    blocking::{Collection, Db},
    field,
    vfs::thread::spawn_scoped,
};
use akidb_tests::world::World;
use proptest::prelude::*;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

const DIM: u32 = 24;

/// A row of one of twenty clusters.
fn row(n: u64) -> Vec<f32> {
    let noise = |a: u64, b: u64| {
        let mixed = (a * 1_000 + b + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..u64::from(DIM)).map(|d| noise(n % 20, d) + 0.5 * noise(n + 1_000, d)).collect()
}

fn settings() -> Settings {
    Settings { index_rows_min: 64, compaction_auto: false, ..Settings::default() }
}

fn upsert(docs: &Collection, rows: std::ops::Range<u64>) {
    let points: Vec<_> = rows.map(|n| Point::new(n, row(n))).collect();
    for batch in points.chunks(500) {
        docs.upsert(batch.to_vec()).run().expect("rows");
    }
}

/// Segments of so many rows, one behind the other, and a row in the memtable, by whose write all that
/// was due is done.
fn segments(db: &Db, sizes: &[u64]) -> Collection {
    let schema = Schema::new(DIM, Metric::Cosine);
    let docs = db.create_collection("docs", schema).expect("a new name");
    let mut first = 0;
    for size in sizes {
        upsert(&docs, first..first + size);
        docs.flush().expect("a flush");
        first += size;
    }
    upsert(&docs, first..first + 1);
    docs
}

fn answers(docs: &Collection, queries: u64) -> Vec<(Vec<Hit>, Explain)> {
    let search = |n| docs.search(&row(70_000 + n)).k(7).explain().expect("a search");
    (0..queries).map(search).collect()
}

/// What an explanation says apart from times.
fn counts(explain: &Explain) -> Vec<(String, &'static str, [u64; 4])> {
    let of = |part: &akidb::PartExplain| {
        let counts = [part.cells, part.scanned, part.decided, part.scored];
        (part.part.clone(), part.plan, counts)
    };
    explain.parts.iter().map(of).collect()
}

#[test]
fn hot_and_warm_segments_give_the_same_answers_by_the_same_steps() {
    let found = |hot_bytes| {
        let world = World::new(1, Settings { hot_bytes, ..settings() });
        let db = world.open().expect("an empty disk opens");
        let docs = segments(&db, &[900, 400, 2_000]);
        let hot: Vec<bool> = docs.stats().segments.iter().map(|s| s.hot_bytes > 0).collect();
        let answers = answers(&docs, 40);
        let steps: Vec<_> = answers.iter().map(|(_, explain)| counts(explain)).collect();
        let hits: Vec<_> = answers.into_iter().map(|(hits, _)| hits).collect();
        (hot, hits, steps)
    };
    let (hot, hot_hits, hot_steps) = found(1 << 30);
    let (warm, warm_hits, warm_steps) = found(0);
    assert_eq!((hot, warm), (vec![true; 3], vec![false; 3]));
    assert_eq!(hot_hits, warm_hits);
    assert_eq!(hot_steps, warm_steps);
}

#[test]
fn copies_stay_within_the_pool_and_are_given_back() {
    let world = World::new(2, settings());
    let db = world.open().expect("an empty disk opens");
    segments(&db, &[1_000]);
    let one = db.stats().hot_bytes;
    assert!(one > 1_000 * u64::from(DIM), "a byte for each component, and more: {one}");
    drop(db);

    // There is room for two of four.
    let limit = 2 * one + one / 2;
    let world = World::new(3, Settings { hot_bytes: limit, ..settings() });
    let db = world.open().expect("an empty disk opens");
    let docs = segments(&db, &[1_000, 1_000, 1_000, 1_000]);
    let stats = db.stats();
    let hot: Vec<u64> = docs.stats().segments.iter().map(|s| s.hot_bytes).collect();
    assert_eq!(hot.iter().filter(|bytes| **bytes > 0).count(), 2, "{hot:?}");
    assert_eq!(stats.hot_bytes, hot.iter().sum::<u64>());
    assert!(stats.hot_bytes <= limit && stats.hot_error.is_none(), "{stats:?}");

    docs.compact().expect("a compaction");
    upsert(&docs, 9_000..9_001);
    let merged = db.stats().hot_bytes;
    assert_eq!(merged, 0, "four segments in one do not fit, and those that went gave back");
    drop(docs);
    db.drop_collection("docs").expect("it is there");
    let small = db.create_collection("small", Schema::new(DIM, Metric::Dot)).expect("a new name");
    upsert(&small, 0..300);
    small.flush().expect("a flush");
    upsert(&small, 300..301);
    assert!(db.stats().hot_bytes > 0, "what was given back serves others");
    db.drop_collection("small").expect("it is there");
    drop(small);
    assert_eq!(db.stats().hot_bytes, 0);
}

#[test]
fn damaged_codes_are_never_copied_and_name_their_file() {
    let world = World::new(4, settings());
    let db = world.open().expect("an empty disk opens");
    segments(&db, &[3_000]);
    db.close().expect("a close");
    let files = world.sim.files().into_iter();
    let segment = files.max_by_key(|(path, len)| (path.extension() == Some("seg".as_ref()), *len));
    let (segment, len) = segment.expect("a segment");
    let mut hot_errors = 0;
    for at in (0..len).step_by(20_011) {
        let broken = world.fork(at);
        broken.sim.corrupt(&segment, at, 8).expect("a bit of the file");
        let Ok(db) = broken.open() else { continue };
        let docs = db.collection("docs").expect("it is there");
        upsert(&docs, 5_000..5_001);
        let stats = db.stats();
        if let Some(error) = &stats.hot_error {
            hot_errors += 1;
            assert_eq!(stats.hot_bytes, 0, "no copy of damaged codes");
            assert!(error.contains(".seg"), "{error}");
            let search = docs.search(&row(1)).nprobe(usize::MAX).run();
            let kind = search.expect_err("all codes are looked at").kind();
            assert_eq!(kind, ErrorKind::Corruption);
        }
    }
    assert!(hot_errors > 0, "no flip fell into the codes");
}

#[test]
fn threads_that_help_find_what_each_part_has() {
    let dir = TempDir::new().expect("a directory");
    let settings = Settings { search_threads: 4, ..settings() };
    let db = Db::builder(dir.path()).settings(settings).open_blocking().expect("a new directory");
    let docs = segments(&db, &[3_000, 3_000, 3_000]);
    let mut helped = 0;
    for n in 0..30 {
        let query = row(70_000 + n);
        let (hits, explain) =
            docs.search(&query).k(9).exact(true).explain().expect("an exact search");
        helped += u64::from(explain.threads > 1);
        let parts: Vec<&str> = explain.parts.iter().map(|part| &*part.part).collect();
        assert_eq!(parts[0], "memtable", "in the order of the view: {parts:?}");
        assert_eq!(explain.parts.iter().map(|part| part.scored).sum::<u64>(), 9_001);
        let all = docs.search(&query).k(9_001).exact(true).run().expect("an exact search");
        assert_eq!(hits, all[..9], "the best of all parts, in order");
    }
    assert!(helped > 0, "nobody ever helped");
}

static REMEMBERED: AtomicUsize = AtomicUsize::new(0);

#[test]
fn a_filter_that_is_asked_again_is_answered_as_if_for_the_first_time() {
    asked_again();
    assert!(REMEMBERED.load(Ordering::Relaxed) > 0, "no answer was ever remembered");
}

/// What happens to the rows between searches.
#[derive(Clone, Debug)]
enum Step {
    Upsert(u64),
    Delete(u64),
    Flush,
    Compact,
    Search(u64, i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0_u64..600).prop_map(Step::Upsert),
        2 => (0_u64..600).prop_map(Step::Delete),
        1 => Just(Step::Flush),
        1 => Just(Step::Compact),
        12 => (0_u64..50, 0_i64..4).prop_map(|(query, below)| Step::Search(query, below)),
    ];
    prop::collection::vec(step, 20..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    fn asked_again(steps in steps()) {
        let open = |seed, filter_answers_bytes| {
            let world = World::new(seed, Settings { filter_answers_bytes, ..settings() });
            let db = world.open().expect("an empty disk opens");
            let schema = Schema::new(DIM, Metric::Cosine).field("n", FieldType::Integer);
            let docs = db.create_collection("docs", schema).expect("a new name");
            (world, db, docs)
        };
        let both = [open(1, 64 << 20), open(1, 0)];
        let point = |n: u64| Point::new(n, row(n)).meta(json!({"n": n % 5}));
        for (_, _, docs) in &both {
            docs.upsert((0..600).map(point)).run().expect("rows");
            docs.flush().expect("a flush");
        }
        let mut remembered = 0;
        for step in steps {
            let [found, alone] = both.each_ref().map(|(_, _, docs)| {
                match step {
                    Step::Upsert(n) => drop(docs.upsert([point(n)]).run().expect("a row")),
                    Step::Delete(n) => drop(docs.delete([n]).run().expect("a delete")),
                    Step::Flush => docs.flush().expect("a flush"),
                    Step::Compact => docs.compact().expect("a compaction"),
                    Step::Search(query, below) => {
                        let query = row(90_000 + query);
                        let search = docs.search(&query).k(8).filter(field("n").lt(below));
                        return Some(search.explain().expect("a search"));
                    }
                }
                None
            });
            let (Some((hits, explain)), Some((wanted, plain))) = (found, alone) else { continue };
            prop_assert_eq!(hits, wanted);
            prop_assert_eq!(counts(&explain), counts(&plain));
            let steps = explain.parts.iter().flat_map(|part| &part.filter);
            remembered += steps.filter(|s| s.strategy == FilterStrategy::Remembered).count();
            let steps = plain.parts.iter().flat_map(|part| &part.filter);
            prop_assert!(steps.clone().all(|s| s.strategy != FilterStrategy::Remembered));
        }
        prop_assert_eq!(both[1].1.stats().filter_answers_bytes, 0);
        REMEMBERED.fetch_add(remembered, Ordering::Relaxed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn any_number_of_threads_and_callers_gives_the_exact_answer(
        sizes in prop::collection::vec(500_u64..4_000, 2..5),
        threads in 2_usize..5,
        callers in 1_usize..4,
    ) {
        let dir = TempDir::new().expect("a directory");
        let open = |search_threads| {
            let settings = Settings { search_threads, ..settings() };
            Db::builder(dir.path()).settings(settings).open_blocking().expect("it opens")
        };
        let db = open(1);
        let docs = segments(&db, &sizes);
        let search = |docs: &Collection, n: u64| {
            docs.search(&row(80_000 + n)).k(5).exact(true).run().expect("a search")
        };
        let alone: Vec<_> = (0..20).map(|n| search(&docs, n)).collect();
        drop(docs);
        db.close().expect("a close");
        let db = open(threads);
        let docs = db.collection("docs").expect("it is there");
        std::thread::scope(|scope| {
            for _ in 0..callers {
                let ask = || {
                    for (n, wanted) in (0..).zip(&alone) {
                        assert_eq!(search(&docs, n), *wanted);
                    }
                };
                spawn_scoped(scope, "caller", ask).expect("a thread");
            }
        });
    }
}
