//! The tier of a collection and the moves between tiers, as a machine that decides who may move.
//!
//! Owns which tier a collection is in, which move is under way, and the pin. It must never do the
//! move itself, look at a clock or decide that one is due: the engine does the first, the policy of
//! the tiering crate the others. Callers are the engine's moves, manual or by policy, and every
//! search, which asks for the tier.
//!
//! # Protocol of a move
//! 1. [`TierCell::claim`]: from here on every other move is refused and told which one is under way.
//! 2. The work: encode, upload, fetch. Nothing that readers use is touched.
//! 3. [`Claim::seal`]: the last moment at which a pin or a close stops the move. After it the
//!    durable record of the move is written.
//! 4. [`Sealed::finish`], once the record is durable. A claim that is dropped instead, sealed or
//!    not, leaves the tier as it was.
//!
//! # Invariants
//! - One claim at a time. Whoever wants a move and cannot have it gets an answer at once;
//!   [`TierCell::claim_or_wait`] alone waits, for those who can do nothing without the move.
//! - Readers of the tier take no lock, and what was done before a move finished has happened for
//!   whoever sees the new tier.
//! - A demotion is never sealed once a pin was accepted, and a pin is never accepted between a
//!   demotion's seal and its end.
//! - The generation rises with every change of tier or pin, so that a decision made on an older
//!   state can be refused ([`TierCell::claim_at`]).

use crate::sync::{AtomicU64, Condvar, Mutex, MutexGuard, wait};
use std::{fmt, sync::atomic::Ordering};

/// Where the data of a collection is, from the fastest to the cheapest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// On local disk, with what searches touch resident in memory.
    Hot,
    /// On local disk, mapped when it is touched.
    Warm,
    /// In the object store.
    Cold,
}

impl Tier {
    /// All of them, from the fastest to the cheapest.
    pub const ALL: [Self; 3] = [Self::Hot, Self::Warm, Self::Cold];

    /// True if data that is here is on the local disk.
    #[must_use]
    pub const fn is_local(self) -> bool {
        matches!(self, Self::Hot | Self::Warm)
    }

    /// The lower-case name: `hot`, `warm` or `cold`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Warm => "warm",
            Self::Cold => "cold",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What is known of a collection's tier at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierState {
    /// Where the data is. During a move: where it still is.
    pub tier: Tier,
    /// Where the move that is under way goes; `None` if there is none.
    pub moving_to: Option<Tier>,
    /// True if no demotion may happen.
    pub pinned: bool,
    /// Raised by every change of tier or pin.
    pub generation: u64,
}

/// Why a move, or a pin, was refused. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Another move is under way.
    #[error("a move from {from} to {to} is under way; wait for its end, then look again")]
    Moving {
        /// Where it comes from.
        from: Tier,
        /// Where it goes.
        to: Tier,
    },
    /// The collection is pinned, and the move is a demotion.
    #[error("pinned where it is, {tier}; unpin it first")]
    Pinned {
        /// Where it stays.
        tier: Tier,
    },
    /// It is there already.
    #[error("it is {tier} already")]
    Already {
        /// Where it is.
        tier: Tier,
    },
    /// Tier or pin were changed after the decision was made.
    #[error("tier or pin were changed since the decision; it is {tier} now, decide again")]
    Changed {
        /// Where it is.
        tier: Tier,
    },
    /// The move that the caller waited for did not succeed.
    #[error("the move from {from} to {to} that this call waited for failed; retry")]
    Failed {
        /// Where it came from, and where the data still is.
        from: Tier,
        /// Where it was to go.
        to: Tier,
    },
    /// The collection is dropped or the database closed.
    #[error("closed")]
    Closed,
}

/// The tier of one collection.
///
/// ```
/// use akidb_handoff::{Refused, Tier, TierCell};
/// let cell = TierCell::new(Tier::Warm, false);
/// let demotion = cell.claim(Tier::Cold)?;
/// let refused = cell.claim(Tier::Hot).unwrap_err();
/// assert_eq!(refused, Refused::Moving { from: Tier::Warm, to: Tier::Cold });
/// assert_eq!(cell.tier(), Tier::Warm, "until the move has ended");
/// demotion.seal()?.finish();
/// assert_eq!(cell.tier(), Tier::Cold);
/// # Ok::<(), Refused>(())
/// ```
#[derive(Debug)]
pub struct TierCell {
    lane: Mutex<Lane>,
    /// The lane's state as readers see it; written under the lock.
    seen: AtomicU64,
    ended: Condvar,
}

