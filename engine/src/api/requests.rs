//! Requests that are built step by step: a search, a scan, a write. The same builder serves both
//! APIs: under the async one it is awaited, under the blocking one it is `run()`.

use crate::{
    Cursor, Durability, Explain, Filter, Hit, Page, Receipt,
    db::Write as CoreWrite,
    error::Result,
    read::{Effort, ScanSpec, SearchSpec},
};
use std::{
    future::{Future, IntoFuture},
    pin::Pin,
};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A search being built. Default: 10 hits, no filter, neither vectors nor metadata, a recall of 0.95.
#[derive(Clone, Debug)]
#[must_use = "a search does nothing until it is awaited or run"]
pub struct Search<'a, C> {
    pub(super) target: &'a C,
    pub(super) spec: SearchSpec,
}

impl<'a, C> Search<'a, C> {
    pub(super) fn new(target: &'a C, query: &[f32]) -> Self {
        let spec = SearchSpec {
            query: query.to_vec(),
            k: 10,
            filter: None,
            effort: Effort::default(),
            with_vectors: false,
            with_metadata: false,
        };
        Self { target, spec }
    }

    /// How many hits: 1 to `Settings::k_max`. That many come back whenever that many rows match.
    pub fn k(mut self, k: usize) -> Self {
        self.spec.k = k;
        self
    }

    /// Only rows that match.
    pub fn filter(mut self, filter: impl Into<Filter>) -> Self {
        self.spec.filter = Some(filter.into());
        self
    }

    /// The share of the true nearest rows that is to be found, above 0 and at most 1. Default: 0.95.
    /// How many cells that takes was measured on rows of each segment when it was written; queries
    /// that resemble no row may find less. 1 is as good as [`Self::exact`]. Takes the place of an
    /// earlier `nprobe` or `exact`.
    pub fn recall_target(mut self, share: f32) -> Self {
        self.spec.effort = Effort::Recall(share);
        self
    }

    /// How many cells of each segment are searched, at least 1, whatever recall that gives. Takes the
    /// place of an earlier `recall_target` or `exact`.
    pub fn nprobe(mut self, cells: usize) -> Self {
        self.spec.effort = Effort::Cells(cells);
        self
    }

    /// Whether every row is scored, so that the answer is the true one. Takes the place of an earlier
    /// `recall_target` or `nprobe`; `false` asks for the default recall.
    pub fn exact(mut self, yes: bool) -> Self {
        self.spec.effort = if yes { Effort::Exact } else { Effort::default() };
        self
    }

    /// Whether hits carry their vectors.
    pub fn with_vectors(mut self, yes: bool) -> Self {
        self.spec.with_vectors = yes;
        self
    }

    /// Whether hits carry their metadata.
    pub fn with_metadata(mut self, yes: bool) -> Self {
        self.spec.with_metadata = yes;
        self
    }
}

impl<'a> Search<'a, crate::Collection> {
    /// Searches, and tells what was done.
    ///
    /// # Errors
    /// As [`crate::Collection::search`].
    pub async fn explain(self) -> Result<(Vec<Hit>, Explain)> {
        self.target.run_search(self.spec).await
    }
}

impl<'a> IntoFuture for Search<'a, crate::Collection> {
    type Output = Result<Vec<Hit>>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.explain().await.map(|(hits, _)| hits) })
    }
}

impl Search<'_, crate::blocking::Collection> {
    /// Searches on this thread.
    ///
    /// # Errors
    /// As [`crate::Collection::search`].
    pub fn run(self) -> Result<Vec<Hit>> {
        self.explain().map(|(hits, _)| hits)
    }

    /// Searches on this thread, and tells what was done.
    ///
    /// # Errors
    /// As [`crate::Collection::search`].
    pub fn explain(self) -> Result<(Vec<Hit>, Explain)> {
        self.target.run_search(&self.spec)
    }
}

/// A scan being built. Default: 100 rows from the start, with metadata, without vectors.
#[derive(Clone, Debug)]
#[must_use = "a scan does nothing until it is awaited or run"]
pub struct Scan<'a, C> {
    pub(super) target: &'a C,
    pub(super) cursor: Option<Cursor>,
    pub(super) spec: ScanSpec,
}

impl<'a, C> Scan<'a, C> {
    pub(super) fn new(target: &'a C) -> Self {
        let spec = ScanSpec {
            after: None,
            limit: 100,
            filter: None,
            with_vectors: false,
            with_metadata: true,
        };
        Self { target, cursor: None, spec }
    }

    /// Goes on where an earlier page ended.
    pub fn after(mut self, cursor: Cursor) -> Self {
        self.cursor = Some(cursor);
        self
    }

    /// Rows per page: 1 to 10,000.
    pub fn limit(mut self, limit: usize) -> Self {
        self.spec.limit = limit;
        self
    }

    /// Only rows that match.
    pub fn filter(mut self, filter: impl Into<Filter>) -> Self {
        self.spec.filter = Some(filter.into());
        self
    }

    /// Whether rows carry their vectors.
    pub fn with_vectors(mut self, yes: bool) -> Self {
        self.spec.with_vectors = yes;
        self
    }

    /// Whether rows carry their metadata.
    pub fn with_metadata(mut self, yes: bool) -> Self {
        self.spec.with_metadata = yes;
        self
    }
}

impl<'a> IntoFuture for Scan<'a, crate::Collection> {
    type Output = Result<Page>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.target.run_scan(self.cursor, self.spec))
    }
}

impl Scan<'_, crate::blocking::Collection> {
    /// Reads the page on this thread.
    ///
    /// # Errors
    /// As [`crate::Collection::scan`].
    pub fn run(self) -> Result<Page> {
        self.target.run_scan(self.cursor.as_ref(), self.spec)
    }
}

/// A write being built. Default durability: `Settings::durability`.
#[derive(Clone, Debug)]
#[must_use = "nothing is written until it is awaited or run"]
pub struct Write<'a, C> {
    pub(super) target: &'a C,
    pub(super) write: CoreWrite,
    pub(super) durability: Option<Durability>,
}

impl<'a, C> Write<'a, C> {
    pub(super) fn new(target: &'a C, write: CoreWrite) -> Self {
        Self { target, write, durability: None }
    }

    /// The durability of this write.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }
}

impl<'a> IntoFuture for Write<'a, crate::Collection> {
    type Output = Result<Receipt>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.target.run_write(self.write, self.durability))
    }
}

impl Write<'_, crate::blocking::Collection> {
    /// Writes, and returns when the durability asked for is reached.
    ///
    /// # Errors
    /// As the verb that began the write.
    pub fn run(self) -> Result<Receipt> {
        self.target.run_write(self.write, self.durability)
    }
}
