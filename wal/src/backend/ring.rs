//! One io_uring, used like a set of blocking calls. Owns all that is `unsafe` about it: what is
//! handed to the kernel is borrowed by it until it says that it is done with it.
//!
//! Must never return while the kernel may still read a caller's memory, whatever failed; must
//! never report a sync that ran beside its write and not after it. Called by `uring`.
//!
//! # Invariants
//! - Between two calls nothing is in flight and both queues are empty, or the ring is `broken` and
//!   never entered again.

use io_uring::{IoUring, opcode, squeue::Entry, squeue::Flags, types};
use rustix::io::Errno;
use std::{
    fmt,
    io::{self, ErrorKind, IoSlice},
    os::fd::{AsRawFd, BorrowedFd},
};

/// Room in the queue. Two are used at a time.
const ENTRIES: u32 = 8;

/// How often the kernel may say that it has no memory for a call before that is a failure. It may
/// find some in between; it must not keep the log waiting for ever.
const REFUSALS_MAX: u32 = 1000;

/// A ring for blocking calls.
pub(super) struct Ring {
    uring: IoUring,
    /// The error number after which entries may be left in the queue that must never be taken.
    broken: Option<i32>,
}

/// What became of a write and the sync linked to it.
#[derive(Debug)]
pub(super) struct Linked {
    /// How many bytes were written.
    pub(super) written: io::Result<usize>,
    /// Whether the sync ran, and after the write.
    pub(super) synced: io::Result<bool>,
}

/// What the kernel answered, per entry.
struct Answers<const N: usize> {
    results: [i32; N],
    /// Did it take all entries in one call? Else a link between them did not hold.
    together: bool,
}

impl Ring {
    /// # Errors
    /// What the kernel says where io_uring is missing, forbidden or out of resources.
    pub(super) fn new() -> io::Result<Self> {
        // Completions wait for us to enter the kernel, which we do to wait for them, instead of
        // interrupting us. Kernels before 5.19 do not know that.
        let uring = match IoUring::builder().setup_coop_taskrun().build(ENTRIES) {
            Err(error) if error.kind() == ErrorKind::InvalidInput => IoUring::new(ENTRIES)?,
            other => other?,
        };
        Ok(Self { uring, broken: None })
    }

    /// One positional vectored write; may be short.
    pub(super) fn write(
        &mut self,
        file: BorrowedFd<'_>,
        slices: &[IoSlice<'_>],
        offset: u64,
    ) -> io::Result<usize> {
        let [written] = self.run([write_entry(file, slices, offset)])?.results;
        count_of(written)
    }

    /// One sync of the file's contents.
    pub(super) fn sync(&mut self, file: BorrowedFd<'_>) -> io::Result<()> {
        let [synced] = self.run([sync_entry(file)])?.results;
        count_of(synced).map(|_| ())
    }

    /// A write, and a sync that runs if all of it was written.
    ///
    /// # Errors
    /// The ring's own failure; those of the two calls are in the answer.
    pub(super) fn write_then_sync(
        &mut self,
        file: BorrowedFd<'_>,
        slices: &[IoSlice<'_>],
        offset: u64,
    ) -> io::Result<Linked> {
        let write = write_entry(file, slices, offset).flags(Flags::IO_LINK);
        let Answers { results: [written, synced], together } =
            self.run([write, sync_entry(file)])?;
        let synced = match count_of(synced) {
            // It was dropped, because the write was short or failed.
            Err(error) if error.raw_os_error() == Some(Errno::CANCELED.raw_os_error()) => Ok(false),
            other => other.map(|_| together),
        };
        Ok(Linked { written: count_of(written), synced })
    }

    /// Hands the entries over and waits until the kernel is done with all of them.
    ///
    /// # Errors
    /// When the ring does not work (any more). Nothing of the entries is in flight even then.
    #[expect(unsafe_code, reason = "what the kernel borrows has no safe form; see the argument")]
    fn run<const N: usize>(&mut self, entries: [Entry; N]) -> io::Result<Answers<N>> {
        if let Some(errno) = self.broken {
            return Err(io::Error::from_raw_os_error(errno));
        }
        let mut number = 0;
        let entries = entries.map(|entry| {
            number += 1;
            entry.user_data(number - 1)
        });
        // SAFETY: the entries point to the slices and the descriptor of our callers, which they
        // have borrowed for as long as `run` runs, and `run` returns only when each entry has been
        // answered, or was not taken by the kernel and never will be (`wait_for`).
        let pushed = unsafe { self.uring.submission().push_multiple(&entries) };
        // Cannot be: the queue is empty between two calls and has more room than we use.
        pushed.map_err(|full| io::Error::other(full.to_string()))?;
        self.wait_for()
    }

    fn wait_for<const N: usize>(&mut self) -> io::Result<Answers<N>> {
        let mut results = [None; N];
        let mut together = true;
        let mut refusals = 0;
        loop {
            let missing = results.iter().filter(|result| result.is_none()).count();
            if missing == 0 {
                let results = results.map(Option::unwrap_or_default);
                return Ok(Answers { results, together });
            }
            let entered = self.uring.submit_and_wait(missing);
            self.collect(&mut results);
            let left = self.uring.submission().len();
            together &= left == 0 || left == N;
            match entered {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if passes(&error) && refusals < REFUSALS_MAX => {
                    refusals += 1;
                    std::thread::yield_now();
                }
                Err(error) => {
                    self.broken = Some(error.raw_os_error().unwrap_or_default());
                    self.outlast(&mut results, left);
                    return Err(error);
                }
            }
        }
    }

    /// Waits for what the kernel took, without entering the ring: `left` entries are still in its
    /// queue, and must stay there now that their memory is about to go.
    fn outlast(&mut self, results: &mut [Option<i32>], left: usize) {
        while results.iter().filter(|result| result.is_none()).count() > left {
            std::thread::yield_now();
            self.collect(results);
        }
    }

    fn collect(&mut self, results: &mut [Option<i32>]) {
        for answer in self.uring.completion() {
            let at = usize::try_from(answer.user_data()).ok();
            if let Some(result) = at.and_then(|at| results.get_mut(at)) {
                *result = Some(answer.result());
            }
        }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("broken", &self.broken).finish_non_exhaustive()
    }
}

fn write_entry(file: BorrowedFd<'_>, slices: &[IoSlice<'_>], offset: u64) -> Entry {
    // `IoSlice` promises to be an `iovec`. Callers hand over at most 1024 of them.
    let count = u32::try_from(slices.len()).unwrap_or(u32::MAX);
    opcode::Writev::new(types::Fd(file.as_raw_fd()), slices.as_ptr().cast(), count)
        .offset(offset)
        .build()
}

fn sync_entry(file: BorrowedFd<'_>) -> Entry {
    opcode::Fsync::new(types::Fd(file.as_raw_fd())).flags(types::FsyncFlags::DATASYNC).build()
}

/// Out of memory for the call, or of room for its answer: both may pass.
fn passes(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ResourceBusy)
}

