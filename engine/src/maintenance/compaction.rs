//! Compaction: several segments become one without their dead rows.
//!
//! Size-tiered: when `compaction_fanout` segments are of like size they are merged, so that every
//! row is rewritten about log(fan-out) of the collection's size times; and a segment whose share
//! of dead rows reaches `compaction_dead_share` is rewritten alone. Rows keep their LSNs.
//!
//! # Protocol
//! 1. Capture the inputs and their tombstones at LSN V, sync the log up to V.
//! 2. Write the output from the rows that are live at V, by cell if they are many; check that inputs = output + dropped.
//! 3. Under `structure`: carry kills since V over to the output, then install it. Inputs are
//!    unlinked when no reader holds them.
//!
//! # Crash consistency
//! Until the manifest record is durable the inputs are the truth and the output is an orphan.

use super::{
    Threads,
    build::{SegmentBuilder, SegmentSite},
    install::Change,
    merged::LiveRows,
    order::{Renew, order},
    rows::{Rows, write_rows},
};
use crate::{
    PointId,
    collection::{CollectionCore, SegmentPart, SegmentView, State},
    db::{Claim, DbCore},
    error::{Error, Result},
    segment::{Look, ReadMode},
};
use akidb_vfs::planted;
use akidb_wal::Lsn;
use roaring::RoaringBitmap;
use std::{collections::BTreeMap, sync::Arc};

/// The segments that a round of compaction would merge.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pick {
    pub(crate) inputs: Vec<Arc<SegmentPart>>,
    /// Bytes of the inputs: the debt that this pick pays.
    pub(crate) bytes: u64,
}

impl Pick {
    fn of(inputs: Vec<Arc<SegmentPart>>) -> Self {
        let bytes = inputs.iter().map(|part| part.segment.meta().len).sum();
        Self { inputs, bytes }
    }
}

/// Every pick that is due by the policy, smallest first: cheap merges first keep the number of
/// segments, hence search cost, low.
pub(crate) fn due(core: &DbCore, collection: &CollectionCore) -> Vec<Pick> {
    let settings = &core.shared.settings;
    let parts = collection.state.read().parts.segments().to_vec();
    let mut tiers: BTreeMap<u32, Vec<Arc<SegmentPart>>> = BTreeMap::new();
    let mut picks = Vec::new();
    for part in parts {
        let rows = u64::from(part.segment.rows());
        let dead = part.dead().len();
        let dying = rows > 0 && dead as f64 >= settings.compaction_dead_share * rows as f64;
        if dying || lacks_cells(core, &part) {
            picks.push(Pick::of(vec![part]));
        } else {
            let tier = (rows - dead).max(1).ilog(settings.compaction_fanout.max(2) as u64);
            tiers.entry(tier).or_default().push(part);
        }
    }
    let full = tiers.into_values().filter(|tier| tier.len() >= settings.compaction_fanout);
    picks.extend(full.map(Pick::of));
    picks.sort_by_key(|pick| pick.bytes);
    picks
}

/// True for a segment that should have cells: one that a promotion, a recovery or an older version
/// wrote.
fn lacks_cells(core: &DbCore, part: &SegmentPart) -> bool {
    let live = u64::from(part.segment.rows()) - part.dead().len();
    live >= core.shared.settings.index_rows_min.max(1) && !part.segment.has_cells()
}

