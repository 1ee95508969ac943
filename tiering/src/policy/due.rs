//! What one collection is due for by its own accesses, whatever the others do. Called by
//! [`super::plan`]; budgets are the business of `rooms`.

use super::{Candidate, MoveReason, TierPolicy};
use akidb_handoff::Tier;
use std::time::Duration;

/// Where a collection should go, and why.
pub(super) type Due = (Tier, MoveReason);

/// True if the policy may move it at all.
pub(super) fn is_free(candidate: &Candidate) -> bool {
    let state = candidate.state;
    state.moving_to.is_none() && !state.pinned && candidate.overrides.automatic != Some(false)
}

/// How long it may be idle in a tier, in milliseconds; `None` where there is nothing colder.
fn idle_limit(policy: &TierPolicy, candidate: &Candidate, tier: Tier) -> Option<u64> {
    let overrides = &candidate.overrides;
    match tier {
        Tier::Hot => Some(overrides.hot_idle_ms.unwrap_or(policy.hot_idle_ms)),
        Tier::Warm => Some(overrides.warm_idle_ms.unwrap_or(policy.warm_idle_ms)),
        Tier::Cold => None,
    }
}

/// True if it was not read for as long as the tier allows.
fn is_idle(policy: &TierPolicy, candidate: &Candidate, tier: Tier, now: Duration) -> bool {
    let idle = candidate.access.idle(now);
    idle_limit(policy, candidate, tier).is_some_and(|ms| idle >= Duration::from_millis(ms))
}

/// The demotion that its idleness asks for.
pub(super) fn demotion(policy: &TierPolicy, candidate: &Candidate, now: Duration) -> Option<Due> {
    let tier = candidate.state.tier;
    let colder = match tier {
        Tier::Hot => Tier::Warm,
        Tier::Warm | Tier::Cold => Tier::Cold,
    };
    let due = is_free(candidate) && is_idle(policy, candidate, tier, now);
    due.then_some((colder, MoveReason::Idle))
}

/// The promotion that its accesses ask for. Never into a tier in which it would be idle already:
/// that would be undone by the next cycle.
pub(super) fn promotion(policy: &TierPolicy, candidate: &Candidate, now: Duration) -> Option<Due> {
    let overrides = &candidate.overrides;
    let (to, asked, reason) = match candidate.state.tier {
        Tier::Hot => return None,
        Tier::Warm => {
            // At least one: what a budget displaced, whose count is 0, must not come back at once.
            let enough = overrides.hot_accesses.unwrap_or(policy.hot_accesses).max(1);
            (Tier::Hot, candidate.access.count >= enough, MoveReason::Busy)
        }
        Tier::Cold => {
            let wanted = overrides.promote_on_access.unwrap_or(policy.promote_on_access);
            (Tier::Warm, wanted && candidate.access.count > 0, MoveReason::Accessed)
        }
    };
    let due = asked && is_free(candidate) && !is_idle(policy, candidate, to, now);
    due.then_some((to, reason))
}
