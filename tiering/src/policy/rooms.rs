//! Who is in which tier once the plan is carried out, and what that takes of each budget. Called by
//! [`super::plan`] alone.
//!
//! # Invariants
//! - A collection that the policy may not move counts with all it may come to take: one that is
//!   moving counts where it is and where it goes.
//! - A collection gets at most one move, and one that was promoted is not displaced: whoever is
//!   admitted after it was used before it, and displaces only what was used earlier still.

use super::{
    Candidate, MoveReason, PlannedMove, TierPolicy,
    due::{Due, is_free},
};
use akidb_handoff::Tier;
use std::cmp::Reverse;

/// What is limited.
#[derive(Clone, Copy, Debug)]
enum Resource {
    Memory,
    Disk,
}

impl Resource {
    const ALL: [Self; 2] = [Self::Memory, Self::Disk];

    /// What a candidate takes of it in a tier.
    fn taken(self, candidate: &Candidate, tier: Tier) -> u64 {
        match self {
            Self::Memory if tier == Tier::Hot => candidate.memory_bytes,
            Self::Disk if tier.is_local() => candidate.disk_bytes,
            Self::Memory | Self::Disk => 0,
        }
    }

    /// Where somebody goes who has to give it back.
    fn displaced(self) -> Due {
        match self {
            Self::Memory => (Tier::Warm, MoveReason::MemoryBudget),
            Self::Disk => (Tier::Cold, MoveReason::DiskBudget),
        }
    }

    fn budget(self, policy: &TierPolicy) -> u128 {
        let budget = match self {
            Self::Memory => policy.memory_budget_bytes,
            Self::Disk => policy.disk_budget_bytes,
        };
        budget.map_or(u128::MAX, u128::from)
    }
}

/// The plan as it grows.
pub(super) struct Rooms<'a> {
    policy: &'a TierPolicy,
    candidates: &'a [Candidate],
    /// The move of each candidate, if it has one.
    moves: Vec<Option<Due>>,
    /// Indices, the least recently used first; among equals the lower number.
    oldest_first: Vec<usize>,
    /// What all of them take of each resource after the plan. Wider than a size, so that no sum
    /// runs over.
    used: [u128; 2],
}

impl<'a> Rooms<'a> {
    pub(super) fn new(policy: &'a TierPolicy, candidates: &'a [Candidate]) -> Self {
        let mut oldest_first: Vec<_> = (0..candidates.len()).collect();
        oldest_first.sort_by_key(|at| (candidates[*at].access.last, candidates[*at].id));
        let moves = vec![None; candidates.len()];
        let mut rooms = Self { policy, candidates, moves, oldest_first, used: [0; 2] };
        for resource in Resource::ALL {
            let all = (0..candidates.len()).map(|at| rooms.taken(resource, at));
            rooms.used[resource as usize] = all.sum();
        }
        rooms
    }

    /// Gives a candidate its move, in place of the one that it has.
    pub(super) fn assign(&mut self, at: usize, due: Due) {
        let before = Resource::ALL.map(|resource| self.taken(resource, at));
        self.moves[at] = Some(due);
        for (resource, before) in Resource::ALL.into_iter().zip(before) {
            let after = self.taken(resource, at);
            let used = &mut self.used[resource as usize];
            *used = *used - before + after;
        }
    }

    /// Indices, the most recently used first; among equals the lower number.
    pub(super) fn most_recent_first(&self) -> Vec<usize> {
        let mut order: Vec<_> = (0..self.candidates.len()).collect();
        let key = |at: &usize| (Reverse(self.candidates[*at].access.last), self.candidates[*at].id);
        order.sort_by_key(key);
        order
    }

    /// Where a candidate is after the plan.
    fn tier(&self, at: usize) -> Tier {
        self.moves[at].map_or(self.candidates[at].state.tier, |(to, _)| to)
    }

    /// What a candidate takes of a resource after the plan, or, moving, may come to take.
    fn taken(&self, resource: Resource, at: usize) -> u128 {
        let candidate = &self.candidates[at];
        let here = resource.taken(candidate, self.tier(at));
        let there = candidate.state.moving_to.map_or(0, |to| resource.taken(candidate, to));
        here.max(there).into()
    }

    /// How far a budget is exceeded once `more` is added.
    fn excess(&self, resource: Resource, more: u64) -> u128 {
        let wanted = self.used[resource as usize] + u128::from(more);
        wanted.saturating_sub(resource.budget(self.policy))
    }

    /// Who has to go so that `excess` of a resource becomes free: the least recently used of those
    /// that hold it, but none that was used as late as `before`. Returns how much that frees, too:
    /// it may be less.
    fn displace(
        &self,
        resource: Resource,
        excess: u128,
        before: Option<usize>,
    ) -> (Vec<usize>, u128) {
        let (mut going, mut found) = (Vec::new(), 0_u128);
        for &at in &self.oldest_first {
            if found >= excess {
                break;
            }
            if before.is_some_and(|limit| !self.is_older(at, limit)) {
                break;
            }
            let taken = self.taken(resource, at);
            if taken > 0 && is_free(&self.candidates[at]) {
                going.push(at);
                found += taken;
            }
        }
        (going, found)
    }

    /// Strictly: collections that were used at the same moment do not displace each other.
    fn is_older(&self, at: usize, than: usize) -> bool {
        self.candidates[at].access.last < self.candidates[than].access.last
    }

    /// Rule 3. Who goes to warm may go on to cold.
    pub(super) fn keep_budgets(&mut self) {
        for resource in Resource::ALL {
            let (going, _) = self.displace(resource, self.excess(resource, 0), None);
            for at in going {
                self.assign(at, resource.displaced());
            }
        }
    }

    /// Rule 4: promotes a candidate if it fits, with those displaced that were used before it.
    pub(super) fn admit(&mut self, at: usize, due: Due) {
        if self.moves[at].is_some() {
            return;
        }
        let candidate = &self.candidates[at];
        let mut displaced = Vec::new();
        for resource in Resource::ALL {
            let more = resource
                .taken(candidate, due.0)
                .saturating_sub(resource.taken(candidate, candidate.state.tier));
            if more == 0 {
                continue;
            }
            let excess = self.excess(resource, more);
            let (going, found) = self.displace(resource, excess, Some(at));
            if found < excess {
                return;
            }
            displaced.extend(going.into_iter().map(|at| (at, resource.displaced())));
        }
        for (at, due) in displaced {
            self.assign(at, due);
        }
        self.assign(at, due);
    }

    /// Demotions, the least recently used first; then promotions, the most recently used first.
    pub(super) fn into_moves(self) -> Vec<PlannedMove> {
        let planned = |at: &usize| {
            let Candidate { id, state, .. } = self.candidates[*at];
            let (to, reason) = self.moves[*at]?;
            let (from, generation) = (state.tier, state.generation);
            Some(PlannedMove { id, from, to, reason, generation })
        };
        let demotions = self.oldest_first.iter().filter_map(planned).filter(|m| m.to > m.from);
        let recent = self.most_recent_first();
        let promotions = recent.iter().filter_map(planned).filter(|m| m.to < m.from);
        demotions.chain(promotions).collect()
    }
}
