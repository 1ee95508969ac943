//! Quotas: what the database and each namespace take, and whether more may be taken.
//!
//! Owns the measuring, what is let in and not there yet, and the refusal. Never frees anything itself, but
//! asks for a flush where memory is what lacks. Called before a collection is created, before a write is
//! queued, before a snapshot is taken, and before a hot copy is made; deletes, flushes and compactions are
//! never asked for.
//!
//! # Invariants
//! - A refusal is decided on what was measured in the same call, never on what was known before.
//! - What is let in counts from that moment until it is there to be measured: a [`LetIn`] lives as long.
//!   So many small writes, or many writers at once, do not pass a limit together.
//! - Giving a [`LetIn`] back takes no lock: the log thread does, and must not wait for a measuring.

use crate::{
    collection::CollectionCore,
    db::DbCore,
    error::{Cause, Result},
    memtable::MemRow,
    settings::Limits,
};
use akidb_index::rabitq::block_len;
use parking_lot::Mutex;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// What a refusal calls the memory.
const MEMORY: &str = "memory_bytes";
/// Of a limit, this share is let in before usage is measured again.
const MEASURE_SHARE: u64 = 64;
/// What a row of a segment has besides its numbers, its metadata and its codes, about.
const ROW_OVERHEAD_BYTES: usize = 40;
/// Of a limit of memory, hot copies may take so many quarters: where they took all of it, no write would
/// find room, and no flush would make some.
const COPIES_QUARTERS: u64 = 3;

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

impl Usage {
    /// Rows that begin in a memtable, and take their place on disk as they will be in a segment.
    pub(crate) fn of_rows(rows: usize, data_bytes: u64, dim: u32) -> Self {
        let memory_bytes = rows as u64 * MemRow::bytes_with(0) + data_bytes;
        Self { collections: 0, memory_bytes, storage_bytes: stored(rows as u64, data_bytes, dim) }
    }

    /// Rows that lie in a file or an object at once.
    pub(crate) fn of_storage(bytes: u64) -> Self {
        Self { storage_bytes: bytes, ..Self::default() }
    }

    /// A copy in memory.
    fn of_memory(bytes: u64) -> Self {
        Self { memory_bytes: bytes, ..Self::default() }
    }

    /// A new collection, with so many bytes of rows.
    pub(crate) fn of_collection(bytes: u64) -> Self {
        Self { collections: 1, ..Self::of_storage(bytes) }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            collections: self.collections.saturating_add(other.collections),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
            storage_bytes: self.storage_bytes.saturating_add(other.storage_bytes),
        }
    }
}

/// The groups that have limits; `None` is the database.
#[derive(Debug, Default)]
pub(crate) struct Quotas(Mutex<BTreeMap<Option<String>, Arc<Group>>>);

#[derive(Debug, Default)]
struct Group {
    /// Held while usage is measured, so that nothing more is let in meanwhile.
    known: Mutex<Known>,
    memory_in_flight: AtomicU64,
    storage_in_flight: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    usage: Usage,
    /// What was let in since, and what was in flight when it was measured.
    since: Usage,
    measured: bool,
}

impl Known {
    /// Whether this fits by what was known before, of which so little was let in since that it may be relied
    /// upon. Collections are always counted anew.
    fn lets_in(&self, asked: Usage, limits: Limits) -> bool {
        let since = self.since.plus(asked);
        let little =
            |since: u64, max: Option<u64>| max.is_none_or(|max| since <= max / MEASURE_SHARE);
        self.measured
            && asked.collections == 0
            && little(since.memory_bytes, limits.memory_bytes_max)
            && little(since.storage_bytes, limits.storage_bytes_max)
            && check(None, self.usage.plus(self.since), asked, limits).is_ok()
    }
}

impl Group {
    fn in_flight(&self) -> Usage {
        Usage {
            collections: 0,
            memory_bytes: self.memory_in_flight.load(Ordering::Acquire),
            storage_bytes: self.storage_in_flight.load(Ordering::Acquire),
        }
    }
}