/// What the kernel means by an answer: a negative one is an error number.
fn count_of(answer: i32) -> io::Result<usize> {
    usize::try_from(answer).map_err(|_| io::Error::from_raw_os_error(answer.saturating_neg()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use akidb_vfs::{Fs, OpenMode, RealFs};
    use std::path::Path;
    use tempfile::TempDir;

    /// `None` where the machine allows no ring; the contract tests say so.
    fn ring() -> Option<Ring> {
        Ring::new().ok()
    }

    #[test]
    fn a_sync_counts_only_behind_a_whole_write() {
        let Some(mut ring) = ring() else { return };
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("file");
        let file = RealFs.create_new(&path).unwrap();
        let slices = [IoSlice::new(b"some"), IoSlice::new(b"bytes")];
        let whole = ring.write_then_sync(file.os_file().unwrap(), &slices, 0).unwrap();
        assert!(matches!(whole, Linked { written: Ok(9), synced: Ok(true) }), "{whole:?}");

        let only_read = RealFs.open(&path, OpenMode::Read).unwrap();
        let failed = ring.write_then_sync(only_read.os_file().unwrap(), &slices, 0).unwrap();
        assert!(matches!(failed, Linked { written: Err(_), synced: Ok(false) }), "{failed:?}");
    }

    /// An entry that the kernel refuses before it begins takes the sync with it, and what is left
    /// in the queue is not there in the next call.
    #[test]
    fn a_refused_entry_leaves_nothing_to_the_next_call() {
        let Some(mut ring) = ring() else { return };
        let dir = TempDir::new().unwrap();
        let file = RealFs.create_new(&dir.path().join("file")).unwrap();
        let fd = file.os_file().unwrap();
        let too_many = vec![IoSlice::new(b"x"); 1025];
        let refused = ring.write_then_sync(fd, &too_many, 0).unwrap();
        assert!(refused.written.is_err() && matches!(refused.synced, Ok(false)), "{refused:?}");
        for offset in 0..20 {
            assert_eq!(ring.write(fd, &[IoSlice::new(b"x")], offset).unwrap(), 1);
            ring.sync(fd).unwrap();
        }
        assert_eq!(file.len().unwrap(), 20);
    }

    #[test]
    fn a_sync_that_fails_is_told_from_one_that_never_ran() {
        let Some(mut ring) = ring() else { return };
        let null = RealFs.open(Path::new("/dev/null"), OpenMode::ReadWrite).unwrap();
        let linked =
            ring.write_then_sync(null.os_file().unwrap(), &[IoSlice::new(b"x")], 0).unwrap();
        assert!(matches!(linked, Linked { written: Ok(1), synced: Err(_) }), "{linked:?}");
    }
}
