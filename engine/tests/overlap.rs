//! Calls that overlap: what one does while another is half-way. The object store is held shut at a
//! chosen point, so that the overlap is the same in every run; where no such point exists, many
//! rounds make it all but certain.

use akidb::{
    Durability, ErrorKind, FieldType, FilterStrategy, Metric, Point, Schema, Settings,
    blocking::{Collection, Db},
    field,
    tiering::{
        BoxFuture, Head, ListPage, MemoryStore, Object, ObjectKey, ObjectStore, PageToken,
        PutOptions, PutReceipt, StoreResult,
    },
    vfs::{
        FsOp,
        sim::{Fault, FaultKind, SimFs},
        thread::spawn,
    },
};
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use serde_json::json;
use std::{
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};

const DIR: &str = "/data/db";

/// Whether the gate is shut, and how many calls wait before it.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    fn shut(&self) {
        self.state.lock().0 = true;
    }

    fn open(&self) {
        self.state.lock().0 = false;
        self.changed.notify_all();
    }

    /// Only calls about rows wait: the worker of the tiers reads and writes the bucket's manifest when it
    /// likes, and a test that took its call for that of a move hung, for `close` waits for the worker.
    fn pass(&self, key: &ObjectKey) {
        if !key.as_str().ends_with(".parquet") {
            return;
        }
        let mut state = self.state.lock();
        state.1 += 1;
        self.changed.notify_all();
        while state.0 {
            self.changed.wait(&mut state);
        }
        state.1 -= 1;
    }

    fn wait_for_caller(&self) {
        let mut state = self.state.lock();
        while state.1 == 0 {
            self.changed.wait(&mut state);
        }
    }
}

/// A store in memory whose puts and gets of rows wait before a gate.
#[derive(Debug, Default)]
struct GatedStore {
    inner: MemoryStore,
    gate: Gate,
}

impl ObjectStore for GatedStore {
    fn put<'a>(
        &'a self,
        key: &'a ObjectKey,
        body: Bytes,
        options: PutOptions,
    ) -> BoxFuture<'a, StoreResult<PutReceipt>> {
        self.gate.pass(key);
        self.inner.put(key, body, options)
    }

    fn get<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<Object>> {
        self.gate.pass(key);
        self.inner.get(key)
    }

    fn get_ranges<'a>(
        &'a self,
        key: &'a ObjectKey,
        ranges: &'a [Range<u64>],
    ) -> BoxFuture<'a, StoreResult<Vec<Bytes>>> {
        self.inner.get_ranges(key, ranges)
    }

    fn head<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<Head>> {
        self.inner.head(key)
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<()>> {
        self.inner.delete(key)
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a PageToken>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<ListPage>> {
        self.inner.list(prefix, after, limit)
    }
}

/// Without compaction by itself, which would wait for a move that a test holds up, and let a close
/// wait for it.
fn settings() -> Settings {
    Settings {
        compaction_auto: false,
        disk_reserve_bytes: 0,
        wal_file_bytes: 64 << 10,
        ..Settings::default()
    }
}

fn open(fs: &SimFs, store: &Arc<GatedStore>) -> akidb::Result<Db> {
    Db::builder(Path::new(DIR))
        .settings(settings())
        .file_system(Arc::new(fs.clone()))
        .object_store(store.clone())
        .open_blocking()
}

fn row(id: u64, version: u64) -> Point {
    Point::new(id, [id as f32, version as f32])
}

fn create(db: &Db, name: &str) -> Collection {
    db.create_collection(name, Schema::new(2, Metric::L2)).expect("a new name")
}

/// A call on a thread of its own.
struct Job<T> {
    thread: JoinHandle<()>,
    result: mpsc::Receiver<T>,
}

fn start<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Job<T> {
    let (reply, result) = mpsc::channel();
    let thread = spawn("job", move || drop(reply.send(work()))).expect("a thread");
    Job { thread, result }
}

impl<T> Job<T> {
    fn join(self) -> T {
        self.thread.join().expect("no panic");
        self.result.recv().expect("it ended")
    }
}

/// Runs `work` again and again on a thread of its own while `during` runs.
fn meanwhile(work: impl Fn(u64) + Send + 'static, during: impl FnOnce()) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let worker = start(move || {
        let mut round = 0;
        while !stopped.load(Ordering::Relaxed) {
            round += 1;
            work(round);
        }
    });
    during();
    stop.store(true, Ordering::Relaxed);
    worker.join();
}

