//! From a filter and a schema to something that can be run: limits and types are checked, and
//! each literal becomes the key that indexes of the field's type use.

use super::{
    FILTER_CONDITIONS_MAX, FILTER_DEPTH_MAX, Filter, FilterValue,
    compare::RawTest,
    literal::{Typed, typed_query},
};
use crate::{FieldType, InputError, Metadata, Schema, field_index::Query};
use std::ops::Bound;

/// The longest text of a condition in `explain`; an `in` of a thousand ids is cut there.
const LABEL_BYTES_MAX: usize = 240;

/// A filter that was checked against a schema and is ready to run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CompiledFilter {
    pub(super) root: Node,
    conditions: usize,
}

impl CompiledFilter {
    /// Checks a filter and compiles it.
    ///
    /// # Errors
    ///
    /// [`InputError::FilterTooDeep`], [`InputError::FilterTooLarge`], [`InputError::FilterType`]
    /// for a literal that an indexed field cannot be compared with, and
    /// [`InputError::FilterSyntax`] for what JSON could not say: a number that is not finite, a
    /// range without ends.
    pub(crate) fn new(filter: &Filter, schema: &Schema) -> Result<Self, InputError> {
        let mut conditions = 0;
        check_size(filter, 1, &mut conditions)?;
        let root = Node::new(filter, schema)?;
        Ok(Self { root, conditions })
    }

    /// How many conditions it has.
    pub(super) fn conditions(&self) -> usize {
        self.conditions
    }

    /// Whether a row with this metadata matches.
    pub(crate) fn matches(&self, metadata: &Metadata) -> bool {
        self.root.matches(metadata)
    }
}

impl Filter {
    /// Checks the filter as every verb does that takes one.
    pub(crate) fn validate(&self, schema: &Schema) -> Result<(), InputError> {
        CompiledFilter::new(self, schema).map(drop)
    }
}

/// Runs before anything recurses without a bound of its own.
fn check_size(filter: &Filter, depth: usize, conditions: &mut usize) -> Result<(), InputError> {
    if depth > FILTER_DEPTH_MAX {
        return Err(InputError::FilterTooDeep { max: FILTER_DEPTH_MAX });
    }
    let (parts, own) = match filter {
        Filter::And(parts) | Filter::Or(parts) => (parts.as_slice(), usize::from(parts.is_empty())),
        Filter::Not(part) => (std::slice::from_ref(&**part), 0),
        Filter::In { values, .. } => (&[][..], values.len().max(1)),
        _ => (&[][..], 1),
    };
    *conditions = conditions.saturating_add(own);
    if *conditions > FILTER_CONDITIONS_MAX {
        return Err(InputError::FilterTooLarge { max: FILTER_CONDITIONS_MAX });
    }
    parts.iter().try_for_each(|part| check_size(part, depth.saturating_add(1), conditions))
}

/// A node of the compiled tree.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Leaf(Leaf),
}

/// One condition.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Leaf {
    pub(super) field: String,
    /// `ne`, and `exists: false`: rows without the field match too, which no index lists.
    pub(super) negated: bool,
    pub(super) test: Test,
    /// The condition as JSON, for `explain`.
    pub(super) label: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    /// The schema indexes the field (which does not mean that every part has the index).
    Typed(FieldType, Query),
    Raw(RawTest),
}

impl Node {
    fn new(filter: &Filter, schema: &Schema) -> Result<Self, InputError> {
        let all = |parts: &[Filter]| -> Result<Vec<Self>, InputError> {
            parts.iter().map(|part| Self::new(part, schema)).collect()
        };
        match filter {
            Filter::And(parts) => Ok(Self::And(all(parts)?)),
            Filter::Or(parts) => Ok(Self::Or(all(parts)?)),
            Filter::Not(part) => Ok(Self::Not(Box::new(Self::new(part, schema)?))),
            condition => Ok(Self::Leaf(Leaf::new(condition, schema)?)),
        }
    }

