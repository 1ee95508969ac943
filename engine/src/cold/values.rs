//! JSON values as typed columns, without loss: a value leaves the JSON only if its column gives
//! back exactly that value.

#![deny(clippy::indexing_slicing)]

use crate::{
    FieldType,
    field_index::{timestamp_micros, whole_number},
};
use chrono::{DateTime, SecondsFormat};
use serde_json::{Number, Value};

/// A value of a typed column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Typed<'a> {
    Keyword(&'a str),
    Integer(i64),
    Float(f64),
    Bool(bool),
    /// Microseconds since 1970-01-01 UTC.
    Timestamp(i64),
}

impl<'a> Typed<'a> {
    /// The column's value for a JSON value, the one that filters compare; `None` (a null) if the
    /// types do not agree. Lists of strings, which a keyword field also indexes, stay in the JSON.
    pub(super) fn from_json(value: &'a Value, field_type: FieldType) -> Option<Self> {
        match (field_type, value) {
            (FieldType::Keyword, Value::String(text)) => Some(Self::Keyword(text)),
            (FieldType::Integer, Value::Number(number)) => number
                .as_i64()
                .or_else(|| number.as_f64().and_then(whole_number))
                .map(Self::Integer),
            (FieldType::Float, Value::Number(number)) => number.as_f64().map(Self::Float),
            (FieldType::Bool, Value::Bool(truth)) => Some(Self::Bool(*truth)),
            (FieldType::Timestamp, Value::String(text)) => {
                timestamp_micros(text).map(Self::Timestamp)
            }
            _ => None,
        }
    }

    /// The JSON value that this stands for; `None` if there is none (no number, no such year).
    pub(super) fn to_json(self) -> Option<Value> {
        match self {
            Self::Keyword(text) => Some(Value::String(text.to_owned())),
            Self::Integer(number) => Some(Value::Number(number.into())),
            Self::Float(number) => Number::from_f64(number).map(Value::Number),
            Self::Bool(truth) => Some(Value::Bool(truth)),
            Self::Timestamp(micros) => timestamp_text(micros).map(Value::String),
        }
    }

    /// True if the JSON may drop `value`, because this gives it back exactly.
    pub(super) fn reproduces(self, value: &Value) -> bool {
        match (self, value) {
            // No copy of the text, which is by far the most common case.
            (Self::Keyword(text), Value::String(original)) => text == original,
            // The column holds the very bits, unless they were an integer's.
            (Self::Float(_), Value::Number(original)) => original.is_f64(),
            _ => self.to_json().as_ref() == Some(value),
        }
    }
}

/// RFC 3339 in UTC with as many fractional digits as needed (0, 3 or 6).
pub(crate) fn timestamp_text(micros: i64) -> Option<String> {
    let instant = DateTime::from_timestamp_micros(micros)?;
    Some(instant.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What the column holds, and whether the JSON keeps the value too.
    fn split(value: &Value, field_type: FieldType) -> (Option<Value>, bool) {
        let typed = Typed::from_json(value, field_type);
        let kept = !typed.is_some_and(|typed| typed.reproduces(value));
        (typed.and_then(Typed::to_json), kept)
    }

    #[test]
    fn a_value_leaves_the_json_only_if_its_column_reproduces_it() {
        use FieldType::{Bool, Float, Integer, Keyword, Timestamp};
        let gone = |value: Value, t| assert_eq!(split(&value, t), (Some(value), false));
        gone(json!("noun"), Keyword);
        gone(json!(""), Keyword);
        gone(json!(i64::MIN), Integer);
        gone(json!(0.1), Float);
        gone(json!(-0.0), Float);
        gone(json!(false), Bool);
        gone(json!("2026-11-21T09:30:00Z"), Timestamp);
        gone(json!("1969-12-31T23:59:59.999999Z"), Timestamp);

        let both = |value: Value, column: Value, t| {
            assert_eq!(split(&value, t), (Some(column), true));
        };
        both(json!(7), json!(7.0), Float);
        both(json!("2026-11-21T11:30:00+02:00"), json!("2026-11-21T09:30:00Z"), Timestamp);
        both(json!("2026-11-21T09:30:00.000Z"), json!("2026-11-21T09:30:00Z"), Timestamp);
        both(json!("2026-11-21t09:30:00z"), json!("2026-11-21T09:30:00Z"), Timestamp);

        let json_only = |value: Value, t| assert_eq!(split(&value, t), (None, true));
        json_only(json!(["a", "b"]), Keyword);
        json_only(json!(u64::MAX), Integer);
        both(json!(1.0), json!(1), Integer);
        json_only(json!(1.5), Integer);
        json_only(json!("true"), Bool);
        json_only(json!("yesterday"), Timestamp);
        json_only(Value::Null, Keyword);
    }
}
