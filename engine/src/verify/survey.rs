//! A damaged log, read as far as it goes: which LSNs are whole, which are gone, and the bodies of
//! those that are there. Recovery never comes here: it takes the log whole or refuses it.
//!
//! # Which file counts
//! Of two files that hold one LSN the one with the higher number is right: an open carries the
//! tail of the last file over to a new one, and gives LSNs again that a torn tail had. So a file
//! speaks only for LSNs below the first of every later file.

#![deny(clippy::indexing_slicing)]

use crate::error::Result;
use akidb_vfs::Fs;
use akidb_wal::{
    FrameKind, Lsn, WAL_KIND, WalError,
    framed::{FrameInfo, FrameStatus, FramedFile, Salvaged},
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// A WAL file as far as it can be read.
#[derive(Clone, Debug)]
pub(crate) struct SurveyedFile {
    pub(crate) path: PathBuf,
    pub(crate) number: u64,
    /// The LSNs it speaks for: from, and up to but without. Empty where nothing can be read.
    speaks_for: (u64, u64),
    /// False if not a frame of it can be read.
    pub(crate) readable: bool,
    /// False if bytes of it are damaged.
    pub(crate) whole: bool,
}

/// What is left of a log.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogSurvey {
    /// Every WAL file, by number.
    pub(crate) files: Vec<SurveyedFile>,
    /// Runs of LSNs (first and last) above the floor that no file holds, though one should.
    pub(crate) missing: Vec<(u64, u64)>,
    /// The first LSN that any file holds.
    pub(crate) first: Option<u64>,
    /// The highest LSN that anything speaks of.
    pub(crate) highest: u64,
    /// True if LSNs above `highest` may have been acknowledged, and nothing tells how many.
    pub(crate) open_ended: bool,
}

/// The number that a WAL file's name states.
pub(crate) fn wal_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    let ours = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|number| ours && *number > 0)
}

/// What one file says beside its frames.
struct Read {
    file: SurveyedFile,
    first: u64,
    void: Option<u64>,
    /// The last LSN of the file before it.
    before: Option<u64>,
    good: Vec<u64>,
    /// The last LSN that a seal tells of: the batch before it may be gone.
    sealed: Option<u64>,
    /// True if nothing can have stood after the last good frame.
    ends_well: bool,
}

