//! What a collection is: its dimension, metric and indexed fields, and the rule for names.

use crate::error::InputError;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The largest dimension of a vector.
pub const DIM_MAX: u32 = 65_535;
/// The most indexed fields of one collection.
pub const FIELDS_MAX: usize = 64;
/// The longest name of an indexed field, in bytes.
pub(crate) const FIELD_NAME_BYTES_MAX: usize = 128;

/// How nearness is measured. In every metric a higher score is nearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Score is the cosine similarity, -1 to 1. Zero vectors are refused.
    Cosine,
    /// Score is the inner product.
    Dot,
    /// Score is the Euclidean distance, negated: 0 is a perfect match.
    L2,
}

/// The type of an indexed field. Values of another type are stored but not indexed: they match
/// no comparison, only `exists`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldType {
    /// A string, or a list of strings (for `contains`).
    Keyword,
    /// A whole number that fits 64 signed bits.
    Integer,
    /// Any JSON number.
    Float,
    /// `true` or `false`.
    Bool,
    /// An RFC 3339 string such as `2026-11-21T09:30:00Z`, compared as an instant in microseconds.
    Timestamp,
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keyword => "keyword",
            Self::Integer => "integer",
            Self::Float => "float",
            Self::Bool => "bool",
            Self::Timestamp => "timestamp",
        })
    }
}

/// An indexed field: a top-level key of the metadata object, and its type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldDef {
    /// The key.
    pub name: String,
    /// The type of the values that are indexed.
    #[serde(rename = "type")]
    pub field_type: FieldType,
}

/// The shape of a collection's rows, fixed at creation but for the fields, which can be added.
///
/// ```
/// use akidb::{FieldType, Metric, Schema};
/// let schema = Schema::new(384, Metric::Cosine).field("pos", FieldType::Keyword);
/// assert_eq!(schema.fields.len(), 1);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// Numbers in a vector, 1 to [`DIM_MAX`].
    pub dim: u32,
    /// How nearness is measured.
    pub metric: Metric,
    /// The indexed fields.
    #[serde(default)]
    pub fields: Vec<FieldDef>,
}

impl Schema {
    /// A schema without indexed fields.
    pub fn new(dim: u32, metric: Metric) -> Self {
        Self { dim, metric, fields: Vec::new() }
    }

    /// The same schema with one more indexed field.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, field_type: FieldType) -> Self {
        self.fields.push(FieldDef { name: name.into(), field_type });
        self
    }

    /// The type of an indexed field, `None` if the field is not indexed.
    pub fn field_type(&self, name: &str) -> Option<FieldType> {
        self.fields.iter().find(|f| f.name == name).map(|f| f.field_type)
    }

    /// Checks every rule of a schema.
    pub(crate) fn validate(&self) -> Result<(), InputError> {
        if self.dim == 0 || self.dim > DIM_MAX {
            return Err(InputError::BadDimension { dim: self.dim, max: DIM_MAX });
        }
        if self.fields.len() > FIELDS_MAX {
            return Err(InputError::TooManyFields { found: self.fields.len(), max: FIELDS_MAX });
        }
        for (i, field) in self.fields.iter().enumerate() {
            if field.name.is_empty() || field.name.len() > FIELD_NAME_BYTES_MAX {
                return Err(InputError::BadFieldName { name: field.name.clone() });
            }
            if self.fields.iter().take(i).any(|other| other.name == field.name) {
                return Err(InputError::DuplicateField { name: field.name.clone() });
            }
        }
        Ok(())
    }
}

/// Checks a collection or snapshot name: `^[a-z0-9][a-z0-9_-]{0,62}$`. Names are looked up, never
/// joined to a path, but the rule keeps them printable everywhere.
pub(crate) fn validate_name(name: &str) -> Result<(), InputError> {
    let ok = name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-'));
    if ok { Ok(()) } else { Err(InputError::BadName { name: name.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        for good in ["a", "0", "docs", "a-b_c", &"x".repeat(63)] {
            assert!(validate_name(good).is_ok(), "{good}");
        }
        for bad in ["", "..", "a/b", "Docs", "-a", "_a", "a b", "é", &"x".repeat(64), "a\0"] {
            assert!(validate_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_schema_is_checked_field_by_field() {
        assert!(Schema::new(1, Metric::Dot).validate().is_ok());
        assert!(Schema::new(0, Metric::Dot).validate().is_err());
        assert!(Schema::new(DIM_MAX + 1, Metric::Dot).validate().is_err());
        let twice =
            Schema::new(2, Metric::L2).field("a", FieldType::Bool).field("a", FieldType::Float);
        assert!(matches!(twice.validate(), Err(InputError::DuplicateField { .. })));
        assert!(Schema::new(2, Metric::L2).field("", FieldType::Bool).validate().is_err());
    }
}
