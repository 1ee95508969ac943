//! One collection in memory: its state, how writes are applied to it, and how readers capture it.
//!
//! # Invariants
//! - Of every id at most one version is live, wherever it lies. An applied write hides the old
//!   version before it becomes visible, under one write lock ([`CollectionCore::apply_rows`]).
//! - Writes are applied in LSN order, by one thread.
//! - A frozen memtable changes only by kills.
//! - Locks are taken in this order: a claim of `tier`, `moves`, `flushing`, `structure`, the manifest,
//!   `state`.
//!
//! # Not here
//! Files are made by `maintenance`, the order of writes by `commit`.

mod part;
mod view;

pub(crate) use crate::commit::canonical_json as canonical;
pub(crate) use part::SegmentPart;
pub(crate) use view::{MemView, SegmentView, View};

use crate::{
    PointId, Schema,
    commit::MemoryPool,
    error::{Cause, Result},
    ivf::Clusterings,
    manifest::{ColdMeta, CollectionManifest},
    memtable::{MemRow, Memtable, Stored},
    point::Metadata,
};
use akidb_handoff::{Parts, Tier, TierCell};
use akidb_tiering::{AccessTracker, TierOverrides};
use akidb_vfs::planted;
use akidb_wal::Lsn;
use parking_lot::{Mutex, RwLock};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// A validated row on its way to the log and the memtable.
#[derive(Clone, Debug)]
pub(crate) struct NewRow {
    pub(crate) id: PointId,
    pub(crate) vector: Stored<f32>,
    pub(crate) inv_norm: f32,
    /// Canonical JSON of `parsed`.
    pub(crate) metadata: Stored<u8>,
    pub(crate) parsed: Metadata,
}

/// What changes in a collection.
#[derive(Debug)]
pub(crate) struct State {
    /// The last LSN of this collection that is applied, hence visible.
    pub(crate) applied: Lsn,
    /// Every record of this collection up to here is in segments or a cold object.
    pub(crate) flushed: Lsn,
    pub(crate) schema: Arc<Schema>,
    pub(crate) parts: Parts<Memtable, SegmentPart>,
    pub(crate) cold: Vec<ColdMeta>,
    /// What the manifest says; [`CollectionCore::tier`] is what decides.
    pub(crate) pinned: bool,
    /// Whether local data goes without hot copies: as the manifest says, for the tier after an open.
    pub(crate) warm: bool,
    pub(crate) overrides: TierOverrides,
    pub(crate) dropped: bool,
    /// The clusterings that segments and searches share.
    pub(crate) clusterings: Arc<Clusterings>,
}

impl State {
    /// True if memtables or segments hold anything.
    pub(crate) fn has_local(&self) -> bool {
        let empty = self.parts.active().is_empty() && self.parts.frozen().is_empty();
        !empty || !self.parts.segments().is_empty()
    }

    /// The object that holds everything, if one does.
    fn whole_object(&self) -> Option<ColdMeta> {
        match self.cold.as_slice() {
            [object] if !self.has_local() => Some(object.clone()),
            _ => None,
        }
    }

    /// The live version of an id in local parts. The commit path calls it, so nothing newer is
    /// being applied meanwhile.
    pub(crate) fn current(&self, id: &PointId) -> Result<Option<CurrentRow>> {
        for memtable in self.parts.memtables().rev() {
            let found = memtable.with_newest(id, |row| {
                // Copied: a part of a block would keep all of the block for as long as it is held.
                row.map(|row| (row.lsn, Box::from(&*row.vector), parse_metadata(&row.metadata)))
            });
            match found {
                Some(Some((lsn, vector, metadata))) => {
                    return Ok(Some(CurrentRow { lsn, vector, metadata: metadata? }));
                }
                Some(None) => return Ok(None),
                None => {}
            }
        }
        for part in self.parts.segments() {
            if let Some(row) = part.find_live(id)? {
                let segment = &part.segment;
                return Ok(Some(CurrentRow {
                    lsn: Lsn::new(segment.lsn(row)?),
                    vector: segment.vectors(row, 1)?.to_vec().into_boxed_slice(),
                    metadata: segment.metadata(row)?,
                }));
            }
        }
        Ok(None)
    }
}

/// One collection.
#[derive(Debug)]
pub(crate) struct CollectionCore {
    pub(crate) id: u32,
    pub(crate) name: String,
    /// The group of collections that it counts towards.
    pub(crate) namespace: Option<String>,
    pub(crate) state: RwLock<State>,
    /// Which tier it is in, and who may move it. A claim is taken before `moves`, never under it.
    pub(crate) tier: TierCell,
    /// How often it is read.
    pub(crate) access: AccessTracker,
    /// Held by compaction, demotion, promotion and re-indexing: one of them at a time.
    pub(crate) moves: Mutex<()>,
    /// Held by a flush, so that memtables leave oldest first.
    pub(crate) flushing: Mutex<()>,
    /// Held while the set of segments changes, from capturing tombstones to installing, so that
    /// what the manifest says of a segment is never older than the log that was given up for it.
    pub(crate) structure: Mutex<()>,
    /// Whether the active memtable is searched by codes. Apart from the state: writers look at it after
    /// each write, and must not take a lock for that.
    codes_wanted: AtomicBool,
}

