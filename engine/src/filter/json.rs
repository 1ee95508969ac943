//! The filter tree as JSON, both ways.
//!
//! Each object is one condition: `{"field": F, OPERATOR: VALUE}` with `eq`, `ne`, `in`,
//! `exists`, `contains`, or up to one lower (`gt`, `gte`) and one upper bound (`lt`, `lte`); or
//! `{"and": [..]}`, `{"or": [..]}`, `{"not": {..}}`. Anything else is an error with its JSON
//! path: a misspelt operator that were skipped would widen the filter in silence, and a
//! delete-by-filter with it.

use super::{FILTER_DEPTH_MAX, Filter, FilterValue};
use crate::InputError;
use serde_json::{Map, Value};
use std::{fmt, ops::Bound, str::FromStr};

const OPERATORS: &str = "eq, ne, in, gt, gte, lt, lte, exists, contains";

impl Filter {
    /// Reads a filter from JSON.
    ///
    /// # Errors
    ///
    /// [`InputError::FilterSyntax`] with the JSON path of the part that is no filter, and
    /// [`InputError::FilterTooDeep`].
    ///
    /// ```
    /// use akidb::{Filter, field};
    /// use serde_json::json;
    ///
    /// let filter = Filter::from_json(&json!({"field": "year", "gte": 1990, "lt": 2000}))?;
    /// assert_eq!(filter, field("year").between(1990..2000));
    ///
    /// let error = Filter::from_json(&json!({"and": [{"field": "year", "above": 1990}]}));
    /// assert!(error.unwrap_err().to_string().contains("$.and[0].above"));
    /// # Ok::<(), akidb::InputError>(())
    /// ```
    pub fn from_json(json: &Value) -> Result<Self, InputError> {
        read(json, &mut Path(vec!["$".to_owned()]))
    }

    /// The filter as JSON. A number that JSON cannot hold (NaN, infinity) becomes `null`, which
    /// no verb accepts, as none accepts the number.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Eq { field, value } => condition(field, [("eq", to_value(value))]),
            Self::Ne { field, value } => condition(field, [("ne", to_value(value))]),
            Self::In { field, values } => {
                condition(field, [("in", values.iter().map(to_value).collect())])
            }
            Self::Range { field, lower, upper } => {
                let lower = bound(lower, "gt", "gte");
                let upper = bound(upper, "lt", "lte");
                condition(field, lower.into_iter().chain(upper))
            }
            Self::Exists { field, exists } => condition(field, [("exists", (*exists).into())]),
            Self::Contains { field, value } => {
                condition(field, [("contains", value.as_str().into())])
            }
            Self::And(parts) => object([("and", parts.iter().map(Self::to_json).collect())]),
            Self::Or(parts) => object([("or", parts.iter().map(Self::to_json).collect())]),
            Self::Not(part) => object([("not", part.to_json())]),
        }
    }
}

/// The filter's JSON, on one line.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_json().fmt(f)
    }
}

/// Reads the JSON text of a filter.
impl FromStr for Filter {
    type Err = InputError;

    fn from_str(text: &str) -> Result<Self, InputError> {
        let json: Value = serde_json::from_str(text).map_err(|error| InputError::FilterSyntax {
            path: "$".to_owned(),
            detail: format!("not JSON: {error}"),
        })?;
        Self::from_json(&json)
    }
}

fn object(entries: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let entries = entries.into_iter();
    Value::Object(entries.map(|(key, value)| (key.to_owned(), value)).collect())
}

fn condition(field: &str, rest: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    object([("field", field.into())].into_iter().chain(rest))
}

fn bound(
    bound: &Bound<FilterValue>,
    excluded: &'static str,
    included: &'static str,
) -> Option<(&'static str, Value)> {
    match bound {
        Bound::Excluded(value) => Some((excluded, to_value(value))),
        Bound::Included(value) => Some((included, to_value(value))),
        Bound::Unbounded => None,
    }
}

fn to_value(value: &FilterValue) -> Value {
    match value {
        FilterValue::String(text) => text.as_str().into(),
        FilterValue::Integer(number) => (*number).into(),
        FilterValue::Unsigned(number) => (*number).into(),
        FilterValue::Float(number) => (*number).into(),
        FilterValue::Bool(flag) => (*flag).into(),
    }
}

/// Where in the JSON the reader stands, written out only when something is wrong there.
struct Path(Vec<String>);

impl Path {
    fn error(&self, detail: impl Into<String>) -> InputError {
        InputError::FilterSyntax { path: self.0.concat(), detail: detail.into() }
    }

    fn within<T>(&mut self, step: String, read: impl FnOnce(&mut Self) -> T) -> T {
        self.0.push(step);
        let result = read(self);
        self.0.pop();
        result
    }

    fn key<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.within(format!(".{key}"), read)
    }
}

fn read(json: &Value, path: &mut Path) -> Result<Filter, InputError> {
    read_at(json, path, 1)
}

