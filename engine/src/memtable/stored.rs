//! What a row holds: numbers or bytes of its own, or a part of a block that it shares with the rows
//! next to it. A replay makes blocks, because a million small allocations take longer than the log
//! takes to read; a write brings allocations of its own. Owns no more than the choice; called by
//! whoever makes or reads rows.

use std::{
    fmt,
    ops::{Deref, Range},
    sync::Arc,
};

/// A slice that is kept alive by this value.
#[derive(Clone)]
pub(crate) enum Stored<T> {
    /// By itself.
    Own(Box<[T]>),
    /// With others: the block stays as long as any of them.
    Shared { block: Arc<Vec<T>>, from: usize, len: usize },
}

impl<T> Stored<T> {
    /// A part of a block; nothing where the block ends before `at` does.
    pub(crate) fn part(block: &Arc<Vec<T>>, at: Range<usize>) -> Self {
        Self::Shared { block: block.clone(), from: at.start, len: at.len() }
    }
}

impl<T> Deref for Stored<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::Own(own) => own,
            Self::Shared { block, from, len } => {
                block.get(*from..).and_then(|rest| rest.get(..*len)).unwrap_or_default()
            }
        }
    }
}

impl<T> Default for Stored<T> {
    fn default() -> Self {
        Self::Own(Box::default())
    }
}

impl<T> From<Box<[T]>> for Stored<T> {
    fn from(own: Box<[T]>) -> Self {
        Self::Own(own)
    }
}

impl<T: fmt::Debug> fmt::Debug for Stored<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.deref().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_reads_as_what_stands_there_and_outlives_the_others() {
        let block = Arc::new(vec![1, 2, 3, 4, 5]);
        let (first, second) = (Stored::part(&block, 0..2), Stored::part(&block, 2..5));
        drop((block, first));
        assert_eq!(*second, [3, 4, 5]);
    }

    #[test]
    fn a_part_past_the_end_of_its_block_is_empty() {
        let block = Arc::new(vec![1, 2]);
        assert!(Stored::part(&block, 1..3).is_empty());
        assert!(Stored::part(&block, 7..8).is_empty());
    }
}
