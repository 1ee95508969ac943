//! The lives in which calls fail. Short, for they are played thousands of times; together they
//! reach every call on the disk that the database makes.

use crate::{
    condition::Condition,
    ops::{End, Op, plain_schema},
    run::Script,
    world::tiny_settings,
};
use akidb::{Durability, FieldType, Metric, Point, PointId, ReadMode, Schema};
use akidb_vfs::sim::CrashPolicy;
use serde_json::json;

/// A life and its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) name: &'static str,
    pub(super) script: fn() -> Script,
}

pub(super) const LIVES: [Life; 6] = [
    Life { name: "a bit of everything", script: everything },
    Life { name: "writes of all kinds", script: writes },
    Life { name: "tiers, read by pread", script: tiers },
    Life { name: "rolls of the log and its trimming", script: log_rolls },
    Life { name: "rolls of the manifest", script: manifest_rolls },
    Life { name: "ends and recoveries", script: recoveries },
];

const SYNC: Durability = Durability::Sync;

fn rows(ids: std::ops::Range<u64>, version: u64) -> Vec<Point> {
    let row = |id: u64| {
        let vector = vec![id as f32, version as f32, 1.0, -1.0];
        let color = ["red", "blue"][(id % 2) as usize];
        Point::new(id, vector).meta(json!({"color": color, "n": id, "version": version}))
    };
    ids.map(row).collect()
}

fn upsert(ids: std::ops::Range<u64>, version: u64) -> Op {
    Op::Upsert(rows(ids, version), SYNC)
}

fn delete(ids: std::ops::Range<u64>) -> Op {
    Op::Delete(ids.map(PointId::from).collect(), SYNC)
}

fn everything() -> Script {
    Script::new([
        Op::Create(plain_schema()),
        upsert(0..8, 1),
        Op::Flush(false),
        Op::Delete((0..2).map(PointId::from).collect(), Durability::Memory),
        upsert(2..30, 2),
        Op::Compact(false),
        Op::AddField(1),
        Op::Upsert(rows(5..6, 3), Durability::Interval { ms: 10 }),
        Op::Snapshot("snap".to_owned()),
        Op::Demote,
        upsert(1..3, 4),
        delete(7..8),
        Op::Verify,
        Op::DropCollection,
        Op::Restore("snap".to_owned()),
        Op::DeleteSnapshot("snap".to_owned()),
        Op::Pin(true),
        upsert(1..40, 5),
    ])
}

fn writes() -> Script {
    let red = || Condition::Eq("color", json!("red"));
    let mut script = Script::new([
        Op::Create(plain_schema()),
        Op::Insert(rows(0..6, 1), SYNC),
        Op::Insert(rows(3..4, 1), SYNC),
        Op::Update(vec![(2_u64.into(), json!({"color": "green", "n": null}))], SYNC),
        Op::Flush(false),
        Op::Insert(rows(6..12, 2), SYNC),
        Op::DeleteWhere(red(), SYNC),
        Op::Update(vec![(3_u64.into(), json!({"color": "red"}))], Durability::Memory),
        Op::Search(vec![(vec![1.0; 4], 5, Some(red()))]),
        Op::Count(Some(red())),
        Op::Get(vec![3_u64.into(), 99_u64.into()]),
        Op::Flush(true),
        Op::AddField(1),
        Op::Upsert(rows(20..24, 3), Durability::Interval { ms: 5 }),
        Op::Advance(10),
        upsert(24..26, 3),
        Op::DeleteWhere(Condition::Range("n", json!(0), json!(22)), SYNC),
        Op::Compact(true),
        Op::Scan(3, Some(red())),
    ]);
    // Above zero, so that the free space is asked for.
    script.settings.disk_reserve_bytes = 1;
    script
}

fn tiers() -> Script {
    let mut script = Script::new([
        Op::Create(plain_schema()),
        upsert(0..10, 1),
        Op::Demote,
        upsert(3..5, 2),
        delete(8..9),
        Op::Flush(false),
        Op::Get(vec![1_u64.into(), 3_u64.into(), 8_u64.into()]),
        Op::Demote,
        Op::Restart(End::Close, None),
        Op::Promote,
        Op::Snapshot("one".to_owned()),
        delete(0..4),
        Op::Snapshot("two".to_owned()),
        Op::DeleteSnapshot("one".to_owned()),
        Op::Demote,
        Op::DropCollection,
        Op::Restore("two".to_owned()),
        Op::Search(vec![(vec![1.0; 4], 3, None)]),
        Op::Demote,
        upsert(20..22, 3),
        Op::Promote,
    ]);
    script.settings.read_mode = ReadMode::Pread;
    script
}

fn log_rolls() -> Script {
    let write = |version| [upsert(0..9, version), delete(version..version + 2)];
    let ops = (0..7).flat_map(write);
    let mut script = Script::new(std::iter::once(Op::Create(plain_schema())).chain(ops).chain([
        Op::Restart(End::Kill, None),
        upsert(0..20, 9),
        Op::Flush(true),
    ]));
    script.settings.memtable_bytes = 2 << 10;
    script.settings.wal_bytes_max = 8 << 10;
    script
}

fn manifest_rolls() -> Script {
    // A collection with as many fields makes every edit of the manifest long.
    let mut schema = Schema::new(4, Metric::Dot);
    for n in 0..60 {
        schema = schema.field(format!("field-with-a-long-name-{n:050}"), FieldType::Integer);
    }
    let pins = (0..16).map(|n| Op::Pin(n % 2 == 0));
    Script::new([Op::Create(schema)].into_iter().chain(pins).chain([
        upsert(0..3, 1),
        Op::Flush(false),
        Op::Restart(End::Close, None),
        delete(0..1),
    ]))
}

fn recoveries() -> Script {
    let restart = |end| Op::Restart(end, None);
    let mut script = Script::new([
        Op::Create(plain_schema()),
        upsert(0..10, 1),
        Op::Flush(false),
        delete(1..3),
        upsert(10..14, 1),
        restart(End::Kill),
        Op::Upsert(rows(2..4, 2), Durability::Memory),
        restart(End::Crash(CrashPolicy::Random)),
        upsert(4..6, 3),
        Op::Flush(false),
        delete(5..6),
        restart(End::Close),
        Op::Upsert(rows(20..24, 4), Durability::Interval { ms: 50 }),
        restart(End::Drop),
        Op::Demote,
        upsert(0..2, 5),
        restart(End::Crash(CrashPolicy::DropAll)),
    ]);
    script.settings = tiny_settings();
    script.settings.compaction_auto = false;
    script
}
