//! Searching parts of a collection beside each other, when threads are free.
//!
//! Part by part in turn, what was found so far rules out rows of the next part; beside each other
//! each part is searched as if it were alone. So an answer never depends on which thread was
//! faster: it is what the parts say one by one, merged.

use super::{
    explain::PartExplain,
    search::{Candidate, Effort, Part, Scene, Search},
};
use crate::error::Result;
use akidb_index::TopK;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rows beyond those of the largest part from which a second thread is worth waking.
const WORTH_ROWS: u64 = 32_768;
/// The same where each row is scored.
const WORTH_EXACT: u64 = 2_048;

/// What one part gave, and where it stands among the parts.
type Found = (usize, Result<(TopK<Candidate>, PartExplain)>);

/// How many threads more than the caller's would be of use.
pub(super) fn helpers_wanted(parts: &[Part<'_>], effort: Effort) -> usize {
    let all: u64 = parts.iter().map(Part::rows).sum();
    let largest = parts.iter().map(Part::rows).max().unwrap_or(0);
    let worth = if effort.is_exact() { WORTH_EXACT } else { WORTH_ROWS };
    let each = usize::try_from((all - largest) / worth).unwrap_or(usize::MAX);
    each.min(parts.len().saturating_sub(1))
}

/// Searches all parts on this thread and `helpers` of the pool's.
///
/// # Errors
/// The first part's, in the order of the parts.
pub(super) fn search(
    scene: &Scene<'_>,
    parts: &[Part<'_>],
    helpers: usize,
    pool: &rayon::ThreadPool,
) -> Result<(TopK<Candidate>, Vec<PartExplain>)> {
    let mut order: Vec<usize> = (0..parts.len()).collect();
    // The largest first: nobody waits in the end for one that was begun last.
    order.sort_by_key(|at| std::cmp::Reverse(parts.get(*at).map(Part::rows)));
    let next = AtomicUsize::new(0);
    let found: Mutex<Vec<Found>> = Mutex::new(Vec::with_capacity(parts.len()));
    let work = || {
        let mut search = Search::new(scene);
        while let Some(at) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Some(part) = parts.get(*at) else { break };
            let explain = search.part(part);
            let best = std::mem::replace(&mut search.best, TopK::new(scene.spec.k));
            found.lock().push((*at, explain.map(|explain| (best, explain))));
        }
    };
    pool.in_place_scope(|scope| {
        for _ in 0..helpers {
            scope.spawn(|_| work());
        }
        work();
    });
    let mut found = found.into_inner();
    found.sort_unstable_by_key(|(at, _)| *at);
    let (mut best, mut explains) = (TopK::new(scene.spec.k), Vec::with_capacity(parts.len()));
    for (_, result) in found {
        let (of_part, explain) = result?;
        best.merge(of_part);
        explains.push(explain);
    }
    Ok((best, explains))
}