#[test]
fn a_snapshot_holds_every_row_that_is_replaced_while_it_is_taken() {
    let (fs, store) = (SimFs::new(1), Arc::new(GatedStore::default()));
    let db = open(&fs, &store).unwrap();
    let docs = create(&db, "docs");
    docs.upsert((0..50).map(|id| row(id, 0))).run().unwrap();
    let writer = docs.clone();
    let write = move |round| {
        writer
            .upsert((0..50).map(|id| row(id, round)))
            .durability(Durability::Memory)
            .run()
            .unwrap();
    };
    meanwhile(write, || {
        for n in 0..20 {
            let info = docs.snapshot(&format!("s{n}")).unwrap();
            assert_eq!(info.rows, 50, "snapshot {n}");
        }
    });
    for n in 0..20 {
        let copy = db.restore_snapshot(&format!("s{n}"), &format!("copy{n}")).unwrap();
        let rows = copy.scan().with_vectors(true).run().unwrap().records;
        let versions: Vec<_> = rows.iter().map(|row| row.vector[1]).collect();
        assert_eq!(versions.len(), 50);
        assert!(
            versions.iter().all(|v| *v == versions[0]),
            "a batch is all or nothing: {versions:?}"
        );
    }
}

#[test]
fn close_keeps_the_directory_until_jobs_under_way_have_ended() {
    let (fs, store) = (SimFs::new(2), Arc::new(GatedStore::default()));
    let db = open(&fs, &store).unwrap();
    let docs = create(&db, "docs");
    docs.upsert((0..5).map(|id| row(id, 0))).run().unwrap();
    docs.demote().unwrap();
    store.gate.shut();
    let promotion = start(move || docs.promote());
    store.gate.wait_for_caller();
    let handle = db.clone();
    let close = start(move || db.close());
    while handle.list_collections().is_ok() {
        std::thread::yield_now();
    }
    for _ in 0..2000 {
        assert!(!close.thread.is_finished(), "it lets go while a promotion writes there");
        std::thread::yield_now();
    }
    let kind = open(&fs, &store).unwrap_err().kind();
    assert_eq!(kind, ErrorKind::Locked);
    store.gate.open();
    assert_eq!(promotion.join().unwrap_err().kind(), ErrorKind::Closed);
    close.join().unwrap();
    let db = open(&fs, &store).unwrap();
    let unknown = &db.recovery_report().unknown_files;
    assert!(unknown.is_empty(), "{unknown:?}");
    assert_eq!(db.collection("docs").unwrap().count(None).unwrap(), 5);
}

#[test]
fn of_two_drops_at_once_the_second_finds_nothing() {
    let (fs, store) = (SimFs::new(3), Arc::new(GatedStore::default()));
    let db = open(&fs, &store).unwrap();
    let docs = create(&db, "docs");
    docs.upsert([row(1, 0)]).run().unwrap();
    store.gate.shut();
    // Both drops find the name and wait for the demotion.
    let demotion = start(move || docs.demote());
    store.gate.wait_for_caller();
    let drops: Vec<_> = (0..2)
        .map(|_| {
            let db = db.clone();
            start(move || db.drop_collection("docs"))
        })
        .collect();
    for _ in 0..2000 {
        std::thread::yield_now();
    }
    store.gate.open();
    demotion.join().unwrap();
    let mut kinds: Vec<_> =
        drops.into_iter().map(|d| d.join().map_err(|error| error.kind())).collect();
    kinds.sort_by_key(Result::is_err);
    assert_eq!(kinds, [Ok(()), Err(ErrorKind::NotFound)]);
}

#[test]
fn insert_finds_the_row_though_its_collection_moves() {
    let (fs, store) = (SimFs::new(4), Arc::new(GatedStore::default()));
    let db = open(&fs, &store).unwrap();
    let docs = create(&db, "docs");
    docs.upsert([row(1, 0)]).run().unwrap();
    let mover = docs.clone();
    let work = move |_| {
        for moved in [mover.demote(), mover.promote()] {
            // The inserts promote too, and of two moves one is told of the other.
            let told = |error: &akidb::Error| error.kind() == ErrorKind::Unavailable;
            assert!(moved.is_ok() || moved.as_ref().is_err_and(told), "{moved:?}");
        }
    };
    meanwhile(work, || {
        for round in 0..3000 {
            let kind = docs.insert([row(1, 1)]).run().map_err(|error| error.kind());
            let refused = matches!(kind, Err(ErrorKind::AlreadyExists | ErrorKind::Unavailable));
            assert!(refused, "round {round}: {kind:?}");
        }
    });
}

#[test]
fn a_manifest_whose_new_file_may_not_last_is_never_written_again() {
    let (fs, store) = (SimFs::new(5), Arc::new(GatedStore::default()));
    let db = open(&fs, &store).unwrap();
    let docs = create(&db, "docs");
    // A pin is one manifest record; the only directory sync is that of a fresh manifest file.
    fs.inject(Fault::new(FaultKind::NoSpace).on(FsOp::SyncDir));
    let failed = (0..10_000).find_map(|n| docs.pin(n % 2 == 0).err()).expect("the manifest rolls");
    assert_eq!(failed.kind(), ErrorKind::Reopen, "{failed}");
    assert_eq!(docs.pin(true).unwrap_err().kind(), ErrorKind::Reopen);
}

