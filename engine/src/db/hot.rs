//! Makes the segments of hot collections hot while the pool has room: each segment with codes, once it
//! is there, gets a copy of these in memory. A copy that cannot be made leaves the segment without one,
//! which answers the same. Collections of other tiers have none.

use super::DbCore;
use crate::{
    collection::{CollectionCore, SegmentPart},
    error::Result,
};
use akidb_handoff::Tier;
use std::sync::Arc;

/// Copies the codes of one segment that is not hot yet. False if there is none that fits.
///
/// # Errors
/// What the copying of some segment met; the others were tried.
pub(super) fn make_one_hot(core: &DbCore) -> Result<bool> {
    let mut failed = None;
    for collection in core.all_collections() {
        match core.make_hot(&collection, true) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            // Damage in one collection must not keep the others waiting.
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(false), Err)
}

impl DbCore {
    /// Copies the codes of a hot collection's segments as far as they fit, or of one of them. Returns
    /// whether it copied any.
    ///
    /// # Errors
    /// What the copying of some segment met; the others were tried.
    fn make_hot(&self, collection: &CollectionCore, one: bool) -> Result<bool> {
        // All collections are looked at after each flush of one: those with nothing to do cost next to
        // nothing.
        if collection.tier.tier() != Tier::Hot {
            return Ok(false);
        }
        let (segments, known) = {
            let state = collection.state.read();
            let has_codes = |part: &&Arc<SegmentPart>| part.segment.code_bytes() > 0;
            let segments: Vec<_> =
                state.parts.segments().iter().filter(has_codes).cloned().collect();
            (segments, state.clusterings.clone())
        };
        let (mut failed, mut any) = (None, false);
        for part in segments {
            self.background.pause_point()?;
            if collection.tier.tier() != Tier::Hot {
                return Ok(any);
            }
            let needed = part.segment.code_bytes();
            let Some(_let_in) = self.let_in_copy(collection.namespace.as_deref(), needed) else {
                continue;
            };
            match part.segment.make_hot(&known, &self.hot) {
                Ok(made) => any |= made,
                Err(error) => failed = failed.or(Some(error)),
            }
            // It may have become warm meanwhile, and whoever made it so has passed this segment.
            if collection.tier.tier() != Tier::Hot {
                part.segment.let_go_of_hot();
            }
            if any && one {
                return Ok(true);
            }
        }
        failed.map_or(Ok(any), Err)
    }

    /// Makes the copies of a collection that has just become hot.
    pub(crate) fn make_collection_hot(&self, collection: &CollectionCore) -> Result<()> {
        self.make_hot(collection, false).map(drop)
    }

    /// Lets go of the copies of a collection that is hot no more.
    pub(crate) fn let_go_of_hot(&self, collection: &CollectionCore) {
        for part in collection.state.read().parts.segments() {
            part.segment.let_go_of_hot();
        }
    }
}