    pub(super) fn matches(&self, metadata: &Metadata) -> bool {
        match self {
            Self::And(parts) => parts.iter().all(|part| part.matches(metadata)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(metadata)),
            Self::Not(part) => !part.matches(metadata),
            Self::Leaf(leaf) => leaf.matches(metadata),
        }
    }
}

/// A condition taken apart: what is compared, apart from the field's type.
pub(super) enum Comparison<'a> {
    Exists,
    OneOf(&'static str, &'a [FilterValue]),
    Range(&'a Bound<FilterValue>, &'a Bound<FilterValue>),
    Contains(&'a str),
}

impl Leaf {
    fn new(condition: &Filter, schema: &Schema) -> Result<Self, InputError> {
        let one = std::slice::from_ref;
        let (field, negated, comparison) = match condition {
            Filter::Eq { field, value } => (field, false, Comparison::OneOf("eq", one(value))),
            Filter::Ne { field, value } => (field, true, Comparison::OneOf("ne", one(value))),
            Filter::In { field, values } => (field, false, Comparison::OneOf("in", values)),
            Filter::Range { field, lower, upper } => {
                (field, false, Comparison::Range(lower, upper))
            }
            Filter::Exists { field, exists } => (field, !exists, Comparison::Exists),
            Filter::Contains { field, value } => (field, false, Comparison::Contains(value)),
            Filter::And(_) | Filter::Or(_) | Filter::Not(_) => {
                return Err(syntax(condition, "a combination where a condition should stand"));
            }
        };
        check_values(condition, &comparison)?;
        let test = match schema.field_type(field) {
            Some(field_type) => {
                let typed = Typed { field, field_type };
                Test::Typed(field_type, typed_query(&typed, &comparison)?)
            }
            None => Test::Raw(raw_test(&comparison)),
        };
        Ok(Self { field: field.clone(), negated, test, label: label(condition) })
    }

    pub(super) fn matches(&self, metadata: &Metadata) -> bool {
        let value = metadata.get(&self.field);
        let accepted = match &self.test {
            Test::Typed(field_type, query) => query.accepts(*field_type, value),
            Test::Raw(test) => test.accepts(value),
        };
        accepted != self.negated
    }
}

/// Refuses what the JSON form cannot say, so that both forms of a filter mean the same.
fn check_values(condition: &Filter, comparison: &Comparison<'_>) -> Result<(), InputError> {
    let finite = |value: &FilterValue| !matches!(value, FilterValue::Float(n) if !n.is_finite());
    let all_finite = match comparison {
        Comparison::OneOf(_, values) => values.iter().all(finite),
        Comparison::Range(Bound::Unbounded, Bound::Unbounded) => {
            return Err(syntax(condition, "a range without ends; use exists"));
        }
        Comparison::Range(lower, upper) => [lower, upper].into_iter().all(|bound| match bound {
            Bound::Included(value) | Bound::Excluded(value) => finite(value),
            Bound::Unbounded => true,
        }),
        Comparison::Exists | Comparison::Contains(_) => true,
    };
    if all_finite { Ok(()) } else { Err(syntax(condition, "a number that is not finite")) }
}

fn raw_test(comparison: &Comparison<'_>) -> RawTest {
    match comparison {
        Comparison::Exists => RawTest::Exists,
        Comparison::OneOf(_, values) => RawTest::OneOf(values.to_vec()),
        Comparison::Range(lower, upper) => RawTest::Range((*lower).clone(), (*upper).clone()),
        Comparison::Contains(value) => RawTest::Contains((*value).to_owned()),
    }
}

fn syntax(condition: &Filter, detail: &str) -> InputError {
    InputError::FilterSyntax { path: label(condition), detail: detail.to_owned() }
}

fn label(condition: &Filter) -> String {
    let mut text = condition.to_string();
    if text.len() > LABEL_BYTES_MAX {
        text.truncate(text.floor_char_boundary(LABEL_BYTES_MAX));
        text.push_str("...");
    }
    text
}
