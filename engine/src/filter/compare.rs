//! Tests on fields without an index, where the filter's literal decides the type.
//!
//! Numbers compare by exact value: a cast to float on either side would make 2^53 + 1 equal to
//! 2^53, and a row would match a filter that excludes it.

use super::FilterValue;
use serde_json::Value;
use std::{cmp::Ordering, ops::Bound};

/// A test of one JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum RawTest {
    /// There is a value that is not null.
    Exists,
    /// The value equals one of these.
    OneOf(Vec<FilterValue>),
    /// The value lies in this range; nothing does if both ends are open.
    Range(Bound<FilterValue>, Bound<FilterValue>),
    /// The value is a list in which this string stands.
    Contains(String),
}

impl RawTest {
    pub(super) fn accepts(&self, value: Option<&Value>) -> bool {
        let Some(value) = value.filter(|value| !value.is_null()) else {
            return false;
        };
        match self {
            Self::Exists => true,
            Self::OneOf(wanted) => wanted.iter().any(|literal| equal(value, literal)),
            Self::Range(Bound::Unbounded, Bound::Unbounded) => false,
            Self::Range(lower, upper) => {
                bounded(value, lower, Ordering::Greater) && bounded(value, upper, Ordering::Less)
            }
            Self::Contains(wanted) => value
                .as_array()
                .is_some_and(|list| list.iter().any(|element| element.as_str() == Some(wanted))),
        }
    }
}

fn equal(value: &Value, literal: &FilterValue) -> bool {
    match (value, literal) {
        (Value::Bool(value), FilterValue::Bool(literal)) => value == literal,
        _ => compare(value, literal) == Some(Ordering::Equal),
    }
}

fn bounded(value: &Value, bound: &Bound<FilterValue>, side: Ordering) -> bool {
    match bound {
        Bound::Unbounded => true,
        Bound::Excluded(literal) => compare(value, literal) == Some(side),
        Bound::Included(literal) => {
            compare(value, literal).is_some_and(|order| order == side || order == Ordering::Equal)
        }
    }
}

/// The order of two values of one type; `None` for other types, and for booleans, which have none.
fn compare(value: &Value, literal: &FilterValue) -> Option<Ordering> {
    match (value, literal) {
        (Value::String(value), FilterValue::String(literal)) => Some(value.cmp(literal)),
        (Value::Number(value), literal) => {
            let value = value
                .as_i64()
                .map(|n| Exact::Whole(n.into()))
                .or_else(|| value.as_u64().map(|n| Exact::Whole(n.into())))
                .or_else(|| value.as_f64().map(Exact::Float))?;
            value.cmp(&Exact::of(literal)?)
        }
        _ => None,
    }
}

/// A number without loss: 128 bits hold every `i64` and `u64`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Exact {
    Whole(i128),
    Float(f64),
}

impl Exact {
    fn of(literal: &FilterValue) -> Option<Self> {
        match literal {
            FilterValue::Integer(n) => Some(Self::Whole((*n).into())),
            FilterValue::Unsigned(n) => Some(Self::Whole((*n).into())),
            FilterValue::Float(n) => Some(Self::Float(*n)),
            FilterValue::String(_) | FilterValue::Bool(_) => None,
        }
    }

    /// `None` if one of them is a NaN.
    fn cmp(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => Some(a.cmp(b)),
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(b),
            (Self::Whole(a), Self::Float(b)) => whole_to_float(*a, *b),
            (Self::Float(a), Self::Whole(b)) => whole_to_float(*b, *a).map(Ordering::reverse),
        }
    }
}

fn whole_to_float(whole: i128, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    // The cast drops the fraction and saturates, far beyond any 64-bit number; either way the
    // order of the whole parts decides unless they are equal, and then the fraction does.
    let by_whole_part = whole.cmp(&(float.trunc() as i128));
    Some(by_whole_part.then_with(|| {
        let fraction = float.fract();
        0.0_f64.partial_cmp(&fraction).unwrap_or(Ordering::Equal)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_compare_by_exact_value() {
        const TWO_53: i64 = 1 << 53;
        let order = |value: Value, literal: FilterValue| compare(&value, &literal);
        let float = TWO_53 as f64;
        assert_eq!(order(json!(TWO_53), float.into()), Some(Ordering::Equal));
        assert_eq!(order(json!(TWO_53 + 1), float.into()), Some(Ordering::Greater));
        assert_eq!(order(json!(float), (TWO_53 + 1).into()), Some(Ordering::Less));
        assert_eq!(order(json!(u64::MAX), (u64::MAX as f64).into()), Some(Ordering::Less));
        assert_eq!(order(json!(u64::MAX), i64::MAX.into()), Some(Ordering::Greater));
        assert_eq!(order(json!(-3), (-2.5).into()), Some(Ordering::Less));
        assert_eq!(order(json!(-2), (-2.5).into()), Some(Ordering::Greater));
        assert_eq!(order(json!(3), f64::NAN.into()), None);
        assert_eq!(order(json!(3), f64::INFINITY.into()), Some(Ordering::Less));
        assert_eq!(order(json!(-0.0), 0_i64.into()), Some(Ordering::Equal));
    }
}
