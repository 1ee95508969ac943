//! Approximate search as a specification: whatever it looks at, what it returns is live, matches,
//! carries its true score, and comes in the right number and order; and it finds what was asked for.

use akidb::{
    FieldType, Filter, Hit, Metric, Point, PointId, Schema, Settings,
    blocking::{Collection, Db},
    field,
};
use akidb_tests::world::World;
use proptest::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};

/// A number that follows from two others, -1 to 1.
fn noise(a: u64, b: u64) -> f32 {
    let mut z = a.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ b.wrapping_mul(0xD1B5_4A32_D192_ED03);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z >> 40) as f32) / (1_u64 << 23) as f32 - 1.0
}

/// A row of one of twenty clusters.
fn clustered(row: u64, dim: usize) -> Vec<f32> {
    let cluster = row % 20;
    (0..dim as u64).map(|d| noise(cluster, d) + 0.5 * noise(row + 1_000, d)).collect()
}

fn settings() -> Settings {
    Settings { index_rows_min: 64, compaction_auto: false, ..Settings::default() }
}

struct Fixture {
    world: World,
    db: Db,
    docs: Collection,
}

impl Fixture {
    fn new(metric: Metric, dim: u32) -> Self {
        let world = World::new(u64::from(dim), settings());
        let db = world.open().expect("an empty disk opens");
        let schema = Schema::new(dim, metric).field("n", FieldType::Integer);
        let docs = db.create_collection("docs", schema).expect("a new name");
        Self { world, db, docs }
    }

    fn upsert(&self, rows: impl IntoIterator<Item = (u64, Vec<f32>)>) {
        let point = |(n, vector): (u64, Vec<f32>)| Point::new(n, vector).meta(json!({"n": n}));
        let points: Vec<_> = rows.into_iter().map(point).collect();
        for batch in points.chunks(500) {
            self.docs.upsert(batch.to_vec()).run().expect("rows");
        }
    }

    fn in_one_segment(self) -> Self {
        self.docs.flush().expect("a flush");
        self.docs.compact().expect("a compaction");
        assert_eq!(self.docs.stats().segments.len(), 1);
        self
    }

    fn reopened(self) -> Self {
        drop(self.docs);
        self.db.close().expect("a close");
        let db = self.world.open().expect("the same disk opens");
        let docs = db.collection("docs").expect("it is there");
        Self { world: self.world, db, docs }
    }

    /// The answer by looking at every row, and checks that no approximate one contradicts it.
    fn truth(&self, query: &[f32], k: usize, filter: Option<&Filter>) -> Vec<Hit> {
        let all = self.docs.count(filter).expect("a count");
        let search = || match filter {
            Some(filter) => self.docs.search(query).filter(filter.clone()),
            None => self.docs.search(query),
        };
        let truth = search().k(k).exact(true).run().expect("an exact search");
        let every = search().k(10_000).exact(true).run().expect("an exact search");
        let scores: HashMap<PointId, u32> =
            every.into_iter().map(|hit| (hit.id, hit.score.to_bits())).collect();
        for found in [
            search().k(k).run(),
            search().k(k).nprobe(1).run(),
            search().k(k).nprobe(usize::MAX).run(),
            search().k(k).recall_target(0.5).run(),
        ] {
            let found = found.expect("a search");
            assert_eq!(found.len() as u64, all.min(k as u64), "as many hits as rows match");
            assert!(found.is_sorted_by(|a, b| (b.score, &a.id) <= (a.score, &b.id)), "in order");
            for hit in &found {
                assert_eq!(scores.get(&hit.id), Some(&hit.score.to_bits()), "{hit:?}");
            }
            let mut ids: Vec<_> = found.iter().map(|hit| &hit.id).collect();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), found.len(), "each id once");
        }
        truth
    }
}

fn share_found(truth: &[Hit], found: &[Hit]) -> f64 {
    let held = |hit: &&Hit| found.iter().any(|other| other.id == hit.id);
    truth.iter().filter(held).count() as f64 / truth.len().max(1) as f64
}

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::L2];

