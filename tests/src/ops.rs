//! What a simulated program does: every verb of the database, restarts, crashes and faults, drawn
//! from a seed. Ids, names and values come from small sets, so that writes meet older rows.

use crate::{
    condition::{Condition, any_metadata},
    world::any_durability,
};
use akidb::{Durability, FieldType, Metric, Point, PointId, Schema};
use akidb_vfs::sim::{CrashPolicy, FaultKind};
use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};
use std::time::Duration;

/// Dimension of every generated vector.
pub const DIM: usize = 4;
const IDS: u64 = 30;
const COLLECTIONS: u8 = 3;
const SNAPSHOTS: u8 = 2;

/// How a running database ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// `close`.
    Close,
    /// The last handle is dropped.
    Drop,
    /// The process dies; the disk keeps everything.
    Kill,
    /// The power goes.
    Crash(CrashPolicy),
}

/// One step.
#[derive(Clone, Debug)]
pub enum Op {
    /// Upsert of one or many rows.
    Upsert(Vec<Point>, Durability),
    /// Insert-only.
    Insert(Vec<Point>, Durability),
    /// Partial metadata update.
    Update(Vec<(PointId, Value)>, Durability),
    /// Delete by id.
    Delete(Vec<PointId>, Durability),
    /// Delete by filter.
    DeleteWhere(Condition, Durability),
    /// Get by id.
    Get(Vec<PointId>),
    /// Scan all pages of this size.
    Scan(usize, Option<Condition>),
    /// Count.
    Count(Option<Condition>),
    /// One search, or several at once.
    Search(Vec<(Vec<f32>, usize, Option<Condition>)>),
    /// Index a field.
    AddField(usize),
    /// Flush the collection, or all.
    Flush(bool),
    /// Compact the collection, or all.
    Compact(bool),
    /// Move to the cold tier.
    Demote,
    /// Move back.
    Promote,
    /// Pin or unpin.
    Pin(bool),
    /// Take a snapshot.
    Snapshot(String),
    /// Restore a snapshot under the collection's name.
    Restore(String),
    /// Delete a snapshot.
    DeleteSnapshot(String),
    /// Create the collection.
    Create(Schema),
    /// Drop the collection.
    DropCollection,
    /// Compare everything.
    Verify,
    /// Let time pass, in milliseconds.
    Advance(u64),
    /// End and open again; the second number crashes that recovery at this call, if it has one.
    Restart(End, Option<u64>),
    /// The power goes at the nth mutating call from now.
    PowerOffAt(u64, CrashPolicy),
    /// The nth call that can fail so fails.
    Fault(FaultKind, u64),
}

/// A step and the collection it is about.
#[derive(Clone, Debug)]
pub struct Step {
    /// The collection's name.
    pub collection: String,
    /// What is done.
    pub op: Op,
}

/// A random schema; every field may or may not be indexed.
pub fn any_schema(rng: &mut fastrand::Rng) -> Schema {
    let metric = [Metric::Cosine, Metric::Dot, Metric::L2][rng.usize(0..3)];
    let mut schema = Schema::new(DIM as u32, metric);
    for (name, field_type) in crate::condition::FIELDS {
        if rng.u8(0..3) == 0 {
            schema = schema.field(name, field_type);
        }
    }
    schema
}

/// A vector of small whole numbers, never all zero: sums are exact and ties are common.
pub fn any_vector(rng: &mut fastrand::Rng) -> Vec<f32> {
    let mut vector: Vec<f32> = (0..DIM).map(|_| f32::from(rng.i8(-2..3))).collect();
    if vector.iter().all(|x| *x == 0.0) {
        vector[0] = 1.0;
    }
    vector
}

/// One of a few ids, of all three kinds.
pub fn any_id(rng: &mut fastrand::Rng) -> PointId {
    let n = rng.u64(0..IDS);
    match n % 3 {
        0 => PointId::from(n),
        1 => PointId::from(format!("row-{n}")),
        _ => format!("00000000-0000-0000-0000-{n:012}").parse().unwrap_or_else(|e| match e {}),
    }
}

/// A random row.
pub fn any_point(rng: &mut fastrand::Rng) -> Point {
    Point::new(any_id(rng), any_vector(rng)).meta(any_metadata(rng))
}

fn several<T>(rng: &mut fastrand::Rng, one: impl Fn(&mut fastrand::Rng) -> T) -> Vec<T> {
    let count = if rng.bool() { 1 } else { rng.usize(1..12) };
    (0..count).map(|_| one(rng)).collect()
}

fn maybe_condition(rng: &mut fastrand::Rng) -> Option<Condition> {
    rng.bool().then(|| Condition::any(rng, 2))
}

