//! What an index of a given type sees in a JSON value.
//!
//! Integers, floats and timestamps become one `i64` key each, whose order is the order of the
//! values, so that one sorted column serves all three.

#![deny(clippy::indexing_slicing)]

use crate::FieldType;
use chrono::DateTime;
use serde_json::{Number, Value};

/// The part of a value that is indexed.
#[derive(Debug, PartialEq)]
pub(super) enum Extracted<'a> {
    /// A single keyword or boolean, as bytes.
    Key(&'a [u8]),
    /// A list, of whose elements the strings are indexed.
    List(&'a [Value]),
    /// A number or an instant.
    Number(i64),
    /// A value of another type: it exists, and that is all.
    Other,
}

/// What an index of `field_type` holds of `value`.
pub(super) fn extract(field_type: FieldType, value: &Value) -> Extracted<'_> {
    let number = |key: Option<i64>| key.map_or(Extracted::Other, Extracted::Number);
    match (field_type, value) {
        (FieldType::Keyword, Value::String(text)) => Extracted::Key(text.as_bytes()),
        (FieldType::Keyword, Value::Array(list)) => Extracted::List(list),
        (FieldType::Bool, Value::Bool(flag)) => Extracted::Key(bool_key(*flag)),
        (FieldType::Integer, Value::Number(n)) => number(integer(n)),
        (FieldType::Float, Value::Number(n)) => number(n.as_f64().map(float_key)),
        (FieldType::Timestamp, Value::String(text)) => number(timestamp_micros(text)),
        _ => Extracted::Other,
    }
}

/// The strings in a list, as keys.
pub(super) fn elements(list: &[Value]) -> impl Iterator<Item = &[u8]> {
    list.iter().filter_map(|value| value.as_str().map(str::as_bytes))
}

/// The key of a boolean: one byte.
pub(crate) fn bool_key(flag: bool) -> &'static [u8] {
    if flag { &[1] } else { &[0] }
}

fn integer(number: &Number) -> Option<i64> {
    number.as_i64().or_else(|| number.as_f64().and_then(whole_number))
}

/// The float as an `i64`, if it is one exactly.
pub(crate) fn whole_number(float: f64) -> Option<i64> {
    // 2^63 itself is a float and does not fit; the next float below it does.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let fits = float.fract() == 0.0 && (-LIMIT..LIMIT).contains(&float);
    fits.then_some(float as i64)
}

/// An `i64` that orders as the float does, with both zeros equal. Of a NaN, which JSON cannot
/// hold, the key lies beyond those of the infinities.
pub(crate) fn float_key(float: f64) -> i64 {
    let bits = (float + 0.0).to_bits().cast_signed();
    if bits < 0 { bits ^ i64::MAX } else { bits }
}

/// An RFC 3339 time as microseconds since 1970 in UTC; further digits are dropped.
pub(crate) fn timestamp_micros(text: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(text).ok().map(|instant| instant.timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn float_keys_order_as_floats_and_join_the_zeros() {
        let ascending = [
            f64::NEG_INFINITY,
            f64::MIN,
            -1.5,
            -f64::MIN_POSITIVE,
            0.0,
            f64::MIN_POSITIVE,
            1.5,
            f64::MAX,
            f64::INFINITY,
        ];
        assert!(ascending.map(float_key).is_sorted_by(|a, b| a < b));
        assert_eq!(float_key(-0.0), float_key(0.0));
    }

    #[test]
    fn whole_numbers_end_where_64_bits_do() {
        assert_eq!(whole_number(3.0), Some(3));
        assert_eq!(whole_number(-9_223_372_036_854_775_808.0), Some(i64::MIN));
        for not in [9_223_372_036_854_775_808.0, 2.5, f64::NAN, f64::INFINITY] {
            assert_eq!(whole_number(not), None, "{not}");
        }
    }

    #[test]
    fn timestamps_are_instants() {
        let utc = timestamp_micros("2026-01-01T00:00:00Z");
        assert_eq!(utc, Some(1_767_225_600_000_000));
        assert_eq!(timestamp_micros("2026-01-01T01:00:00+01:00"), utc);
        assert_eq!(timestamp_micros("2026-01-01T00:00:00.000000999Z"), utc);
        for not in ["2026-01-01", "", "1767225600", "2026-13-01T00:00:00Z"] {
            assert_eq!(timestamp_micros(not), None, "{not}");
        }
    }
}
