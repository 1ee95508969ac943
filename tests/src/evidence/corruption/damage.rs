//! What is done to a directory: every flip, cut and growth of each file, blocks and whole files in
//! the wrong place, and versions of another time. Enumerated, so that a number names a damage.

use super::golden::{Golden, goldens};
use crate::run::disk_part;
use akidb_vfs::{Fs, FsError, FsFile, OpenMode, sim::SimFs};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

/// The unit in which disks misplace and lose writes.
pub(super) const BLOCK: usize = 512;
/// Bits that are flipped in every byte: the lowest, the highest, all.
const MASKS: [u8; 3] = [0x01, 0x80, 0xff];
/// How much a file grows.
const GROWTHS: [usize; 5] = [1, 8, 511, 512, 4096];
/// How many offsets or lengths one case covers.
const CHUNK: usize = 64;

/// What happens to a file. Numbers of files are places in [`Golden::files`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// These bits of the byte at this offset.
    Flip(usize, u8),
    /// Only so many bytes are left.
    Cut(usize),
    /// So many bytes more, all the same.
    Grow(usize, u8),
    /// A block of zeros: a write that was lost.
    Zero(usize),
    /// Two blocks of the file in each other's place.
    Swap(usize, usize),
    /// A block of another file in the place of one of this.
    Foreign { block: usize, file: usize, theirs: usize },
    /// Two files in each other's place.
    Exchange(usize),
    /// A file's bytes in the place of this one's.
    Overwritten(usize),
    /// It is gone.
    Deleted,
    /// It is there twice: under the next number too.
    Duplicated,
    /// An earlier version of it, by its place in [`Golden::older`].
    Older(usize),
}

/// One directory, one file of it, and damages of one kind.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) golden: &'static Golden,
    pub(super) file: usize,
    pub(super) damages: Vec<Damage>,
}

impl Case {
    /// The path of the damaged file.
    pub(super) fn path(&self) -> &'static Path {
        &self.golden.files[self.file].0
    }
}

/// Every damage to every file of every directory, in chunks.
pub(super) fn cases() -> &'static [Case] {
    static CASES: OnceLock<Vec<Case>> = OnceLock::new();
    CASES.get_or_init(|| {
        let mut cases = Vec::new();
        for golden in goldens() {
            for file in 0..golden.files.len() {
                let all = damages(golden, file);
                let chunks = all.chunks(CHUNK);
                cases.extend(chunks.map(|part| Case { golden, file, damages: part.to_vec() }));
            }
        }
        cases
    })
}

fn damages(golden: &Golden, file: usize) -> Vec<Damage> {
    let (path, bytes) = &golden.files[file];
    let len = bytes.len();
    let mut all = Vec::new();
    for mask in MASKS {
        all.extend((0..len).map(|at| Damage::Flip(at, mask)));
    }
    all.extend((0..len).map(Damage::Cut));
    all.extend(GROWTHS.iter().flat_map(|by| [Damage::Grow(*by, 0), Damage::Grow(*by, 0xa5)]));
    all.extend(misplaced_blocks(golden, file));
    for (other, (_, theirs)) in golden.files.iter().enumerate() {
        if other != file && theirs != bytes {
            all.push(Damage::Overwritten(other));
            all.extend((other > file).then_some(Damage::Exchange(other)));
        }
    }
    all.extend([Damage::Deleted, Damage::Duplicated]);
    let versions = golden.older.iter().enumerate().filter(|(_, (of, _))| of == path);
    all.extend(versions.map(|(at, _)| Damage::Older(at)));
    all
}

fn misplaced_blocks(golden: &Golden, file: usize) -> Vec<Damage> {
    let blocks = |file: usize| golden.files[file].1.chunks(BLOCK).collect::<Vec<_>>();
    let ours = blocks(file);
    let empty = |block: &[u8]| block.iter().all(|byte| *byte == 0);
    let mut all = Vec::new();
    for (at, block) in ours.iter().enumerate() {
        if !empty(block) {
            all.push(Damage::Zero(at));
        }
        let later = ours.iter().enumerate().skip(at + 1).filter(|(_, other)| *other != block);
        all.extend(later.map(|(other, _)| Damage::Swap(at, other)));
    }
    // A block that is misplaced between files lands where there is something, or just behind it.
    let used = ours.iter().rposition(|block| !empty(block)).map_or(0, |last| last + 2);
    for other in (0..golden.files.len()).filter(|other| *other != file) {
        for (theirs, block) in blocks(other).iter().enumerate().filter(|(_, block)| !empty(block)) {
            let targets = (0..used.min(ours.len())).filter(|at| ours[*at] != *block);
            all.extend(targets.map(|block| Damage::Foreign { block, file: other, theirs }));
        }
    }
    all
}

