//! The table of a cold object: which columns, their names and types. Encoder and decoder both
//! derive it from the collection's schema, so neither trusts the other.

#![deny(clippy::indexing_slicing)]

use crate::{FieldDef, FieldType, Schema};
use arrow_schema::{DataType, Field, TimeUnit};
use std::sync::Arc;

/// Columns before those of the fields.
pub(super) const ID: &str = "id";
pub(super) const ID_KIND: &str = "id_kind";
pub(super) const VECTOR: &str = "vector";
pub(super) const LSN: &str = "lsn";
/// The last column: the metadata that no typed column reproduces, as JSON.
pub(super) const METADATA: &str = "metadata";
/// The name of a list's items, as the Parquet format prescribes it.
const LIST_ITEM: &str = "element";
/// How many columns stand before the fields'.
pub(super) const FIRST_FIELD: usize = 4;

/// The column of an indexed field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FieldColumn {
    /// The key in the metadata object.
    pub(super) key: String,
    /// The column's name: the key, or the key after as many `_` as make it unique.
    pub(super) column: String,
    pub(super) field_type: FieldType,
}

/// The columns of the schema's fields. Names are unique without regard to ASCII case, for DuckDB
/// and others fold it.
pub(super) fn field_columns(fields: &[FieldDef]) -> Vec<FieldColumn> {
    let mut taken: Vec<String> = [ID, ID_KIND, VECTOR, LSN, METADATA].map(str::to_owned).into();
    let mut columns = Vec::with_capacity(fields.len());
    for field in fields {
        let mut column = field.name.clone();
        while taken.iter().any(|name| name.eq_ignore_ascii_case(&column)) {
            column.insert(0, '_');
        }
        taken.push(column.clone());
        columns.push(FieldColumn { key: field.name.clone(), column, field_type: field.field_type });
    }
    columns
}

/// The table's schema.
pub(super) fn table(schema: &Schema) -> arrow_schema::Schema {
    let mut fields = vec![
        Field::new(ID, DataType::Utf8, false),
        Field::new(ID_KIND, DataType::Utf8, false),
        Field::new(VECTOR, DataType::List(vector_item()), false),
        Field::new(LSN, DataType::UInt64, false),
    ];
    fields.extend(
        field_columns(&schema.fields)
            .into_iter()
            .map(|field| Field::new(field.column, data_type(field.field_type), true)),
    );
    fields.push(Field::new(METADATA, DataType::Utf8, false));
    arrow_schema::Schema::new(fields)
}

/// The items of the vector column.
pub(super) fn vector_item() -> Arc<Field> {
    Arc::new(Field::new(LIST_ITEM, DataType::Float32, false))
}

/// The path of the vector column's numbers, as Parquet spells it.
pub(super) fn vector_path() -> Vec<String> {
    [VECTOR, "list", LIST_ITEM].map(str::to_owned).into()
}

fn data_type(field_type: FieldType) -> DataType {
    match field_type {
        FieldType::Keyword => DataType::Utf8,
        FieldType::Integer => DataType::Int64,
        FieldType::Float => DataType::Float64,
        FieldType::Bool => DataType::Boolean,
        FieldType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metric;

    #[test]
    fn colliding_names_are_prefixed_until_unique() {
        let schema = ["pos", "id", "ID", "_id", "Pos", "vector"]
            .iter()
            .fold(Schema::new(2, Metric::Dot), |s, name| s.field(*name, FieldType::Keyword));
        let names: Vec<_> = field_columns(&schema.fields).into_iter().map(|f| f.column).collect();
        assert_eq!(names, ["pos", "_id", "__ID", "___id", "_Pos", "_vector"]);
    }
}