impl LogSurvey {
    /// Reads every WAL file in `dir`. LSNs up to `floor` are not missed; `at_least` is an LSN that
    /// is known to have been in the log.
    ///
    /// # Errors
    /// A failed call, or a file of a newer version. Damage is part of the answer.
    pub(crate) fn take(fs: &dyn Fs, dir: &Path, floor: Lsn, at_least: Lsn) -> Result<Self> {
        let mut numbers: Vec<(u64, PathBuf)> = Vec::new();
        match fs.list_dir(dir) {
            Ok(entries) => numbers.extend(entries.into_iter().filter_map(|entry| {
                let number = wal_number(entry.name.to_str()?)?;
                Some((number, dir.join(entry.name)))
            })),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        numbers.sort_unstable();
        let mut reads = Vec::new();
        for (number, path) in numbers {
            reads.push(read(fs, &path, number)?);
        }
        reads.sort_by_key(|read| read.file.number);
        let void: BTreeSet<u64> = reads.iter().filter_map(|read| read.void).collect();
        let mut upto = u64::MAX;
        for read in reads.iter_mut().rev() {
            read.file.speaks_for = if void.contains(&read.file.number) || !read.file.readable {
                (0, 0)
            } else {
                (read.first, upto)
            };
            if read.file.readable {
                upto = upto.min(read.first);
            }
        }
        Ok(Self::sum_up(reads, floor.get(), at_least.get()))
    }

    fn sum_up(reads: Vec<Read>, floor: u64, at_least: u64) -> Self {
        let mut known = BTreeSet::new();
        let mut highest = at_least.max(floor);
        for read in &reads {
            let (from, upto) = read.file.speaks_for;
            known.extend(read.good.iter().filter(|lsn| (from..upto).contains(lsn)));
            highest = highest.max(read.sealed.filter(|l| (from..upto).contains(l)).unwrap_or(0));
            highest = highest.max(read.before.unwrap_or(0));
            if read.file.readable {
                highest = highest.max(read.first.saturating_sub(1));
            }
        }
        highest = highest.max(known.last().copied().unwrap_or(0));
        // Only the last file can have held more than anything else tells of.
        let open_ended = reads.last().is_none_or(|read| !read.ends_well);
        let mut missing = Vec::new();
        let mut next = floor.saturating_add(1);
        for lsn in known.range(next..).copied().chain([highest.saturating_add(1)]) {
            if lsn > next {
                missing.push((next, lsn - 1));
            }
            next = lsn.saturating_add(1);
        }
        let first = known.first().copied();
        let files = reads.into_iter().map(|read| read.file).collect();
        Self { files, missing, first, highest, open_ended }
    }

    /// Hands out every body that can be read, in the order of LSNs.
    ///
    /// # Errors
    /// A failed call; what `visit` returns.
    pub(crate) fn visit(
        &self,
        fs: &dyn Fs,
        visit: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        // Files speak for ranges of LSNs that ascend with their numbers.
        for file in &self.files {
            let (from, upto) = file.speaks_for;
            if from >= upto {
                continue;
            }
            let image = FramedFile::salvage(fs, &file.path, WAL_KIND, file.number)?.file;
            for (lsn, frame) in data_frames(&image) {
                if let Some(bytes) = image.payload(&frame).filter(|_| (from..upto).contains(&lsn)) {
                    visit(lsn, bytes)?;
                }
            }
        }
        Ok(())
    }

    /// The LSN that the log begins with, by the headers of its files: its first frames may be gone.
    pub(crate) fn begins(&self) -> Option<u64> {
        let speaking = self.files.iter().map(|file| file.speaks_for);
        speaking.filter(|(from, upto)| from < upto).map(|(from, _)| from).min()
    }

    /// The file that an LSN is read from.
    pub(crate) fn file_of(&self, lsn: u64) -> Option<&Path> {
        let holds = |file: &&SurveyedFile| {
            let (from, upto) = file.speaks_for;
            (from..upto).contains(&lsn)
        };
        self.files.iter().find(holds).map(|file| &*file.path)
    }

    /// How many LSNs are missing.
    pub(crate) fn missing_count(&self) -> u64 {
        self.missing.iter().map(|(first, last)| last - first + 1).sum()
    }
}

fn data_frames(image: &FramedFile) -> impl Iterator<Item = (u64, FrameInfo)> {
    image.inspect().into_iter().filter_map(|frame| match frame.status {
        FrameStatus::Good { kind: FrameKind::Data, seq, .. } => Some((seq, frame)),
        _ => None,
    })
}

fn last_seal(image: &FramedFile) -> Option<u64> {
    let seals = image.inspect().into_iter().filter_map(|frame| match frame.status {
        FrameStatus::Good { kind: FrameKind::Seal, seq, .. } => Some(seq),
        _ => None,
    });
    seals.max()
}

fn read(fs: &dyn Fs, path: &Path, number: u64) -> Result<Read> {
    let file = |readable, whole| SurveyedFile {
        path: path.to_owned(),
        number,
        speaks_for: (0, 0),
        readable,
        whole,
    };
    match FramedFile::salvage(fs, path, WAL_KIND, number) {
        Ok(Salvaged { file: image, problem, headless }) => {
            let header = *image.header();
            let ends_bad = matches!(
                image.inspect().last(),
                Some(FrameInfo { status: FrameStatus::Bad { .. }, .. })
            );
            let bad =
                image.inspect().iter().any(|frame| matches!(frame.status, FrameStatus::Bad { .. }));
            Ok(Read {
                file: SurveyedFile {
                    // Under another file's name its frames are still what its header says.
                    number: header.number,
                    ..file(true, problem.is_none() && !bad && header.number == number)
                },
                first: header.first_seq,
                void: header.replaces.filter(|_| !headless),
                before: header.predecessor.map(|before| before.last_seq),
                good: data_frames(&image).map(|(lsn, _)| lsn).collect(),
                sealed: last_seal(&image),
                // A header alone that is damaged hides no frame; an end that was cut off may.
                ends_well: !ends_bad && (headless || problem.is_none()),
            })
        }
        Err(WalError::Corruption { .. } | WalError::Foreign { .. }) => Ok(Read {
            file: file(false, false),
            first: 0,
            void: None,
            before: None,
            good: Vec::new(),
            sealed: None,
            ends_well: false,
        }),
        Err(error) => Err(error.into()),
    }
}
