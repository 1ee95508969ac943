//! An object that is too long to be held, read while its rows are taken: pieces a few ahead, each summed
//! when it arrives, let go of when the row groups in it are decoded.
//!
//! Owns the way from the store to the decoder and the verdict over the whole. Never names anything: what
//! was made of the rows is handed back when the object has passed, and dropped if it was another. Called
//! by `objects` and `copies`.
//!
//! # Invariants
//! - Every byte of the object comes into the sum once, and in its order; what is decoded was summed.
//! - [`read`] gives what was made of the rows only after length and sum were those expected. Bytes behind
//!   the end are not looked at: another object may lie there.
//! - What does not decode is damage only if the sum is right, or is wrong in the same way each time.
//! - At most [`AHEAD`] pieces are under way, and no piece is kept that only decoded row groups needed: with
//!   as many threads, there is one row group for each, and the footer.
//! - One thread alone gets to the end.

use crate::{
    Record, Schema,
    cold::{self, ColdRanges, RowGroups, Window},
    error::{Error, ErrorKind, Result},
};
use akidb_tiering::{Misreads, ObjectKey, ObjectStore, Pieces, StoreErrorKind};
use akidb_vfs::planted;
use bytes::Bytes;
use futures_lite::future::block_on;
use parking_lot::Mutex;
use std::{
    collections::{BTreeSet, VecDeque},
    iter,
    ops::Range,
    slice,
};

/// Pieces that are asked for before they are needed: enough that a request takes as long as decoding
/// what came before it, where the store is not far away.
const AHEAD: usize = 4;
/// So much of the end is read first, for the footer; if that is longer, the rest of it then.
const END_BYTES: u64 = 256 << 10;

/// Where an object lies, and what it must be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) store: &'a dyn ObjectStore,
    pub(super) key: &'a ObjectKey,
    /// Where it begins under its key.
    pub(super) start: u64,
    pub(super) len: u64,
    pub(super) crc32: u32,
}