/// The current version of a row, for writes that depend on it.
#[derive(Clone, Debug)]
pub(crate) struct CurrentRow {
    pub(crate) lsn: Lsn,
    pub(crate) vector: Box<[f32]>,
    pub(crate) metadata: Metadata,
}

impl CollectionCore {
    /// A collection as the manifest describes it, with its segments opened.
    pub(crate) fn new(
        manifest: &CollectionManifest,
        segments: Vec<Arc<SegmentPart>>,
        access: AccessTracker,
    ) -> Self {
        let schema = Arc::new(manifest.schema.clone());
        let state = State {
            applied: manifest.flushed,
            flushed: manifest.flushed,
            parts: Parts::new(Memtable::new(&schema), segments),
            schema,
            cold: manifest.cold.clone(),
            pinned: manifest.pinned,
            warm: manifest.warm,
            overrides: manifest.overrides.clone(),
            dropped: false,
            clusterings: Arc::default(),
        };
        Self {
            id: manifest.id,
            name: manifest.name.clone(),
            namespace: manifest.namespace.clone(),
            state: RwLock::new(state),
            tier: TierCell::new(manifest.tier(), manifest.pinned),
            access,
            moves: Mutex::new(()),
            flushing: Mutex::new(()),
            structure: Mutex::new(()),
            codes_wanted: AtomicBool::new(false),
        }
    }

    /// The schema as of now.
    pub(crate) fn schema(&self) -> Arc<Schema> {
        self.state.read().schema.clone()
    }

    /// Refuses work through a handle that outlived its collection.
    pub(crate) fn check_exists(&self) -> Result<()> {
        if self.state.read().dropped {
            return Err(Cause::CollectionNotFound { name: self.name.clone() }.into());
        }
        Ok(())
    }

    /// Asks writers to make the codes of the rows they write: memtables are searched by them.
    pub(crate) fn want_codes(&self) {
        self.codes_wanted.store(true, Ordering::Relaxed);
    }

    /// Makes the codes of the active memtable that are missing, if searches want them.
    pub(crate) fn make_wanted_codes(&self, pool: &MemoryPool) {
        if !self.codes_wanted.load(Ordering::Relaxed) {
            return;
        }
        let newest = self.state.read().parts.memtables().next_back().cloned();
        if let Some(newest) = newest {
            newest.make_codes(pool);
        }
    }

    /// The clusterings of all segments that can be read: what new segments may share.
    pub(crate) fn clusterings(&self) -> Arc<Clusterings> {
        let (known, parts) = {
            let state = self.state.read();
            (state.clusterings.clone(), state.parts.segments().to_vec())
        };
        for part in parts {
            // A damaged codebook is the trouble of who searches its segment, not of who writes.
            drop(part.segment.cells(&known));
        }
        known
    }

    /// Captures everything a reader needs, at one instant.
    pub(crate) fn view(&self) -> View {
        View::capture(&self.state.read())
    }

    /// Makes rows visible and hides their old versions. On an error (damage met while looking
    /// for the old versions) nothing is visible of the batch.
    ///
    /// Ids, vectors and metadata are moved out of `rows`; what is left is the caller's to free. The
    /// memory is charged to `pool`. Rows for a dropped collection go nowhere.
    pub(crate) fn apply_rows(
        &self,
        lsn: Lsn,
        rows: &mut [NewRow],
        now: Duration,
        pool: &MemoryPool,
    ) -> Result<()> {
        let mut state = self.state.write();
        if state.dropped {
            return Ok(());
        }
        let hidden = find_hidden(&state, rows.iter().map(|row| &row.id))?;
        hide(&hidden, &state, rows.iter().map(|row| &row.id), lsn);
        let indexed = !state.schema.fields.is_empty();
        let mut bytes = 0;
        for row in rows {
            let NewRow { id, vector, inv_norm, metadata, parsed } = row;
            let (vector, metadata) = (std::mem::take(vector), std::mem::take(metadata));
            let id = std::mem::replace(id, PointId::U64(0));
            let row = MemRow::new(id, lsn, vector, *inv_norm, metadata);
            bytes += state.parts.active().insert(row, indexed.then_some(&*parsed), now);
        }
        pool.charge(bytes);
        state.applied = lsn;
        Ok(())
    }

