//! Flush: a frozen memtable becomes an L0 segment.
//!
//! # Protocol
//! 1. Capture at LSN V what is live in the memtable, and sync the log up to V: a segment must
//!    never hold, or hide because of, a write that the log could still lose.
//! 2. Write the segment, its rows in the order of their cells if they are many; sync it, rename it, sync its directory.
//! 3. Under `structure`: capture the tombstones of all segments, write them, append the manifest
//!    record that names segment and tombstones and raises `flushed`, sync it.
//! 4. Install: translate kills that came since V, swap memtable for segment.
//! 5. Give up the log that is covered; only after the manifest is durable.
//!
//! # Crash consistency
//! Before step 3 is durable the log still has everything and the new files are orphans: an open
//! reports them, and one after the next edit removes them (`db::strays`). After it the log records
//! are skipped by `flushed`.

use super::{
    build::{SegmentBuilder, SegmentSite},
    install::Change,
    order::{Renew, order},
    rows::{Rows, write_rows},
};
use crate::{
    collection::{CollectionCore, MemView, SegmentPart},
    db::DbCore,
    error::{Error, Result},
    ivf::Clustering,
    memtable::{MemRow, Memtable},
    segment::{Look, RowCodes, RowRef, Run, SegmentMeta},
};
use akidb_vfs::planted;
use akidb_wal::Lsn;
use roaring::RoaringBitmap;
use std::{borrow::Cow, sync::Arc};

/// Flushes frozen memtables, oldest first, until none is left. Returns how many.
pub(crate) fn flush_frozen(core: &DbCore, collection: &Arc<CollectionCore>) -> Result<usize> {
    let _flushing = collection.flushing.lock();
    let mut flushed = 0;
    loop {
        let oldest = {
            let state = collection.state.read();
            if state.dropped { None } else { state.parts.frozen().first().cloned() }
        };
        let Some(oldest) = oldest else { return Ok(flushed) };
        flush_one(core, collection, &oldest)?;
        flushed += 1;
    }
}

fn flush_one(core: &DbCore, collection: &CollectionCore, memtable: &Arc<Memtable>) -> Result<()> {
    let view = collection.view();
    core.commit.sync(view.lsn).wait()?;
    let captured = MemView { memtable: memtable.clone(), rows: memtable.rows() };
    let written = write_segment(core.site(), collection, &captured, view.lsn)?;

    let structure = collection.structure.lock();
    if !is_frozen(collection, memtable) {
        // A demotion has put these rows into its object meanwhile: as a segment they would come back
        // though they were deleted since.
        return discard_segment(core, collection, written.map(|(meta, _)| meta));
    }
    let part = written
        .map(|(meta, slots)| {
            let part = core.open_part(collection, &meta, RoaringBitmap::new())?;
            kill_since(&captured, view.lsn, &slots, &part);
            Ok::<_, Error>((part, slots))
        })
        .transpose()?;
    let last = memtable.last_lsn();
    let change = Change {
        add: part.iter().map(|(part, _)| part.clone()).collect(),
        flushed: Some(if planted("flush.mark-too-high") { last.next() } else { last }),
        retires: vec![memtable.clone()],
        ..Change::default()
    };
    core.install(collection, &structure, change, |_| {
        // Kills that were applied while the manifest was being written.
        if let Some((part, slots)) = &part {
            kill_since(&captured, view.lsn, slots, part);
        }
        Ok(())
    })?;
    core.counters.flushed(captured.rows.len());
    memtable.leave(&core.shared.pool);
    core.trim_log();
    Ok(())
}

/// True while the memtable waits for its flush.
fn is_frozen(collection: &CollectionCore, memtable: &Arc<Memtable>) -> bool {
    collection.state.read().parts.frozen().iter().any(|frozen| Arc::ptr_eq(frozen, memtable))
}