/// Runs one due pick, if there is one. Returns whether it did. A collection that is moving is for the next
/// round: a demotion takes as long as its store, and the others must not wait for it.
pub(crate) fn compact_due(core: &DbCore, collection: &CollectionCore) -> Result<bool> {
    if collection.state.read().parts.segments().is_empty() {
        return Ok(false);
    }
    let Some(_moves) = collection.moves.try_lock() else { return Ok(false) };
    let mut refused = None;
    for pick in due(core, collection) {
        match core.claim_merge(collection, &pick.inputs) {
            Ok(claim) => return merge(core, collection, &pick.inputs, claim).map(|()| true),
            // One that needs less may have room, and make some.
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    refused.map_or(Ok(false), Err)
}

/// Merges all segments into one, dropping every dead row.
pub(crate) fn compact_all(core: &DbCore, collection: &CollectionCore) -> Result<()> {
    let _moves = collection.moves.lock();
    let parts = collection.state.read().parts.segments().to_vec();
    let clean = parts.len() <= 1
        && parts.iter().all(|part| {
            part.dead().is_empty() && part.segment.meta().deletes == 0 && !lacks_cells(core, part)
        });
    if clean {
        return Ok(());
    }
    merge(core, collection, &parts, core.claim_merge(collection, &parts)?)
}

/// Replaces segments by one segment of their live rows. The caller holds `moves`.
pub(crate) fn merge(
    core: &DbCore,
    collection: &CollectionCore,
    inputs: &[Arc<SegmentPart>],
    claim: Claim<'_>,
) -> Result<()> {
    let (views, captured_at, keep_deletes) = capture(collection, inputs);
    core.commit.sync(captured_at).wait()?;
    let output = write_output(core, collection, &views, keep_deletes, claim)?;
    let structure = collection.structure.lock();
    let part =
        output.map(|meta| core.open_part(collection, &meta, RoaringBitmap::new())).transpose()?;
    if let Some(part) = &part {
        carry_kills(&views, part)?;
    }
    let change = Change {
        add: part.iter().cloned().collect(),
        remove: inputs.iter().map(|part| part.number()).collect(),
        ..Change::default()
    };
    core.install(collection, &structure, change, |_: &State| match &part {
        Some(part) => carry_kills(&views, part),
        None => Ok(()),
    })?;
    let read = views.iter().map(|view| u64::from(view.part.segment.rows())).sum();
    core.counters.compacted(read, inputs.iter().map(|part| part.segment.meta().len).sum());
    Ok(())
}

fn capture(
    collection: &CollectionCore,
    inputs: &[Arc<SegmentPart>],
) -> (Vec<SegmentView>, Lsn, bool) {
    let state = collection.state.read();
    let views =
        inputs.iter().map(|part| SegmentView { part: part.clone(), dead: part.dead() }).collect();
    // Deleted ids matter only while an older version may lie in a cold object; `moves` is held,
    // so no demotion can create one meanwhile.
    (views, state.applied, !state.cold.is_empty() && !planted("compaction.deletes-dropped"))
}

fn write_output(
    core: &DbCore,
    collection: &CollectionCore,
    views: &[SegmentView],
    keep_deletes: bool,
    mut claim: Claim<'_>,
) -> Result<Option<crate::segment::SegmentMeta>> {
    let deletes = if keep_deletes { newest_deletes(views)? } else { BTreeMap::new() };
    let live: u64 = views.iter().map(SegmentView::live_rows).sum();
    if live == 0 && deletes.is_empty() {
        return Ok(None);
    }
    let schema = collection.schema();
    let known = collection.clusterings();
    let rows = LiveRows::new(views, &known)?;
    if u64::from(rows.count()) != live {
        return Err(Error::bug("compaction lost or made rows"));
    }
    let site = site(core);
    let ordered = order(&rows, site, &known, &schema, Renew::IfStale)?;
    let plan = ordered.as_ref().map(|ordered| &ordered.plan);
    let mut builder = SegmentBuilder::start(site, collection.id, &schema, plan)?;
    let threads = site.threads;
    write_rows(&mut builder, &rows, ordered.as_ref(), schema.dim, threads, |bytes| {
        claim.written(bytes);
        core.background.pause_point()
    })?;
    for (id, lsn) in deletes {
        builder.push_delete(&id, lsn)?;
    }
    let Some(ordered) = &ordered else { return builder.finish().map(Some) };
    let vector = |at: u32| {
        let row = ordered.rows.get(at as usize).copied();
        rows.vector(row.ok_or_else(|| Error::bug("a row that is not there is looked at"))?)
    };
    builder.finish_with(&Look { executor: &threads, vector }).map(Some)
}

/// Where a merge writes. Segments that are not mapped keep the last extent that was read: two threads
/// at two places of one would read each extent for every row.
fn site(core: &DbCore) -> SegmentSite<'_> {
    match core.shared.settings.read_mode {
        ReadMode::Mmap => core.site(),
        ReadMode::Pread => SegmentSite { threads: Threads(1), ..core.site() },
    }
}

fn newest_deletes(views: &[SegmentView]) -> Result<BTreeMap<PointId, Lsn>> {
    let mut newest = BTreeMap::new();
    for view in views {
        for (id, lsn) in view.part.segment.deletes()? {
            let slot = newest.entry(id).or_insert(Lsn::ZERO);
            *slot = (*slot).max(Lsn::new(lsn));
        }
    }
    Ok(newest)
}

/// Hides in the output what was hidden in the inputs since they were captured. Looks every row
/// up before it hides any.
fn carry_kills(views: &[SegmentView], output: &SegmentPart) -> Result<()> {
    if planted("compaction.kills-not-carried") {
        return Ok(());
    }
    let mut rows = Vec::new();
    for view in views {
        let now = view.part.dead();
        for row in (&*now - &*view.dead).iter() {
            let id = view.part.segment.id(row)?;
            rows.extend(output.find_live(&id)?);
        }
    }
    rows.into_iter().for_each(|row| output.kill(row));
    Ok(())
}
