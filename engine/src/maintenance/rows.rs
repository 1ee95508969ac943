//! The rows of a segment to come, and the way they take into it: one thread writes a few runs while
//! the others put the next ones together and code their rows.
//!
//! The one way in which flush, compaction and promotion write rows. Whoever brings rows ([`Rows`]) says
//! where they come from; `order` says in which order they lie. An object's rows come as they lie there.
//!
//! # Invariants
//! - Threads change nothing but the time: runs are cut by the plan alone and written in their order.
//! - Memory is bounded by [`AHEAD`] runs of [`RUN_BYTES`] of vectors, and what belongs to them; of an
//!   object, by one row group for each thread and one more.

use super::{
    Threads,
    build::SegmentBuilder,
    order::Ordered,
    pipeline::{self, Errand, Stages},
};
use crate::{
    cold::RowGroups,
    collection::{canonical, parse_metadata},
    error::{Error, Result},
    ivf::Clustering,
    point::Metadata,
    segment::{CellPlan, RowCodes, RowRef, Run},
};
use akidb_index::{
    BLOCK_ROWS, inv_norm,
    lists::Places,
    rabitq::{Bits, Encoder},
};
use std::{borrow::Cow, ops::Range};

/// Vectors of a run, in bytes, about: large writes, which still fit the cache of a core.
const RUN_BYTES: usize = 1 << 20;
/// So much is handed to the disk while the rest is put together: the sync at the end has less to wait
/// for, and those of the log do not queue behind all of it.
const SYNC_BYTES: u64 = 32 << 20;
/// Runs that are put together or written at once.
const AHEAD: usize = 8;

/// The rows of a segment to come, by the number that its maker gives each.
pub(crate) trait Rows: Sync {
    /// How many there are.
    fn count(&self) -> u32;

    /// The vector of one.
    fn vector(&self, row: u32) -> Result<Cow<'_, [f32]>>;

    /// [`akidb_index::inv_norm`] of it, as it is stored.
    fn inv_norm(&self, row: u32) -> Result<f32>;

    /// The cell of one under a clustering, if that is known.
    fn cell(&self, row: u32, clustering: &Clustering) -> Result<Option<u32>>;

    /// Appends some, in this order, to a run, without codes.
    fn fill(&self, rows: &[u32], run: &mut Run) -> Result<()>;

    /// Copies the codes that one has under a clustering; false if it has none.
    fn copy_codes(&self, row: u32, clustering: &Clustering, out: &mut RowCodes) -> Result<bool>;
}

/// Rows on their way.
struct Passage<'a, R> {
    rows: &'a R,
    /// In which order they lie; as they are without.
    ordered: Option<&'a Ordered>,
    dim: usize,
    indexed: bool,
}

/// A run that was put together, and the metadata of its rows where fields are indexed.
#[derive(Debug, Default)]
struct Filled {
    run: Run,
    metadata: Vec<Metadata>,
}

/// Writes all rows. `written` hears from time to time how long the file is, and may end the work.
pub(crate) fn write_rows(
    builder: &mut SegmentBuilder,
    rows: &impl Rows,
    ordered: Option<&Ordered>,
    dim: u32,
    threads: Threads,
    mut written: impl FnMut(u64) -> Result<()> + Send,
) -> Result<()> {
    let dim = dim as usize;
    let passage = Passage { rows, ordered, dim, indexed: builder.has_fields() };
    let make = |span, filled: &mut Filled| passage.fill(span, filled);
    let mut taken = Taken { builder, threads, synced: 0 };
    let used = |filled: &Filled| {
        let sync = taken.append(filled)?;
        written(taken.builder.bytes())?;
        Ok(sync)
    };
    pipeline::run(&threads, threads.0, AHEAD, passage.spans(), Stages { make, used })
}

/// Writes the rows of a cold object into a segment without cells. Returns how many there were.
pub(crate) fn write_object(
    builder: &mut SegmentBuilder,
    object: &dyn RowGroups,
    threads: Threads,
) -> Result<u64> {
    let indexed = builder.has_fields();
    let make = |group: usize, Filled { run, metadata }: &mut Filled| {
        run.clear();
        metadata.clear();
        for row in object.group(group)? {
            let (inv_norm, json) = (inv_norm(&row.vector), canonical(&row.metadata)?);
            let (id, lsn, vector) = (&row.id, row.lsn, &*row.vector);
            run.push(RowRef { id, lsn, vector, inv_norm, metadata: &json })?;
            if indexed {
                metadata.push(row.metadata);
            }
        }
        Ok(())
    };
    let (mut rows, mut taken) = (0, Taken { builder, threads, synced: 0 });
    let used = |filled: &Filled| {
        rows += filled.run.len() as u64;
        taken.append(filled)
    };
    let ahead = threads.0.saturating_add(1);
    pipeline::run(&threads, threads.0, ahead, 0..object.groups(), Stages { make, used })?;
    Ok(rows)
}

