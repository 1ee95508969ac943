//! Where a segment's bytes come from: a map of the file, or positional reads into own memory. What
//! comes out of here is in bounds and aligned, and not checked yet; [`super::block`] does that.
//!
//! Must never map in `Pread` mode, so that every failure of the disk is an error value there.

#![deny(clippy::indexing_slicing)]

use super::ReadMode;
use crate::{Error, Result};
use akidb_vfs::{Fs, FsFile, Mapping, OpenMode};
use std::{
    io::ErrorKind,
    ops::{Deref, Range},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Owned bytes, aligned for every number that a block can hold.
#[derive(Debug)]
pub(super) struct AlignedBuf {
    words: Box<[u64]>,
    len: usize,
}

impl AlignedBuf {
    fn zeroed(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(8)].into_boxed_slice(), len }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.len;
        let bytes = bytemuck::cast_slice_mut(&mut self.words);
        bytes.get_mut(..len).expect("zeroed made enough words")
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let bytes = bytemuck::cast_slice(&self.words);
        bytes.get(..self.len).expect("zeroed made enough words")
    }
}

/// Bytes of a segment: in the map, or a part of a buffer.
#[derive(Debug)]
pub(super) enum Bytes<'a> {
    Mapped(&'a [u8]),
    Owned { buffer: Arc<AlignedBuf>, range: Range<usize> },
}

impl Bytes<'_> {
    /// All of a buffer.
    pub(super) fn whole(buffer: Arc<AlignedBuf>) -> Self {
        let range = 0..buffer.len();
        Self::Owned { buffer, range }
    }

    /// A part of these bytes; `None` if it does not lie within.
    pub(super) fn slice(self, part: Range<usize>) -> Option<Self> {
        match self {
            Self::Mapped(bytes) => bytes.get(part).map(Self::Mapped),
            Self::Owned { buffer, range } => {
                let start = range.start.checked_add(part.start)?;
                let end = range.start.checked_add(part.end)?;
                let within = part.start <= part.end && end <= range.end;
                within.then_some(Self::Owned { buffer, range: start..end })
            }
        }
    }
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(bytes) => bytes,
            Self::Owned { buffer, range } => {
                buffer.get(range.clone()).expect("slice keeps ranges within the buffer")
            }
        }
    }
}

enum Backing {
    Map(Mapping),
    File(Arc<dyn FsFile>),
}

/// An open segment file of a length that was checked.
pub(super) struct Source {
    path: PathBuf,
    len: u64,
    backing: Backing,
}

impl Source {
    /// Opens `path`, which must be `len` bytes long: a map of a file that was cut would end in a
    /// SIGBUS, so the length is compared before anything is mapped.
    pub(super) fn open(fs: &dyn Fs, path: PathBuf, len: u64, mode: ReadMode) -> Result<Self> {
        let found = match fs.metadata(&path) {
            Ok(meta) => meta.len,
            Err(error) if error.is_not_found() => {
                return Err(Error::corruption(path, 0, "the manifest names this file, it is gone"));
            }
            Err(error) => return Err(error.into()),
        };
        let check = |path: &Path, found: u64| {
            if found == len {
                return Ok(());
            }
            let detail = format!("the file has {found} bytes, the manifest says {len}");
            Err(Error::corruption(path, found.min(len), detail))
        };
        check(&path, found)?;
        let backing = match mode {
            ReadMode::Mmap => {
                let map = fs.map(&path)?;
                check(&path, map.len() as u64)?;
                Backing::Map(map)
            }
            ReadMode::Pread => Backing::File(fs.open(&path, OpenMode::Read)?),
        };
        Ok(Self { path, len, backing })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// True if the bytes are mapped, so that what was checked once is looked at again in place.
    pub(super) fn is_mapped(&self) -> bool {
        matches!(self.backing, Backing::Map(_))
    }

    /// Bytes of the file, in bounds and not checked. A multiple of 8 as `offset` gives bytes that
    /// are aligned for `u64`.
    pub(super) fn read(&self, offset: u64, len: u64) -> Result<Bytes<'_>> {
        let outside = || Error::corruption(&self.path, offset, "the file ends before these bytes");
        let end = offset.checked_add(len).filter(|end| *end <= self.len).ok_or_else(outside)?;
        let size = usize::try_from(len).map_err(|_| outside())?;
        match &self.backing {
            Backing::Map(map) => {
                let start = usize::try_from(offset).map_err(|_| outside())?;
                let end = usize::try_from(end).map_err(|_| outside())?;
                map.get(start..end).map(Bytes::Mapped).ok_or_else(outside)
            }
            Backing::File(file) => {
                let mut buffer = AlignedBuf::zeroed(size);
                file.read_exact_at(buffer.bytes_mut(), offset).map_err(|error| {
                    // Somebody cut the file since it was opened.
                    if error.kind() == ErrorKind::UnexpectedEof { outside() } else { error.into() }
                })?;
                Ok(Bytes::whole(Arc::new(buffer)))
            }
        }
    }
}
