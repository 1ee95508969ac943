//! Every rule for what may be written or asked, in one place, checked before anything is queued:
//! bad input changes nothing.

use crate::{
    ID_BYTES_MAX, Metric, Point, PointId, Schema,
    collection::NewRow,
    error::{InputError, Result},
    point::Metadata,
    settings::Settings,
};
use serde_json::Value;
use std::collections::HashMap;

/// Checks an id.
pub(crate) fn check_id(id: &PointId) -> Result<(), InputError> {
    let PointId::Str(text) = id else { return Ok(()) };
    if text.is_empty() {
        return Err(InputError::EmptyId);
    }
    if text.len() > ID_BYTES_MAX {
        let start = text.chars().take(16).collect();
        return Err(InputError::IdTooLong { start, found: text.len(), max: ID_BYTES_MAX });
    }
    Ok(())
}

/// Checks a vector against the schema and returns the inverse of its length (0 for a zero
/// vector, which only cosine refuses).
fn check_vector(
    what: impl Fn() -> String,
    vector: &[f32],
    schema: &Schema,
) -> Result<f32, InputError> {
    if vector.len() != schema.dim as usize {
        let (expected, found) = (schema.dim, vector.len());
        return Err(InputError::WrongDimension { what: what(), expected, found });
    }
    let inv_norm = akidb_index::inv_norm(vector);
    // A number that is not finite makes the sum of squares so, and its inverse 0 or NaN: vectors
    // with a usable length need no second look at each number.
    if inv_norm.is_finite() && inv_norm > 0.0 {
        return Ok(inv_norm);
    }
    if let Some((position, value)) = vector.iter().enumerate().find(|(_, v)| !v.is_finite()) {
        return Err(InputError::NotFinite { what: what(), position, value: *value });
    }
    if schema.metric == Metric::Cosine {
        return Err(InputError::ZeroVector { what: what(), norm: 1.0 / inv_norm });
    }
    Ok(inv_norm)
}

/// Checks a query vector.
pub(crate) fn check_query(query: &[f32], schema: &Schema) -> Result<(), InputError> {
    check_vector(|| "the query".to_owned(), query, schema).map(drop)
}

/// The one text form of a metadata object: keys sorted, no white space.
pub(crate) fn canonical_json(metadata: &Metadata) -> Result<Box<[u8]>> {
    serde_json::to_vec(metadata)
        .map(Vec::into_boxed_slice)
        .map_err(|_| crate::Error::bug("a JSON object did not serialise"))
}

fn depth(value: &Value) -> usize {
    // Iterative: a user may hand over a value that nests deeper than the stack.
    let mut deepest = 0;
    let mut left = vec![(value, 1)];
    while let Some((value, level)) = left.pop() {
        deepest = deepest.max(level);
        match value {
            Value::Array(items) => left.extend(items.iter().map(|item| (item, level + 1))),
            Value::Object(map) => left.extend(map.values().map(|item| (item, level + 1))),
            _ => {}
        }
    }
    deepest
}

/// The stored form of a row's metadata, once its depth and size are within the settings. Depth
/// comes first: serialising recurses.
pub(crate) fn stored_metadata(
    id: &PointId,
    metadata: &Metadata,
    settings: &Settings,
) -> Result<Box<[u8]>> {
    check_depth(id, metadata, settings.metadata_depth_max)?;
    let json = canonical_json(metadata)?;
    let (found, max) = (json.len(), settings.metadata_bytes_max);
    if found > max {
        return Err(InputError::MetadataTooLarge { id: id.clone(), found, max }.into());
    }
    Ok(json)
}

/// Checks the depth of a row's metadata: before anything that recurses into it.
pub(crate) fn check_depth(id: &PointId, metadata: &Metadata, max: usize) -> Result<(), InputError> {
    // The object itself is one level.
    if metadata.values().any(|value| depth(value) + 1 > max) {
        return Err(InputError::MetadataTooDeep { id: id.clone(), max });
    }
    Ok(())
}

