//! The meaning of a filter, written a second time and as plainly as possible: values come from
//! pools, so that numbers can be compared as multiples of a half and times by a table.

use crate::{FieldType, Filter, FilterValue, Metadata, Schema};
use serde_json::{Value, json};
use std::ops::Bound;

pub(super) const TIMES: [(&str, i64); 4] = [
    ("2026-01-01T00:00:00Z", 1_767_225_600_000_000),
    ("2026-01-01T01:00:00+01:00", 1_767_225_600_000_000),
    ("2026-01-01T00:00:00.0000009Z", 1_767_225_600_000_000),
    ("2025-12-31T23:59:59.999999Z", 1_767_225_599_999_999),
];

pub(super) fn numbers() -> Vec<Value> {
    const TWO_53: i64 = 1 << 53;
    vec![
        json!(0),
        json!(-0.0),
        json!(1),
        json!(1.0),
        json!(1.5),
        json!(-1),
        json!(-1.5),
        json!(TWO_53),
        json!(TWO_53 + 1),
        json!(TWO_53 as f64),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(i64::MAX as u64 + 1),
        json!(9_223_372_036_854_775_808.0),
        json!(-9_223_372_036_854_775_808.0),
        json!(-9_223_372_036_854_777_856.0),
        json!(u64::MAX),
        json!(1e30),
    ]
}

/// Whether the row matches, of a filter that the schema accepts.
pub(super) fn expects(filter: &Filter, schema: &Schema, row: &Metadata) -> bool {
    let test = |field: &str, accepts: &dyn Fn(Option<FieldType>, &Value) -> bool| {
        let value = row.get(field).filter(|value| **value != Value::Null);
        value.is_some_and(|value| accepts(schema.field_type(field), value))
    };
    let eq = |field: &str, wanted: &FilterValue| {
        test(field, &|declared, value| order(declared, value, wanted).is_some_and(|n| n == 0))
    };
    match filter {
        Filter::Eq { field, value } => eq(field, value),
        Filter::Ne { field, value } => !eq(field, value),
        Filter::In { field, values } => values.iter().any(|value| eq(field, value)),
        Filter::Exists { field, exists } => test(field, &|_, _| true) == *exists,
        Filter::Contains { field, value } => {
            test(field, &|_, list| list.as_array().is_some_and(|list| list.contains(&json!(value))))
        }
        Filter::Range { field, lower, upper } => test(field, &|declared, value| {
            if value.is_boolean() {
                return false;
            }
            let side = |bound: &Bound<FilterValue>, sign: i32| match bound {
                Bound::Unbounded => true,
                Bound::Included(end) => order(declared, value, end).is_some_and(|n| n * sign >= 0),
                Bound::Excluded(end) => order(declared, value, end).is_some_and(|n| n * sign > 0),
            };
            side(lower, 1) && side(upper, -1)
        }),
        Filter::And(parts) => parts.iter().all(|part| expects(part, schema, row)),
        Filter::Or(parts) => parts.iter().any(|part| expects(part, schema, row)),
        Filter::Not(part) => !expects(part, schema, row),
    }
}

/// -1, 0 or 1 as the value lies below, at or above the literal; `None` if they do not compare.
fn order(declared: Option<FieldType>, value: &Value, literal: &FilterValue) -> Option<i32> {
    let literal = match literal {
        FilterValue::String(text) => json!(text),
        FilterValue::Integer(n) => json!(n),
        FilterValue::Unsigned(n) => json!(n),
        FilterValue::Float(n) => json!(n),
        FilterValue::Bool(flag) => json!(flag),
    };
    let ordering = match declared {
        Some(FieldType::Keyword) => value.as_str()?.cmp(literal.as_str()?),
        Some(FieldType::Bool) => value.as_bool()?.cmp(&literal.as_bool()?),
        Some(FieldType::Timestamp) => time(value)?.cmp(&time(&literal)?),
        Some(FieldType::Float) => {
            halves(&json!(value.as_f64()?))?.cmp(&halves(&json!(literal.as_f64()?))?)
        }
        Some(FieldType::Integer) => {
            let whole = halves(value)?;
            let fits = whole % 2 == 0 && i64::try_from(whole / 2).is_ok();
            fits.then_some(whole)?.cmp(&halves(&literal)?)
        }
        None => match (value, &literal) {
            (Value::String(a), Value::String(b)) => a.cmp(b),
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Number(_), Value::Number(_)) => halves(value)?.cmp(&halves(&literal)?),
            _ => return None,
        },
    };
    Some(ordering as i32)
}

/// The number times two, exactly.
fn halves(number: &Value) -> Option<i128> {
    let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    let float = || number.as_f64().map(|float| (float * 2.0) as i128);
    whole.map(|n| n * 2).or_else(float)
}

fn time(value: &Value) -> Option<i64> {
    let text = value.as_str()?;
    let found = TIMES.iter().find(|(known, _)| *known == text);
    found.map(|(_, micros)| *micros)
}
