//! Which backend a log gets: asked for, tried in the directory it is to work in, and if it does
//! not work there, standard calls and the reason.
//!
//! # Protocol
//! 1. Set the backend up. Kernels, seccomp profiles of containers and `kernel.io_uring_disabled`
//!    refuse this, in several ways.
//! 2. Write and sync a file in the log's directory with it, both ways that the log does, and read
//!    it back with standard calls: a file system may take the calls and not do them.
//! 3. Remove the file.
//!
//! # Crash consistency
//! The file's name is one that every open of the log removes as half made, whatever backend it
//! uses then; so a crash in here leaves nothing behind.

use super::{LogIo, StdIo};
use crate::{WalError, log::scratch_path};
use akidb_vfs::{Fs, FsError, FsFile};
use std::{fmt, io, io::IoSlice, path::Path, sync::Arc};

/// A way of writing and syncing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Positional writes, then `fdatasync`.
    Std,
    /// A write linked with its sync in one io_uring call.
    Uring,
    /// io_uring through tokio-uring, on a thread of its own.
    TokioUring,
}

/// Which backend is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// Standard calls. Works everywhere and needs no try.
    #[default]
    Std,
    /// io_uring where this build has it and the machine allows it, standard calls elsewhere.
    Auto,
    /// io_uring or an error.
    Uring,
    /// tokio-uring or an error.
    TokioUring,
}

