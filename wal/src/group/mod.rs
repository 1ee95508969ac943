//! Group commit: many callers, one log, one sync for all of them.
//!
//! # Protocol
//! 1. [`GroupCommit::submit`] moves a request into a queue and returns. From here on the request
//!    belongs to the log: a caller that goes away, or whose future is dropped, changes nothing.
//! 2. One thread takes requests in order and hands each to [`Sink::stage`] with its LSN, up to the
//!    bounds of [`GroupOptions`].
//! 3. It writes all payloads in one vectored write, and syncs once if any of them asked for it.
//! 4. [`Sink::committed`] applies and acknowledges them, in order. Then the next group.
//!
//! # Invariants
//! - Group k + 1 is not written before the sync of group k returned (`worker`).
//! - Every submitted request ends in exactly one of: answered in `stage`, `committed`, `failed`,
//!   `rejected`. After a panic in the sink, what it held may be dropped instead, which its callers
//!   see as a closed channel: nobody waits for ever.
//! - The sink is called by one thread at a time.
//!
//! # Crash consistency
//! What was acknowledged under [`Durability::Sync`] is covered by a sync that returned. After a
//! failed write or sync nothing more is acknowledged.

mod handle;
mod patience;
mod queue;
mod stats;
mod worker;

pub use handle::GroupCommit;
pub use stats::LogStats;

use crate::{Lsn, WalError};
use std::{sync::Arc, time::Duration};

/// What an acknowledgement promises. Chosen per write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Acknowledged once this batch and all before it are synced. Survives a process kill, an OS
    /// crash and power loss. The default.
    #[default]
    Sync,
    /// Acknowledged once it is written to the OS, synced at most this much later. Survives a
    /// process kill; an OS crash or power loss may take what was acknowledged since the last
    /// sync.
    Interval(Duration),
    /// Acknowledged once it is written to the OS, synced whenever something else asks for it. No
    /// promise after an OS crash or power loss.
    Memory,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Staged {
    /// It is to be logged.
    Write {
        /// The bytes for the log; at most `frame_bytes_max` of [`crate::LogOptions`]. The sink
        /// checks that and answers a larger request by itself: here it would fail the whole group.
        payload: Vec<u8>,
        /// How durable it must be before the group is acknowledged.
        durability: Durability,
    },
    /// The sink has answered it, or will when it hears of this group; there is nothing to log and
    /// its LSN goes to the next request.
    Answered,
}

/// A written group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The LSN of its first batch.
    pub first: Lsn,
    /// The LSN of its last batch.
    pub last: Lsn,
    /// Every batch up to here survives power loss.
    pub durable_upto: Lsn,
    /// Was the group synced? Then `durable_upto` is at least `last`.
    pub synced: bool,
}

/// What the owner of the log does with requests. One thread calls it at a time. It must not wait
/// for a [`crate::Ticket`] of the same [`GroupCommit`]; it may submit.
pub trait Sink: Send + 'static {
    /// A write, with all that is needed to acknowledge it.
    type Request: Send + 'static;

    /// Turns a request into a payload. `lsn` is the request's number if it is written.
    fn stage(&mut self, lsn: Lsn, request: Self::Request) -> Staged;

    /// Gives back the payloads of what was staged, in order, just before `committed`: memory is freed
    /// most cheaply by the thread that it came from. By default they are freed here.
    fn written(&mut self, payloads: Vec<Vec<u8>>) {
        drop(payloads);
    }

    /// Everything staged since the last `committed` or `failed` is written (and synced, if any
    /// asked): apply it in order, then acknowledge.
    fn committed(&mut self, commit: &Commit);

    /// Nothing staged since the last `committed` or `failed` will be acknowledged. With
    /// [`WalError::Poisoned`] no later write will be either, and what was staged may be found at
    /// the next open or not; with any other error none of it was written, its LSNs are given
    /// again, and the log works on. May come with nothing staged.
    fn failed(&mut self, error: &Arc<WalError>);

    /// A request came after the log was poisoned ([`WalError::Poisoned`]) or closed
    /// ([`WalError::Closed`]); it was never staged.
    fn rejected(&mut self, request: Self::Request, error: &Arc<WalError>);
}

/// Settings of a [`GroupCommit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupOptions {
    /// No further request joins a group once it has this many bytes. Default 8 MiB. More means
    /// fewer syncs under load and a longer wait for the first in the group.
    pub bytes_max: u64,
    /// The most requests of a group. Default 1024.
    pub count_max: usize,
    /// How long a first request waits for company before its group is written. Default zero: the
    /// log waits only for callers that it has just answered, and at most a quarter of the time that
    /// a sync takes here (`patience`).
    pub delay_max: Duration,
    /// How long after the last write the log is sealed, which makes rot in the last group
    /// detectable at the price of one more sync. Default 100 ms.
    pub seal_idle: Duration,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            bytes_max: 8 << 20,
            count_max: 1024,
            delay_max: Duration::ZERO,
            seal_idle: Duration::from_millis(100),
        }
    }
}

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drive {
    /// A thread of its own. The clock must run at the speed of real time.
    Thread,
    /// The calling thread, inside [`GroupCommit::submit`] and the other calls; timers run only in
    /// [`GroupCommit::tick`]. For deterministic simulation: same calls, same log.
    Inline,
}
