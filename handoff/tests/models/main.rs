//! Models of a collection's hand-offs, for the model checker loom: it plays each in every order
//! that its threads can take. Empty without `--cfg loom`; `scripts/loom.sh` runs them, and
//! `docs/testing.md` says what each holds and how it was shown to fail.
//!
//! The collection here has one id, of which each version is a row. It is locked as the engine locks
//! its own: writes, freezes and installs under the write lock, captures under the read lock,
//! everything else without.

#![cfg(loom)]
#![expect(clippy::unwrap_used, reason = "the helpers of a test fail it by panicking")]

mod tiers;

use akidb_handoff::{Grave, Parts, Retired};
use loom::{
    cell::UnsafeCell,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, spawn},
};

/// As in the engine's `memtable::chunk`: a version is seen by views from its own write on, up to
/// the one that hides it.
#[derive(Clone)]
struct Row {
    lsn: u64,
    grave: Arc<Grave>,
}

impl Row {
    fn live_at(&self, lsn: u64) -> bool {
        self.lsn <= lsn && self.grave.is_open_at(lsn)
    }
}

#[derive(Default)]
struct Memtable(Mutex<Vec<Row>>);

impl Memtable {
    fn rows(&self) -> Vec<Row> {
        self.0.lock().unwrap().clone()
    }
}

/// Rows by their LSN; those that are hidden.
struct Segment {
    rows: Vec<u64>,
    dead: Mutex<Vec<u64>>,
}

struct State {
    applied: u64,
    /// Of the newest version. Buried without a look at it: the checker keeps only the last access of
    /// an atomic, and a load before the store would hide from it that a reader loaded before.
    newest: Option<Arc<Grave>>,
    parts: Parts<Memtable, Segment>,
}

/// What a reader captured.
struct View {
    lsn: u64,
    rows: Vec<Row>,
    segments: Vec<(Arc<Segment>, Vec<u64>)>,
}

impl View {
    /// How many versions of the id the reader sees, looking without any lock.
    fn versions(&self) -> usize {
        let in_segments = |(segment, dead): &(Arc<Segment>, Vec<u64>)| {
            segment.rows.iter().filter(|row| !dead.contains(row)).count()
        };
        self.rows.iter().filter(|row| row.live_at(self.lsn)).count()
            + self.segments.iter().map(in_segments).sum::<usize>()
    }
}

#[derive(Clone)]
struct Collection(Arc<RwLock<State>>);

impl Collection {
    /// With the first version of the id, in the memtable.
    fn new() -> Self {
        let parts = Parts::new(Memtable::default(), Vec::new());
        let state = State { applied: 0, newest: None, parts };
        let collection = Self(Arc::new(RwLock::new(state)));
        collection.write();
        collection
    }

    /// Hides the version that is live, wherever it lies, and adds the next.
    fn write(&self) {
        let mut state = self.0.write().unwrap();
        let lsn = state.applied + 1;
        let row = Row { lsn, grave: Arc::new(Grave::new()) };
        if let Some(hidden) = state.newest.replace(row.grave.clone()) {
            hidden.bury(lsn);
        }
        for segment in state.parts.segments() {
            let mut dead = segment.dead.lock().unwrap();
            dead.clear();
            dead.extend(&segment.rows);
        }
        state.parts.active().0.lock().unwrap().push(row);
        state.applied = lsn;
    }

    fn freeze(&self) {
        self.0.write().unwrap().parts.freeze(Memtable::default());
    }

    /// As the engine's flush: captures, writes the segment without a lock, and swaps.
    fn flush(&self) {
        let (lsn, memtable) = {
            let state = self.0.read().unwrap();
            (state.applied, state.parts.frozen().first().cloned())
        };
        let Some(memtable) = memtable else { return };
        let captured = memtable.rows();
        let live: Vec<_> = captured.iter().filter(|row| row.live_at(lsn)).collect();
        let rows = live.iter().map(|row| row.lsn).collect();
        let segment = Arc::new(Segment { rows, dead: Mutex::default() });
        let mut state = self.0.write().unwrap();
        let killed = live.iter().filter(|row| row.grave.is_filled()).map(|row| row.lsn);
        segment.dead.lock().unwrap().extend(killed);
        state.parts.install(vec![segment], |_| false, &[memtable.clone()]);
    }

