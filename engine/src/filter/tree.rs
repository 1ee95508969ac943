//! The filter tree as plain data, and its combinators.
//!
//! Nothing here is checked: a tree can be built that no collection accepts. The checks are in
//! `compile`, which every verb that takes a filter calls before it does anything else.

use std::ops::{BitAnd, BitOr, Bound, Not};

/// The most levels of a filter: a lone condition has 1, each `and`, `or` and `not` adds 1.
pub const FILTER_DEPTH_MAX: usize = 16;
/// The most conditions of a filter; each element of an `in` counts as one.
pub const FILTER_CONDITIONS_MAX: usize = 1_000;

/// A condition over the metadata of a row.
///
/// Built with [`field`](crate::field), combined with `&`, `|` and `!`, or read from JSON with
/// [`Filter::from_json`]. It is checked when a verb uses it: at most [`FILTER_DEPTH_MAX`] levels
/// and [`FILTER_CONDITIONS_MAX`] conditions, and values that fit the types of indexed fields.
///
/// ```
/// use akidb::{Filter, field};
///
/// let filter = field("pos").eq("noun") & (field("year").gte(1990) | !field("year").exists());
/// let same: Filter = r#"{"and": [
///     {"field": "pos", "eq": "noun"},
///     {"or": [{"field": "year", "gte": 1990}, {"not": {"field": "year", "exists": true}}]}
/// ]}"#
/// .parse()?;
/// assert_eq!(filter, same);
/// # Ok::<(), akidb::InputError>(())
/// ```
///
/// # What matches
///
/// - A field is a top-level key of the metadata object.
/// - A comparison with an absent field, with `null`, or with a value of another type is false.
/// - `ne` is "not `eq`": it is true of rows without the field.
/// - `exists` is true if the key is there with a value that is not `null`, of whatever type.
/// - `eq`, `ne`, `in` and ranges look at single values and never into a list; `contains` looks
///   only at the strings in a list.
/// - Strings order by their bytes. Booleans have no order: a range never matches one.
/// - An empty `and` matches every row, an empty `or` and an empty `in` none.
///
/// On a field that the schema indexes, the declared type decides; a value of another type
/// matches no comparison, only `exists`:
///
/// - *integer*: whole numbers that fit 64 signed bits, also when written `3.0`. Literals are
///   compared exactly: `eq 2.5` matches nothing, `gt 2.5` begins at 3.
/// - *float*: value and literal are taken as the nearest 64-bit float, so two whole numbers
///   beyond 2^53 can be equal there. `-0.0` equals `0.0`.
/// - *timestamp*: RFC 3339 strings as instants in microseconds; further digits are dropped on
///   both sides. `2026-01-01T00:00:00Z` equals `2026-01-01T01:00:00+01:00`.
/// - *keyword* and *bool*: as above.
///
/// On any other field the literal decides the type, and numbers compare by their exact value:
/// 2^53 + 1 is not 2^53 even if one of them is written as a float.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Filter {
    /// The field's value equals the given one.
    Eq {
        /// The field.
        field: String,
        /// The value.
        value: FilterValue,
    },
    /// Not `Eq`: also true of rows without the field.
    Ne {
        /// The field.
        field: String,
        /// The value.
        value: FilterValue,
    },
    /// The field's value equals one of those given.
    In {
        /// The field.
        field: String,
        /// The values.
        values: Vec<FilterValue>,
    },
    /// The field's value lies between two bounds, of which one may be open.
    Range {
        /// The field.
        field: String,
        /// `gt`, `gte` or none.
        lower: Bound<FilterValue>,
        /// `lt`, `lte` or none.
        upper: Bound<FilterValue>,
    },
    /// The field has a value that is not `null`, or has none.
    Exists {
        /// The field.
        field: String,
        /// `true` for rows with a value, `false` for those without.
        exists: bool,
    },
    /// The field is a list in which this string stands.
    Contains {
        /// The field.
        field: String,
        /// The string.
        value: String,
    },
    /// Every part matches; true if there is none.
    And(Vec<Filter>),
    /// One part or more matches; false if there is none.
    Or(Vec<Filter>),
    /// The part does not match.
    Not(Box<Filter>),
}

impl Filter {
    /// Every one of the given filters matches.
    pub fn and(parts: impl IntoIterator<Item = Self>) -> Self {
        Self::And(parts.into_iter().collect())
    }

    /// One or more of the given filters match.
    pub fn or(parts: impl IntoIterator<Item = Self>) -> Self {
        Self::Or(parts.into_iter().collect())
    }
}

/// `a & b & c` is one flat `and`, so that a long chain does not count as deep nesting.
impl BitAnd for Filter {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        match self {
            Self::And(mut parts) => {
                parts.push(other);
                Self::And(parts)
            }
            first => Self::And(vec![first, other]),
        }
    }
}

/// `a | b | c` is one flat `or`, so that a long chain does not count as deep nesting.
impl BitOr for Filter {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        match self {
            Self::Or(mut parts) => {
                parts.push(other);
                Self::Or(parts)
            }
            first => Self::Or(vec![first, other]),
        }
    }
}

impl Not for Filter {
    type Output = Self;

    fn not(self) -> Self {
        Self::Not(Box::new(self))
    }
}

/// A value that a filter compares with. Made with `From` from strings, numbers and booleans.
///
/// ```
/// use akidb::FilterValue;
/// assert_eq!(FilterValue::from(7_u64), FilterValue::Integer(7));
/// assert_eq!(FilterValue::from("noun"), FilterValue::String("noun".to_owned()));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum FilterValue {
    /// A string; on a timestamp field an RFC 3339 time.
    String(String),
    /// A whole number.
    Integer(i64),
    /// A whole number above `i64::MAX`.
    Unsigned(u64),
    /// A finite number.
    Float(f64),
    /// `true` or `false`.
    Bool(bool),
}

impl FilterValue {
    /// What the value is, in the words of an error message.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) | Self::Unsigned(_) | Self::Float(_) => "a number",
            Self::Bool(_) => "a boolean",
        }
    }
}

impl From<&str> for FilterValue {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<String> for FilterValue {
    fn from(value: String) -> Self {
        Self::String(value)
    }
}

impl From<&String> for FilterValue {
    fn from(value: &String) -> Self {
        Self::String(value.clone())
    }
}

impl From<i64> for FilterValue {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<i32> for FilterValue {
    fn from(value: i32) -> Self {
        Self::Integer(value.into())
    }
}

impl From<u32> for FilterValue {
    fn from(value: u32) -> Self {
        Self::Integer(value.into())
    }
}

/// One value has one form, so that filters read back from their JSON are equal to the original.
impl From<u64> for FilterValue {
    fn from(value: u64) -> Self {
        i64::try_from(value).map_or(Self::Unsigned(value), Self::Integer)
    }
}

impl From<f64> for FilterValue {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<f32> for FilterValue {
    fn from(value: f32) -> Self {
        Self::Float(value.into())
    }
}

impl From<bool> for FilterValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}