/// Why a backend cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The code is not in this program.
    #[error("this program was built without it (it needs Linux and the cargo feature `{feature}`)")]
    NotBuilt {
        /// The feature that brings it.
        feature: &'static str,
    },

    /// The kernel gives no ring.
    #[error(
        "the kernel gives no io_uring: {0} (a container's seccomp profile, the sysctl \
         kernel.io_uring_disabled or an old kernel does that)"
    )]
    NoRing(#[source] io::Error),

    /// The machine gives no thread for it.
    #[error("its thread cannot start: {0}")]
    Thread(#[source] io::Error),

    /// It failed to write or sync a file in the log's directory.
    #[error("a try in the log's directory failed: {0}")]
    Probe(#[from] FsError),

    /// What it wrote and synced is not what is in the file.
    #[error("what it wrote in the log's directory was read back otherwise, from byte {offset} on")]
    ReadBack {
        /// Where the first byte is that differs.
        offset: u64,
    },
}

/// A backend that is ready to be used.
#[derive(Debug)]
pub struct Chosen {
    /// What writes and syncs.
    pub io: Arc<dyn LogIo>,
    /// Which one it is.
    pub backend: Backend,
    /// Why it is not the one that [`BackendChoice::Auto`] prefers.
    pub fallback: Option<BackendError>,
}

impl Backend {
    /// The name that settings and messages use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Std => "std",
            Self::Uring => "uring",
            Self::TokioUring => "tokio_uring",
        }
    }

    /// Readies the backend asked for, after trying it in `dir`, the directory of the log, which
    /// must exist and be locked by the caller. Standard calls are not tried.
    ///
    /// # Errors
    /// [`WalError::Backend`] when a backend was asked for by name and does not work here;
    /// [`BackendChoice::Std`] and [`BackendChoice::Auto`] never fail.
    ///
    /// ```
    /// use akidb_vfs::RealFs;
    /// use akidb_wal::{Backend, BackendChoice};
    /// # let dir = tempfile::tempdir().unwrap();
    /// let chosen = Backend::choose(&RealFs, dir.path(), BackendChoice::Auto)?;
    /// match &chosen.fallback {
    ///     None => assert_ne!(chosen.backend, Backend::Std),
    ///     Some(reason) => println!("using {}: {reason}", chosen.backend),
    /// }
    /// # Ok::<(), akidb_wal::WalError>(())
    /// ```
    pub fn choose(fs: &dyn Fs, dir: &Path, choice: BackendChoice) -> Result<Chosen, WalError> {
        let asked = match choice {
            BackendChoice::Std => return Ok(standard(None)),
            BackendChoice::Uring => Self::Uring,
            BackendChoice::TokioUring => Self::TokioUring,
            BackendChoice::Auto => {
                return Ok(Self::Uring
                    .ready(fs, dir)
                    .map_or_else(|reason| standard(Some(reason)), |io| chosen(io, Self::Uring)));
            }
        };
        let ready = asked.ready(fs, dir);
        ready.map(|io| chosen(io, asked)).map_err(|source| WalError::Backend {
            backend: asked,
            dir: dir.to_owned(),
            source,
        })
    }

    /// Sets the backend up and tries it.
    fn ready(self, fs: &dyn Fs, dir: &Path) -> Result<Arc<dyn LogIo>, BackendError> {
        let io: Arc<dyn LogIo> = match self {
            Self::Std => Arc::new(StdIo),
            Self::Uring => start_uring()?,
            Self::TokioUring => {
                // First without the runtime: it waits for ever for a call that the kernel refused
                // to take, while the ring says so.
                try_in(&*start_uring()?, fs, dir)?;
                start_tokio_uring()?
            }
        };
        try_in(&*io, fs, dir)?;
        Ok(io)
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn standard(fallback: Option<BackendError>) -> Chosen {
    Chosen { io: Arc::new(StdIo), backend: Backend::Std, fallback }
}

fn chosen(io: Arc<dyn LogIo>, backend: Backend) -> Chosen {
    Chosen { io, backend, fallback: None }
}

#[cfg(all(target_os = "linux", feature = "uring"))]
fn start_uring() -> Result<Arc<dyn LogIo>, BackendError> {
    let io = super::uring::UringIo::start().map_err(BackendError::NoRing)?;
    Ok(Arc::new(io))
}

#[cfg(not(all(target_os = "linux", feature = "uring")))]
fn start_uring() -> Result<Arc<dyn LogIo>, BackendError> {
    Err(BackendError::NotBuilt { feature: "uring" })
}

#[cfg(all(target_os = "linux", feature = "tokio-uring"))]
fn start_tokio_uring() -> Result<Arc<dyn LogIo>, BackendError> {
    Ok(Arc::new(super::tokio_uring::TokioUringIo::start()?))
}

#[cfg(not(all(target_os = "linux", feature = "tokio-uring")))]
fn start_tokio_uring() -> Result<Arc<dyn LogIo>, BackendError> {
    Err(BackendError::NotBuilt { feature: "tokio-uring" })
}

/// A page each: one written and synced at once, one in two calls.
const PAGE: usize = 4096;

fn try_in(io: &dyn LogIo, fs: &dyn Fs, dir: &Path) -> Result<(), BackendError> {
    let path = scratch_path(dir);
    match fs.remove_file(&path) {
        Err(error) if !error.is_not_found() => return Err(error.into()),
        _ => {}
    }
    let file = fs.create_new(&path)?;
    let tried = write_and_compare(io, &*file);
    let removed = fs.remove_file(&path);
    // The first failure says more.
    tried.and(removed.map_err(BackendError::Probe))
}

fn write_and_compare(io: &dyn LogIo, file: &dyn FsFile) -> Result<(), BackendError> {
    // No two of the pieces alike, nor zero: a piece that is missing or misplaced shows.
    let bytes: Vec<u8> = (0..2 * PAGE).map(|at| 1 + (at % 251) as u8).collect();
    let (first, second) = bytes.split_at(PAGE);
    let (head, tail) = first.split_at(PAGE / 3);
    io.write_and_sync(file, &mut [IoSlice::new(head), IoSlice::new(tail)], 0)?;
    io.write_group(file, &mut [IoSlice::new(second)], PAGE as u64)?;
    io.sync(file)?;
    let mut found = vec![0; bytes.len()];
    file.read_exact_at(&mut found, 0)?;
    match bytes.iter().zip(&found).position(|(wrote, read)| wrote != read) {
        None => Ok(()),
        Some(offset) => Err(BackendError::ReadBack { offset: offset as u64 }),
    }
}
