//! What the database must answer: every collection as a sorted map, every write in LSN order, so
//! that a crash can be answered with "the prefix that ends here". Search is brute force.

use akidb::{Durability, Hit, Metadata, Metric, Point, PointId, Record, Schema};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A row as it must be read back.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The vector, bit for bit.
    pub vector: Vec<f32>,
    /// The metadata.
    pub metadata: Metadata,
    /// The LSN of the write that made it.
    pub lsn: u64,
}

/// Rows by id.
pub type Rows = BTreeMap<PointId, Row>;

/// The effect of one acknowledged (or possible) write.
#[derive(Clone, Debug)]
pub enum Change {
    /// Rows put.
    Put(BTreeMap<PointId, (Vec<f32>, Metadata)>),
    /// Ids deleted.
    Delete(BTreeSet<PointId>),
}

impl Change {
    /// The effect of an upsert: of repeated ids the last wins.
    ///
    /// # Panics
    /// On metadata that is not an object.
    pub fn put(points: &[Point]) -> Self {
        let object = |value: &Value| value.as_object().expect("an object").clone();
        let row = |p: &Point| (p.id.clone(), (p.vector.clone(), object(&p.metadata)));
        Self::Put(points.iter().map(row).collect())
    }

    /// Distinct ids in it.
    pub fn rows(&self) -> usize {
        match self {
            Self::Put(rows) => rows.len(),
            Self::Delete(ids) => ids.len(),
        }
    }

    fn apply(&self, lsn: u64, rows: &mut Rows) {
        match self {
            Self::Put(put) => rows.extend(put.iter().map(|(id, (vector, metadata))| {
                let (vector, metadata) = (vector.clone(), metadata.clone());
                (id.clone(), Row { vector, metadata, lsn })
            })),
            Self::Delete(ids) => rows.retain(|id, _| !ids.contains(id)),
        }
    }
}

/// A collection.
#[derive(Clone, Debug)]
pub struct Collection {
    /// Distinguishes it from earlier ones of its name.
    pub uid: u64,
    /// Its schema.
    pub schema: Schema,
    /// Whether it is pinned.
    pub pinned: bool,
    /// Its rows now.
    pub rows: Rows,
    /// Its rows before the first write in the oracle's history.
    base: Rows,
}

/// A snapshot.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The schema of the collection then.
    pub schema: Schema,
    /// Its rows then.
    pub rows: Rows,
    /// The last LSN then: a snapshot that exists makes everything up to it durable.
    pub lsn: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    lsn: u64,
    uid: u64,
    change: Change,
    /// The level it was acknowledged at, where that is known.
    level: Option<Durability>,
}

/// The whole database, as it must be.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    /// Collections by name.
    pub collections: BTreeMap<String, Collection>,
    /// Snapshots by name.
    pub snapshots: BTreeMap<String, Snapshot>,
    /// The LSN of the last write.
    pub last_lsn: u64,
    /// The last LSN that a power loss cannot take.
    pub durable_lsn: u64,
    /// The last LSN that a process kill cannot take.
    pub written_lsn: u64,
    history: Vec<Entry>,
    uids: u64,
}

impl Oracle {
    /// Adds a collection with rows that are durable already.
    pub fn create(&mut self, name: &str, schema: Schema, rows: Rows) {
        self.uids += 1;
        let base = rows.clone();
        let collection = Collection { uid: self.uids, schema, pinned: false, rows, base };
        self.collections.insert(name.to_owned(), collection);
    }

    /// Records an acknowledged write.
    ///
    /// # Panics
    /// If its LSN is not above all before, or the collection is unknown.
    pub fn commit(&mut self, name: &str, lsn: u64, change: Change) {
        assert!(lsn > self.last_lsn, "LSN {lsn} was given after {}", self.last_lsn);
        let collection = self.collections.get_mut(name).expect("a known collection");
        change.apply(lsn, &mut collection.rows);
        self.last_lsn = lsn;
        let uid = collection.uid;
        self.history.push(Entry { lsn, uid, change, level: None });
    }

    /// Notes the level at which the last write was acknowledged.
    pub fn acknowledged_at(&mut self, level: Durability) {
        if let Some(last) = self.history.last_mut() {
            last.level = Some(level);
        }
    }

    /// The levels of the acknowledged writes since the last restart, with their LSNs, in order.
    pub fn levels(&self) -> impl DoubleEndedIterator<Item = (u64, Durability)> {
        self.history.iter().filter_map(|entry| Some((entry.lsn, entry.level?)))
    }

    /// Notes that everything up to `lsn` survives a power loss.
    pub fn durable(&mut self, lsn: u64) {
        self.durable_lsn = self.durable_lsn.max(lsn);
        self.written_lsn = self.written_lsn.max(self.durable_lsn);
    }

