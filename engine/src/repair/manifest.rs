//! A manifest in place of one that is lost or damaged: from what can be read of it, from the
//! segments, which say of themselves what they are, and from the log.

#![deny(clippy::indexing_slicing)]

use super::{
    Loss, LossKind, RepairAction, Worker,
    rescue::{Gone, Missing},
    versions::Versions,
};
use crate::{
    Metric, Schema,
    commit::payload::{self, LogRecord},
    error::{Cause, Result},
    manifest::{CollectionManifest, ManifestState, ManifestStore},
    segment::{SalvagedSegment, SegmentMeta, SegmentParams, segment_path},
    tombstones::{self, TombstoneMeta, TombstoneSet, tombstone_path},
    verify::{LogSurvey, is_newer},
};
use akidb_wal::Lsn;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};
use uuid::Uuid;

/// The files of a collection, by what they say of themselves.
#[derive(Default)]
struct Found {
    segments: Vec<(SegmentMeta, SegmentParams)>,
    tombstones: Option<(TombstoneMeta, TombstoneSet)>,
}

impl Worker {
    /// The state that files and remains tell of.
    pub(super) fn rebuild_manifest(&mut self) -> Result<ManifestState> {
        let salvaged = ManifestStore::salvage(&*self.fs, &self.paths.root)?;
        let mut state = match salvaged {
            // Every record is there: what it does not name is none of the database's.
            Some((state, true)) => return Ok(state),
            Some((remains, false)) => remains,
            None => ManifestState::default(),
        };
        let mut found = self.find_files()?;
        let survey = LogSurvey::take(&*self.fs, &self.paths.wal, Lsn::ZERO, Lsn::ZERO)?;
        let logged = self.logged_collections(&survey)?;
        if state.database.is_nil() {
            let bytes = self.random.next_u128().to_le_bytes();
            state.database = uuid::Builder::from_random_bytes(bytes).into_uuid();
        }
        for id in found.keys().chain(logged.keys()).copied().collect::<BTreeSet<u32>>() {
            state.next_collection = state.next_collection.max(id.saturating_add(1));
            if state.collections.contains_key(&id) {
                continue;
            }
            let params = found.get(&id).and_then(|found| found.segments.first());
            let schema = match (params, logged.get(&id)) {
                (Some((meta, params)), _) => {
                    let mut schema = Schema::new(params.dim, params.metric);
                    schema.fields.clone_from(&meta.fields);
                    schema
                }
                (None, Some(Some(dim))) => Schema::new(*dim, Metric::Cosine),
                (None, _) => continue,
            };
            self.new_name(&mut state, id, schema, params.is_some());
        }
        for collection in state.collections.values_mut() {
            let found = found.remove(&collection.id).unwrap_or_default();
            self.reconcile(collection, found, state.database)?;
        }
        // Recovery trims the log only where segments have it: what is gone before its first file is
        // there.
        let flushed = state.collections.values().map(|c| c.flushed.get()).max().unwrap_or(0);
        let floor = survey.begins().map_or(flushed, |first| first.saturating_sub(1));
        state.log_floor = state.log_floor.max(Lsn::new(floor));
        self.note_objects(&state);
        // A log that goes from the first write to the last has all that can be missing.
        let whole_log = survey.first == Some(1) && survey.missing.is_empty() && !survey.open_ended;
        if !whole_log {
            let mut loss = Loss::of_rows("", self.paths.segments.clone());
            loss.kind = LossKind::Uncertain;
            loss.collections.clear();
            loss.detail = "only the manifest told which collections and segments there were: if \
                           one is gone too, its rows are lost without being missed"
                .to_owned();
            self.losses.push(loss);
        }
        Ok(state)
    }

    /// A collection whose name only the manifest knew.
    fn new_name(&mut self, state: &mut ManifestState, id: u32, schema: Schema, by_segment: bool) {
        let name = format!("recovered-{id}");
        let detail = if by_segment {
            format!("the name of a collection; it is called {name:?} now")
        } else {
            format!(
                "the name, metric and indexes of a collection of which there is only the log; it \
                 is called {name:?} now and measures by cosine. It may have been dropped"
            )
        };
        self.losses.push(Loss {
            kind: LossKind::Name,
            collections: vec![name.clone()],
            file: self.paths.root.clone(),
            rows: None,
            ids: Vec::new(),
            lsns: None,
            detail,
        });
        let collection = CollectionManifest::new(id, &name, schema);
        state.collections.insert(id, collection);
    }

    /// Segments and the newest tombstones on disk, by collection. What cannot be read stays where
    /// it is: nobody knows whose it is, or whether it counted.
    fn find_files(&mut self) -> Result<BTreeMap<u32, Found>> {
        let mut found: BTreeMap<u32, Found> = BTreeMap::new();
        let mut paths: Vec<PathBuf> = self.list_segments()?;
        paths.sort_unstable();
        for path in paths {
            let name = path.to_string_lossy();
            if name.ends_with(".seg") {
                match SalvagedSegment::open(&*self.fs, &path) {
                    Ok(segment) => {
                        let (meta, params) = (segment.meta().clone(), segment.params());
                        let segments = &mut found.entry(params.collection).or_default().segments;
                        // A copy under another name adds nothing.
                        if segments.iter().all(|(other, _)| other.number != meta.number) {
                            segments.push((meta, params));
                        }
                    }
                    Err(error) => self.unreadable(error, path)?,
                }
            } else if name.ends_with(".tmb") {
                match tombstones::adopt(&*self.fs, &path) {
                    Ok((collection, meta, set)) => {
                        let newest = &mut found.entry(collection).or_default().tombstones;
                        if newest.as_ref().is_none_or(|(other, _)| other.number < meta.number) {
                            *newest = Some((meta, set));
                        }
                    }
                    Err(error) => self.unreadable(error, path)?,
                }
            }
        }
        Ok(found)
    }

