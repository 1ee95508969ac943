//! Answering a compiled filter for all rows of one part of a collection (a memtable, a segment).
//!
//! Conditions on fields that the part has an index for are answered from the index; the others
//! need metadata, which is read only of rows that are still undecided, and once for all
//! conditions that stand together in the tree.

use super::{
    CompiledFilter,
    compile::{Leaf, Node, Test},
};
use crate::{
    Error, Metadata, Result,
    field_index::{FieldIndex, FieldIndexError, Query},
};
use roaring::RoaringBitmap;
use serde::Serialize;
use std::{borrow::Cow, collections::BTreeMap, rc::Rc};

/// A part of a collection whose rows are numbered from 0.
pub(crate) trait RowSource {
    /// How many rows there are, dead ones included.
    fn rows(&self) -> u32;

    /// The part's index of a field, `None` if this part has none (a segment can be older than
    /// the index).
    fn field(&self, name: &str) -> Result<Option<FieldIndex<'_>>>;

    /// The metadata of a row.
    fn metadata(&self, row: u32) -> Result<Cow<'_, Metadata>>;

    /// The error for damage in the index of a field, with the file that holds it.
    fn damaged(&self, field: &str, error: FieldIndexError) -> Error;
}

/// How a condition was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FilterStrategy {
    /// From the field's index.
    Index,
    /// By reading metadata, since there is no index of the field.
    Scan,
    /// From an answer that was kept: the same filter was asked before.
    Remembered,
    /// Not at all: the conditions before it had decided every row.
    Skipped,
}

/// How one condition of a filter was answered in one part of a collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FilterStep {
    /// The condition as JSON, cut if it is long.
    pub condition: String,
    /// How it was answered.
    pub strategy: FilterStrategy,
    /// Rows that the index named, or whose metadata was read.
    pub rows: u64,
}

/// The answer.
#[derive(Clone, Debug)]
pub(crate) struct Evaluated {
    /// The rows that match.
    pub(crate) rows: RoaringBitmap,
    /// How each condition was answered, in the order in which they were.
    pub(crate) plan: Vec<FilterStep>,
}

/// The rows that match, out of `universe` (the rows that are alive; all if `None`).
///
/// # Errors
///
/// What the source returns, and [`RowSource::damaged`] for a damaged index.
pub(crate) fn evaluate(
    filter: &CompiledFilter,
    source: &dyn RowSource,
    universe: Option<&RoaringBitmap>,
) -> Result<Evaluated> {
    let mut all = RoaringBitmap::new();
    let candidates = universe.unwrap_or_else(|| {
        all.insert_range(0..source.rows());
        &all
    });
    let tree = Resolver::new(source).node(&filter.root)?;
    let mut run = Run { source, plan: Vec::new() };
    let rows = run.eval(&tree, candidates)?;
    Ok(Evaluated { rows, plan: run.plan })
}

/// The tree with the indexes of this part at its leaves.
enum Resolved<'a> {
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
    Index(&'a Leaf, Rc<FieldIndex<'a>>, &'a Query),
    /// A subtree of which no leaf has an index.
    Scan(&'a Node),
}

/// Finds the index for each leaf, and opens each index once: opening may read it from disk.
struct Resolver<'a> {
    source: &'a dyn RowSource,
    opened: BTreeMap<&'a str, Option<Rc<FieldIndex<'a>>>>,
}

impl<'a> Resolver<'a> {
    fn new(source: &'a dyn RowSource) -> Self {
        Self { source, opened: BTreeMap::new() }
    }

    fn node(&mut self, node: &'a Node) -> Result<Resolved<'a>> {
        Ok(match node {
            Node::And(parts) => whole_or(node, self.all(parts)?, Resolved::And),
            Node::Or(parts) => whole_or(node, self.all(parts)?, Resolved::Or),
            Node::Not(part) => match self.node(part)? {
                Resolved::Scan(_) => Resolved::Scan(node),
                resolved => Resolved::Not(Box::new(resolved)),
            },
            Node::Leaf(leaf) => self.leaf(node, leaf)?,
        })
    }

    fn all(&mut self, parts: &'a [Node]) -> Result<Vec<Resolved<'a>>> {
        parts.iter().map(|part| self.node(part)).collect()
    }

    fn leaf(&mut self, node: &'a Node, leaf: &'a Leaf) -> Result<Resolved<'a>> {
        if let Test::Typed(field_type, query) = &leaf.test
            && let Some(index) = self.index(&leaf.field)?
            && index.field_type() == *field_type
        {
            return Ok(Resolved::Index(leaf, index, query));
        }
        Ok(Resolved::Scan(node))
    }

    fn index(&mut self, field: &'a str) -> Result<Option<Rc<FieldIndex<'a>>>> {
        if let Some(index) = self.opened.get(field) {
            return Ok(index.clone());
        }
        let index = self.source.field(field)?.map(Rc::new);
        self.opened.insert(field, index.clone());
        Ok(index)
    }
}

impl<'a> Resolved<'a> {
    /// Whether some row's metadata may have to be read.
    fn scans(&self) -> bool {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().any(Self::scans),
            Self::Not(part) => part.scans(),
            Self::Index(..) => false,
            Self::Scan(_) => true,
        }
    }

    fn labels(&self, labels: &mut Vec<&'a str>) {
        match self {
            Self::And(parts) | Self::Or(parts) => {
                parts.iter().for_each(|part| part.labels(labels));
            }
            Self::Not(part) => part.labels(labels),
            Self::Index(leaf, ..) => labels.push(&leaf.label),
            Self::Scan(node) => node_labels(node, labels),
        }
    }
}

fn whole_or<'a>(
    node: &'a Node,
    parts: Vec<Resolved<'a>>,
    make: fn(Vec<Resolved<'a>>) -> Resolved<'a>,
) -> Resolved<'a> {
    // An empty combination is decided without reading anything.
    let whole = !parts.is_empty() && parts.iter().all(|part| matches!(part, Resolved::Scan(_)));
    if whole { Resolved::Scan(node) } else { make(parts) }
}