    /// Forgets every write after `lsn`, as a crash did, and takes the rest for durable: recovery
    /// synced what it found.
    pub fn truncate(&mut self, lsn: u64) {
        self.history.retain(|entry| entry.lsn <= lsn);
        for collection in self.collections.values_mut() {
            let uid = collection.uid;
            for entry in self.history.iter().filter(|entry| entry.uid == uid) {
                entry.change.apply(entry.lsn, &mut collection.base);
            }
            collection.rows = collection.base.clone();
        }
        self.history.clear();
        self.last_lsn = lsn;
        self.durable_lsn = lsn;
        self.written_lsn = lsn;
    }

    /// The LSNs at which a collection would look like `rows`: for failure messages.
    pub fn prefixes_like(&self, name: &str, rows: &Rows) -> Vec<u64> {
        let Some(collection) = self.collections.get(name) else { return Vec::new() };
        let mut state = collection.base.clone();
        let mut found = Vec::new();
        if state == *rows {
            found.push(0);
        }
        for entry in self.history.iter().filter(|entry| entry.uid == collection.uid) {
            entry.change.apply(entry.lsn, &mut state);
            if state == *rows {
                found.push(entry.lsn);
            }
        }
        found
    }
}

/// Rows as a scan returns them.
pub fn rows_of(records: Vec<Record>) -> Rows {
    records
        .into_iter()
        .map(|Record { id, vector, metadata, lsn }| (id, Row { vector, metadata, lsn }))
        .collect()
}

/// The score as documented, in f64: cosine, inner product, or the negated Euclidean distance.
pub fn score(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let pairs = || a.iter().zip(b).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    let dot = |pairs: &mut dyn Iterator<Item = (f64, f64)>| pairs.map(|(a, b)| a * b).sum::<f64>();
    match metric {
        Metric::Dot => dot(&mut pairs()),
        Metric::L2 => -pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt(),
        Metric::Cosine => {
            let norm = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            dot(&mut pairs()) / (norm(a) * norm(b))
        }
    }
}

/// Checks the answer of an exact search over `rows`, those that match: as many hits as there can
/// be, true scores, nearest first, ties by id, and nothing nearer left out. Scores may differ from
/// the oracle's by rounding, so rows that close may stand in for each other.
///
/// # Errors
/// What is wrong.
pub fn check_hits(
    schema: &Schema,
    rows: &BTreeMap<PointId, &Row>,
    query: &[f32],
    k: usize,
    hits: &[Hit],
) -> Result<(), String> {
    let rest = check_found(schema, rows, query, k, hits)?;
    let Some(last) = hits.last() else { return Ok(()) };
    for (id, row) in rest {
        let missed = score(schema.metric, query, &row.vector);
        if missed > f64::from(last.score) + SLACK {
            return Err(format!("{id} with score {missed} was left out, {} was not", last.score));
        }
        // Whole numbers are scored without rounding, so there a tie is a tie.
        let exact = schema.metric == Metric::Dot && missed == f64::from(last.score);
        if exact && id < last.id {
            return Err(format!("{id} ties with {} and is smaller, but was left out", last.id));
        }
    }
    Ok(())
}

/// How far a score of the database may be from one in double precision.
const SLACK: f64 = 1e-4;

/// Checks what an approximate search promises: as many hits as it can give, each a row that belongs
/// there, once, with its true score, in order. Returns the rows that are not among them.
///
/// # Errors
/// What is wrong.
pub fn check_found<'r>(
    schema: &Schema,
    rows: &BTreeMap<PointId, &'r Row>,
    query: &[f32],
    k: usize,
    hits: &[Hit],
) -> Result<BTreeMap<PointId, &'r Row>, String> {
    if hits.len() != k.min(rows.len()) {
        return Err(format!("{} hits of k {k}, {} rows match", hits.len(), rows.len()));
    }
    let mut rest: BTreeMap<_, _> = rows.clone();
    for (at, hit) in hits.iter().enumerate() {
        let row = rest.remove(&hit.id).ok_or_else(|| format!("{} does not belong", hit.id))?;
        let wanted = score(schema.metric, query, &row.vector);
        if (f64::from(hit.score) - wanted).abs() > SLACK {
            return Err(format!("{} has score {}, not {wanted}", hit.id, hit.score));
        }
        if hit.vector.as_ref().is_some_and(|vector| *vector != row.vector) {
            return Err(format!("{} came with another vector", hit.id));
        }
        if hit.metadata.as_ref().is_some_and(|metadata| *metadata != row.metadata) {
            return Err(format!("{} came with other metadata", hit.id));
        }
        if let Some(next) = hits.get(at + 1)
            && (hit.score < next.score || (hit.score == next.score && hit.id >= next.id))
        {
            return Err(format!("{} stands before {}", hit.id, next.id));
        }
    }
    Ok(rest)
}
