//! Rows of a batch as points. Errors name the row of the file, counted from 0.

#![deny(clippy::indexing_slicing)]

use super::{columns::Roles, json};
use crate::{Point, PointId};
use arrow_array::{Array, FixedSizeBinaryArray, RecordBatch, cast::AsArray, types};
use arrow_schema::DataType;
use serde_json::{Map, Value};
use uuid::Uuid;

/// All rows of a batch whose first row is row `first` of the file.
pub(super) fn points(
    batch: &RecordBatch,
    roles: &Roles,
    dim: u32,
    first: u64,
) -> Result<Vec<Point>, String> {
    let vectors = batch.columns().get(roles.vector).ok_or("the vector column is gone")?;
    let ids = roles.id.and_then(|at| batch.columns().get(at));
    let metadata: Vec<(&str, &dyn Array)> = roles
        .metadata
        .iter()
        .filter_map(|(at, name)| Some((name.as_str(), batch.columns().get(*at)?.as_ref())))
        .collect();
    let point = |row: usize| {
        let number = first.saturating_add(row as u64);
        let id = match ids {
            Some(ids) => id(ids.as_ref(), row).map_err(|what| format!("row {number} {what}"))?,
            None => PointId::U64(number),
        };
        let vector = vector(vectors.as_ref(), row)
            .ok_or_else(|| format!("row {number} has no vector, or a null in it"))?;
        if vector.len() != dim as usize {
            let found = vector.len();
            return Err(format!(
                "the vector of row {number} has {found} numbers, those before it {dim}"
            ));
        }
        let values = metadata
            .iter()
            .filter_map(|(name, column)| Some(((*name).to_owned(), json::value(*column, row)?)));
        let metadata = Value::Object(values.collect::<Map<_, _>>());
        Ok(Point { id, vector, metadata })
    };
    (0..batch.num_rows()).map(point).collect()
}

/// The vector in a row; `None` if it or one of its numbers is null.
pub(super) fn vector(lists: &dyn Array, row: usize) -> Option<Vec<f32>> {
    let lists = lists.as_list_opt::<i32>()?;
    if row >= lists.len() || lists.is_null(row) {
        return None;
    }
    let items = lists.value(row);
    if items.null_count() > 0 {
        return None;
    }
    Some(match items.data_type() {
        DataType::Float16 => {
            let halves = items.as_primitive_opt::<types::Float16Type>()?;
            halves.values().iter().map(|x| x.to_f32()).collect()
        }
        DataType::Float32 => items.as_primitive_opt::<types::Float32Type>()?.values().to_vec(),
        DataType::Float64 => {
            let doubles = items.as_primitive_opt::<types::Float64Type>()?;
            doubles.values().iter().map(|x| *x as f32).collect()
        }
        _ => return None,
    })
}

/// The id in a row; the error goes on from "row 7".
fn id(ids: &dyn Array, row: usize) -> Result<PointId, String> {
    const GONE: &str = "has an id of a type that was not expected";
    if ids.is_null(row) {
        return Err("has no id".to_owned());
    }
    if let Some(texts) = ids.as_string_opt::<i32>() {
        return Ok(PointId::from(texts.value(row)));
    }
    if let Some(uuids) = ids.as_any().downcast_ref::<FixedSizeBinaryArray>() {
        let bytes = uuids.value(row).try_into().map_err(|_| GONE)?;
        return Ok(PointId::Uuid(Uuid::from_bytes(bytes)));
    }
    match json::value(ids, row) {
        Some(Value::Number(number)) => number
            .as_u64()
            .map(PointId::U64)
            .ok_or_else(|| format!("has the id {number}; numbers must not be negative")),
        _ => Err(GONE.to_owned()),
    }
}
