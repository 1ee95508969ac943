//! The writing side of a segment file: a bounded buffer in front of a file, which knows its place,
//! pads to alignments, and checksums every extent and the whole file as the bytes pass.
//!
//! Called by the writer alone. Writes strictly forward, at one place of the file or at two side by
//! side, and never reads back.

#![deny(clippy::indexing_slicing)]

use super::{
    directory::{BlockEntry, BlockKind},
    format::{EXTENT, place_hasher},
};
use akidb_vfs::{FsError, FsFile, planted};
use crc32fast::Hasher;
use std::{io::IoSlice, sync::Arc};

/// What is held before it is written: few large writes, whatever the rows look like.
const BUFFER_LEN: usize = 1 << 20;
/// As many bytes at once are written from where they lie.
const DIRECT_LEN: usize = 128 << 10;
const ZEROS: [u8; 4096] = [0; 4096];

#[derive(Debug)]
struct OpenBlock {
    kind: BlockKind,
    offset: u64,
    crcs: Vec<u32>,
    /// The extent being filled, and how much of it is.
    hasher: Hasher,
    filled: u64,
}

/// A file being written from its first byte to its last.
#[derive(Debug)]
pub(super) struct FileSink {
    file: Arc<dyn FsFile>,
    salt: u64,
    buffer: Vec<u8>,
    /// Bytes that came before the buffer's.
    written: u64,
    whole: Hasher,
    block: Option<OpenBlock>,
}

impl FileSink {
    pub(super) fn new(file: Arc<dyn FsFile>, salt: u64) -> Self {
        let buffer = Vec::with_capacity(BUFFER_LEN);
        Self { file, salt, buffer, written: 0, whole: Hasher::new(), block: None }
    }

    /// The file.
    pub(super) fn file(&self) -> Arc<dyn FsFile> {
        self.file.clone()
    }

    /// Where the next byte goes.
    pub(super) fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Appends bytes outside of blocks.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), FsError> {
        self.whole.update(bytes);
        if bytes.len() < DIRECT_LEN && self.buffer.len() + bytes.len() <= BUFFER_LEN {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        let mut slices = [IoSlice::new(&self.buffer), IoSlice::new(bytes)];
        self.file.write_all_vectored_at(&mut slices, self.written)?;
        self.written += (self.buffer.len() + bytes.len()) as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Pads with zeros to a multiple of `align`, which is at most a page.
    pub(super) fn align(&mut self, align: u64) -> Result<(), FsError> {
        let missing = self.position().next_multiple_of(align) - self.position();
        let zeros = usize::try_from(missing).ok().and_then(|missing| ZEROS.get(..missing));
        self.write(zeros.expect("alignments are at most a page"))
    }

    /// Starts a block at its alignment.
    pub(super) fn begin(&mut self, kind: BlockKind) -> Result<(), FsError> {
        assert!(self.block.is_none(), "a block begins inside another");
        self.align(kind.align())?;
        let offset = self.position();
        let hasher = place_hasher(self.salt, offset);
        self.block = Some(OpenBlock { kind, offset, crcs: Vec::new(), hasher, filled: 0 });
        Ok(())
    }

    /// Appends bytes to the open block.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), FsError> {
        let salt = self.salt;
        let block = self.block.as_mut().expect("append is called between begin and end");
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = usize::try_from(EXTENT - block.filled).expect("an extent fits memory");
            let (part, after) = rest.split_at(room.min(rest.len()));
            block.hasher.update(part);
            block.filled += part.len() as u64;
            rest = after;
            if block.filled == EXTENT {
                block.close_extent(salt);
            }
        }
        self.write(bytes)
    }

    /// Ends the open block and gives its line of the directory.
    pub(super) fn end(&mut self, items: u64) -> BlockEntry {
        let len = self.position();
        let mut block = self.block.take().expect("end is called once after begin");
        if block.filled > 0 {
            block.close_extent(self.salt);
        }
        BlockEntry {
            kind: block.kind.code(),
            optional: false,
            since: block.kind.since(),
            detail: 0,
            name: String::new(),
            offset: block.offset,
            len: len - block.offset,
            items,
            crcs: block.crcs,
        }
    }

    /// Another place of the same file, written at the same time: what is appended here lies from
    /// `offset` on. [`Self::join`] puts the two together.
    pub(super) fn beside(&self, offset: u64) -> Self {
        let buffer = Vec::with_capacity(BUFFER_LEN);
        let file = self.file.clone();
        Self { file, salt: self.salt, buffer, written: offset, whole: Hasher::new(), block: None }
    }

    /// Goes on where `other`, which began where this one is, has ended.
    pub(super) fn join(&mut self, other: &Self) -> Result<(), FsError> {
        assert!(self.block.is_none() && other.block.is_none(), "places meet between blocks");
        for sink in [&*self, other] {
            self.file.write_all_at(&sink.buffer, sink.written)?;
        }
        self.buffer.clear();
        self.written = other.position();
        self.whole.combine(&other.whole);
        Ok(())
    }

    /// Writes what is buffered, makes the file durable; its length and checksum.
    pub(super) fn finish(self) -> Result<(u64, u32), FsError> {
        assert!(self.block.is_none(), "a file ends inside a block");
        let len = self.position();
        self.file.write_all_at(&self.buffer, self.written)?;
        if !planted("segment.unsynced") {
            self.file.sync_all()?;
        }
        Ok((len, self.whole.finalize()))
    }
}

impl OpenBlock {
    fn close_extent(&mut self, salt: u64) {
        let next = self.offset + (self.crcs.len() as u64 + 1) * EXTENT;
        let full = std::mem::replace(&mut self.hasher, place_hasher(salt, next));
        self.crcs.push(full.finalize());
        self.filled = 0;
    }
}