/// What was let in, until it is there to be measured or was refused.
#[derive(Debug, Default)]
#[must_use = "what was let in does not count any more once this is dropped"]
pub(crate) struct LetIn {
    groups: Vec<Arc<Group>>,
    asked: Usage,
}

impl LetIn {
    /// For a caller that holds what is known of the group: the next measuring must find it.
    fn add(&mut self, group: &Arc<Group>) {
        group.memory_in_flight.fetch_add(self.asked.memory_bytes, Ordering::AcqRel);
        group.storage_in_flight.fetch_add(self.asked.storage_bytes, Ordering::AcqRel);
        self.groups.push(group.clone());
    }
}

impl Drop for LetIn {
    fn drop(&mut self) {
        for group in &self.groups {
            // After the effect, which a measuring that reads the lower figure then finds.
            group.memory_in_flight.fetch_sub(self.asked.memory_bytes, Ordering::AcqRel);
            group.storage_in_flight.fetch_sub(self.asked.storage_bytes, Ordering::AcqRel);
        }
    }
}

impl DbCore {
    /// Refuses what would go beyond a limit of the database or of a namespace. Of collections one is asked
    /// for at a time, under `creating`.
    pub(crate) fn let_in(&self, namespace: Option<&str>, asked: Usage) -> Result<LetIn> {
        let mut let_in = LetIn { groups: Vec::new(), asked };
        for (name, limits) in self.limited(namespace) {
            let group = self.group(name);
            let mut known = group.known.lock();
            if known.lets_in(asked, limits) {
                known.since = known.since.plus(asked);
                let_in.add(&group);
                continue;
            }
            let Err(refused) = self.measure(name, &group, &mut known, limits, &mut let_in) else {
                continue;
            };
            drop(known);
            if matches!(refused.cause(), Cause::QuotaExceeded { what: MEMORY, .. }) {
                self.flush_group(name);
            }
            // Once more in any case: what was applied meanwhile had counted twice.
            self.measure(name, &group, &mut group.known.lock(), limits, &mut let_in)?;
        }
        Ok(let_in)
    }

    /// As [`DbCore::let_in`], for a hot copy: for that nothing is flushed, and it is no error.
    pub(crate) fn let_in_copy(&self, namespace: Option<&str>, bytes: u64) -> Option<LetIn> {
        let mut let_in = LetIn { groups: Vec::new(), asked: Usage::of_memory(bytes) };
        for (name, limits) in self.limited(namespace) {
            let memory_bytes_max = limits.memory_bytes_max.map(|max| max / 4 * COPIES_QUARTERS);
            let limits = Limits { memory_bytes_max, ..limits };
            let group = self.group(name);
            self.measure(name, &group, &mut group.known.lock(), limits, &mut let_in).ok()?;
        }
        Some(let_in)
    }

    fn group(&self, name: Option<&str>) -> Arc<Group> {
        self.quotas.0.lock().entry(name.map(str::to_owned)).or_default().clone()
    }

    /// Lets in what fits by what is measured now.
    fn measure(
        &self,
        name: Option<&str>,
        group: &Arc<Group>,
        known: &mut Known,
        limits: Limits,
        let_in: &mut LetIn,
    ) -> Result<()> {
        // In this order: what is applied in between is counted twice, and not missed.
        let in_flight = group.in_flight();
        let usage = self.usage(name);
        check(name, usage.plus(in_flight), let_in.asked, limits)?;
        *known = Known { usage, since: in_flight.plus(let_in.asked), measured: true };
        let_in.add(group);
        Ok(())
    }

    /// What a group takes now: a namespace, or the database.
    fn usage(&self, namespace: Option<&str>) -> Usage {
        let mut usage = Usage::default();
        self.each_usage(|found, of_one| {
            if namespace.is_none() || found == namespace {
                usage = usage.plus(of_one);
            }
        });
        usage
    }

