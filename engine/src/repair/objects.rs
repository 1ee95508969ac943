//! Cold objects and snapshots of a damaged database: of a damaged object the row groups whose
//! checksums hold become rows of a segment; a snapshot is given up, for one with holes is none.
//! The objects themselves are only read. Called by the repair of a collection.

#![deny(clippy::indexing_slicing)]

use super::{
    Loss, LossKind, RepairAction, Worker,
    history::History,
    rescue::{Gone, LocalIds, Missing, Rescued},
};
use crate::{
    PointId,
    cold::{ColdReader, Stated},
    error::{ErrorKind, Result},
    manifest::{ColdMeta, CollectionManifest, ManifestState},
    verify::{Fetched, is_newer},
};
use std::{collections::HashMap, ops::Range};
use uuid::Uuid;

/// What is known while the objects of a collection are gone through.
pub(super) struct Tier<'a> {
    pub(super) database: Uuid,
    pub(super) history: &'a History,
    pub(super) local: LocalIds,
    /// What the log has to give back.
    pub(super) wanted: &'a mut HashMap<PointId, u64>,
    pub(super) missing: &'a mut Missing,
    pub(super) rescued: &'a mut Rescued,
}

impl Worker {
    /// Goes through the objects of a collection: what is damaged is given up and its whole rows
    /// saved; what is whole is looked through for rows that were lost locally.
    pub(super) fn mend_objects(
        &mut self,
        collection: &mut CollectionManifest,
        tier: &mut Tier<'_>,
    ) -> Result<()> {
        for object in std::mem::take(&mut collection.cold) {
            if self.is_bad(&self.objects.place(&object)) {
                self.salvage_object(collection, &object, tier)?;
            } else {
                self.compare_object(collection, &object, tier)?;
                collection.cold.push(object);
            }
        }
        Ok(())
    }

    /// Saves the whole rows of a damaged object.
    fn salvage_object(
        &mut self,
        collection: &CollectionManifest,
        object: &ColdMeta,
        tier: &mut Tier<'_>,
    ) -> Result<()> {
        let place = self.objects.place(object);
        let mut loss = Loss::of_rows(&collection.name, place.clone());
        loss.lsns = Some((object.min_lsn, object.max_lsn));
        let mut unnamed = 0_u64;
        match self.readable_object(collection, object, tier.database)? {
            None => {
                unnamed = object.rows;
                loss.detail = "rows of a cold object of which nothing can be read".to_owned();
            }
            Some(reader) => {
                let mut bad: Vec<Range<u64>> = Vec::new();
                for (range, group) in reader.salvage() {
                    match group {
                        Ok(rows) => {
                            for row in rows {
                                self.salvage_row(collection, &row, &place, tier)?;
                            }
                        }
                        Err(error) if error.kind() == ErrorKind::Corruption => {
                            unnamed += range.end.saturating_sub(range.start);
                            bad.push(range);
                        }
                        Err(error) => return Err(error),
                    }
                }
                loss.detail = format!("rows of damaged row groups of a cold object: {bad:?}");
            }
        }
        tier.missing.gone.push(Gone { loss, unnamed, lsns: (object.min_lsn, object.max_lsn) });
        self.give_up_object(object);
        Ok(())
    }

    /// A row of a damaged object, unless something newer is known of its id.
    fn salvage_row(
        &mut self,
        collection: &CollectionManifest,
        row: &crate::Record,
        place: &std::path::Path,
        tier: &mut Tier<'_>,
    ) -> Result<()> {
        if tier.wanted.get(&row.id).is_some_and(|lsn| *lsn <= row.lsn) {
            tier.wanted.remove(&row.id);
        }
        let stale = tier.history.last_write(&row.id).is_some_and(|last| last > row.lsn);
        if stale || !tier.local.insert(row.id.clone()) {
            return Ok(());
        }
        self.save_record(collection, tier.rescued, row, place)
    }

    /// A reader of what can be read of an object, if it is the one that the manifest names.
    fn readable_object(
        &self,
        collection: &CollectionManifest,
        object: &ColdMeta,
        database: Uuid,
    ) -> Result<Option<ColdReader>> {
        let (Fetched::Damaged(bytes) | Fetched::Whole(bytes)) = self.objects.fetch(object)? else {
            return Ok(None);
        };
        let named = Stated {
            database,
            collection: collection.id,
            rows: object.rows,
            min_lsn: object.min_lsn,
            max_lsn: object.max_lsn,
        };
        match ColdReader::open(bytes, &object.name(), &collection.schema) {
            Ok(reader) => Ok(Some(reader).filter(|reader| reader.stated() == named)),
            Err(error) if is_newer(&error) => Err(error),
            Err(error) if error.kind() == ErrorKind::Corruption => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Finds in a whole object what is not missing, and what the log shows to be void.
    fn compare_object(
        &mut self,
        collection: &CollectionManifest,
        object: &ColdMeta,
        tier: &mut Tier<'_>,
    ) -> Result<()> {
        // What is damaged shows in verification; here it is merely no help.
        let Fetched::Whole(bytes) = self.objects.fetch(object)? else { return Ok(()) };
        let Ok(reader) = ColdReader::open(bytes, &object.name(), &collection.schema) else {
            return Ok(());
        };
        for (_, group) in reader.salvage() {
            for row in group.unwrap_or_default() {
                if tier.wanted.get(&row.id).is_some_and(|lsn| *lsn <= row.lsn) {
                    tier.wanted.remove(&row.id);
                    continue;
                }
                let last = tier.history.last_write(&row.id).filter(|last| *last > row.lsn);
                if let Some(last) = last
                    && !tier.wanted.contains_key(&row.id)
                    && tier.local.insert(row.id.clone())
                {
                    self.save_delete(collection, tier.rescued, &row.id, last)?;
                }
            }
        }
        Ok(())
    }

    /// Takes an object out of what the manifest names.
    fn give_up_object(&mut self, object: &ColdMeta) {
        let file = self.objects.place(object);
        self.step(RepairAction::Forget, file, "it is not what was put, or it is gone");
        if let Some(path) = self.objects.path(&object.key) {
            self.replace(path, "a Parquet file; other tools may read more of it");
        }
    }

    pub(super) fn mend_snapshots(&mut self, state: &mut ManifestState) {
        let bad = |worker: &Self, object: &ColdMeta| {
            let file = worker.objects.place(object);
            worker.is_bad(&file).then_some(file)
        };
        let mut kept = std::mem::take(&mut state.snapshots);
        kept.retain(|_, snapshot| {
            let object = &snapshot.object;
            let Some(file) = bad(self, object) else { return true };
            self.give_up_object(object);
            let mut loss = Loss::of_rows(&snapshot.collection, file);
            loss.kind = LossKind::Snapshot;
            loss.rows = Some(object.rows);
            loss.lsns = Some((object.min_lsn, object.max_lsn));
            loss.detail = format!("snapshot {:?}", snapshot.name);
            self.losses.push(loss);
            false
        });
        state.snapshots = kept;
    }
}