pub(crate) fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Checks rows and brings them into their stored form. Of rows with one id the last wins, in its
/// place.
pub(crate) fn check_rows(
    points: impl IntoIterator<Item = Point>,
    schema: &Schema,
    settings: &Settings,
) -> Result<Vec<NewRow>> {
    let points = points.into_iter();
    let mut rows: Vec<NewRow> = Vec::with_capacity(points.size_hint().0);
    let mut last: HashMap<PointId, usize> = HashMap::with_capacity(points.size_hint().0);
    for Point { id, vector, metadata } in points {
        check_id(&id)?;
        let inv_norm = check_vector(|| format!("row {id}"), &vector, schema)?;
        let Value::Object(parsed) = metadata else {
            return Err(InputError::MetadataNotObject { found: json_type(&metadata), id }.into());
        };
        let metadata = stored_metadata(&id, &parsed, settings)?.into();
        let vector = vector.into_boxed_slice().into();
        let row = NewRow { id: id.clone(), vector, inv_norm, metadata, parsed };
        // Replacing in place keeps the batch free of duplicates, which the memtable and the
        // segment's id table rely on.
        let at = *last.entry(id).or_insert(rows.len());
        match rows.get_mut(at) {
            Some(earlier) => *earlier = row,
            None => rows.push(row),
        }
    }
    Ok(rows)
}

/// Checks ids.
pub(crate) fn check_ids(ids: &[PointId]) -> Result<(), InputError> {
    ids.iter().try_for_each(check_id)
}

/// Drops repeated ids, keeping the first of each.
pub(crate) fn dedup_ids(ids: Vec<PointId>) -> Vec<PointId> {
    let mut seen = std::collections::HashSet::with_capacity(ids.len());
    ids.into_iter().filter(|id| seen.insert(id.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(point: Point) -> Result<Vec<NewRow>> {
        check_rows([point], &Schema::new(2, Metric::Cosine), &Settings::default())
    }

    fn refusal(point: Point) -> InputError {
        match check(point).unwrap_err().cause() {
            crate::Cause::Input(error) => error.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_bad_row_has_its_own_refusal() {
        let v = || vec![1.0, 0.0];
        let cases = [
            (Point::new("a", vec![1.0]), "WrongDimension"),
            (Point::new("a", vec![f32::NAN, 0.0]), "NotFinite"),
            (Point::new("a", vec![0.0, f32::INFINITY]), "NotFinite"),
            (Point::new("a", vec![0.0, -0.0]), "ZeroVector"),
            (Point::new("", v()), "EmptyId"),
            (Point::new("x".repeat(65), v()), "IdTooLong"),
            (Point::new("a", v()).meta(json!([1])), "MetadataNotObject"),
            (Point::new("a", v()).meta(json!({"a": "x".repeat(2 << 20)})), "MetadataTooLarge"),
        ];
        for (point, expected) in cases {
            let found = format!("{:?}", refusal(point));
            assert!(found.starts_with(expected), "{found} is not {expected}");
        }
        let mut deep = json!(1);
        for _ in 0..32 {
            deep = json!({ "a": deep });
        }
        assert!(matches!(
            refusal(Point::new("a", v()).meta(deep)),
            InputError::MetadataTooDeep { .. }
        ));
        assert!(check(Point::new("x".repeat(64), v())).is_ok());
    }

    #[test]
    fn of_rows_with_one_id_the_last_wins() {
        let points = [
            Point::new("a", vec![1.0, 0.0]),
            Point::new("b", vec![2.0, 0.0]),
            Point::new("a", vec![3.0, 0.0]),
            Point::new("a", vec![4.0, 0.0]),
        ];
        let schema = Schema::new(2, Metric::L2);
        let rows = check_rows(points, &schema, &Settings::default()).unwrap();
        let ids: Vec<_> = rows.iter().map(|r| (r.id.to_string(), r.vector[0])).collect();
        assert_eq!(ids, [("a".to_owned(), 4.0), ("b".to_owned(), 2.0)]);
    }
}