impl Place<'_> {
    /// True if it is to be read in pieces of this size, and not whole.
    pub(super) fn is_long(&self, piece_bytes: u64) -> bool {
        // Without ranges every piece would transfer all of it.
        self.len > piece_bytes && self.store.capabilities().ranges
    }

    fn damaged(&self, at: u64, detail: &str) -> Error {
        Error::corruption(self.key.as_str(), at, detail)
    }

    /// A part of it; `None` if it is not so long.
    fn part(&self, range: Range<u64>) -> Result<Option<Bytes>> {
        let asked = self.under_key(&range);
        match block_on(self.store.get_ranges(self.key, slice::from_ref(&asked))) {
            Ok(parts) => Ok(Some(parts.into_iter().next().unwrap_or_default())),
            Err(error) if error.kind == StoreErrorKind::InvalidRange => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn under_key(&self, range: &Range<u64>) -> Range<u64> {
        self.start.saturating_add(range.start)..self.start.saturating_add(range.end)
    }
}

/// The row groups of an object that is being read.
pub(super) struct Stream<'a, 's> {
    ranges: &'a ColdRanges,
    source: &'a Mutex<Source<'s>>,
}

impl RowGroups for Stream<'_, '_> {
    fn schema(&self) -> &Schema {
        self.ranges.schema()
    }

    fn rows(&self) -> u64 {
        self.ranges.rows()
    }

    fn groups(&self) -> usize {
        self.ranges.extents().len()
    }

    /// Waits for its bytes. Those of the groups before it, if nobody took them yet, are kept.
    fn group(&self, index: usize) -> Result<Vec<Record>> {
        let window = self.source.lock().window(index, self.ranges.extents())?;
        self.ranges.group(index, window)
    }
}

/// Reads an object in pieces of this size, has its rows taken, and gives what was made of them if they
/// were the object's. One that was spoilt on its way is read again, as by
/// [`akidb_tiering::get_verified`].
pub(super) fn read<T>(
    place: Place<'_>,
    piece_bytes: u64,
    schema: Option<&Schema>,
    take: impl Fn(&Stream<'_, '_>) -> Result<T>,
) -> Result<T> {
    let mut misreads = Misreads::of(place.len, place.crc32);
    loop {
        let (taken, found) = read_once(place, piece_bytes, schema, &take)?;
        let passes = found.summed && misreads.passes(found.len, found.crc32);
        if passes || planted("cold.checksum-ignored") {
            return taken;
        }
        // Before the next read, which makes it anew.
        drop(taken);
        misreads.note(place.key, found.len, found.crc32)?;
    }
}

/// What a read found.
struct Found {
    len: u64,
    crc32: u32,
    /// All of it was read: else it was too short, and this is what the store says of it.
    summed: bool,
}

/// Reads once: what was made of the rows, and what it was made of. Fails if nobody can know that.
fn read_once<T>(
    place: Place<'_>,
    piece_bytes: u64,
    schema: Option<&Schema>,
    take: &impl Fn(&Stream<'_, '_>) -> Result<T>,
) -> Result<(Result<T>, Found)> {
    let Some(end) = End::read(&place, piece_bytes)? else {
        return Ok((Err(place.damaged(0, "it is too short")), of_another_length(&place)?));
    };
    let step = usize::try_from(piece_bytes).unwrap_or(usize::MAX).max(1);
    let plan: Vec<Range<u64>> = (0..end.at)
        .step_by(step)
        .map(|at| place.under_key(&(at..at.saturating_add(piece_bytes).min(end.at))))
        .collect();
    let pieces = Pieces::new(place.store, place.key, &plan, AHEAD);
    let ranges = ColdRanges::open(&end.window(place.len), place.key.as_str(), schema);
    let source = Mutex::new(Source::new(place, end, pieces, &plan));
    let taken = ranges.and_then(|ranges| take(&Stream { ranges: &ranges, source: &source }));
    let mut source = source.into_inner();
    if let Some(error) = source.failed.take() {
        return Err(error);
    }
    match taken {
        Err(error) if !may_be_of_the_bytes(&error) => Err(error),
        taken => Ok((taken, source.finish()?)),
    }
}

/// True for failures that other bytes might not have caused.
fn may_be_of_the_bytes(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corruption | ErrorKind::Incompatible)
}

fn of_another_length(place: &Place<'_>) -> Result<Found> {
    let head = block_on(place.store.head(place.key))?;
    Ok(Found { len: head.len, crc32: head.crc32, summed: false })
}

/// The last bytes of an object, the footer among them.
struct End {
    at: u64,
    bytes: Bytes,
}

impl End {
    /// `None` if the object is not so long.
    fn read(place: &Place<'_>, piece_bytes: u64) -> Result<Option<Self>> {
        let most = place.len.min(piece_bytes.min(END_BYTES));
        let at = place.len - most;
        let Some(bytes) = place.part(at..place.len)? else { return Ok(None) };
        // What cannot be a footer is told by whoever parses it.
        let footer = cold::footer_bytes(&bytes, place.len).ok().filter(|footer| *footer > most);
        let Some(begins) = footer.and_then(|footer| place.len.checked_sub(footer)) else {
            return Ok(Some(Self { at, bytes }));
        };
        let first = place.part(begins..at)?;
        Ok(first.map(|first| Self { at: begins, bytes: [first, bytes].concat().into() }))
    }

    fn window(&self, len: u64) -> Window {
        Window::new(len, vec![(self.at, self.bytes.clone())])
    }
}

/// An object's bytes on their way.
struct Source<'a> {
    place: Place<'a>,
    end: End,
    pieces: Pieces<'a>,
    /// The ranges of the pieces that have not come.
    left: slice::Iter<'a, Range<u64>>,
    /// Where the pieces that came end.
    arrived: u64,
    /// Pieces that are still needed, each with its offset.
    held: VecDeque<(u64, Bytes)>,
    /// Row groups that were taken: all before `first`, and these.
    first: usize,
    taken: BTreeSet<usize>,
    sum: crc32fast::Hasher,
    summed: u64,
    /// A piece was not as long as was asked for, so what comes after it is nothing to decode.
    torn: bool,
    /// The object ends where a piece should be.
    short: bool,
    /// A failure of the store.
    failed: Option<Error>,
}