/// A segment that takes runs, one after the other.
struct Taken<'a> {
    builder: &'a mut SegmentBuilder,
    threads: Threads,
    /// Bytes that the disk was told to make durable.
    synced: u64,
}

impl Taken<'_> {
    /// Writes a run. Returns a sync that somebody else can wait for.
    fn append(&mut self, Filled { run, metadata }: &Filled) -> Result<Option<Errand>> {
        self.builder.append(run, metadata)?;
        let bytes = self.builder.bytes();
        // Where nobody else is there to wait for it, it would only come twice.
        if self.threads.0 == 1 || bytes - self.synced < SYNC_BYTES {
            return Ok(None);
        }
        self.synced = bytes;
        let file = self.builder.file();
        Ok(Some(Box::new(move || Ok(file.sync_data()?))))
    }
}

impl<R: Rows> Passage<'_, R> {
    /// The rows of each run.
    fn spans(&self) -> impl Iterator<Item = Range<u32>> {
        let most = (RUN_BYTES / (4 * self.dim)).max(BLOCK_ROWS) as u32;
        let count = self.rows.count();
        let places = self.ordered.map(|ordered| &ordered.plan.places);
        let mut first = 0_u32;
        std::iter::from_fn(move || {
            let start = first;
            let end = start.saturating_add(most).min(count);
            first = places.map_or(end, |places| whole_blocks(places, start..end));
            (start < first).then_some(start..first)
        })
    }

    /// Puts a run together.
    fn fill(&self, span: Range<u32>, filled: &mut Filled) -> Result<()> {
        let Filled { run, metadata } = filled;
        run.clear();
        metadata.clear();
        let all: Vec<u32>;
        let numbers = match self.ordered {
            Some(ordered) => {
                let numbers = ordered.rows.get(span.start as usize..span.end as usize);
                numbers.ok_or_else(|| Error::bug("rows are missing in their order"))?
            }
            None => {
                all = span.clone().collect();
                &all
            }
        };
        self.rows.fill(numbers, run)?;
        if self.indexed {
            let parsed = run.metadata().map(parse_metadata).collect::<Result<Vec<_>>>()?;
            *metadata = parsed;
        }
        match self.ordered {
            Some(ordered) => self.code(&ordered.plan, span, numbers, run),
            None => Ok(()),
        }
    }

    /// Copies or makes the codes of a run's rows, block by block.
    fn code(
        &self,
        plan: &CellPlan,
        span: Range<u32>,
        numbers: &[u32],
        run: &mut Run,
    ) -> Result<()> {
        let codec = plan.clustering.codec();
        let mut encoder = codec.encoder();
        let mut codes = vec![RowCodes::new(codec.padded()); BLOCK_ROWS];
        let mut row = span.start;
        while row < span.end {
            let cell = plan.places.cell_of(row);
            let end = block_end(&plan.places, row);
            let centre = plan.clustering.router().centre(cell);
            let centre = centre.ok_or_else(|| Error::bug("a row is in no cell"))?;
            for (at, codes) in
                ((row - span.start) as usize..).zip(&mut codes).take((end - row) as usize)
            {
                if self.rows.copy_codes(numbers[at], &plan.clustering, codes)? {
                    continue;
                }
                let (vectors, inv_norms) = run.vectors();
                encoder.set_row(&vectors[at * self.dim..][..self.dim], inv_norms[at]);
                encoder.set_centre(centre);
                encode(&mut encoder, codes);
            }
            run.push_block(codec.padded(), &codes[..(end - row) as usize]);
            row = end;
        }
        Ok(())
    }
}

fn encode(encoder: &mut Encoder<'_>, codes: &mut RowCodes) {
    codes.one_factors = encoder.encode(Bits::One, &mut codes.one);
    codes.fine_factors = encoder.encode(Bits::Eight, &mut codes.fine);
}

/// Where the block ends that begins with this row: with its cell, if that has no whole block left.
fn block_end(places: &Places, row: u32) -> u32 {
    let cell_end = places.rows(places.cell_of(row)).end;
    cell_end.min(row.saturating_add(BLOCK_ROWS as u32))
}

/// Where the last block ends of those that lie in a span, or the first one.
fn whole_blocks(places: &Places, span: Range<u32>) -> u32 {
    let mut end = span.start;
    while end < span.end {
        let next = block_end(places, end);
        if next > span.end && end > span.start {
            break;
        }
        end = next;
    }
    end
}