#[test]
fn recall_reaches_its_target_on_rows_that_the_segment_has_not_seen() {
    for metric in METRICS {
        let dim = 24;
        let fixture = Fixture::new(metric, 24);
        fixture.upsert((0..6_000).map(|n| (n, clustered(n, dim))));
        let fixture = fixture.in_one_segment();
        for target in [0.8, 0.95, 0.99] {
            let (mut recall, queries) = (0.0, 60);
            for query in 0..queries {
                let query = clustered(100_000 + query, dim);
                let search = || fixture.docs.search(&query).k(10);
                let truth = search().exact(true).run().expect("a search");
                let (found, explain) = search().recall_target(target).explain().expect("a search");
                assert_eq!(explain.plan, "approximate");
                assert_eq!(explain.parts[0].plan, "cells");
                recall += share_found(&truth, &found) / queries as f64;
            }
            assert!(recall >= f64::from(target) - 0.03, "{metric:?} {target}: {recall}");
        }
    }
}

#[test]
fn higher_targets_look_at_more_and_one_at_everything() {
    let fixture = Fixture::new(Metric::Cosine, 16);
    fixture.upsert((0..5_000).map(|n| (n, clustered(n, 16))));
    let fixture = fixture.in_one_segment();
    let query = clustered(77_777, 16);
    let explain = |target| {
        let search = fixture.docs.search(&query).recall_target(target);
        search.explain().expect("a search").1
    };
    let cells: Vec<u64> = [0.5, 0.9, 0.99].map(|target| explain(target).parts[0].cells).into();
    assert!(cells.is_sorted() && cells[0] < cells[2], "{cells:?}");
    let all = explain(1.0);
    assert_eq!((all.plan, all.parts[0].scored), ("exact", 5_000));
    let few = fixture.docs.search(&query).nprobe(3).explain().expect("a search").1;
    assert_eq!(few.parts[0].cells, 3);
    assert!(few.parts[0].scanned < 1_000 && few.parts[0].scored < 100, "{few:?}");
}

#[test]
fn a_memtable_is_searched_by_codes_and_pays_for_them_out_of_the_pool() {
    let fixture = Fixture::new(Metric::Dot, 32);
    fixture.upsert((0..3_000).map(|n| (n, clustered(n, 32))));
    let before = fixture.docs.stats().memtable_bytes;
    let mut recall = 0.0;
    for query in 0..40 {
        let query = clustered(50_000 + query, 32);
        let truth = fixture.truth(&query, 10, None);
        let found = fixture.docs.search(&query).run().expect("a search");
        recall += share_found(&truth, &found) / 40.0;
    }
    assert!(recall >= 0.97, "{recall}");
    let (_, explain) = fixture.docs.search(&clustered(1, 32)).explain().expect("a search");
    // Five full chunks of 512 rows; the rest is read.
    assert_eq!((explain.parts[0].plan, explain.parts[0].scanned), ("codes", 2_560));
    assert!(explain.parts[0].scored < 700, "{explain:?}");
    let coded = fixture.docs.stats().memtable_bytes;
    assert!(coded > before, "{coded} and {before}");
    fixture.docs.flush().expect("a flush");
    assert_eq!(fixture.docs.stats().memtable_bytes, 0);
    assert_eq!(fixture.db.stats().memtable_bytes, 0, "what was charged was given back");
}

#[test]
fn writers_code_what_they_fill_in_a_memtable_that_is_searched() {
    let fixture = Fixture::new(Metric::L2, 8);
    let scanned = || {
        let (_, explain) = fixture.docs.search(&clustered(3, 8)).explain().expect("a search");
        explain.parts[0].scanned
    };
    fixture.upsert((0..1_100).map(|n| (n, clustered(n, 8))));
    // The search makes the codes of one chunk of 512 rows itself.
    assert_eq!(scanned(), 512);
    fixture.upsert((1_100..3_100).map(|n| (n, clustered(n, 8))));
    assert_eq!(scanned(), 3_072);
    fixture.docs.flush().expect("a flush");
    // Nobody has searched the new memtable yet.
    fixture.upsert((4_000..6_000).map(|n| (n, clustered(n, 8))));
    assert_eq!(scanned(), 512);
}

