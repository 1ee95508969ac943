//! Which column of a foreign table is the id, which the vector, and what becomes of the rest.

#![deny(clippy::indexing_slicing)]

use super::{ImportOptions, SkippedColumn, json};
use arrow_schema::{DataType, Fields};

/// What the vector column is called where nobody says.
const VECTOR_NAMES: [&str; 4] = ["vector", "embedding", "embeddings", "emb"];
/// What the id column is called where nobody says.
const ID_NAME: &str = "id";

/// The roles of a table's columns, by position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Roles {
    /// `None`: rows are numbered.
    pub(super) id: Option<usize>,
    pub(super) vector: usize,
    pub(super) metadata: Vec<(usize, String)>,
    pub(super) skipped: Vec<SkippedColumn>,
}

/// Settles the roles, or says why that is not possible.
pub(super) fn roles(fields: &Fields, options: &ImportOptions) -> Result<Roles, String> {
    let vector = vector_column(fields, options)?;
    let id = id_column(fields, options)?;
    if id == Some(vector) {
        return Err("one column cannot be both the id and the vector".to_owned());
    }
    let (mut metadata, mut skipped) = (Vec::new(), Vec::new());
    for (at, field) in fields.iter().enumerate() {
        if at == vector || Some(at) == id {
            continue;
        }
        if json::supported(field.data_type()) {
            metadata.push((at, field.name().clone()));
        } else {
            let data_type = field.data_type().to_string();
            skipped.push(SkippedColumn { name: field.name().clone(), data_type });
        }
    }
    Ok(Roles { id, vector, metadata, skipped })
}

fn vector_column(fields: &Fields, options: &ImportOptions) -> Result<usize, String> {
    if let Some(name) = &options.vector_column {
        let at = find(fields, name)?;
        let fits = fields.get(at).is_some_and(|field| is_vector(field.data_type()));
        return if fits {
            Ok(at)
        } else {
            Err(format!("column {name:?} is no list of floats; {}", table(fields)))
        };
    }
    let lists: Vec<usize> = (0..fields.len())
        .filter(|at| fields.get(*at).is_some_and(|field| is_vector(field.data_type())))
        .collect();
    let is_called = |at: &usize, name| fields.get(*at).is_some_and(|field| field.name() == name);
    let named = VECTOR_NAMES.iter().find_map(|name| lists.iter().find(|at| is_called(at, name)));
    match (named, lists.as_slice()) {
        (Some(at), _) | (None, [at]) => Ok(*at),
        (None, []) => Err(format!("it has no vector column (a list of floats); {}", table(fields))),
        (None, _) => {
            Err(format!("several columns could be the vector, name one; {}", table(fields)))
        }
    }
}

fn id_column(fields: &Fields, options: &ImportOptions) -> Result<Option<usize>, String> {
    let name = match &options.id_column {
        Some(name) => name,
        None if options.number_rows => return Ok(None),
        None if find(fields, ID_NAME).is_ok() => ID_NAME,
        None => {
            let table = table(fields);
            return Err(format!("it has no column \"id\"; name the one that holds ids; {table}"));
        }
    };
    let at = find(fields, name)?;
    let fits = fields.get(at).is_some_and(|field| match field.data_type() {
        DataType::Utf8 | DataType::FixedSizeBinary(16) => true,
        other => other.is_integer(),
    });
    if fits {
        return Ok(Some(at));
    }
    let table = table(fields);
    Err(format!("column {name:?} cannot hold ids (text, whole numbers, 16-byte UUIDs); {table}"))
}

fn find(fields: &Fields, name: &str) -> Result<usize, String> {
    let found = fields.iter().position(|field| field.name() == name);
    found.ok_or_else(|| format!("it has no column {name:?}; {}", table(fields)))
}

fn is_vector(data_type: &DataType) -> bool {
    matches!(data_type, DataType::List(item) if item.data_type().is_floating())
}

/// What there is, for error messages.
fn table(fields: &Fields) -> String {
    let column = |field: &arrow_schema::FieldRef| match field.data_type() {
        DataType::List(item) => format!("{} (list of {})", field.name(), item.data_type()),
        other => format!("{} ({other})", field.name()),
    };
    let columns: Vec<String> = fields.iter().map(column).collect();
    format!("its columns are {}", columns.join(", "))
}
