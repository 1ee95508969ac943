//! Which collections are due for a move between tiers. A pure function, [`plan`], from what is known
//! of all collections at one moment to the moves to make, in order.
//!
//! Owns the rules and their settings. Never moves anything, reads no clock and keeps nothing between
//! calls: the background worker calls it once a cycle and carries out what it says, by
//! [`TierCell::claim_at`](akidb_handoff::TierCell::claim_at), so that a plan that was overtaken by a
//! manual move is refused.
//!
//! # Rules
//! 1. Nothing is said about a collection that is pinned, is moving, or has opted out
//!    ([`TierOverrides::automatic`]). What it takes counts towards the budgets.
//! 2. Hot and idle for `hot_idle_ms`: to warm. Warm and idle for `warm_idle_ms`: to cold.
//! 3. While a budget is exceeded, the least recently used of those that it counts goes: from memory
//!    to warm, from disk to cold.
//! 4. Cold and read since it became cold: to warm. Warm and read `hot_accesses` times in the
//!    window: to hot. The most recently used comes first, and each only if it fits into the
//!    budgets, for which it may displace collections that were used before it.
//!
//! # Invariants
//! - A collection is named once in a plan, so nothing goes back and forth within a cycle. A second
//!   plan, after the first was carried out and the counts were reset, reverses none of its moves.
//! - After the plan each budget is kept, or nothing is left that it could take away.
//! - The same input in any order gives the same plan; demotions come before promotions, so that a
//!   budget is not exceeded on the way.

mod due;
mod rooms;

use crate::Access;
use akidb_handoff::{Tier, TierState};
use serde::{Deserialize, Serialize};
use std::time::Duration;

const HOUR_MS: u64 = 3_600_000;

/// When collections move by themselves. Plain data; times in milliseconds, sizes in bytes.
///
/// ```
/// use akidb_tiering::TierPolicy;
/// let policy = TierPolicy { memory_budget_bytes: Some(4 << 30), ..TierPolicy::default() };
/// assert_eq!(policy.hot_idle_ms, 6 * 3_600_000);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TierPolicy {
    /// Whether anything moves by itself. Default: true. Without it everything stays where it is
    /// until it is moved by hand.
    pub enabled: bool,
    /// A hot collection that was not read for so long becomes warm. Default: 6 hours. Lower it to
    /// free memory sooner; the first searches after a pause then read from disk.
    pub hot_idle_ms: u64,
    /// A warm collection that was not read for so long becomes cold. Default: 7 days. Lower it to
    /// free disk sooner; each return costs a download.
    pub warm_idle_ms: u64,
    /// Whether a cold collection that was read becomes warm. Default: true.
    pub promote_on_access: bool,
    /// A warm collection that was read so often within the window becomes hot. Default: 10. Raise
    /// it where single bursts should not take memory. 0 counts as 1.
    pub hot_accesses: u64,
    /// The length of the window in which accesses are counted. Default: 1 hour.
    pub access_window_ms: u64,
    /// What all hot collections together may hold in memory; the least recently used become warm
    /// beyond it. Default: none, no limit.
    pub memory_budget_bytes: Option<u64>,
    /// What all local collections together may hold on disk; the least recently used become cold
    /// beyond it. Default: none, no limit.
    pub disk_budget_bytes: Option<u64>,
}

impl Default for TierPolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            hot_idle_ms: 6 * HOUR_MS,
            warm_idle_ms: 7 * 24 * HOUR_MS,
            promote_on_access: true,
            hot_accesses: 10,
            access_window_ms: HOUR_MS,
            memory_budget_bytes: None,
            disk_budget_bytes: None,
        }
    }
}

/// What one collection wants otherwise than the policy. Plain data; every field may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TierOverrides {
    /// False: never moved by the policy, neither by time nor by a budget.
    pub automatic: Option<bool>,
    /// In place of [`TierPolicy::hot_idle_ms`].
    pub hot_idle_ms: Option<u64>,
    /// In place of [`TierPolicy::warm_idle_ms`].
    pub warm_idle_ms: Option<u64>,
    /// In place of [`TierPolicy::promote_on_access`].
    pub promote_on_access: Option<bool>,
    /// In place of [`TierPolicy::hot_accesses`].
    pub hot_accesses: Option<u64>,
}

/// A collection as the policy sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The collection's number.
    pub id: u32,
    /// Tier, move under way, pin and generation.
    pub state: TierState,
    /// Its accesses. The counts were reset at its last move.
    pub access: Access,
    /// What it holds in memory while hot, or would hold if it were.
    pub memory_bytes: u64,
    /// What it holds on disk while hot or warm, or would hold if it were.
    pub disk_bytes: u64,
    /// What it wants otherwise.
    pub overrides: TierOverrides,
}

/// Why a move is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MoveReason {
    /// It was not read for long enough.
    Idle,
    /// Memory is needed, and it was used least recently.
    MemoryBudget,
    /// Disk is needed, and it was used least recently.
    DiskBudget,
    /// It was read while it was cold.
    Accessed,
    /// It was read often enough.
    Busy,
}

/// A move to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedMove {
    /// The collection's number.
    pub id: u32,
    /// Where it was when the plan was made.
    pub from: Tier,
    /// Where it goes.
    pub to: Tier,
    /// Why.
    pub reason: MoveReason,
    /// The generation that the plan was made on, for
    /// [`TierCell::claim_at`](akidb_handoff::TierCell::claim_at).
    pub generation: u64,
}

/// The moves that are due at `now`, which is on the clock of the accesses, in the order in which to
/// make them.
///
/// ```
/// use akidb_handoff::{Tier, TierCell};
/// use akidb_tiering::{Access, Candidate, MoveReason, TierOverrides, TierPolicy, plan};
/// use std::time::Duration;
///
/// let candidate = Candidate {
///     id: 7,
///     state: TierCell::new(Tier::Hot, false).state(),
///     access: Access { count: 0, last: Duration::ZERO },
///     memory_bytes: 1 << 20,
///     disk_bytes: 4 << 20,
///     overrides: TierOverrides::default(),
/// };
/// let six_hours = Duration::from_secs(6 * 3600);
/// let moves = plan(&TierPolicy::default(), &[candidate], six_hours);
/// assert_eq!((moves[0].to, moves[0].reason), (Tier::Warm, MoveReason::Idle));
/// ```
#[must_use]
pub fn plan(policy: &TierPolicy, candidates: &[Candidate], now: Duration) -> Vec<PlannedMove> {
    if !policy.enabled {
        return Vec::new();
    }
    let mut rooms = rooms::Rooms::new(policy, candidates);
    for (at, candidate) in candidates.iter().enumerate() {
        if let Some(due) = due::demotion(policy, candidate, now) {
            rooms.assign(at, due);
        }
    }
    rooms.keep_budgets();
    for at in rooms.most_recent_first() {
        if let Some(due) = due::promotion(policy, &candidates[at], now) {
            rooms.admit(at, due);
        }
    }
    rooms.into_moves()
}

#[cfg(test)]
mod tests;
