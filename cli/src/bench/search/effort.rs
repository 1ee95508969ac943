//! How hard a search tries: what the curve varies.

use akidb::{Search, blocking::Collection};

/// How a search is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Effort {
    /// Every row is scored.
    Exact,
    /// So many cells of each segment are looked into.
    Nprobe(usize),
    /// As many as each segment needed for this recall when it was built.
    RecallTarget(f32),
}

impl Effort {
    /// The same search, with this effort.
    pub(super) fn ask<'a>(self, search: Search<'a, Collection>) -> Search<'a, Collection> {
        match self {
            Self::Exact => search.exact(true),
            Self::Nprobe(cells) => search.nprobe(cells),
            Self::RecallTarget(target) => search.recall_target(target),
        }
    }

    pub(super) fn nprobe(self) -> Option<usize> {
        if let Self::Nprobe(cells) = self { Some(cells) } else { None }
    }

    pub(super) fn recall_target(self) -> Option<f32> {
        if let Self::RecallTarget(target) = self { Some(target) } else { None }
    }
}
