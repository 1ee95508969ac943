//! Filters, written a second time: generated, turned into JSON for the database, and evaluated
//! here row by row, straight from the documented meaning.

use akidb::{FieldDef, FieldType, Filter, Metadata};
use serde_json::{Value, json};

/// The metadata keys that generated rows have, with the type each can be indexed as.
pub const FIELDS: [(&str, FieldType); 6] = [
    ("color", FieldType::Keyword),
    ("n", FieldType::Integer),
    ("f", FieldType::Float),
    ("ok", FieldType::Bool),
    ("tags", FieldType::Keyword),
    ("at", FieldType::Timestamp),
];

/// The `index`-th field of [`FIELDS`].
pub fn field_def(index: usize) -> FieldDef {
    let (name, field_type) = FIELDS[index % FIELDS.len()];
    FieldDef { name: name.to_owned(), field_type }
}

/// A filter.
#[derive(Clone, Debug)]
pub enum Condition {
    /// A scalar equals.
    Eq(&'static str, Value),
    /// Not [`Condition::Eq`]: rows without the field match.
    Ne(&'static str, Value),
    /// A scalar is one of these.
    In(&'static str, Vec<Value>),
    /// At least the first, below the second.
    Range(&'static str, Value, Value),
    /// The key is there and not null.
    Exists(&'static str),
    /// A list of strings holds this one.
    Contains(&'static str, String),
    /// All match.
    And(Vec<Condition>),
    /// Any matches.
    Or(Vec<Condition>),
    /// It does not match.
    Not(Box<Condition>),
}

impl Condition {
    /// A random filter over [`FIELDS`].
    pub fn any(rng: &mut fastrand::Rng, depth: u32) -> Self {
        if depth > 0 && rng.u8(0..3) == 0 {
            let mut some = || (0..2).map(|_| Self::any(rng, depth - 1)).collect::<Vec<_>>();
            let parts = some();
            return match rng.u8(0..3) {
                0 => Self::And(parts),
                1 => Self::Or(parts),
                _ => Self::Not(Box::new(Self::any(rng, depth - 1))),
            };
        }
        let (name, field_type) = FIELDS[rng.usize(0..FIELDS.len())];
        if name == "tags" {
            return Self::Contains(name, tag(rng));
        }
        let value = |rng: &mut fastrand::Rng| value_of(field_type, rng);
        match rng.u8(0..5) {
            0 => Self::Eq(name, value(rng)),
            1 => Self::Ne(name, value(rng)),
            2 => Self::In(name, vec![value(rng), value(rng)]),
            3 if field_type != FieldType::Bool => Self::Range(name, value(rng), value(rng)),
            _ => Self::Exists(name),
        }
    }

    /// The documented JSON form.
    pub fn to_json(&self) -> Value {
        let all = |parts: &[Self]| parts.iter().map(Self::to_json).collect::<Vec<_>>();
        match self {
            Self::Eq(field, value) => json!({"field": field, "eq": value}),
            Self::Ne(field, value) => json!({"field": field, "ne": value}),
            Self::In(field, values) => json!({"field": field, "in": values}),
            Self::Range(field, low, high) => json!({"field": field, "gte": low, "lt": high}),
            Self::Exists(field) => json!({"field": field, "exists": true}),
            Self::Contains(field, value) => json!({"field": field, "contains": value}),
            Self::And(parts) => json!({"and": all(parts)}),
            Self::Or(parts) => json!({"or": all(parts)}),
            Self::Not(part) => json!({"not": part.to_json()}),
        }
    }

    /// The database's filter.
    ///
    /// # Panics
    /// If the database does not take its own JSON form.
    pub fn to_filter(&self) -> Filter {
        Filter::from_json(&self.to_json()).expect("a documented form of filter is accepted")
    }

    /// Whether a row with this metadata matches.
    pub fn matches(&self, metadata: &Metadata) -> bool {
        match self {
            Self::Eq(field, value) => metadata.get(*field).is_some_and(|v| equal(v, value)),
            Self::Ne(field, value) => !metadata.get(*field).is_some_and(|v| equal(v, value)),
            Self::In(field, values) => {
                metadata.get(*field).is_some_and(|v| values.iter().any(|value| equal(v, value)))
            }
            Self::Range(field, low, high) => {
                metadata.get(*field).is_some_and(|v| not_below(v, low) && !not_below(v, high))
            }
            Self::Exists(field) => metadata.get(*field).is_some_and(|v| !v.is_null()),
            Self::Contains(field, value) => metadata
                .get(*field)
                .and_then(Value::as_array)
                .is_some_and(|list| list.iter().any(|v| v.as_str() == Some(value))),
            Self::And(parts) => parts.iter().all(|part| part.matches(metadata)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(metadata)),
            Self::Not(part) => !part.matches(metadata),
        }
    }
}

fn equal(stored: &Value, wanted: &Value) -> bool {
    match (stored.as_f64(), wanted.as_f64()) {
        (Some(stored), Some(wanted)) => stored == wanted,
        _ => stored == wanted,
    }
}

/// `stored >= bound`. Values of another type than the bound are neither below nor above it; the
/// caller asks for both ends, so `false` for the lower end excludes them.
fn not_below(stored: &Value, bound: &Value) -> bool {
    match (stored, bound) {
        (Value::String(stored), Value::String(bound)) => stored >= bound,
        (Value::Number(stored), Value::Number(bound)) => stored.as_f64() >= bound.as_f64(),
        _ => false,
    }
}

fn tag(rng: &mut fastrand::Rng) -> String {
    format!("t{}", rng.u8(0..4))
}

/// Values of few kinds, so that filters hit; small enough that f64 holds them exactly.
fn value_of(field_type: FieldType, rng: &mut fastrand::Rng) -> Value {
    match field_type {
        FieldType::Keyword => json!(["red", "green", "blue", "blau"][rng.usize(0..4)]),
        FieldType::Integer => json!(rng.i64(-3..4)),
        FieldType::Float => json!(f64::from(rng.i8(-4..5)) * 0.5),
        FieldType::Bool => json!(rng.bool()),
        FieldType::Timestamp => json!(format!("2026-01-0{}T00:00:00Z", rng.u8(1..6))),
    }
}

/// Random metadata over [`FIELDS`]: keys absent, null, or of another type now and then.
pub fn any_metadata(rng: &mut fastrand::Rng) -> Value {
    let mut map = Metadata::new();
    for (name, field_type) in FIELDS {
        let value = match rng.u8(0..8) {
            0..=2 => continue,
            3 => json!(null),
            4 => json!({"nested": [1, "two"]}),
            _ if name == "tags" => json!([tag(rng), tag(rng)]),
            _ => value_of(field_type, rng),
        };
        map.insert(name.to_owned(), value);
    }
    Value::Object(map)
}
