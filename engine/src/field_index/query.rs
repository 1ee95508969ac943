//! What an index can be asked, in the terms of its keys.

#![deny(clippy::indexing_slicing)]

use super::value::{Extracted, elements, extract};
use crate::FieldType;
use serde_json::Value;
use std::ops::Bound;

/// A question to the index of one field. Built by the filter compiler for the field's type; keys
/// of keywords are their UTF-8 bytes, of booleans one byte, of numbers what `value` makes of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Query {
    /// Rows with a value that is not null.
    Exists,
    /// Rows whose single value is one of these, ascending and without doubles.
    Keys(Vec<Box<[u8]>>),
    /// Rows whose single value lies in this range of bytes.
    KeyRange(Bound<Box<[u8]>>, Bound<Box<[u8]>>),
    /// Rows with a list in which this string stands.
    Element(Box<[u8]>),
    /// Rows whose number is one of these, ascending and without doubles.
    Numbers(Vec<i64>),
    /// Rows whose number lies between the two, both included; none if the first is greater.
    NumberRange(i64, i64),
}

impl Query {
    /// Whether one row matches, of whose field the value is given: the same answer that an
    /// index of `field_type` holding the row gives.
    pub(crate) fn accepts(&self, field_type: FieldType, value: Option<&Value>) -> bool {
        let Some(value) = value.filter(|value| !value.is_null()) else {
            return false;
        };
        let extracted = extract(field_type, value);
        match (self, extracted) {
            (Self::Exists, _) => true,
            (Self::Keys(keys), Extracted::Key(key)) => {
                keys.binary_search_by(|probe| (**probe).cmp(key)).is_ok()
            }
            (Self::KeyRange(lower, upper), Extracted::Key(key)) => {
                above(lower, key) && below(upper, key)
            }
            (Self::Element(wanted), Extracted::List(list)) => {
                elements(list).any(|element| element == &**wanted)
            }
            (Self::Numbers(numbers), Extracted::Number(number)) => {
                numbers.binary_search(&number).is_ok()
            }
            (Self::NumberRange(low, high), Extracted::Number(number)) => {
                (*low..=*high).contains(&number)
            }
            _ => false,
        }
    }
}

/// Whether the key is not below the lower bound.
pub(super) fn above(lower: &Bound<Box<[u8]>>, key: &[u8]) -> bool {
    match lower {
        Bound::Included(bound) => key >= &**bound,
        Bound::Excluded(bound) => key > &**bound,
        Bound::Unbounded => true,
    }
}

/// Whether the key is not above the upper bound.
pub(super) fn below(upper: &Bound<Box<[u8]>>, key: &[u8]) -> bool {
    match upper {
        Bound::Included(bound) => key <= &**bound,
        Bound::Excluded(bound) => key < &**bound,
        Bound::Unbounded => true,
    }
}
