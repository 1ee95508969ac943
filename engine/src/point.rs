//! Rows as users give and get them: [`Point`] goes in, [`Record`] and [`Hit`] come out.

use crate::{PointId, settings::Durability};
use serde_json::{Map, Value};

/// A row's metadata: a JSON object.
pub type Metadata = Map<String, Value>;

/// A row to write: id, vector, and metadata that may be absent.
///
/// ```
/// use akidb::Point;
/// use serde_json::json;
/// let dog = Point::new("n02084071", vec![0.1, 0.2]).meta(json!({"pos": "noun"}));
/// assert_eq!(dog.vector.len(), 2);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The id; an existing row of the same id is replaced by an upsert.
    pub id: PointId,
    /// The vector, of the collection's dimension; finite.
    pub vector: Vec<f32>,
    /// A JSON object. Anything else is refused by the verb that writes it.
    pub metadata: Value,
}

impl Point {
    /// A row without metadata.
    pub fn new(id: impl Into<PointId>, vector: impl Into<Vec<f32>>) -> Self {
        Self { id: id.into(), vector: vector.into(), metadata: Value::Object(Map::new()) }
    }

    /// The same row with this JSON object as metadata.
    #[must_use]
    pub fn meta(mut self, metadata: Value) -> Self {
        self.metadata = metadata;
        self
    }
}

/// A stored row, as `get` and `scan` return it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The id.
    pub id: PointId,
    /// The vector exactly as it was written; empty if it was not asked for.
    pub vector: Vec<f32>,
    /// The metadata; empty if it was not asked for.
    pub metadata: Metadata,
    /// The LSN of the write that made this version of the row.
    pub lsn: u64,
}

/// One search result.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// The id.
    pub id: PointId,
    /// Higher is nearer: the cosine similarity, the inner product, or the negated Euclidean
    /// distance, by the collection's metric.
    pub score: f32,
    /// The vector, if asked for.
    pub vector: Option<Vec<f32>>,
    /// The metadata, if asked for.
    pub metadata: Option<Metadata>,
}

/// What a write reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The write's LSN: its place in the order of all writes of the database.
    pub lsn: u64,
    /// Rows or ids in the write, repeated ids counted once.
    pub rows: usize,
    /// The durability reached, which may be better than the one asked for; `Memory` if there was
    /// nothing to write.
    pub durability: Durability,
}
