//! Whatever becomes of the bytes on their way: the rows of the object, or an error that says why not.

use super::{super::Threads, *};
use crate::{
    Metric, PointId,
    cold::{ColdContext, ColdReader, ColdRow, encode},
};
use akidb_index::Executor;
use akidb_tiering::{
    BoxFuture, Capabilities, Head, ListPage, MemoryStore, Object, PageToken, PutOptions,
    PutReceipt, StoreError, StoreResult,
};
use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering::SeqCst},
};
use uuid::Uuid;

const KEY: &str = "c1/object.parquet";
const PIECE: u64 = 4 << 10;
/// Three row groups.
const ROWS: u64 = 17_000;

fn schema() -> Schema {
    Schema::new(3, Metric::L2)
}

fn object() -> Bytes {
    object_of(ROWS)
}

fn object_of(rows: u64) -> Bytes {
    let row = |n: u64| ColdRow {
        id: PointId::U64(n),
        lsn: n + 1,
        vector: vec![n as f32, (n * 7 % 101) as f32, 0.5],
        metadata: Default::default(),
    };
    let schema = schema();
    let (database, schema) = (Uuid::from_u128(1), &schema);
    let context = ColdContext { database, collection: 1, schema, rows };
    encode(&context, (0..rows).map(|n| Ok(row(n)))).unwrap().0
}

/// What becomes of the bytes of a read of ranges.
#[derive(Clone, Copy, Debug)]
enum Spoil {
    /// A byte of the object changes.
    Flip(u64),
    /// An answer that holds this byte ends there.
    Cut(u64),
    /// An answer that should hold this byte fails.
    Fail(u64),
}

/// A store that counts the bytes which its readers hold, notes what was asked, and spoils whole reads.
#[derive(Debug)]
struct Watched {
    inner: MemoryStore,
    asked: Mutex<Vec<Range<u64>>>,
    live: Arc<AtomicI64>,
    most: Arc<AtomicI64>,
    /// What becomes of each read of the object, from the first on; the last stays.
    spoils: Vec<Option<Spoil>>,
    heads: AtomicU64,
}

/// Bytes that say when they are let go of.
struct Counted(Bytes, Arc<AtomicI64>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(self.0.len() as i64, SeqCst);
    }
}

impl Watched {
    fn new(body: Bytes, spoils: &[Option<Spoil>]) -> Self {
        let inner = MemoryStore::new();
        block_on(inner.put(&key(), body, PutOptions::default())).unwrap();
        let (live, most) = (Arc::default(), Arc::default());
        let (asked, heads) = (Mutex::default(), AtomicU64::new(0));
        Self { inner, asked, live, most, spoils: spoils.to_vec(), heads }
    }

    /// How often the end was read, with which every read begins.
    fn reads(&self) -> usize {
        let asked = self.asked.lock();
        let last = asked.iter().map(|range| range.end).max().unwrap_or_default();
        asked.iter().filter(|range| range.end == last).count()
    }

    fn answer(&self, range: &Range<u64>, bytes: Bytes) -> StoreResult<Bytes> {
        self.asked.lock().push(range.clone());
        let read = self.reads().max(1) - 1;
        let spoil = self.spoils.get(read).or(self.spoils.last()).copied().flatten();
        let offset = |at: u64| range.contains(&at).then(|| (at - range.start) as usize);
        let bytes = match spoil {
            Some(Spoil::Fail(at)) if offset(at).is_some() => {
                return Err(StoreError::not_done(StoreErrorKind::Unavailable, &key()));
            }
            Some(Spoil::Cut(at)) => offset(at).map_or(bytes.clone(), |at| bytes.slice(..at)),
            Some(Spoil::Flip(at)) => {
                let mut bytes = bytes.to_vec();
                if let Some(at) = offset(at) {
                    bytes[at] ^= 4;
                }
                bytes.into()
            }
            _ => bytes,
        };
        let live = self.live.fetch_add(bytes.len() as i64, SeqCst) + bytes.len() as i64;
        self.most.fetch_max(live, SeqCst);
        Ok(Bytes::from_owner(Counted(Bytes::copy_from_slice(&bytes), self.live.clone())))
    }
}