    /// What collections and snapshots take, one by one, with their namespaces.
    fn each_usage(&self, mut each: impl FnMut(Option<&str>, Usage)) {
        for collection in self.all_collections() {
            each(collection.namespace.as_deref(), measure(&collection));
        }
        self.with_manifest(|manifest| {
            for snapshot in manifest.state().snapshots.values() {
                each(snapshot.namespace.as_deref(), Usage::of_storage(snapshot.object.len));
            }
        });
    }

    /// What the database takes, and all namespaces that have collections, snapshots or limits, by name.
    pub(crate) fn all_usage(&self) -> (Usage, Vec<NamespaceStats>) {
        let settings = &self.shared.settings;
        let mut all = Usage::default();
        let limited = settings.namespace_limits.keys().map(|name| (name.clone(), Usage::default()));
        let mut by_name: BTreeMap<_, _> = limited.collect();
        self.each_usage(|name, of_one| {
            all = all.plus(of_one);
            if let Some(name) = name {
                let usage = by_name.entry(name.to_owned()).or_default();
                *usage = usage.plus(of_one);
            }
        });
        let stats = |(name, usage): (String, Usage)| NamespaceStats {
            usage,
            limits: settings.limits_of(&name),
            name,
        };
        (all, by_name.into_iter().map(stats).collect())
    }

    /// The groups with limits that something of a namespace counts towards.
    fn limited<'a>(&self, namespace: Option<&'a str>) -> Vec<(Option<&'a str>, Limits)> {
        let settings = &self.shared.settings;
        let database = (None, settings.limits);
        let of_namespace = namespace.map(|name| (Some(name), settings.limits_of(name)));
        let groups = [Some(database), of_namespace].into_iter().flatten();
        groups.filter(|(_, limits)| !limits.are_none()).collect()
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

fn check(group: Option<&str>, used: Usage, asked: Usage, limits: Limits) -> Result<()> {
    let of_each = [
        ("collections", used.collections, asked.collections, limits.collections_max),
        (MEMORY, used.memory_bytes, asked.memory_bytes, limits.memory_bytes_max),
        ("storage_bytes", used.storage_bytes, asked.storage_bytes, limits.storage_bytes_max),
    ];
    for (what, used, asked, limit) in of_each {
        if let Some(limit) = limit
            && asked > 0
            && used.saturating_add(asked) > limit
        {
            let namespace = group.map(str::to_owned);
            return Err(Cause::QuotaExceeded { namespace, what, used, asked, limit }.into());
        }
    }
    Ok(())
}

/// What rows take as segments, about: their data, with each its id, LSN and offsets, and codes of one bit
/// and of eight with their factors.
fn stored(rows: u64, data_bytes: u64, dim: u32) -> u64 {
    let dim = dim as usize;
    let codes = block_len(dim).div_ceil(32) + dim + 16;
    data_bytes + rows * (codes + ROW_OVERHEAD_BYTES) as u64
}

/// What the rows of a collection take, wherever they lie.
pub(crate) fn storage_bytes(collection: &CollectionCore) -> u64 {
    measure(collection).storage_bytes
}

/// What one collection takes.
fn measure(collection: &CollectionCore) -> Usage {
    let state = collection.state.read();
    let segments = || state.parts.segments().iter().map(|part| &part.segment);
    let memtables = || state.parts.memtables();
    let in_memtables: u64 = memtables().map(|memtable| memtable.bytes()).sum();
    let data: u64 = memtables().map(|memtable| memtable.data_bytes()).sum();
    let rows: u64 = memtables().map(|memtable| memtable.row_count() as u64).sum();
    let cold: u64 = state.cold.iter().map(|object| object.len).sum();
    let hot: u64 = segments().map(crate::segment::Segment::hot_bytes).sum();
    Usage {
        collections: 1,
        memory_bytes: in_memtables + hot,
        storage_bytes: segments().map(|segment| segment.meta().len).sum::<u64>()
            + cold
            + stored(rows, data, state.schema.dim),
    }
}