    fn view(&self) -> View {
        let state = self.0.read().unwrap();
        let dead = |segment: &Arc<Segment>| segment.dead.lock().unwrap().clone();
        View {
            lsn: state.applied,
            rows: state.parts.memtables().flat_map(|memtable| memtable.rows()).collect(),
            segments: state.parts.segments().iter().map(|s| (s.clone(), dead(s))).collect(),
        }
    }
}

fn play(bound: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    let asked = builder.preemption_bound;
    builder.preemption_bound = [bound, asked].into_iter().flatten().min();
    builder.max_branches = 100_000;
    builder.check(model);
}

fn run(collection: &Collection, work: impl FnOnce(&Collection) + 'static) -> JoinHandle<()> {
    let collection = collection.clone();
    spawn(move || work(&collection))
}

/// Every view holds one version of the id: the memtable that is frozen under a reader keeps what
/// the reader captured, and the version that an update hides is hidden from later views only.
#[test]
fn a_reader_sees_one_version_while_memtables_are_frozen_and_written() {
    play(None, || {
        let collection = Collection::new();
        let writer = run(&collection, |collection| {
            collection.freeze();
            collection.write();
        });
        let view = collection.view();
        assert_eq!(view.versions(), 1);
        assert_eq!(view.versions(), 1, "a view does not change");
        writer.join().unwrap();
        assert_eq!(collection.view().versions(), 1);
    });
}

/// The same while a flush swaps the memtable for a segment and an update hides the row in the one
/// or in the other.
#[test]
fn a_reader_sees_one_version_while_a_flush_is_installed() {
    play(Some(3), || {
        let collection = Collection::new();
        collection.freeze();
        let flush = run(&collection, Collection::flush);
        let writer = run(&collection, Collection::write);
        let view = collection.view();
        assert_eq!(view.versions(), 1);
        flush.join().unwrap();
        writer.join().unwrap();
        assert_eq!(view.versions(), 1, "a view does not change");
        assert_eq!(collection.view().versions(), 1);
    });
}

/// A segment's map and file. The cell lets the checker see a read that is not ordered before the
/// unmapping.
struct Mapped {
    bytes: UnsafeCell<u8>,
    file_exists: Arc<AtomicBool>,
}

impl Mapped {
    fn read(&self) {
        self.bytes.with(|_| assert!(self.file_exists.load(Ordering::SeqCst), "unlinked in use"));
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        self.bytes.with_mut(|_| assert!(self.file_exists.load(Ordering::SeqCst), "unlinked first"));
    }
}

type Files = Retired<Mapped, Arc<AtomicBool>>;

fn unlink_swept(retired: &Files) {
    for file in retired.sweep() {
        assert!(file.swap(false, Ordering::SeqCst), "a file is unlinked once");
    }
}

/// One segment that a job replaces while `readers` read it; every reader sweeps when it leaves, as
/// does the job: the file goes, once, after the last of them.
fn segment_is_replaced(readers: usize) {
    let file_exists = Arc::new(AtomicBool::new(true));
    let mapped = Mapped { bytes: UnsafeCell::new(0), file_exists: file_exists.clone() };
    let parts = Parts::<(), Mapped>::new((), vec![Arc::new(mapped)]);
    let parts = Arc::new(RwLock::new(parts));
    let retired = Arc::new(Files::new());
    let readers: Vec<_> = (0..readers)
        .map(|_| {
            let (parts, retired) = (parts.clone(), retired.clone());
            spawn(move || {
                let pinned = parts.read().unwrap().segments().to_vec();
                pinned.iter().for_each(|segment| segment.read());
                drop(pinned);
                unlink_swept(&retired);
            })
        })
        .collect();
    let gone = parts.write().unwrap().install(Vec::new(), |_| true, &[]);
    retired.add(gone.into_iter().map(|part| {
        let file = part.file_exists.clone();
        (part, file)
    }));
    unlink_swept(&retired);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    unlink_swept(&retired);
    assert!(!file_exists.load(Ordering::SeqCst), "the file goes in the end");
}

#[test]
fn a_segment_is_unmapped_and_unlinked_after_its_reader() {
    play(None, || segment_is_replaced(1));
}

#[test]
fn a_segment_is_unmapped_and_unlinked_after_the_last_of_two_readers() {
    play(Some(3), || segment_is_replaced(2));
}
