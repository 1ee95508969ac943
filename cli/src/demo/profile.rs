//! What to make of rows that we have never seen: which fields to index, which text to show, and
//! a filter that leaves some rows and drops others.

use akidb::{FieldDef, FieldType, Filter, Metadata, Point, field};
use serde_json::Value;
use std::collections::BTreeMap;

/// More distinct values than this are no categories.
const CATEGORIES_MAX: usize = 64;
/// The example filter matches the rarest category of at least this share of the rows.
const SHARE_MIN: f64 = 0.05;

/// What the first rows of a file tell.
#[derive(Debug, Default)]
pub(super) struct Profile {
    pub(super) fields: Vec<FieldDef>,
    /// The field to show beside an id.
    text: Option<String>,
    /// A category field and one of its values.
    pub(super) filter: Option<(String, String)>,
}

#[derive(Debug, Default)]
struct Column<'a> {
    strings: BTreeMap<&'a str, usize>,
    string_bytes: usize,
    string_rows: usize,
    integers: usize,
    rows: usize,
}

impl Profile {
    pub(super) fn of(points: &[Point]) -> Self {
        let columns = columns(points);
        let categories = || {
            columns.iter().filter(|(_, column)| {
                column.string_rows == points.len()
                    && (2..=CATEGORIES_MAX).contains(&column.strings.len())
            })
        };
        let mut fields: Vec<FieldDef> = categories()
            .map(|(name, _)| FieldDef { name: name.clone(), field_type: FieldType::Keyword })
            .collect();
        let integers = columns.iter().filter(|(_, column)| column.integers == column.rows);
        fields.extend(
            integers
                .map(|(name, _)| FieldDef { name: name.clone(), field_type: FieldType::Integer }),
        );
        fields.truncate(akidb::FIELDS_MAX);
        let texts = columns.iter().filter(|(_, column)| column.string_rows > 0);
        let longest = texts.max_by_key(|(_, column)| column.string_bytes / column.string_rows);
        // The field with the fewest values is the one a person would filter by first.
        let filter = categories()
            .min_by_key(|(_, column)| column.strings.len())
            .and_then(|(name, column)| Some((name.clone(), rare_value(column, points.len())?)));
        Self { fields, text: longest.map(|(name, _)| name.clone()), filter }
    }

    /// The example filter, if the rows have categories.
    pub(super) fn filter(&self) -> Option<Filter> {
        let (name, value) = self.filter.as_ref()?;
        Some(field(name.as_str()).eq(value.as_str()))
    }

    /// The text of a row; empty if rows have none.
    pub(super) fn text<'a>(&self, metadata: &'a Metadata) -> &'a str {
        let text = self.text.as_ref().and_then(|name| metadata.get(name));
        text.and_then(Value::as_str).unwrap_or_default()
    }
}

fn columns(points: &[Point]) -> BTreeMap<String, Column<'_>> {
    let mut columns: BTreeMap<String, Column<'_>> = BTreeMap::new();
    let objects = points.iter().filter_map(|point| point.metadata.as_object());
    for (name, value) in objects.flatten() {
        let column = columns.entry(name.clone()).or_default();
        column.rows += 1;
        match value {
            Value::String(text) => {
                column.string_rows += 1;
                column.string_bytes += text.len();
                *column.strings.entry(text).or_default() += 1;
            }
            Value::Number(number) if number.is_i64() => column.integers += 1,
            _ => {}
        }
    }
    columns
}

fn rare_value(column: &Column<'_>, rows: usize) -> Option<String> {
    let least = (rows as f64 * SHARE_MIN).ceil() as usize;
    let common = column.strings.iter().filter(|(_, count)| **count >= least);
    common.min_by_key(|(_, count)| **count).map(|(value, _)| (*value).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn categories_and_numbers_are_indexed_and_the_longest_text_is_shown() {
        let points: Vec<Point> = (0..100)
            .map(|n| {
                let kind = if n % 10 == 0 { "verb" } else { "noun" };
                let text = format!("a text of its own, number {n}");
                Point::new(n, [0.0]).meta(json!({"kind": kind, "year": n, "text": text}))
            })
            .collect();
        let profile = Profile::of(&points);
        let fields: Vec<&str> = profile.fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(fields, ["kind", "year"]);
        assert_eq!(profile.filter, Some(("kind".to_owned(), "verb".to_owned())));
        let metadata = points[7].metadata.as_object().unwrap();
        assert_eq!(profile.text(metadata), "a text of its own, number 7");
    }

    #[test]
    fn rows_without_metadata_give_nothing_to_show_or_filter_by() {
        let profile = Profile::of(&[Point::new(1, [0.0])]);
        assert!(profile.fields.is_empty() && profile.filter().is_none());
        assert_eq!(profile.text(&Metadata::new()), "");
    }
}