fn discard_segment(
    core: &DbCore,
    collection: &CollectionCore,
    written: Option<SegmentMeta>,
) -> Result<()> {
    if let Some(meta) = written {
        core.discard(&[core.open_part(collection, &meta, RoaringBitmap::new())?]);
    }
    Ok(())
}

/// Writes the rows that are live at `lsn`, and all deletes. Returns the slot of each row;
/// `None` if there was nothing to write.
pub(crate) fn write_segment(
    site: SegmentSite<'_>,
    collection: &CollectionCore,
    captured: &MemView,
    lsn: Lsn,
) -> Result<Option<(SegmentMeta, Vec<u32>)>> {
    let live: Vec<_> = captured.rows.iter().filter(|(_, row)| row.live_at(lsn)).collect();
    let deletes = captured.memtable.deletes();
    if live.is_empty() && deletes.is_empty() {
        return Ok(None);
    }
    let schema = collection.schema();
    let known = collection.clusterings();
    let ordered = order(&Live(&live), site, &known, &schema, Renew::Never)?;
    let plan = ordered.as_ref().map(|ordered| &ordered.plan);
    let mut builder = SegmentBuilder::start(site, collection.id, &schema, plan)?;
    let (rows, threads) = (Live(&live), site.threads);
    write_rows(&mut builder, &rows, ordered.as_ref(), schema.dim, threads, |_| Ok(()))?;
    for (id, at) in &deletes {
        builder.push_delete(id, *at)?;
    }
    let Some(ordered) = ordered else {
        return Ok(Some((builder.finish()?, live.iter().map(|(slot, _)| *slot).collect())));
    };
    let at = |row: u32| ordered.rows.get(row as usize).and_then(|row| live.get(*row as usize));
    let vector = |row: u32| {
        let found = at(row).map(|(_, row)| Cow::Borrowed(&*row.vector));
        found.ok_or_else(|| Error::bug("a row that is not there was looked at again"))
    };
    let meta = builder.finish_with(&Look { executor: &threads, vector })?;
    let slots = (0..rows.count()).filter_map(at).map(|(slot, _)| *slot).collect();
    Ok(Some((meta, slots)))
}

/// The live rows of a memtable.
struct Live<'a>(&'a [(u32, &'a MemRow)]);

impl Live<'_> {
    fn row(&self, row: u32) -> Result<&MemRow> {
        let row = self.0.get(row as usize).map(|(_, row)| *row);
        row.ok_or_else(|| Error::bug("a row that is not there is flushed"))
    }
}

impl Rows for Live<'_> {
    fn count(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    fn vector(&self, row: u32) -> Result<Cow<'_, [f32]>> {
        Ok(Cow::Borrowed(&self.row(row)?.vector))
    }

    fn inv_norm(&self, row: u32) -> Result<f32> {
        Ok(self.row(row)?.inv_norm)
    }

    fn cell(&self, _row: u32, _clustering: &Clustering) -> Result<Option<u32>> {
        Ok(None)
    }

    fn fill(&self, rows: &[u32], run: &mut Run) -> Result<()> {
        for row in rows {
            let MemRow { id, lsn, vector, inv_norm, metadata, .. } = self.row(*row)?;
            let (lsn, inv_norm) = (lsn.get(), *inv_norm);
            run.push(RowRef { id, lsn, vector, inv_norm, metadata })?;
        }
        Ok(())
    }

    /// Codes that searches of the memtable made are around the origin, not around a cell's centre.
    fn copy_codes(&self, _row: u32, _clustering: &Clustering, _out: &mut RowCodes) -> Result<bool> {
        Ok(false)
    }
}

/// Hides in the segment what was hidden in its memtable after `lsn`.
fn kill_since(captured: &MemView, lsn: Lsn, slots: &[u32], part: &SegmentPart) {
    for (row, slot) in (0_u32..).zip(slots) {
        let killed = captured.rows.get(*slot).is_some_and(|r| r.live_at(lsn) && r.is_dead());
        if killed && !part.is_dead(row) {
            part.kill(row);
        }
    }
}
