//! Quotas: what the database and each namespace take, and whether more may be taken.
//!
//! Owns the measuring and the refusal. Never frees anything itself, but asks for a flush where memory is
//! what lacks. Called before a collection is created, before a write is queued, before a snapshot is
//! taken, and before a hot copy is made; deletes, flushes and compactions are never asked for.
//!
//! # Invariants
//! - A refusal is decided on what was measured in the same call, never on what was known before.
//! - What was let in since the last measuring counts, so that many small writes, or many writers at
//!   once, do not pass a limit together. Measured anew after a 64th of the limit was let in.

use crate::{
    collection::CollectionCore,
    db::DbCore,
    error::{Cause, Result},
    settings::Limits,
};
use akidb_index::rabitq::block_len;
use parking_lot::Mutex;
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Of a limit, this share is let in before usage is measured again.
const MEASURE_SHARE: u64 = 64;

/// What a group of collections takes, by the rules of [`Limits`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// How many collections.
    pub collections: u64,
    /// Bytes of memory in memtables and hot copies.
    pub memory_bytes: u64,
    /// Bytes of rows, wherever they lie.
    pub storage_bytes: u64,
}

/// A namespace as `stats` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamespaceStats {
    /// Its name.
    pub name: String,
    /// What it takes.
    pub usage: Usage,
    /// What it may take.
    pub limits: Limits,
}

/// What was measured, by namespace; `None` is the database.
#[derive(Debug, Default)]
pub(crate) struct Quotas(Mutex<BTreeMap<Option<String>, Known>>);

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    usage: Usage,
    /// Bytes that were let in since.
    since: u64,
    measured: bool,
}

impl DbCore {
    /// Refuses one collection more, with so many bytes of rows.
    pub(crate) fn check_new_collection(&self, namespace: Option<&str>, bytes: u64) -> Result<()> {
        for (group, limits) in self.limited(namespace) {
            let usage = self.usage(group);
            let one_more = (usage.collections, 1, limits.collections_max, "collections");
            let storage = (usage.storage_bytes, bytes, limits.storage_bytes_max, "storage_bytes");
            for (used, asked, limit, what) in [one_more, storage] {
                check(group, what, used, asked, limit)?;
            }
        }
        Ok(())
    }

    /// Refuses bytes of rows that would go beyond a limit. `in_memory`: they begin in a memtable.
    pub(crate) fn check_quota(
        &self,
        namespace: Option<&str>,
        bytes: u64,
        in_memory: bool,
    ) -> Result<()> {
        for (group, limits) in self.limited(namespace) {
            let memory_max = limits.memory_bytes_max.filter(|_| in_memory);
            let maxima = [memory_max, limits.storage_bytes_max];
            let Some(least) = maxima.into_iter().flatten().min() else { continue };
            if self.let_in(group, bytes, least, maxima) {
                continue;
            }
            let mut usage = self.usage(group);
            if memory_max.is_some_and(|max| usage.memory_bytes.saturating_add(bytes) > max) {
                self.flush_group(group);
                usage = self.usage(group);
            }
            check(group, "memory_bytes", usage.memory_bytes, bytes, memory_max)?;
            check(group, "storage_bytes", usage.storage_bytes, bytes, limits.storage_bytes_max)?;
            let known = Known { usage, since: bytes, measured: true };
            self.quotas.0.lock().insert(group.map(str::to_owned), known);
        }
        Ok(())
    }

    /// Whether a hot copy may be made.
    pub(crate) fn may_take_memory(&self, namespace: Option<&str>, bytes: u64) -> bool {
        self.limited(namespace).iter().all(|(group, limits)| {
            limits.memory_bytes_max.is_none_or(|max| self.usage(*group).memory_bytes + bytes <= max)
        })
    }