impl Damage {
    /// The file beside the damaged one that this is about.
    pub(super) fn other(self, golden: &Golden) -> Option<&Path> {
        match self {
            Self::Foreign { file, .. } | Self::Exchange(file) | Self::Overwritten(file) => {
                Some(&golden.files[file].0)
            }
            _ => None,
        }
    }

    /// What it is called in reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Flip(..) => "flipped bits",
            Self::Cut(_) => "cut",
            Self::Grow(..) => "grown",
            Self::Zero(_) => "lost block",
            Self::Swap(..) => "swapped blocks",
            Self::Foreign { .. } => "block of another file",
            Self::Exchange(_) => "exchanged files",
            Self::Overwritten(_) => "overwritten by another file",
            Self::Deleted => "deleted",
            Self::Duplicated => "duplicated",
            Self::Older(_) => "older version",
        }
    }

    /// Does it to `file` of the directory on `sim`.
    pub(super) fn inflict(self, sim: &SimFs, golden: &Golden, file: usize) -> Result<(), FsError> {
        let (path, bytes) = &golden.files[file];
        let block = |bytes: &[u8], at: usize| {
            bytes.chunks(BLOCK).nth(at).map(<[u8]>::to_vec).unwrap_or_default()
        };
        match self {
            Self::Flip(at, mask) => sim.corrupt(path, at as u64, mask),
            Self::Cut(len) => sim.truncate(path, len as u64),
            Self::Grow(by, byte) => write(sim, path, bytes.len(), &vec![byte; by]),
            Self::Zero(at) => write(sim, path, at * BLOCK, &vec![0; block(bytes, at).len()]),
            Self::Swap(a, b) => {
                let (first, second) = (block(bytes, a), block(bytes, b));
                let same = first.len().min(second.len());
                write(sim, path, a * BLOCK, &second[..same])?;
                write(sim, path, b * BLOCK, &first[..same])
            }
            Self::Foreign { block: at, file, theirs } => {
                let mut theirs = block(&golden.files[file].1, theirs);
                theirs.truncate(block(bytes, at).len());
                write(sim, path, at * BLOCK, &theirs)
            }
            Self::Exchange(other) => {
                let (other, theirs) = &golden.files[other];
                replace(sim, path, theirs)?;
                replace(sim, other, bytes)
            }
            Self::Overwritten(other) => replace(sim, path, &golden.files[other].1),
            Self::Deleted => sim.remove_file(path),
            Self::Duplicated => {
                let next = next_name(path);
                match sim.create_new(&next) {
                    Ok(file) => file.write_all_at(bytes, 0),
                    // The next number is taken: that would be `Overwritten`.
                    Err(_) => Ok(()),
                }
            }
            Self::Older(at) => replace(sim, path, &golden.older[at].1),
        }
    }
}

fn open(sim: &SimFs, path: &Path) -> Result<Arc<dyn FsFile>, FsError> {
    sim.open(path, OpenMode::ReadWrite)
}

fn write(sim: &SimFs, path: &Path, offset: usize, bytes: &[u8]) -> Result<(), FsError> {
    open(sim, path)?.write_all_at(bytes, offset as u64)
}

fn replace(sim: &SimFs, path: &Path, bytes: &[u8]) -> Result<(), FsError> {
    sim.truncate(path, 0)?;
    write(sim, path, 0, bytes)
}

/// The name with its number, which may be the whole name, raised by one; `copy` where there is
/// none.
fn next_name(path: &Path) -> PathBuf {
    let name = path.file_name().map_or_else(Default::default, |name| name.to_string_lossy());
    let digits: String = name.chars().filter(char::is_ascii_digit).collect();
    let next = digits.parse::<u64>().ok().filter(|_| disk_part(path) != "object").map(|number| {
        name.replace(&digits, &format!("{:0width$}", number + 1, width = digits.len()))
    });
    path.with_file_name(next.unwrap_or_else(|| format!("{name}-copy")))
}