impl<'a> Source<'a> {
    fn new(place: Place<'a>, end: End, pieces: Pieces<'a>, plan: &'a [Range<u64>]) -> Self {
        Self {
            place,
            end,
            pieces,
            left: plan.iter(),
            arrived: 0,
            held: VecDeque::new(),
            first: 0,
            taken: BTreeSet::new(),
            sum: crc32fast::Hasher::new(),
            summed: 0,
            torn: false,
            short: false,
            failed: None,
        }
    }

    /// The bytes of a row group, of which all lie there.
    fn window(&mut self, index: usize, extents: &[Range<u64>]) -> Result<Window> {
        let extent = extents.get(index).ok_or_else(|| Error::bug("no such row group"))?;
        while self.arrived < extent.end.min(self.end.at) && !self.torn {
            match self.pull()? {
                Some(piece) => self.held.push_back(piece),
                None => self.torn = true,
            }
        }
        if self.torn {
            return Err(self
                .place
                .damaged(self.arrived, "it came otherwise than it was asked for"));
        }
        let end = (self.end.at, self.end.bytes.clone());
        let parts = self.held.iter().chain(iter::once(&end));
        let parts = parts.filter_map(|(at, bytes)| within(*at, bytes, extent)).collect();
        self.let_go(index, extents);
        Ok(Window::new(self.place.len, parts))
    }

    /// Forgets the pieces that only groups need which were taken, this one being the last.
    fn let_go(&mut self, index: usize, extents: &[Range<u64>]) {
        self.taken.insert(index);
        while self.taken.remove(&self.first) {
            self.first += 1;
        }
        let needed = extents.get(self.first).map_or(u64::MAX, |extent| extent.start);
        self.held.retain(|(at, bytes)| at.saturating_add(bytes.len() as u64) > needed);
    }

    /// The next piece, summed; `None` if none is left, or the object is too short.
    fn pull(&mut self) -> Result<Option<(u64, Bytes)>> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let Some(range) = self.left.next().filter(|_| !self.short) else { return Ok(None) };
        let bytes = match block_on(self.pieces.next()) {
            Some(Ok(bytes)) => bytes,
            Some(Err(error)) if error.kind == StoreErrorKind::InvalidRange => {
                self.short = true;
                return Ok(None);
            }
            Some(Err(error)) => {
                let error = Error::from(error);
                self.failed = Some(error.clone());
                return Err(error);
            }
            None => return Err(Error::bug("an object had fewer pieces than were asked for")),
        };
        self.sum.update(&bytes);
        self.summed += bytes.len() as u64;
        let (at, wanted) = (self.arrived, range.end.saturating_sub(range.start));
        self.torn |= bytes.len() as u64 != wanted;
        self.arrived = at.saturating_add(wanted);
        Ok(Some((at, bytes)))
    }

    /// Reads and sums what nobody asked for: gaps, and all that comes after a failure.
    fn finish(mut self) -> Result<Found> {
        self.held.clear();
        while self.pull()?.is_some() {}
        if self.short {
            return of_another_length(&self.place);
        }
        self.sum.update(&self.end.bytes);
        let len = self.summed + self.end.bytes.len() as u64;
        Ok(Found { len, crc32: self.sum.finalize(), summed: true })
    }
}

/// The part of a piece that lies in a range, with its offset.
fn within(at: u64, bytes: &Bytes, range: &Range<u64>) -> Option<(u64, Bytes)> {
    let start = range.start.max(at);
    let end = range.end.min(at.saturating_add(bytes.len() as u64));
    let offset = |place: u64| usize::try_from(place.checked_sub(at)?).ok();
    (start < end).then_some(())?;
    Some((start, bytes.slice(offset(start)?..offset(end)?)))
}

#[cfg(test)]
mod tests;
