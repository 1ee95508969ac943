//! What every handle of a database holds. Background threads hold the core too, for the length of
//! a job; so the core's own drop comes at a time of theirs, and the directory would stay locked
//! for a moment after the last handle is gone. The drop of the last owner closes at once.

use crate::db::DbCore;
use std::{ops::Deref, sync::Arc};

/// A share in an open database; the last one closes it.
#[derive(Debug)]
pub(super) struct Owner(Arc<DbCore>);

impl Owner {
    pub(super) fn new(core: Arc<DbCore>) -> Arc<Self> {
        Arc::new(Self(core))
    }
}

impl Deref for Owner {
    type Target = DbCore;

    fn deref(&self) -> &DbCore {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // As documented: dropping swallows the error that `close` reports.
        drop(self.0.close());
    }
}
