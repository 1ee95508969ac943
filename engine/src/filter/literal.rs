//! What a literal means to an index of a given type: its key, or an error that names both types.

use super::{FilterValue, compile::Comparison};
use crate::{
    FieldType, InputError,
    field_index::{Query, bool_key, float_key, timestamp_micros, whole_number},
};
use std::ops::Bound;

/// An indexed field.
pub(super) struct Typed<'a> {
    pub(super) field: &'a str,
    pub(super) field_type: FieldType,
}

/// The question that a comparison puts to an index of the field.
pub(super) fn typed_query(
    field: &Typed<'_>,
    comparison: &Comparison<'_>,
) -> Result<Query, InputError> {
    match (comparison, field.field_type) {
        (Comparison::Exists, _) => Ok(Query::Exists),
        (Comparison::Contains(value), FieldType::Keyword) => {
            Ok(Query::Element(value.as_bytes().into()))
        }
        (Comparison::Contains(_), _) => Err(field.error("contains", "a string")),
        (Comparison::OneOf(operator, values), FieldType::Keyword | FieldType::Bool) => {
            let keys = values.iter().map(|value| field.key(operator, value));
            let mut keys = keys.collect::<Result<Vec<_>, _>>()?;
            keys.sort_unstable();
            keys.dedup();
            Ok(Query::Keys(keys))
        }
        (Comparison::OneOf(operator, values), _) => {
            let mut numbers = Vec::with_capacity(values.len());
            for value in *values {
                numbers.extend(field.number(operator, value)?);
            }
            numbers.sort_unstable();
            numbers.dedup();
            Ok(Query::Numbers(numbers))
        }
        (Comparison::Range(lower, upper), FieldType::Keyword) => Ok(Query::KeyRange(
            field.key_bound(["gt", "gte"], lower)?,
            field.key_bound(["lt", "lte"], upper)?,
        )),
        (Comparison::Range(lower, upper), FieldType::Bool) => {
            let (operator, value) = first_end(lower, upper);
            Err(field.error(operator, value.map_or("nothing", FilterValue::kind)))
        }
        (Comparison::Range(lower, upper), _) => {
            let (low, high) = (field.lowest(lower)?, field.highest(upper)?);
            // No number lies above the largest or below the smallest: an empty range.
            let (low, high) = low.zip(high).unwrap_or((1, 0));
            Ok(Query::NumberRange(low, high))
        }
    }
}

fn first_end<'a>(
    lower: &'a Bound<FilterValue>,
    upper: &'a Bound<FilterValue>,
) -> (&'static str, Option<&'a FilterValue>) {
    match (lower, upper) {
        (Bound::Excluded(value), _) => ("gt", Some(value)),
        (Bound::Included(value), _) => ("gte", Some(value)),
        (_, Bound::Excluded(value)) => ("lt", Some(value)),
        (_, Bound::Included(value)) => ("lte", Some(value)),
        (Bound::Unbounded, Bound::Unbounded) => ("range", None),
    }
}

impl Typed<'_> {
    fn error(&self, operator: &'static str, found: &'static str) -> InputError {
        InputError::FilterType {
            field: self.field.to_owned(),
            expected: self.field_type,
            operator,
            found,
        }
    }

    /// The key of a keyword or boolean.
    fn key(&self, operator: &'static str, value: &FilterValue) -> Result<Box<[u8]>, InputError> {
        match (self.field_type, value) {
            (FieldType::Keyword, FilterValue::String(text)) => Ok(text.as_bytes().into()),
            (FieldType::Bool, FilterValue::Bool(flag)) => Ok(bool_key(*flag).into()),
            _ => Err(self.error(operator, value.kind())),
        }
    }

    fn key_bound(
        &self,
        [excluded, included]: [&'static str; 2],
        bound: &Bound<FilterValue>,
    ) -> Result<Bound<Box<[u8]>>, InputError> {
        Ok(match bound {
            Bound::Unbounded => Bound::Unbounded,
            Bound::Excluded(value) => Bound::Excluded(self.key(excluded, value)?),
            Bound::Included(value) => Bound::Included(self.key(included, value)?),
        })
    }

    /// The key that equals the literal; `None` if no value of the type does.
    fn number(
        &self,
        operator: &'static str,
        value: &FilterValue,
    ) -> Result<Option<i64>, InputError> {
        match (self.field_type, value) {
            (FieldType::Integer, FilterValue::Integer(n)) => Ok(Some(*n)),
            (FieldType::Integer, FilterValue::Unsigned(n)) => Ok(i64::try_from(*n).ok()),
            (FieldType::Integer, FilterValue::Float(n)) => Ok(whole_number(*n)),
            (FieldType::Float, FilterValue::Integer(n)) => Ok(Some(float_key(*n as f64))),
            (FieldType::Float, FilterValue::Unsigned(n)) => Ok(Some(float_key(*n as f64))),
            (FieldType::Float, FilterValue::Float(n)) => Ok(Some(float_key(*n))),
            (FieldType::Timestamp, FilterValue::String(text)) => timestamp_micros(text)
                .map(Some)
                .ok_or_else(|| self.error(operator, "a string that is no RFC 3339 time")),
            _ => Err(self.error(operator, value.kind())),
        }
    }

    /// The smallest key above the bound; `None` if there is none.
    fn lowest(&self, bound: &Bound<FilterValue>) -> Result<Option<i64>, InputError> {
        let (operator, value, excluded) = match bound {
            Bound::Unbounded => return Ok(Some(i64::MIN)),
            Bound::Excluded(value) => ("gt", value, true),
            Bound::Included(value) => ("gte", value, false),
        };
        if let Some(key) = self.number(operator, value)? {
            return Ok(if excluded { key.checked_add(1) } else { Some(key) });
        }
        // Only an integer field has literals between or beyond its keys.
        Ok(match beside_integers(value) {
            Beside::Below => Some(i64::MIN),
            Beside::After(key) => key.checked_add(1),
            Beside::Above => None,
        })
    }

    /// The largest key below the bound; `None` if there is none.
    fn highest(&self, bound: &Bound<FilterValue>) -> Result<Option<i64>, InputError> {
        let (operator, value, excluded) = match bound {
            Bound::Unbounded => return Ok(Some(i64::MAX)),
            Bound::Excluded(value) => ("lt", value, true),
            Bound::Included(value) => ("lte", value, false),
        };
        if let Some(key) = self.number(operator, value)? {
            return Ok(if excluded { key.checked_sub(1) } else { Some(key) });
        }
        Ok(match beside_integers(value) {
            Beside::Below => None,
            Beside::After(key) => Some(key),
            Beside::Above => Some(i64::MAX),
        })
    }
}

/// Where a number lies that is no `i64`.
enum Beside {
    Below,
    /// Between this number and the next.
    After(i64),
    Above,
}

fn beside_integers(value: &FilterValue) -> Beside {
    let FilterValue::Float(float) = value else {
        return Beside::Above;
    };
    match whole_number(float.floor()) {
        Some(before) => Beside::After(before),
        None if *float < 0.0 => Beside::Below,
        None => Beside::Above,
    }
}