    /// Hides the current versions of ids. Same promise as [`CollectionCore::apply_rows`].
    pub(crate) fn apply_deletes(
        &self,
        lsn: Lsn,
        ids: &mut Vec<PointId>,
        now: Duration,
        pool: &MemoryPool,
    ) -> Result<()> {
        let mut state = self.state.write();
        if state.dropped {
            return Ok(());
        }
        let hidden = find_hidden(&state, ids.iter())?;
        hide(&hidden, &state, ids.iter(), lsn);
        // A delete is remembered though its row was found: a cold object, or the source of a
        // move that is under way, may hold an older version that must not come back.
        let mut bytes = 0;
        if planted("memtable.deletes-not-remembered") {
            state.applied = lsn;
            return Ok(());
        }
        for id in ids.drain(..) {
            bytes += state.parts.active().delete(id, lsn, now);
        }
        pool.charge(bytes);
        state.applied = lsn;
        Ok(())
    }

    /// Puts a new memtable in front and freezes the old one; false if it was empty.
    pub(crate) fn freeze(&self) -> bool {
        self.freeze_locked(&mut self.state.write())
    }

    fn freeze_locked(&self, state: &mut State) -> bool {
        if state.parts.active().is_empty() {
            return false;
        }
        let fresh = Memtable::new(&state.schema);
        state.parts.freeze(fresh);
        // Whether anybody searches still, the next search says.
        self.codes_wanted.store(false, Ordering::Relaxed);
        true
    }

    /// A view, and the object that holds everything that was there in that instant, if one does.
    pub(crate) fn view_and_whole_object(&self) -> (View, Option<ColdMeta>) {
        let state = self.state.read();
        (View::capture(&state), state.whole_object())
    }

    /// Whether a demotion is under way, which takes the rows of frozen memtables as they are.
    pub(crate) fn is_being_demoted(&self) -> bool {
        self.tier.state().moving_to == Some(Tier::Cold)
    }

    /// Freezes, and captures everything in the same instant: the view holds every write up to its
    /// LSN, and no memtable of it takes another row. Returns the frozen memtables too.
    pub(crate) fn freeze_and_view(&self) -> (View, Vec<Arc<Memtable>>) {
        let mut state = self.state.write();
        self.freeze_locked(&mut state);
        (View::capture(&state), state.parts.frozen().to_vec())
    }

    /// The first LSN that is only in memtables, hence must stay in the log; `retiring` counts as
    /// flushed already.
    pub(crate) fn first_unflushed(&self, retiring: &[Arc<Memtable>]) -> Option<Lsn> {
        let state = self.state.read();
        if state.dropped {
            return None;
        }
        state
            .parts
            .memtables()
            .filter(|memtable| !retiring.iter().any(|retiring| Arc::ptr_eq(memtable, retiring)))
            .find_map(|memtable| memtable.first_lsn())
    }

    /// Empties a collection that the manifest no longer names, and gives the memory of its
    /// memtables back. Returns its segments. Readers keep what they captured.
    pub(crate) fn mark_dropped(&self, pool: &MemoryPool) -> Vec<Arc<SegmentPart>> {
        let mut state = self.state.write();
        state.dropped = true;
        state.parts.memtables().for_each(|memtable| memtable.leave(pool));
        state.cold.clear();
        let fresh = Memtable::new(&state.schema);
        state.parts.clear(fresh)
    }
}

/// Reads canonical JSON that this process wrote or whose checksum was verified.
pub(crate) fn parse_metadata(json: &[u8]) -> Result<Metadata> {
    serde_json::from_slice(json)
        .map_err(|_| crate::Error::bug("stored metadata is not a JSON object"))
}

/// Where the version lies that a write hides.
enum Hidden {
    /// In this segment, at this row.
    Segment(usize, u32),
    /// In a memtable, if it is not dead there already.
    Memtable,
    Nowhere,
}

/// Where the live versions of ids lie. Fallible, hence done before anything changes.
fn find_hidden<'a>(state: &State, ids: impl Iterator<Item = &'a PointId>) -> Result<Vec<Hidden>> {
    ids.map(|id| {
        if state.parts.memtables().any(|memtable| memtable.newest(id).is_some()) {
            return Ok(Hidden::Memtable);
        }
        for (at, part) in state.parts.segments().iter().enumerate() {
            if let Some(row) = part.find_live(id)? {
                return Ok(Hidden::Segment(at, row));
            }
        }
        Ok(Hidden::Nowhere)
    })
    .collect()
}

fn hide<'a>(hidden: &[Hidden], state: &State, ids: impl Iterator<Item = &'a PointId>, lsn: Lsn) {
    for (id, found) in ids.zip(hidden) {
        match found {
            Hidden::Segment(at, row) => {
                if let Some(part) = state.parts.segments().get(*at) {
                    part.kill(*row);
                }
            }
            Hidden::Memtable => {
                for memtable in state.parts.memtables().rev() {
                    if memtable.kill(id, lsn) {
                        break;
                    }
                }
            }
            Hidden::Nowhere => {}
        }
    }
}