/// The truth, under the lock.
#[derive(Debug)]
struct Lane {
    state: TierState,
    sealed: bool,
    closed: bool,
    /// The number of the claim that is out, or was last.
    claims: u64,
    /// The last claim that ended without a new tier: its number and where it went.
    failed: Option<(u64, Tier)>,
}

/// The right to move a collection. Dropped, it changes nothing.
#[derive(Debug)]
#[must_use = "a claim that is dropped gives the move up"]
pub struct Claim<'a> {
    held: Held<'a>,
}

/// A move that nobody can stop any more but its owner. Dropped, it leaves the tier as it was.
#[derive(Debug)]
#[must_use = "a sealed move that is dropped is given up"]
pub struct Sealed<'a> {
    held: Held<'a>,
}

/// What [`TierCell::claim_or_wait`] came to.
#[derive(Debug)]
pub enum Turn<'a> {
    /// The move is the caller's.
    Yours(Claim<'a>),
    /// The collection is where the caller wants it, or nearer.
    Done(TierState),
}

#[derive(Debug)]
struct Held<'a> {
    cell: &'a TierCell,
    from: Tier,
    to: Tier,
    finished: bool,
}

impl TierCell {
    /// A collection that lies in `tier`, with no move under way: as it is after an open.
    #[must_use]
    pub fn new(tier: Tier, pinned: bool) -> Self {
        let state = TierState { tier, moving_to: None, pinned, generation: 0 };
        let lane = Lane { state, sealed: false, closed: false, claims: 0, failed: None };
        Self { seen: AtomicU64::new(pack(&state)), lane: Mutex::new(lane), ended: Condvar::new() }
    }

    /// Where the data is. One load: for every search.
    pub fn tier(&self) -> Tier {
        self.state().tier
    }

    /// Tier, move, pin and generation, of one moment. One load.
    pub fn state(&self) -> TierState {
        // Acquire pairs with the Release in `publish`: who sees the tier of a move that finished
        // sees the parts that it installed.
        unpack(self.seen.load(Ordering::Acquire))
    }

    /// Claims the move to a tier.
    ///
    /// # Errors
    /// [`Refused`] by another move, the pin (if `to` is colder), a close, or because it is there.
    pub fn claim(&self, to: Tier) -> Result<Claim<'_>, Refused> {
        self.claim_locked(&mut self.lane.lock(), to)
    }

    /// Claims a move that was decided on when the generation was this: a policy that looked at
    /// the collection before somebody moved or pinned it by hand must not undo that.
    ///
    /// # Errors
    /// As [`TierCell::claim`], and [`Refused::Changed`].
    pub fn claim_at(&self, generation: u64, to: Tier) -> Result<Claim<'_>, Refused> {
        let mut lane = self.lane.lock();
        if lane.state.generation != generation {
            return Err(Refused::Changed { tier: lane.state.tier });
        }
        self.claim_locked(&mut lane, to)
    }

    /// For a caller that can do nothing before the collection is at `to` or nearer, such as a
    /// search that needs local data. Waits for the move that is under way, if there is one. Many
    /// callers at once cause one move, and share its end.
    ///
    /// # Errors
    /// [`Refused::Failed`] if a move to `to` or nearer that this call waited for failed, so that a
    /// store that is down is asked once and not once per caller; [`Refused::Closed`].
    pub fn claim_or_wait(&self, to: Tier) -> Result<Turn<'_>, Refused> {
        let mut lane = self.lane.lock();
        let mut waited_from = None;
        loop {
            if lane.closed {
                return Err(Refused::Closed);
            }
            let TierState { tier, moving_to, .. } = lane.state;
            if tier <= to {
                return Ok(Turn::Done(lane.state));
            }
            if moving_to.is_some() {
                waited_from.get_or_insert(lane.claims);
                lane = wait(&self.ended, lane);
                continue;
            }
            if let (Some(first), Some((number, gave_up))) = (waited_from, lane.failed)
                && number >= first
                && gave_up <= to
            {
                return Err(Refused::Failed { from: tier, to: gave_up });
            }
            return self.claim_locked(&mut lane, to).map(Turn::Yours);
        }
    }

    /// Forbids demotions. One that is under way and not sealed will fail at its seal.
    ///
    /// # Errors
    /// [`Refused::Moving`] while a sealed demotion ends; [`Refused::Closed`].
    pub fn pin(&self) -> Result<TierState, Refused> {
        let mut lane = self.lane.lock();
        if lane.closed {
            return Err(Refused::Closed);
        }
        let TierState { tier: from, moving_to, .. } = lane.state;
        if let Some(to) = moving_to.filter(|to| *to > from && lane.sealed) {
            return Err(Refused::Moving { from, to });
        }
        Ok(self.set_pinned(&mut lane, true))
    }

    /// Allows demotions again.
    ///
    /// # Errors
    /// [`Refused::Closed`].
    pub fn unpin(&self) -> Result<TierState, Refused> {
        let mut lane = self.lane.lock();
        if lane.closed {
            return Err(Refused::Closed);
        }
        Ok(self.set_pinned(&mut lane, false))
    }

    /// Ends it all: no claim, seal or pin is granted from here on, and those who wait are told.
    /// Returns when the move that was under way has ended.
    pub fn close(&self) {
        let mut lane = self.lane.lock();
        lane.closed = true;
        self.ended.notify_all();
        while lane.state.moving_to.is_some() {
            lane = wait(&self.ended, lane);
        }
    }

    fn claim_locked(&self, lane: &mut Lane, to: Tier) -> Result<Claim<'_>, Refused> {
        let TierState { tier: from, moving_to, pinned, .. } = lane.state;
        if lane.closed {
            return Err(Refused::Closed);
        }
        if let Some(to) = moving_to {
            return Err(Refused::Moving { from, to });
        }
        if from == to {
            return Err(Refused::Already { tier: from });
        }
        if pinned && to > from {
            return Err(Refused::Pinned { tier: from });
        }
        lane.state.moving_to = Some(to);
        lane.claims += 1;
        self.publish(lane);
        Ok(Claim { held: Held { cell: self, from, to, finished: false } })
    }

    fn set_pinned(&self, lane: &mut Lane, pinned: bool) -> TierState {
        if lane.state.pinned != pinned {
            lane.state.pinned = pinned;
            lane.state.generation += 1;
            self.publish(lane);
        }
        lane.state
    }

    fn publish(&self, lane: &Lane) {
        self.seen.store(pack(&lane.state), Ordering::Release);
    }

    /// Ends the move that is under way.
    fn end(&self, mut lane: MutexGuard<'_, Lane>, to: Tier, finished: bool) -> TierState {
        if finished {
            lane.state.tier = to;
            lane.state.generation += 1;
        } else {
            lane.failed = Some((lane.claims, to));
        }
        lane.state.moving_to = None;
        lane.sealed = false;
        self.publish(&lane);
        self.ended.notify_all();
        lane.state
    }
}

