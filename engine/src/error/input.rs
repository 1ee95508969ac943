//! Everything that can be wrong with what a caller hands over. Each variant names the thing, what
//! was found and what would do; whoever returns one has changed nothing.

use crate::{FieldType, PointId};
use std::path::PathBuf;

/// Input that breaks a rule. Nothing was changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// A dimension outside 1 to the maximum.
    #[error("a dimension of {dim} is not possible; give 1 to {max}")]
    BadDimension {
        /// The dimension given.
        dim: u32,
        /// The largest.
        max: u32,
    },
    /// More indexed fields than a collection may have.
    #[error("{found} indexed fields are too many; the maximum is {max}")]
    TooManyFields {
        /// How many were given.
        found: usize,
        /// The most.
        max: usize,
    },
    /// An empty or over-long field name.
    #[error("{name:?} cannot name a field; give 1 to 128 bytes")]
    BadFieldName {
        /// The name.
        name: String,
    },
    /// A field was named twice, or is indexed already with another type.
    #[error("field {name:?} is indexed already")]
    DuplicateField {
        /// The field.
        name: String,
    },
    /// A name that breaks the rule.
    #[error(
        "{name:?} cannot be a name; use 1 to 63 of a-z, 0-9, - and _, starting with a letter or digit"
    )]
    BadName {
        /// The name given.
        name: String,
    },
    /// A key that no object can have.
    #[error(
        "{key:?} cannot be the key of an object; use a-z, 0-9, -, _, =, . and /, without empty, . or .. between slashes"
    )]
    BadKey {
        /// The key given.
        key: String,
    },
    /// A vector of another length than the collection's dimension.
    #[error("the vector of {what} has {found} numbers, the collection has dimension {expected}")]
    WrongDimension {
        /// The row's id, or "the query".
        what: String,
        /// The collection's dimension.
        expected: u32,
        /// The vector's length.
        found: usize,
    },
    /// NaN or infinity in a vector.
    #[error(
        "the vector of {what} holds {value} at position {position}; every number must be finite"
    )]
    NotFinite {
        /// The row's id, or "the query".
        what: String,
        /// The index in the vector.
        position: usize,
        /// The offending value.
        value: f32,
    },
    /// A zero vector (or one whose length is not a finite number) has no direction.
    #[error("the vector of {what} has no direction (length {norm}), which cosine needs")]
    ZeroVector {
        /// The row's id, or "the query".
        what: String,
        /// The Euclidean length.
        norm: f32,
    },
    /// An empty string id.
    #[error("an id must not be empty")]
    EmptyId,
    /// An over-long string id.
    #[error("the id {start:?}... has {found} bytes; the maximum is {max}")]
    IdTooLong {
        /// Its first characters.
        start: String,
        /// Its bytes.
        found: usize,
        /// The most.
        max: usize,
    },
    /// Metadata that is not a JSON object.
    #[error("the metadata of row {id} is a JSON {found}; it must be an object")]
    MetadataNotObject {
        /// The row.
        id: PointId,
        /// What it is: "array", "string", ...
        found: &'static str,
    },
    /// Metadata nested too deep.
    #[error("the metadata of row {id} nests deeper than {max} levels")]
    MetadataTooDeep {
        /// The row.
        id: PointId,
        /// The most levels.
        max: usize,
    },
    /// Metadata with too many bytes of JSON.
    #[error("the metadata of row {id} has {found} bytes of JSON; the maximum is {max}")]
    MetadataTooLarge {
        /// The row.
        id: PointId,
        /// Its bytes.
        found: usize,
        /// The most.
        max: usize,
    },
    /// `k` of 0 or above the limit.
    #[error("k of {k} is not possible; give 1 to {max}")]
    BadK {
        /// The k asked for.
        k: usize,
        /// The limit.
        max: usize,
    },
    /// A recall target outside its range.
    #[error("a recall target of {target} is not possible; give a share above 0, at most 1")]
    BadRecall {
        /// The share asked for.
        target: f32,
    },
    /// No cell to search.
    #[error("an nprobe of 0 finds nothing; give at least 1")]
    BadNprobe,
    /// A page size of 0 or above the limit.
    #[error("a page of {limit} rows is not possible; give 1 to {max}")]
    BadLimit {
        /// The page size asked for.
        limit: usize,
        /// The limit.
        max: usize,
    },
    /// A batch that does not fit one log frame.
    #[error("the batch takes {found} bytes in the log; the maximum is {max}, split it")]
    BatchTooLarge {
        /// Its bytes.
        found: u64,
        /// The most.
        max: u64,
    },
    /// A filter compares an indexed field with a value of another type.
    #[error("field {field:?} is a {expected}, the filter's {operator} compares it with {found}")]
    FilterType {
        /// The field.
        field: String,
        /// Its type.
        expected: FieldType,
        /// The operator of the filter.
        operator: &'static str,
        /// What the filter gives: "a string", "a number", ...
        found: &'static str,
    },
    /// A filter nested too deep.
    #[error("the filter nests deeper than {max} levels")]
    FilterTooDeep {
        /// The most levels.
        max: usize,
    },
    /// A filter with too many conditions.
    #[error("the filter has more than {max} conditions")]
    FilterTooLarge {
        /// The most conditions.
        max: usize,
    },
    /// JSON that is not a filter.
    #[error("not a filter at {path}: {detail}")]
    FilterSyntax {
        /// Where in the JSON, like `$.and[1]`.
        path: String,
        /// What is wrong.
        detail: String,
    },
    /// A scan cursor that this collection did not give out.
    #[error("this cursor does not belong to a scan of this collection")]
    BadCursor,
    /// A setting outside its range.
    #[error("setting {name} is {value}: {rule}")]
    BadSetting {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// A file to import that cannot be.
    #[error("cannot import {}: {detail}", file.display())]
    Import {
        /// The file.
        file: PathBuf,
        /// What is wrong, with row or column.
        detail: String,
    },
}
