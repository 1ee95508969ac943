//! The whole path of a row, on the machine's own disk: written, flushed, compacted, moved to the
//! cold tier and back, found after every step and after every reopen.

use akidb::{Metric, Point, Schema, blocking::Db};
use serde_json::json;

fn point(n: u64) -> Point {
    Point::new(n, [n as f32, 1.0]).meta(json!({ "n": n }))
}

fn nearest(db: &Db) -> Vec<(String, f32)> {
    let docs = db.collection("docs").expect("the collection is there");
    let hits = docs.search(&[4.0, 1.0]).k(3).run().expect("the search runs");
    hits.into_iter().map(|hit| (hit.id.to_string(), hit.score)).collect()
}

#[test]
fn a_row_is_found_wherever_it_lies() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let docs = db.create_collection("docs", Schema::new(2, Metric::L2)).unwrap();
    docs.upsert((0..10).map(point)).run().unwrap();
    docs.delete([5_u64]).run().unwrap();
    let expected = [("4", 0.0), ("3", -1.0), ("2", -2.0)].map(|(id, s)| (id.to_owned(), s));
    assert_eq!(nearest(&db), expected);
    drop((docs, db));

    let db = Db::open(dir.path()).unwrap();
    assert_eq!(db.recovery_report().rows_applied, 11);
    assert_eq!(nearest(&db), expected, "after replay");
    let docs = db.collection("docs").unwrap();
    docs.flush().unwrap();
    assert_eq!(nearest(&db), expected, "in a segment");
    docs.upsert([point(20)]).run().unwrap();
    docs.compact().unwrap();
    assert_eq!(docs.stats().segments.len(), 1);
    assert!(docs.verify().unwrap() > 0);
    assert_eq!(nearest(&db), expected, "compacted");
    assert!(docs.demote().unwrap());
    assert_eq!((docs.stats().tier, docs.stats().segments.len()), ("cold", 0));
    docs.delete([3_u64]).run().unwrap();
    docs.upsert([point(5)]).run().unwrap();
    db.close().unwrap();

    let db = Db::open(dir.path()).unwrap();
    let expected = [("4", 0.0), ("5", -1.0), ("2", -2.0)].map(|(id, s)| (id.to_owned(), s));
    assert_eq!(nearest(&db), expected, "promoted, with what was written while it was cold");
    assert_eq!(db.collection("docs").unwrap().count(None).unwrap(), 10);
    db.close().unwrap();
}
