//! Rows that damage took from segments and cold objects and that other files still have: they go
//! into one new segment of their collection. Owns the account of what is missing and what was
//! found again; the log itself is read by `history`. Called by the repair of parts and of the
//! manifest.
//!
//! # Invariants
//! - A row comes back only in its newest version, and only if it is certain that no later write
//!   deleted or replaced it.
//! - What is said to be lost is at least what is lost.

#![deny(clippy::indexing_slicing)]

use super::{Loss, RepairAction, Saved, Worker, history::History};
use crate::{
    PointId,
    collection::{canonical, parse_metadata},
    commit::payload::LoggedRow,
    error::Result,
    maintenance::build::SegmentBuilder,
    manifest::CollectionManifest,
    point::Record,
    segment::{SegmentMeta, SegmentParams, SegmentWriter, segment_path},
    tombstones::TombstoneSet,
};
use akidb_wal::Lsn;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
};

/// Rows of one file that cannot be read there.
pub(super) struct Gone {
    /// Its `ids` are those that are lost for certain.
    pub(super) loss: Loss,
    /// How many rows beside those, at most: nothing tells which.
    pub(super) unnamed: u64,
    /// The LSNs of its rows.
    pub(super) lsns: (u64, u64),
}

impl Gone {
    /// A segment that the remains of a manifest name, and that is not there. It may as well have
    /// been merged into another.
    pub(super) fn whole(
        collection: &CollectionManifest,
        meta: &SegmentMeta,
        path: PathBuf,
    ) -> Self {
        let lsns = (meta.min_lsn, meta.max_lsn);
        let mut loss = Loss::of_rows(&collection.name, path);
        loss.lsns = Some(lsns);
        loss.detail = "rows of a segment that is gone, unless it was merged into another".into();
        Self { loss, unnamed: u64::from(meta.rows), lsns }
    }
}

/// What the damage took from a collection, and what is on its way back.
#[derive(Default)]
pub(super) struct Missing {
    pub(super) gone: Vec<Gone>,
    /// Damaged rows whose version the log has.
    pub(super) named: HashMap<PointId, u64>,
}

impl Missing {
    /// Counts a row that was found for one of those that nobody could name: for the file whose
    /// range of LSNs is the narrowest that has it.
    fn found(&mut self, lsn: u64) {
        let fits =
            |gone: &&mut Gone| gone.unnamed > 0 && (gone.lsns.0..=gone.lsns.1).contains(&lsn);
        let width = |gone: &&mut Gone| gone.lsns.1.saturating_sub(gone.lsns.0);
        if let Some(gone) = self.gone.iter_mut().filter(fits).min_by_key(width) {
            gone.unnamed -= 1;
        }
    }

    /// What is lost after all.
    fn into_losses(self, history: &History) -> impl Iterator<Item = Loss> {
        let known_from = history.known_from;
        self.gone.into_iter().filter_map(move |mut gone| {
            // The log has every write that the file can have held.
            let all_found = known_from <= gone.lsns.0;
            let unnamed = if all_found { 0 } else { gone.unnamed };
            let rows = unnamed.saturating_add(gone.loss.ids.len() as u64);
            gone.loss.rows = Some(rows);
            (rows > 0).then_some(gone.loss)
        })
    }
}

/// A segment of rows that came back.
#[derive(Default)]
pub(super) struct Rescued {
    builder: Option<(u64, SegmentBuilder)>,
    rows: u64,
    deletes: u64,
    saved: BTreeMap<PathBuf, Saved>,
}

/// The ids of which the segments of a collection know something newer than any cold object does.
pub(super) type LocalIds = HashSet<PointId>;

impl Worker {
    /// Ids that the log shows to be there and no segment has: all of them are missing. A row that is
    /// hidden does not count, for what hides it may be a copy that is lost, or a write that is;
    /// unless the log has that write.
    pub(super) fn missed(
        &self,
        collection: &CollectionManifest,
        history: &History,
        dead: &TombstoneSet,
        missing: &Missing,
    ) -> Result<HashMap<PointId, u64>> {
        let mut wanted = history.live();
        wanted.extend(missing.named.iter().map(|(id, lsn)| (id.clone(), *lsn)));
        for meta in &collection.segments {
            if wanted.is_empty() {
                break;
            }
            let Some(segment) = self.find_segment(collection, meta)? else { continue };
            let dead = dead.get(&meta.number);
            for row in 0..meta.rows {
                if let (Some(id), Some(lsn)) = (segment.id(row)?, segment.lsn(row)?)
                    && wanted.get(&id).is_some_and(|wanted| *wanted <= lsn)
                    && (dead.is_none_or(|dead| !dead.contains(row))
                        || history.is_written_again(&id))
                {
                    wanted.remove(&id);
                }
            }
        }
        Ok(wanted)
    }

    /// Every id that the segments of a collection speak of.
    pub(super) fn local_ids(&self, collection: &CollectionManifest) -> Result<LocalIds> {
        let mut ids = LocalIds::new();
        for meta in &collection.segments {
            let Some(segment) = self.find_segment(collection, meta)? else { continue };
            for row in 0..meta.rows {
                ids.extend(segment.id(row)?);
            }
            ids.extend(segment.deletes()?.into_iter().flatten().map(|(id, _)| id));
        }
        Ok(ids)
    }