impl ObjectStore for Watched {
    fn put<'a>(
        &'a self,
        key: &'a ObjectKey,
        body: Bytes,
        options: PutOptions,
    ) -> BoxFuture<'a, StoreResult<PutReceipt>> {
        self.inner.put(key, body, options)
    }

    fn get<'a>(&'a self, _: &'a ObjectKey) -> BoxFuture<'a, StoreResult<Object>> {
        panic!("a long object is not read whole")
    }

    fn get_ranges<'a>(
        &'a self,
        key: &'a ObjectKey,
        ranges: &'a [Range<u64>],
    ) -> BoxFuture<'a, StoreResult<Vec<Bytes>>> {
        Box::pin(async move {
            let parts = self.inner.get_ranges(key, ranges).await?;
            ranges.iter().zip(parts).map(|(range, bytes)| self.answer(range, bytes)).collect()
        })
    }

    fn head<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<Head>> {
        self.heads.fetch_add(1, SeqCst);
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

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

fn key() -> ObjectKey {
    ObjectKey::new(KEY).unwrap()
}

/// The rows of the object that `body` was, in pieces, taken by so many threads.
fn rows(store: &Watched, place: Place<'_>, piece: u64, threads: usize) -> Result<Vec<Record>> {
    assert!(std::ptr::eq(std::ptr::from_ref(place.store).cast(), store));
    read(place, piece, Some(&schema()), |stream| {
        let groups: Vec<Mutex<Option<Result<Vec<Record>>>>> =
            (0..stream.groups()).map(|_| Mutex::new(None)).collect();
        Threads(threads).run(groups.len(), &|index| {
            *groups[index].lock() = Some(stream.group(index));
        });
        let groups = groups.into_iter().map(|group| group.into_inner().unwrap());
        Ok(groups.collect::<Result<Vec<_>>>()?.concat())
    })
}

fn place<'a>(store: &'a Watched, key: &'a ObjectKey, body: &Bytes) -> Place<'a> {
    Place { store, key, start: 0, len: body.len() as u64, crc32: crc32fast::hash(body) }
}

fn whole(body: &Bytes) -> Vec<Record> {
    ColdReader::open(body.clone(), KEY, &schema()).unwrap().flat_map(Result::unwrap).collect()
}

/// A read of the object through this, and how often it was read.
fn spoilt(body: &Bytes, spoils: &[Option<Spoil>]) -> (Result<Vec<Record>>, usize) {
    let (store, key) = (Watched::new(body.clone(), spoils), key());
    let found = rows(&store, place(&store, &key, body), PIECE, 1);
    (found, store.reads())
}

fn kind<T>(found: Result<T>) -> ErrorKind {
    let error = found.map(drop).expect_err("other bytes");
    assert!(error.to_string().contains(KEY), "{error}");
    error.kind()
}

#[test]
fn rows_come_as_from_the_whole_object_and_each_byte_is_read_once() {
    let body = object();
    let expected = whole(&body);
    assert_eq!(expected.len() as u64, ROWS);
    for piece in [1 << 10, PIECE, 50_000, body.len() as u64 - 1] {
        for threads in [1, 3] {
            let (store, key) = (Watched::new(body.clone(), &[]), key());
            let place = place(&store, &key, &body);
            assert!(place.is_long(piece) && !place.is_long(place.len));
            assert_eq!(rows(&store, place, piece, threads).unwrap(), expected);
            let mut asked = store.asked.lock().clone();
            asked.sort_unstable_by_key(|range| range.start);
            let ends = asked.iter().fold(0, |before, range| {
                assert_eq!(range.start, before, "pieces of {piece}");
                range.end
            });
            assert_eq!(ends, place.len);
            assert_eq!(store.live.load(SeqCst), 0);
        }
    }
}

#[test]
fn no_more_is_held_than_pieces_ahead_and_a_row_group_for_each_thread() {
    let body = object_of(4 * ROWS);
    let footer = cold::footer_bytes(&body, body.len() as u64).unwrap();
    let end = Window::new(body.len() as u64, vec![(0, body.clone())]);
    let ranges = ColdRanges::open(&end, KEY, None).unwrap();
    let longest = ranges.extents().iter().map(|extent| extent.end - extent.start).max().unwrap();
    for threads in [1, 2] {
        let (store, key) = (Watched::new(body.clone(), &[]), key());
        rows(&store, place(&store, &key, &body), PIECE, threads).unwrap();
        // A row group begins and ends within pieces.
        let group = longest + 2 * PIECE;
        let most = footer.max(PIECE) + (AHEAD as u64 + 1) * PIECE + threads as u64 * group;
        let found = store.most.load(SeqCst) as u64;
        assert!(found <= most, "{found} bytes of {}, {threads} threads: {most}", body.len());
        assert!(most < body.len() as u64, "or it would prove nothing");
    }
}

#[test]
fn groups_may_be_taken_in_any_order() {
    let (body, key) = (object(), key());
    let store = Watched::new(body.clone(), &[]);
    let found = read(place(&store, &key, &body), PIECE, None, |stream| {
        assert_eq!((stream.rows(), stream.schema()), (ROWS, &schema()));
        let groups: Result<Vec<_>> =
            (0..stream.groups()).rev().map(|at| stream.group(at)).collect();
        Ok(groups?.into_iter().rev().flatten().collect::<Vec<_>>())
    });
    assert_eq!(found.unwrap(), whole(&body));
}

#[test]
fn an_object_may_lie_within_another() {
    let (body, key) = (object(), key());
    let around: Bytes = [b"before".as_slice(), &body, b"behind"].concat().into();
    let store = Watched::new(around, &[]);
    let inner = Place { start: 6, ..place(&store, &key, &body) };
    assert_eq!(rows(&store, inner, PIECE, 2).unwrap(), whole(&body));
}

#[test]
fn damage_anywhere_is_told_after_three_reads_and_nothing_comes_of_the_rows() {
    let body = object();
    let len = body.len() as u64;
    for at in (0..len).step_by(len as usize / 40).chain(len - 12..len) {
        let mut bytes = body.to_vec();
        bytes[at as usize] ^= 1;
        let (store, key) = (Watched::new(bytes.into(), &[]), key());
        let found = rows(&store, place(&store, &key, &body), PIECE, 1);
        assert_eq!((kind(found), store.reads()), (ErrorKind::Corruption, 3), "byte {at}");
    }
}

#[test]
fn what_was_spoilt_on_its_way_is_read_again() {
    let body = object();
    let (expected, len) = (whole(&body), body.len() as u64);
    let flip = |at| Some(Spoil::Flip(at));
    let cut = |at| Some(Spoil::Cut(at));
    // In the magic, a row group, the footer, its length.
    for at in [0, len / 2, len - 1_000, len - 6] {
        for spoil in [flip(at), cut(at)] {
            let (found, reads) = spoilt(&body, &[spoil, None]);
            assert_eq!((found.unwrap() == expected, reads), (true, 2), "{spoil:?}");
            let (found, reads) = spoilt(&body, &[spoil, spoil, None]);
            assert_eq!((found.unwrap() == expected, reads), (true, 3), "{spoil:?}");
            assert_eq!(kind(spoilt(&body, &[spoil]).0), ErrorKind::Corruption, "{spoil:?}");
            let (found, reads) = spoilt(&body, &[flip(9), spoil, cut(99)]);
            assert_eq!((kind(found), reads), (ErrorKind::Unavailable, 3), "{spoil:?}");
        }
    }
}

#[test]
fn a_failure_of_the_store_is_its_own_and_is_not_repeated_here() {
    let body = object();
    for at in [0, body.len() as u64 / 2, body.len() as u64 - 1] {
        let (found, reads) = spoilt(&body, &[Some(Spoil::Fail(at)), None]);
        assert_eq!((kind(found), reads), (ErrorKind::Unavailable, 1), "byte {at}");
    }
}

#[test]
fn an_object_that_is_too_short_or_gone_is_named() {
    let (body, key) = (object(), key());
    for len in [0, 100, body.len() / 2, body.len() - 1] {
        let store = Watched::new(body.slice(..len), &[]);
        let found = rows(&store, place(&store, &key, &body), PIECE, 1);
        let error = found.expect_err("it is short");
        assert!(error.to_string().contains(&format!("found {len} with")), "{error}");
        assert_eq!(kind::<()>(Err(error)), ErrorKind::Corruption);
        assert_eq!(store.heads.load(SeqCst), 3);
    }
    let store = Watched::new(body.clone(), &[]);
    block_on(store.delete(&key)).unwrap();
    assert_eq!(kind(rows(&store, place(&store, &key, &body), PIECE, 1)), ErrorKind::Corruption);
}

#[test]
fn bytes_that_are_right_and_still_no_rows_are_not_read_again() {
    let body = object();
    let (store, key) = (Watched::new(body.clone(), &[]), key());
    let other = Schema::new(4, Metric::L2);
    let found = read(place(&store, &key, &body), PIECE, Some(&other), |_| Ok(()));
    assert_eq!((kind(found), store.reads()), (ErrorKind::Corruption, 1), "another dimension");

    let store = Watched::new(body.clone(), &[]);
    let full = || Err::<(), _>(StoreError::not_done(StoreErrorKind::NoSpace, &key).into());
    let found = read(place(&store, &key, &body), PIECE, None, |_| full());
    assert_eq!((kind(found), store.reads()), (ErrorKind::NoSpace, 1), "no matter of the bytes");
    assert!(store.asked.lock().len() <= 2, "and nobody reads on");

    let junk = Bytes::from(vec![7_u8; 100_000]);
    let store = Watched::new(junk.clone(), &[]);
    assert_eq!(kind(rows(&store, place(&store, &key, &junk), PIECE, 1)), ErrorKind::Corruption);
    assert_eq!(store.reads(), 1);
}