fn read_at(json: &Value, path: &mut Path, depth: usize) -> Result<Filter, InputError> {
    // The stack is the caller's: JSON built in code can nest without limit.
    if depth > FILTER_DEPTH_MAX {
        return Err(InputError::FilterTooDeep { max: FILTER_DEPTH_MAX });
    }
    let Value::Object(object) = json else {
        return Err(path.error(format!("a filter is an object, this is {}", kind(json))));
    };
    if object.contains_key("field") {
        return read_condition(object, path);
    }
    let mut entries = object.iter();
    let (Some((key, value)), None) = (entries.next(), entries.next()) else {
        return Err(path.error("expected one of field, and, or, not, and only one"));
    };
    let deeper = depth.saturating_add(1);
    path.key(key, |path| match key.as_str() {
        "and" => Ok(Filter::And(read_parts(value, path, deeper)?)),
        "or" => Ok(Filter::Or(read_parts(value, path, deeper)?)),
        "not" => Ok(Filter::Not(Box::new(read_at(value, path, deeper)?))),
        _ => Err(path.error("expected one of field, and, or, not")),
    })
}

fn read_parts(json: &Value, path: &mut Path, depth: usize) -> Result<Vec<Filter>, InputError> {
    let Value::Array(parts) = json else {
        return Err(path.error(format!("expected a list of filters, found {}", kind(json))));
    };
    let parts = parts.iter().enumerate();
    parts
        .map(|(i, part)| path.within(format!("[{i}]"), |path| read_at(part, path, depth)))
        .collect()
}

fn read_condition(object: &Map<String, Value>, path: &mut Path) -> Result<Filter, InputError> {
    let Some(Value::String(name)) = object.get("field") else {
        return path.key("field", |path| Err(path.error("a field is named by a string")));
    };
    let mut found: Option<Filter> = None;
    for (key, json) in object.iter().filter(|(key, _)| *key != "field") {
        let next = path.key(key, |path| read_operator(name, key, json, path))?;
        found = Some(match found {
            None => next,
            Some(first) => join(first, next).ok_or_else(|| {
                path.error("one condition each: join several with and (a range may have two ends)")
            })?,
        });
    }
    found.ok_or_else(|| path.error(format!("no operator; expected one of {OPERATORS}")))
}

/// Two half ranges of one object make a range; no other two operators go together.
fn join(first: Filter, second: Filter) -> Option<Filter> {
    let (Filter::Range { field, lower, upper }, Filter::Range { lower: lower2, upper: upper2, .. }) =
        (first, second)
    else {
        return None;
    };
    let either = |a, b| match (a, b) {
        (Bound::Unbounded, other) | (other, Bound::Unbounded) => Some(other),
        _ => None,
    };
    Some(Filter::Range { field, lower: either(lower, lower2)?, upper: either(upper, upper2)? })
}

fn read_operator(
    name: &str,
    operator: &str,
    json: &Value,
    path: &mut Path,
) -> Result<Filter, InputError> {
    let field = name.to_owned();
    let range = |lower, upper| Filter::Range { field: name.to_owned(), lower, upper };
    Ok(match operator {
        "eq" => Filter::Eq { field, value: read_value(json, path)? },
        "ne" => Filter::Ne { field, value: read_value(json, path)? },
        "in" => Filter::In { field, values: read_values(json, path)? },
        "gt" => range(Bound::Excluded(read_value(json, path)?), Bound::Unbounded),
        "gte" => range(Bound::Included(read_value(json, path)?), Bound::Unbounded),
        "lt" => range(Bound::Unbounded, Bound::Excluded(read_value(json, path)?)),
        "lte" => range(Bound::Unbounded, Bound::Included(read_value(json, path)?)),
        "exists" => match json {
            Value::Bool(exists) => Filter::Exists { field, exists: *exists },
            other => {
                return Err(path.error(format!("expected true or false, found {}", kind(other))));
            }
        },
        "contains" => match json {
            Value::String(value) => Filter::Contains { field, value: value.clone() },
            other => return Err(path.error(format!("expected a string, found {}", kind(other)))),
        },
        _ => return Err(path.error(format!("unknown operator; expected one of {OPERATORS}"))),
    })
}

fn read_values(json: &Value, path: &mut Path) -> Result<Vec<FilterValue>, InputError> {
    let Value::Array(values) = json else {
        return Err(path.error(format!("expected a list of values, found {}", kind(json))));
    };
    let values = values.iter().enumerate();
    values.map(|(i, value)| path.within(format!("[{i}]"), |path| read_value(value, path))).collect()
}

fn read_value(json: &Value, path: &Path) -> Result<FilterValue, InputError> {
    match json {
        Value::String(text) => Ok(FilterValue::String(text.clone())),
        Value::Bool(flag) => Ok(FilterValue::Bool(*flag)),
        Value::Number(number) => number
            .as_i64()
            .map(FilterValue::Integer)
            .or_else(|| number.as_u64().map(FilterValue::Unsigned))
            .or_else(|| number.as_f64().map(FilterValue::Float))
            .ok_or_else(|| path.error("this number fits neither 64 bits nor a float")),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(path.error(format!("expected a string, number or boolean, found {}", kind(json))))
        }
    }
}

fn kind(json: &Value) -> &'static str {
    match json {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