    fn builder<'a>(
        &mut self,
        collection: &CollectionManifest,
        rescued: &'a mut Rescued,
    ) -> Result<&'a mut SegmentBuilder> {
        if rescued.builder.is_none() {
            let number = self.take_number();
            rescued.builder = Some((number, self.new_segment(collection, number)?));
        }
        let (_, builder) = rescued.builder.as_mut().expect("it was made above");
        Ok(builder)
    }

    /// Starts a segment file of a collection.
    pub(super) fn new_segment(
        &self,
        collection: &CollectionManifest,
        number: u64,
    ) -> Result<SegmentBuilder> {
        let schema = &collection.schema;
        let params =
            SegmentParams { collection: collection.id, dim: schema.dim, metric: schema.metric };
        let (fs, dir) = (self.fs.clone(), &self.paths.segments);
        let writer = SegmentWriter::create(fs, &*self.random, dir, number, params, None)?;
        Ok(SegmentBuilder::over(writer, schema))
    }

    /// Brings back a row of a cold object.
    pub(super) fn save_record(
        &mut self,
        collection: &CollectionManifest,
        rescued: &mut Rescued,
        record: &Record,
        from: &Path,
    ) -> Result<()> {
        let json = canonical(&record.metadata)?;
        let builder = self.builder(collection, rescued)?;
        builder.push(&record.id, Lsn::new(record.lsn), &record.vector, &json)?;
        rescued.count(collection, from, record.lsn);
        Ok(())
    }

    /// Notes that older versions of an id in cold objects are void.
    pub(super) fn save_delete(
        &mut self,
        collection: &CollectionManifest,
        rescued: &mut Rescued,
        id: &PointId,
        lsn: u64,
    ) -> Result<()> {
        self.builder(collection, rescued)?.push_delete(id, Lsn::new(lsn))?;
        rescued.deletes += 1;
        Ok(())
    }

    /// Brings back the versions `wanted` from the log.
    pub(super) fn save_from_log(
        &mut self,
        collection: &CollectionManifest,
        history: &History,
        mut wanted: HashMap<PointId, u64>,
        rescued: &mut Rescued,
        missing: &mut Missing,
    ) -> Result<()> {
        let fs = self.fs.clone();
        let all = wanted.clone();
        history.rows(&*fs, &all, &mut |lsn, row, file| {
            let LoggedRow { id, metadata, vector } = row;
            let fits = vector.len() as u64 == u64::from(collection.schema.dim);
            if !fits || parse_metadata(&metadata).is_err() || wanted.remove(&id).is_none() {
                return Ok(());
            }
            self.builder(collection, rescued)?.push(&id, Lsn::new(lsn), &vector, &metadata)?;
            if !missing.named.contains_key(&id) && !history.is_written_again(&id) {
                missing.found(lsn);
            }
            rescued.count(collection, file, lsn).ids.push(id);
            Ok(())
        })?;
        // The log had them and what it had does not fit the collection.
        let ids: Vec<_> = wanted.into_keys().filter(|id| missing.named.contains_key(id)).collect();
        if !ids.is_empty() {
            let mut loss = Loss::of_rows(&collection.name, self.paths.wal.clone());
            (loss.ids, loss.detail) = (ids, "rows that do not fit their collection".to_owned());
            missing.gone.push(Gone { loss, unnamed: 0, lsns: (0, 0) });
        }
        Ok(())
    }

    /// Completes the segment, if there is one, and says what came back and what did not.
    pub(super) fn finish_rescue(
        &mut self,
        collection: &mut CollectionManifest,
        history: &History,
        rescued: Rescued,
        missing: Missing,
    ) -> Result<()> {
        if let Some((number, builder)) = rescued.builder {
            collection.segments.push(builder.finish()?);
            let path = segment_path(&self.paths.segments, number);
            let from: Vec<_> = rescued.saved.keys().map(|from| from.to_string_lossy()).collect();
            let detail = match (rescued.rows, rescued.deletes) {
                (0, deletes) => format!("{deletes} deletes that the log has"),
                (rows, _) => format!("{rows} rows saved from {}", from.join(", ")),
            };
            self.step(RepairAction::Write, path, detail);
        }
        self.saved.extend(rescued.saved.into_values());
        self.losses.extend(missing.into_losses(history));
        Ok(())
    }
}

impl Rescued {
    /// Notes a row that came back.
    fn count(&mut self, collection: &CollectionManifest, from: &Path, lsn: u64) -> &mut Saved {
        self.rows += 1;
        let saved = self.saved.entry(from.to_owned()).or_insert_with(|| Saved {
            collection: collection.name.clone(),
            from: from.to_owned(),
            rows: 0,
            ids: Vec::new(),
            lsns: (lsn, lsn),
        });
        saved.rows += 1;
        saved.lsns = (saved.lsns.0.min(lsn), saved.lsns.1.max(lsn));
        saved
    }
}
