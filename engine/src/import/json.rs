//! Values of foreign columns as JSON metadata.

#![deny(clippy::indexing_slicing)]

use crate::cold::timestamp_text;
use arrow_array::{Array, cast::AsArray, types};
use arrow_schema::{DataType, TimeUnit};
use chrono::{DateTime, Days};
use serde_json::{Number, Value};

/// Lists inside lists are followed this deep.
const LIST_DEPTH_MAX: usize = 4;

/// True if columns of this type become metadata.
pub(super) fn supported(data_type: &DataType) -> bool {
    supported_to(data_type, LIST_DEPTH_MAX)
}

fn supported_to(data_type: &DataType, depth: usize) -> bool {
    match data_type {
        DataType::List(item) => depth > 0 && supported_to(item.data_type(), depth - 1),
        DataType::Utf8 | DataType::Boolean | DataType::Timestamp(..) | DataType::Date32 => true,
        other => other.is_integer() || other.is_floating(),
    }
}

/// The value in a row; `None` for a null, a NaN or infinity, or an instant beyond the calendar.
pub(super) fn value(array: &dyn Array, row: usize) -> Option<Value> {
    if row >= array.len() || array.is_null(row) {
        return None;
    }
    /// The value of a primitive column of a type.
    macro_rules! primitive {
        ($type:ident) => {
            array.as_primitive_opt::<types::$type>()?.value(row)
        };
    }
    Some(match array.data_type() {
        DataType::Utf8 => Value::from(array.as_string_opt::<i32>()?.value(row)),
        DataType::Boolean => Value::from(array.as_boolean_opt()?.value(row)),
        DataType::Int8 => Value::from(primitive!(Int8Type)),
        DataType::Int16 => Value::from(primitive!(Int16Type)),
        DataType::Int32 => Value::from(primitive!(Int32Type)),
        DataType::Int64 => Value::from(primitive!(Int64Type)),
        DataType::UInt8 => Value::from(primitive!(UInt8Type)),
        DataType::UInt16 => Value::from(primitive!(UInt16Type)),
        DataType::UInt32 => Value::from(primitive!(UInt32Type)),
        DataType::UInt64 => Value::from(primitive!(UInt64Type)),
        DataType::Float16 => number(f64::from(primitive!(Float16Type)))?,
        DataType::Float32 => number(f64::from(primitive!(Float32Type)))?,
        DataType::Float64 => number(primitive!(Float64Type))?,
        DataType::Timestamp(unit, _) => instant(*unit, array, row)?,
        DataType::Date32 => date(primitive!(Date32Type))?,
        DataType::List(_) => {
            let items = array.as_list_opt::<i32>()?.value(row);
            // A null inside a list keeps its place.
            let json = |at| value(items.as_ref(), at).unwrap_or(Value::Null);
            Value::Array((0..items.len()).map(json).collect())
        }
        _ => return None,
    })
}

fn number(x: f64) -> Option<Value> {
    Number::from_f64(x).map(Value::Number)
}

/// RFC 3339, in UTC. A column without a time zone is taken as UTC.
fn instant(unit: TimeUnit, array: &dyn Array, row: usize) -> Option<Value> {
    let micros = match unit {
        TimeUnit::Second => {
            let seconds = array.as_primitive_opt::<types::TimestampSecondType>()?.value(row);
            seconds.checked_mul(1_000_000)?
        }
        TimeUnit::Millisecond => {
            let millis = array.as_primitive_opt::<types::TimestampMillisecondType>()?.value(row);
            millis.checked_mul(1000)?
        }
        TimeUnit::Microsecond => {
            array.as_primitive_opt::<types::TimestampMicrosecondType>()?.value(row)
        }
        TimeUnit::Nanosecond => {
            let nanos = array.as_primitive_opt::<types::TimestampNanosecondType>()?.value(row);
            nanos.div_euclid(1000)
        }
    };
    timestamp_text(micros).map(Value::from)
}

fn date(days: i32) -> Option<Value> {
    let epoch = DateTime::UNIX_EPOCH.date_naive();
    let distance = Days::new(u64::from(days.unsigned_abs()));
    let date =
        if days < 0 { epoch.checked_sub_days(distance) } else { epoch.checked_add_days(distance) };
    date.map(|date| Value::from(date.to_string()))
}