    /// What a group takes now: a namespace, or the database.
    pub(crate) fn usage(&self, namespace: Option<&str>) -> Usage {
        let of_group = |found: Option<&str>| namespace.is_none_or(|name| found == Some(name));
        let mut usage = Usage::default();
        for collection in self.all_collections() {
            if of_group(collection.namespace.as_deref()) {
                let of_one = measure(&collection);
                usage.collections += 1;
                usage.memory_bytes += of_one.memory_bytes;
                usage.storage_bytes += of_one.storage_bytes;
            }
        }
        usage.storage_bytes += self.with_manifest(|manifest| {
            let snapshots = manifest.state().snapshots.values();
            let ours = snapshots.filter(|snapshot| of_group(snapshot.namespace.as_deref()));
            ours.map(|snapshot| snapshot.object.len).sum::<u64>()
        });
        usage
    }

    /// All namespaces that have collections or limits, by name.
    pub(crate) fn namespaces(&self) -> Vec<NamespaceStats> {
        let settings = &self.shared.settings;
        let collections = self.all_collections();
        let named = collections.iter().filter_map(|collection| collection.namespace.clone());
        let names: BTreeSet<_> = named.chain(settings.namespace_limits.keys().cloned()).collect();
        let of_one = |name: String| {
            let usage = self.usage(Some(&name));
            NamespaceStats { usage, limits: settings.limits_of(&name), name }
        };
        names.into_iter().map(of_one).collect()
    }

    /// The groups with limits that something of a namespace counts towards.
    fn limited<'a>(&self, namespace: Option<&'a str>) -> Vec<(Option<&'a str>, Limits)> {
        let settings = &self.shared.settings;
        let database = (None, settings.limits);
        let of_namespace = namespace.map(|name| (Some(name), settings.limits_of(name)));
        let groups = [Some(database), of_namespace].into_iter().flatten();
        groups.filter(|(_, limits)| !limits.are_none()).collect()
    }

    /// Lets bytes in by what is known, if that is recent and far from each limit.
    fn let_in(
        &self,
        group: Option<&str>,
        bytes: u64,
        least: u64,
        [memory_max, storage_max]: [Option<u64>; 2],
    ) -> bool {
        let mut all = self.quotas.0.lock();
        let Some(known) = all.get_mut(&group.map(str::to_owned)) else { return false };
        let since = known.since.saturating_add(bytes);
        let fits = |used: u64, max: Option<u64>| max.is_none_or(|max| used + since <= max);
        let Usage { memory_bytes, storage_bytes, .. } = known.usage;
        let recent = known.measured && since <= least / MEASURE_SHARE;
        let lets = recent && fits(memory_bytes, memory_max) && fits(storage_bytes, storage_max);
        if lets {
            known.since = since;
        }
        lets
    }

    /// Has the memtables of a group flushed: at once where all work is done by callers.
    fn flush_group(&self, group: Option<&str>) {
        for collection in self.all_collections() {
            if group.is_none() || group == collection.namespace.as_deref() {
                collection.freeze();
            }
        }
        self.flush_soon();
    }
}

fn check(
    group: Option<&str>,
    what: &'static str,
    used: u64,
    asked: u64,
    limit: Option<u64>,
) -> Result<()> {
    match limit {
        Some(limit) if used.saturating_add(asked) > limit => {
            let namespace = group.map(str::to_owned);
            Err(Cause::QuotaExceeded { namespace, what, used, asked, limit }.into())
        }
        _ => Ok(()),
    }
}

/// What one collection takes.
fn measure(collection: &Arc<CollectionCore>) -> Usage {
    let state = collection.state.read();
    let segments = || state.parts.segments().iter().map(|part| &part.segment);
    let memtables = || state.parts.memtables();
    let in_memtables: u64 = memtables().map(|memtable| memtable.bytes()).sum();
    let rows: u64 = memtables().map(|memtable| memtable.row_count() as u64).sum();
    // As segments they get codes: of one bit and of eight, and their factors.
    let dim = state.schema.dim as usize;
    let codes = rows * (block_len(dim).div_ceil(32) + dim + 16) as u64;
    let cold: u64 = state.cold.iter().map(|object| object.len).sum();
    let hot: u64 = segments().map(crate::segment::Segment::hot_bytes).sum();
    Usage {
        collections: 1,
        memory_bytes: in_memtables + hot,
        storage_bytes: segments().map(|segment| segment.meta().len).sum::<u64>()
            + cold
            + in_memtables
            + codes,
    }
}