impl<'a> Claim<'a> {
    /// Where the data is.
    pub fn from(&self) -> Tier {
        self.held.from
    }

    /// Where it goes.
    pub fn to(&self) -> Tier {
        self.held.to
    }

    /// Asks for the last time whether the move may be made; the durable record of it comes next.
    ///
    /// # Errors
    /// [`Refused::Pinned`] if it is a demotion and a pin came meanwhile, [`Refused::Closed`]. The
    /// claim is given up.
    pub fn seal(self) -> Result<Sealed<'a>, Refused> {
        let Held { cell, from, to, .. } = self.held;
        let mut lane = cell.lane.lock();
        if lane.closed {
            drop(lane);
            return Err(Refused::Closed);
        }
        if lane.state.pinned && to > from {
            drop(lane);
            return Err(Refused::Pinned { tier: from });
        }
        lane.sealed = true;
        drop(lane);
        Ok(Sealed { held: self.held })
    }
}

impl Sealed<'_> {
    /// The move has happened, durably. Returns the new state.
    pub fn finish(mut self) -> TierState {
        self.held.finished = true;
        let Held { cell, to, .. } = self.held;
        cell.end(cell.lane.lock(), to, true)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.cell.end(self.cell.lane.lock(), self.to, false);
        }
    }
}

/// Two bits for each tier, 3 for "none"; a bit for the pin; the generation above them.
const TIER_BITS: u64 = 0b11;
const MOVING_SHIFT: u32 = 2;
const PINNED_BIT: u64 = 1 << 4;
const GENERATION_SHIFT: u32 = 5;

fn pack(state: &TierState) -> u64 {
    let code = |tier: Option<Tier>| tier.map_or(TIER_BITS, |tier| tier as u64);
    code(Some(state.tier))
        | code(state.moving_to) << MOVING_SHIFT
        | if state.pinned { PINNED_BIT } else { 0 }
        | state.generation << GENERATION_SHIFT
}

fn unpack(bits: u64) -> TierState {
    let tier = |code: u64| match code & TIER_BITS {
        0 => Some(Tier::Hot),
        1 => Some(Tier::Warm),
        2 => Some(Tier::Cold),
        _ => None,
    };
    TierState {
        // `pack` stores a tier here, never "none".
        tier: tier(bits).unwrap_or(Tier::Cold),
        moving_to: tier(bits >> MOVING_SHIFT),
        pinned: bits & PINNED_BIT != 0,
        generation: bits >> GENERATION_SHIFT,
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