#[test]
fn reads_of_a_cold_collection_leave_no_files_when_nothing_can_be_installed() {
    let (fs, store) = (SimFs::new(6), Arc::new(GatedStore::default()));
    let db = open(&fs, &store).unwrap();
    let docs = create(&db, "docs");
    docs.upsert((0..20).map(|id| row(id, 0))).run().unwrap();
    docs.demote().unwrap();
    fs.inject(Fault::new(FaultKind::SyncFailsCacheKept).on(FsOp::SyncData).path("wal"));
    assert!(docs.upsert([row(1, 1)]).run().is_err());
    let before = fs.files();
    for _ in 0..3 {
        assert_eq!(docs.get([2_u64]).unwrap_err().kind(), ErrorKind::Reopen);
    }
    assert_eq!(fs.files(), before);
}

#[test]
fn a_flush_that_fails_again_and_again_takes_no_more_space() {
    let (fs, store) = (SimFs::new(7), Arc::new(GatedStore::default()));
    let db = Db::builder(Path::new(DIR))
        .settings(settings())
        .file_system(Arc::new(fs.clone()))
        .object_store(store.clone())
        .inline()
        .open_blocking()
        .unwrap();
    let docs = create(&db, "docs");
    docs.upsert((0..20).map(|id| row(id, 0))).run().unwrap();
    docs.flush().unwrap();
    docs.upsert((0..10).map(|id| row(id, 1))).run().unwrap();
    let files = || fs.files().len();
    let before = files();
    // The segment can be written, its tombstones cannot.
    fs.inject(Fault::new(FaultKind::NoSpace).on(FsOp::Create).path(".tmb").sticky());
    for _ in 0..3 {
        assert_eq!(docs.flush().unwrap_err().kind(), ErrorKind::NoSpace);
        assert_eq!(files(), before, "{:?}", fs.files());
    }
    let objects = futures_lite::future::block_on(store.list("", None, usize::MAX)).unwrap().objects;
    assert!(objects.iter().all(|object| object.key.as_str() == "manifest"), "{objects:?}");
    fs.clear_faults();
    docs.flush().unwrap();
    assert_eq!(docs.count(None).unwrap(), 20);
}

#[test]
fn a_damaged_collection_does_not_stop_the_compaction_of_others() {
    let (fs, store) = (SimFs::new(8), Arc::new(GatedStore::default()));
    let mut settings = settings();
    settings.compaction_fanout = 2;
    settings.read_mode = akidb::ReadMode::Pread;
    let open = |auto: bool| {
        let mut settings = settings.clone();
        settings.compaction_auto = auto;
        let builder = Db::builder(Path::new(DIR)).settings(settings);
        builder
            .file_system(Arc::new(fs.clone()))
            .object_store(store.clone())
            .inline()
            .open_blocking()
            .unwrap()
    };
    let db = open(false);
    let (first, second) = (create(&db, "a"), create(&db, "b"));
    for n in 0..2 {
        for docs in [&first, &second] {
            docs.upsert((0..20).map(|id| row(n * 100 + id, 0))).run().unwrap();
            docs.flush().unwrap();
        }
    }
    let number = first.stats().segments[0].number;
    db.close().unwrap();
    drop((first, second));
    let path = Path::new(DIR).join(format!("segments/{number:012}.seg"));
    fs.corrupt(&path, 4096 + 8, 1).unwrap();
    let db = open(true);
    let docs = db.collection("b").unwrap();
    docs.upsert([row(1, 1)]).run().unwrap();
    assert!(db.stats().compaction_error.is_some(), "the damage is not silent");
    assert_eq!(docs.stats().segments.len(), 1, "b is compacted all the same");
}

#[test]
fn a_new_field_is_indexed_in_segments_that_were_being_flushed() {
    let (fs, store) = (SimFs::new(9), Arc::new(GatedStore::default()));
    let builder = Db::builder(Path::new(DIR)).file_system(Arc::new(fs.clone()));
    let db = builder.settings(settings()).object_store(store).open_blocking().unwrap();
    let docs = create(&db, "docs");
    let writer = docs.clone();
    let write = move |round| {
        let rows = (0..100).map(|id| row(id, round).meta(json!({ "n": id })));
        writer.upsert(rows).durability(Durability::Memory).run().unwrap();
        writer.flush().unwrap();
    };
    meanwhile(write, || {
        for n in 0..20 {
            docs.add_field(&format!("f{n}"), FieldType::Integer).unwrap();
        }
    });
    for n in 0..20 {
        let filter = field(format!("f{n}")).exists();
        let (_, explain) = docs.search(&[0.0, 0.0]).filter(filter).explain().unwrap();
        let steps = explain.parts.iter().flat_map(|part| &part.filter);
        let scanned = steps.filter(|step| step.strategy == FilterStrategy::Scan).count();
        assert_eq!(scanned, 0, "field f{n}");
    }
}