fn any_policy(rng: &mut fastrand::Rng) -> CrashPolicy {
    [CrashPolicy::DropAll, CrashPolicy::KeepAll, CrashPolicy::Random, CrashPolicy::Random]
        [rng.usize(0..4)]
}

fn any_fault(rng: &mut fastrand::Rng) -> FaultKind {
    [
        FaultKind::Eio,
        FaultKind::NoSpace,
        FaultKind::ShortWrite,
        FaultKind::Interrupted,
        FaultKind::TooManyFiles,
        FaultKind::SyncFailsCacheKept,
        FaultKind::SyncFailsCacheDropped,
    ][rng.usize(0..7)]
}

fn snapshot_name(rng: &mut fastrand::Rng) -> String {
    format!("snap-{}", rng.u8(0..SNAPSHOTS))
}

/// A patch of metadata: values, removals, keys that are new.
fn any_patch(rng: &mut fastrand::Rng) -> (PointId, Value) {
    let mut patch = any_metadata(rng);
    if let Some(patch) = patch.as_object_mut() {
        patch.insert("extra".to_owned(), if rng.bool() { json!(null) } else { json!(rng.u8(..)) });
    }
    (any_id(rng), patch)
}

impl Step {
    /// The next step of a sequence. `faults` allows crashes within calls and failing calls.
    pub fn any(rng: &mut fastrand::Rng, faults: bool) -> Self {
        // The first collection is used most, so that it grows.
        let collection = if rng.bool() { 0 } else { rng.u8(0..COLLECTIONS) };
        Self { collection: format!("c{collection}"), op: Op::any(rng, faults) }
    }
}

impl Op {
    fn any(rng: &mut fastrand::Rng, faults: bool) -> Self {
        let durability = any_durability(rng);
        match rng.u8(0..100) {
            0..=21 => Self::Upsert(several(rng, any_point), durability),
            22..=25 => Self::Insert(several(rng, any_point), durability),
            26..=29 => Self::Update(several(rng, any_patch), durability),
            30..=37 => Self::Delete(several(rng, any_id), durability),
            38..=40 => Self::DeleteWhere(Condition::any(rng, 1), durability),
            41..=43 => Self::Get(several(rng, any_id)),
            44..=45 => Self::Scan(rng.usize(1..20), maybe_condition(rng)),
            46..=47 => Self::Count(maybe_condition(rng)),
            48..=54 => Self::Search(several(rng, |rng| {
                (any_vector(rng), rng.usize(1..12), maybe_condition(rng))
            })),
            55..=56 => Self::AddField(rng.usize(0..6)),
            57..=61 => Self::Flush(rng.bool()),
            62..=64 => Self::Compact(rng.bool()),
            65..=68 => Self::Demote,
            69..=70 => Self::Promote,
            71 => Self::Pin(rng.u8(0..4) == 0),
            72..=73 => Self::Snapshot(snapshot_name(rng)),
            74..=75 => Self::Restore(snapshot_name(rng)),
            76 => Self::DeleteSnapshot(snapshot_name(rng)),
            77..=79 => Self::Create(any_schema(rng)),
            80 => Self::DropCollection,
            81..=82 => Self::Verify,
            83..=84 => Self::Advance([1, 60, 700_000][rng.usize(0..3)]),
            85..=86 => Self::Restart(End::Close, None),
            87 => Self::Restart(End::Drop, None),
            88..=89 => Self::Restart(End::Kill, Self::again(rng, faults)),
            90..=92 => Self::Restart(End::Crash(any_policy(rng)), Self::again(rng, faults)),
            93..=96 if faults => Self::PowerOffAt(rng.u64(1..25), any_policy(rng)),
            97..=99 if faults => Self::Fault(any_fault(rng), rng.u64(1..12)),
            _ => Self::Upsert(several(rng, any_point), durability),
        }
    }

    fn again(rng: &mut fastrand::Rng, faults: bool) -> Option<u64> {
        (faults && rng.bool()).then(|| rng.u64(1..20))
    }
}

/// A move between tiers beside others: being told of another move is as good as moving.
///
/// # Errors
/// Any other.
pub fn moved_or_told(result: akidb::Result<bool>) -> akidb::Result<()> {
    match result {
        Err(error) if matches!(error.cause(), akidb::Cause::Moving { .. }) => Ok(()),
        other => other.map(drop),
    }
}

/// Waits where there is no condition to wait on.
pub fn pause(time: Duration) {
    Condvar::new().wait_for(&mut Mutex::new(()).lock(), time);
}

/// The schema that a sequence begins with when the shape does not matter.
pub fn plain_schema() -> Schema {
    Schema::new(DIM as u32, Metric::L2).field("color", FieldType::Keyword)
}