fn node_labels<'a>(node: &'a Node, labels: &mut Vec<&'a str>) {
    match node {
        Node::And(parts) | Node::Or(parts) => {
            parts.iter().for_each(|part| node_labels(part, labels));
        }
        Node::Not(part) => node_labels(part, labels),
        Node::Leaf(leaf) => labels.push(&leaf.label),
    }
}

struct Run<'a> {
    source: &'a dyn RowSource,
    plan: Vec<FilterStep>,
}

impl Run<'_> {
    /// The candidates that match.
    fn eval(&mut self, node: &Resolved<'_>, candidates: &RoaringBitmap) -> Result<RoaringBitmap> {
        if candidates.is_empty() {
            self.note(node, FilterStrategy::Skipped, 0);
            return Ok(RoaringBitmap::new());
        }
        match node {
            Resolved::And(parts) => self.all_of(parts, candidates),
            Resolved::Or(parts) => self.any_of(parts, candidates),
            Resolved::Not(part) => Ok(candidates - self.eval(part, candidates)?),
            Resolved::Index(leaf, index, query) => {
                let answer = index.query(query);
                let found = answer.map_err(|error| self.source.damaged(&leaf.field, error))?;
                self.note(node, FilterStrategy::Index, found.len());
                Ok(if leaf.negated { candidates - found } else { candidates & found })
            }
            Resolved::Scan(tree) => {
                self.note(node, FilterStrategy::Scan, candidates.len());
                self.scan(candidates, |metadata| tree.matches(metadata))
            }
        }
    }

    /// Each part narrows the candidates of the next.
    fn all_of(
        &mut self,
        parts: &[Resolved<'_>],
        universe: &RoaringBitmap,
    ) -> Result<RoaringBitmap> {
        let mut left = universe.clone();
        for part in indexes_first(parts) {
            left = self.eval(part, &left)?;
        }
        let scans = Scans::of(parts);
        if scans.note(self, &left) {
            left = self.scan(&left, |metadata| scans.all(metadata))?;
        }
        Ok(left)
    }

    /// Each part is asked only about the rows that no part before it has taken.
    fn any_of(
        &mut self,
        parts: &[Resolved<'_>],
        universe: &RoaringBitmap,
    ) -> Result<RoaringBitmap> {
        let mut left = universe.clone();
        for part in indexes_first(parts) {
            left -= self.eval(part, &left)?;
        }
        let scans = Scans::of(parts);
        if scans.note(self, &left) {
            left -= self.scan(&left, |metadata| scans.any(metadata))?;
        }
        Ok(universe - left)
    }

    /// Reads the metadata of each candidate once.
    fn scan(
        &self,
        candidates: &RoaringBitmap,
        accepts: impl Fn(&Metadata) -> bool,
    ) -> Result<RoaringBitmap> {
        let mut found = RoaringBitmap::new();
        for row in candidates {
            if accepts(&*self.source.metadata(row)?) {
                found.insert(row);
            }
        }
        Ok(found)
    }

    fn note(&mut self, node: &Resolved<'_>, strategy: FilterStrategy, rows: u64) {
        let mut labels = Vec::new();
        node.labels(&mut labels);
        self.plan.extend(labels.into_iter().map(|label| FilterStep {
            condition: label.to_owned(),
            strategy,
            rows,
        }));
    }
}

/// The parts with an index somewhere in them, those that never read metadata first.
fn indexes_first<'b, 'a>(parts: &'b [Resolved<'a>]) -> impl Iterator<Item = &'b Resolved<'a>> {
    let pure = parts.iter().filter(|part| !part.scans());
    let mixed = parts.iter().filter(|part| part.scans());
    pure.chain(mixed.filter(|part| !matches!(part, Resolved::Scan(_))))
}

/// The parts of one combination that have no index at all: read together, in one pass.
struct Scans<'b, 'a> {
    parts: Vec<(&'b Resolved<'a>, &'a Node)>,
}

impl<'b, 'a> Scans<'b, 'a> {
    fn of(parts: &'b [Resolved<'a>]) -> Self {
        let scans = parts.iter().filter_map(|part| match part {
            Resolved::Scan(node) => Some((part, *node)),
            _ => None,
        });
        Self { parts: scans.collect() }
    }

    /// Notes the pass in the plan; false if there is nothing to read.
    fn note(&self, run: &mut Run<'_>, left: &RoaringBitmap) -> bool {
        let strategy = if left.is_empty() { FilterStrategy::Skipped } else { FilterStrategy::Scan };
        for (part, _) in &self.parts {
            run.note(part, strategy, left.len());
        }
        !self.parts.is_empty() && !left.is_empty()
    }

    fn all(&self, metadata: &Metadata) -> bool {
        self.parts.iter().all(|(_, node)| node.matches(metadata))
    }

    fn any(&self, metadata: &Metadata) -> bool {
        self.parts.iter().any(|(_, node)| node.matches(metadata))
    }
}