    fn unreadable(&mut self, error: crate::Error, path: PathBuf) -> Result<()> {
        if is_newer(&error) || matches!(error.cause(), Cause::Fs(_)) {
            return Err(error);
        }
        self.losses.push(Loss {
            kind: LossKind::Rows,
            collections: Vec::new(),
            file: path.clone(),
            rows: None,
            ids: Vec::new(),
            lsns: None,
            detail: format!("a file that no manifest names and that cannot be read: {error}"),
        });
        self.replace(path, "it cannot be read");
        Ok(())
    }

    /// Collections that the log speaks of, with the dimension of their rows.
    fn logged_collections(&self, survey: &LogSurvey) -> Result<BTreeMap<u32, Option<u32>>> {
        let mut logged: BTreeMap<u32, Option<u32>> = BTreeMap::new();
        survey.visit(&*self.fs, &mut |_, body| {
            if let Ok(record) = payload::decode(body) {
                let dim = logged.entry(record.collection()).or_default();
                if let LogRecord::Upsert { rows, .. } = record {
                    let first = rows.first().and_then(|row| u32::try_from(row.vector.len()).ok());
                    *dim = dim.or(first);
                }
            }
            Ok(())
        })?;
        Ok(logged)
    }

    /// Makes a collection name the files that are there. If those are not the ones that the
    /// remains of the manifest tell of, rows that were replaced are found by their LSNs.
    fn reconcile(
        &mut self,
        collection: &mut CollectionManifest,
        found: Found,
        database: Uuid,
    ) -> Result<()> {
        let Found { segments, tombstones } = found;
        let (dim, metric) = (collection.schema.dim, collection.schema.metric);
        let ours = |params: &SegmentParams| params.dim == dim && params.metric == metric;
        let metas: Vec<SegmentMeta> =
            segments.into_iter().filter(|(_, p)| ours(p)).map(|(meta, _)| meta).collect();
        let numbers = |metas: &[SegmentMeta]| -> BTreeSet<u64> {
            metas.iter().map(|meta| meta.number).collect()
        };
        let found_tombstones = tombstones.as_ref().map(|(meta, _)| meta);
        if numbers(&metas) == numbers(&collection.segments)
            && found_tombstones == collection.tombstones.as_ref()
        {
            return Ok(());
        }
        let highest = metas.iter().map(|meta| meta.max_lsn).max().unwrap_or(0);
        collection.flushed = collection.flushed.max(Lsn::new(highest));
        let kept = numbers(&metas);
        let mut missing = Missing::default();
        for gone in collection.segments.iter().filter(|meta| !kept.contains(&meta.number)) {
            let path = segment_path(&self.paths.segments, gone.number);
            missing.gone.push(Gone::whole(collection, gone, path));
        }
        collection.segments = metas;
        let mut base = TombstoneSet::new();
        let mut old = None;
        if let Some((meta, set)) = tombstones {
            base = set;
            old = Some(tombstone_path(&self.paths.segments, meta.number));
        }
        base.retain(|number, _| kept.contains(number));
        let history = self.history(collection)?;
        let Versions { dead, uncertain } = self.versions(collection, &history, base)?;
        self.write_tombstones(collection, &dead, old)?;
        if uncertain > 0 {
            self.losses.push(Loss {
                kind: LossKind::Uncertain,
                collections: vec![collection.name.clone()],
                file: self.paths.root.clone(),
                rows: Some(uncertain),
                ids: Vec::new(),
                lsns: None,
                detail: "rows that may have been deleted: they are taken from every segment that \
                         is there, and the log does not go back to their writes"
                    .to_owned(),
            });
        }
        self.rescue(collection, &history, &dead, missing, database)
    }

    /// Objects that only the manifest named stay where they are.
    fn note_objects(&mut self, state: &ManifestState) {
        let named = state.collections.values().any(|c| !c.cold.is_empty());
        let there = self.fs.list_dir(&self.paths.objects).is_ok_and(|found| !found.is_empty());
        if !named && state.snapshots.is_empty() && there {
            let objects = self.paths.objects.clone();
            self.step(RepairAction::Forget, objects.clone(), "nothing names what is in it");
            self.losses.push(Loss {
                kind: LossKind::Uncertain,
                collections: Vec::new(),
                file: objects,
                rows: None,
                ids: Vec::new(),
                lsns: None,
                detail: "cold objects and snapshots that nothing names any more; they are plain \
                         Parquet and can be read with `akidb ingest --data FILE`"
                    .to_owned(),
            });
        }
    }
}