#[test]
fn every_dimension_and_metric_finds_the_vector_itself() {
    for dim in [1_u32, 2, 63, 65, 383, 1_536, 4_096] {
        for metric in METRICS {
            let rows = if dim > 1_000 { 120 } else { 400 };
            let fixture = Fixture::new(metric, dim);
            let row = |n: u64| {
                let mut vector = clustered(n, dim as usize);
                vector[0] += 0.01;
                vector
            };
            fixture.upsert((0..rows).map(|n| (n, row(n))));
            let fixture = fixture.in_one_segment().reopened();
            for n in [0, rows / 2, rows - 1] {
                let truth = fixture.truth(&row(n), 5, None);
                let found = fixture.docs.search(&row(n)).k(5).nprobe(usize::MAX).run();
                let found = found.expect("a search");
                let same = share_found(&truth, &found);
                assert!(same >= 0.8, "{metric:?} {dim} row {n}: {same}");
                assert_eq!(found[0].score.to_bits(), truth[0].score.to_bits(), "{metric:?} {dim}");
            }
        }
    }
}

/// The vector of a row by its number.
type Shape<'a> = &'a dyn Fn(u64) -> Vec<f32>;

#[test]
fn data_without_shape_is_searched_like_any_other() {
    let constant = |_: u64| vec![0.25, -1.0, 3.0];
    let zero = |_: u64| vec![0.0; 3];
    let two = |n: u64| if n.is_multiple_of(2) { vec![1.0, 0.0, 0.0] } else { vec![-1.0, 0.0, 0.0] };
    let huge = |n: u64| vec![1e18 * noise(n, 1), -1e18, 1e18];
    let tiny = |n: u64| vec![1e-18 * noise(n, 1), 1e-19, 1e-18];
    let far = |n: u64| vec![1e4 + noise(n, 1), 1e4 + noise(n, 2), 1e4];
    let one_far = |n: u64| if n == 99 { vec![1e9, 1e9, 1e9] } else { clustered(n, 3) };
    let shapes: [(&str, Shape<'_>); 7] = [
        ("constant", &constant),
        ("zero", &zero),
        ("two", &two),
        ("huge", &huge),
        ("tiny", &tiny),
        ("far", &far),
        ("one far", &one_far),
    ];
    for (name, shape) in shapes {
        for metric in METRICS {
            if metric == Metric::Cosine && name == "zero" {
                continue;
            }
            let fixture = Fixture::new(metric, 3);
            fixture.upsert((0..300).map(|n| (n, shape(n))));
            let fixture = fixture.in_one_segment();
            for n in [3, 99, 200] {
                let mut query = shape(n);
                query[1] += query[1].abs() * 0.01;
                if metric == Metric::Cosine || query.iter().any(|x| *x != 0.0) {
                    let truth = fixture.truth(&query, 7, None);
                    let found = fixture.docs.search(&query).k(7).nprobe(usize::MAX).run();
                    let best = found.expect("a search")[0].score;
                    assert_eq!(best.to_bits(), truth[0].score.to_bits(), "{name} {metric:?}");
                }
            }
        }
    }
}

#[test]
fn fewer_rows_than_k_than_a_block_and_than_a_cell_all_come_back() {
    for rows in [1_u64, 5, 31, 33, 64, 65, 100] {
        let fixture = Fixture::new(Metric::L2, 4);
        fixture.upsert((0..rows).map(|n| (n, clustered(n, 4))));
        let fixture = fixture.in_one_segment();
        for k in [1, 10, 1_000] {
            fixture.truth(&clustered(9, 4), k, None);
        }
    }
}

#[test]
fn filters_always_give_k_and_equal_filters_equal_answers() {
    let fixture = Fixture::new(Metric::Cosine, 20);
    fixture.upsert((0..8_000).map(|n| (n, clustered(n, 20))));
    let fixture = fixture.in_one_segment();
    for query in 0..12 {
        let query = clustered(31_000 + query, 20);
        for below in [1_i64, 9, 80, 800, 4_000, 7_999] {
            let filter = || field("n").lt(below);
            let truth = fixture.truth(&query, 10, Some(&filter()));
            let same = field("n").lte(below - 1);
            let search = |filter: Filter| {
                let search = fixture.docs.search(&query).filter(filter);
                search.explain().expect("a search")
            };
            let ((found, explain), (other, _)) = (search(filter()), search(same));
            assert_eq!(found, other);
            assert_eq!(explain.parts[0].matched, Some(below as u64));
            if below <= 800 {
                assert!(share_found(&truth, &found) >= 0.9, "{below}: {explain:?}");
            }
        }
    }
}

#[test]
fn deleted_and_replaced_rows_never_come_back() {
    let fixture = Fixture::new(Metric::Dot, 12);
    fixture.upsert((0..4_000).map(|n| (n, clustered(n, 12))));
    let fixture = fixture.in_one_segment();
    fixture.docs.delete((0..4_000).filter(|n| n % 3 == 0)).run().expect("a delete");
    fixture.upsert((0..4_000).filter(|n| n % 7 == 1).map(|n| (n, clustered(n + 9_999, 12))));
    let check = |fixture: &Fixture| {
        for query in 0..10 {
            for hit in fixture.truth(&clustered(60_000 + query, 12), 20, None) {
                let PointId::U64(n) = hit.id else { panic!("ids are numbers") };
                assert!(n % 3 != 0 || n % 7 == 1, "{n} was deleted");
            }
        }
    };
    check(&fixture);
    let fixture = fixture.reopened();
    check(&fixture);
    fixture.docs.flush().expect("a flush");
    check(&fixture);
    fixture.docs.compact().expect("a compaction");
    check(&fixture);
    check(&fixture.reopened());
}

#[test]
fn merging_segments_of_one_codebook_keeps_codes_and_answers() {
    let fixture = Fixture::new(Metric::L2, 10);
    let mut rows: BTreeMap<u64, Vec<f32>> = BTreeMap::new();
    for part in 0..4_u64 {
        let new: Vec<_> = (0..1_500).map(|n| part * 1_500 + n).collect();
        rows.extend(new.iter().map(|n| (*n, clustered(*n, 10))));
        fixture.upsert(new.into_iter().map(|n| (n, clustered(n, 10))));
        fixture.docs.flush().expect("a flush");
    }
    assert_eq!(fixture.docs.stats().segments.len(), 4);
    let queries: Vec<_> = (0..15).map(|n| clustered(80_000 + n, 10)).collect();
    let before: Vec<_> = queries.iter().map(|query| fixture.truth(query, 10, None)).collect();
    let fixture = fixture.in_one_segment().reopened();
    let after: Vec<_> = queries.iter().map(|query| fixture.truth(query, 10, None)).collect();
    assert_eq!(before, after);
    fixture.db.collection("docs").expect("it is there").verify().expect("a whole collection");
}

/// What each segment says of its cells: codebook, spread, and whether that is stale.
fn cells(docs: &Collection) -> Vec<(String, f64, bool)> {
    let cells = docs.stats().segments.into_iter().map(|segment| segment.cells.expect("cells"));
    cells.map(|cells| (cells.codebook, cells.spread, cells.stale)).collect()
}

#[test]
fn rows_that_move_away_from_a_codebook_are_told_and_the_next_merge_trains_another() {
    for metric in METRICS {
        let fixture = Fixture::new(metric, 10);
        let flush = |rows: std::ops::Range<u64>, of: &dyn Fn(u64) -> Vec<f32>| {
            fixture.upsert(rows.map(|n| (n, of(n))));
            fixture.docs.flush().expect("a flush");
        };
        flush(0..3_000, &|n| clustered(n, 10));
        flush(3_000..6_000, &|n| clustered(n, 10));
        let alike = cells(&fixture.docs);
        assert_eq!(alike[0].0, alike[1].0, "{metric:?}: one codebook for what lies alike");
        assert!(!alike[0].2 && !alike[1].2, "{metric:?}: {alike:?}");
        fixture.docs.compact().expect("a compaction");
        assert_eq!(cells(&fixture.docs)[0].0, alike[0].0, "{metric:?}: it is kept");

        // Other clusters, and the components of each row at other places.
        let moved = |n: u64| {
            let mut row = clustered(n + 7, 10);
            row.iter_mut().enumerate().for_each(|(d, x)| *x = *x * -3.0 + [4.0, -4.0][d % 2]);
            row
        };
        flush(6_000..12_000, &moved);
        let apart = cells(&fixture.docs);
        assert_eq!(apart[1].0, alike[0].0, "{metric:?}: a flush keeps it too");
        assert!(apart[1].1 > 1.5 && apart[1].2, "{metric:?}: {apart:?}");
        fixture.docs.compact().expect("a compaction");
        let [(codebook, spread, stale)] = &cells(&fixture.docs)[..] else { panic!("one segment") };
        assert_ne!(*codebook, alike[0].0, "{metric:?}");
        assert!(!stale, "{metric:?}: {spread}");
        fixture.truth(&moved(6_001), 10, None);
        fixture.reopened().docs.verify().expect("a whole collection");
    }
}

#[test]
fn a_promoted_collection_gets_its_cells_back_by_compaction() {
    let fixture = Fixture::new(Metric::Cosine, 8);
    fixture.upsert((0..2_000).map(|n| (n, clustered(n, 8))));
    let fixture = fixture.in_one_segment();
    let query = clustered(70_001, 8);
    let plan = || fixture.docs.search(&query).explain().expect("a search").1.parts[0].plan;
    assert_eq!(plan(), "cells");
    fixture.docs.demote().expect("a demotion");
    fixture.docs.promote().expect("a promotion");
    assert_eq!(plan(), "exact");
    fixture.docs.compact().expect("a compaction");
    assert_eq!(plan(), "cells");
}

/// Nobody has to ask: what a promotion or a recovery left without cells is due, alone as it is.
#[test]
fn a_segment_that_lacks_cells_gets_them_in_the_background() {
    let mut fixture = Fixture::new(Metric::Cosine, 8);
    fixture.world.settings = Settings { compaction_auto: true, ..settings() };
    let fixture = fixture.reopened();
    fixture.upsert((0..2_000).map(|n| (n, clustered(n, 8))));
    fixture.docs.flush().expect("a flush");
    fixture.docs.demote().expect("a demotion");
    fixture.docs.promote().expect("a promotion");
    fixture.upsert([(5_000, clustered(5_000, 8))]);
    let segments = fixture.docs.stats().segments;
    assert!(segments.iter().all(|segment| segment.cells.is_some()), "{segments:?}");
    assert_eq!(segments.iter().map(|segment| segment.rows).sum::<u64>(), 2_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any shape of data, any order of writes, flushes and compactions.
    #[test]
    fn whatever_happened_an_answer_is_never_wrong(
        steps in prop::collection::vec((0_u8..6, 0_u64..3_000, 1_u64..1_500), 1..8),
        dim in 1_u32..40,
        metric in prop::sample::select(&METRICS[..]),
        k in 1_usize..60,
    ) {
        let mut fixture = Fixture::new(metric, dim);
        for (step, at, count) in steps {
            match step {
                0..=2 => fixture.upsert((at..at + count).map(|n| {
                    let mut vector = clustered(n ^ count, dim as usize);
                    vector[0] += 0.01;
                    (n, vector)
                })),
                3 => drop(fixture.docs.delete(at..at + count).run().expect("a delete")),
                4 => fixture.docs.flush().expect("a flush"),
                _ => {
                    fixture.docs.compact().expect("a compaction");
                    fixture = fixture.reopened();
                }
            }
        }
        let mut query = clustered(5, dim as usize);
        query[0] += 0.02;
        fixture.truth(&query, k, None);
        fixture.truth(&query, k, Some(&field("n").lt(700)));
    }
}
