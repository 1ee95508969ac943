//! Makes segments hot while the pool has room: each segment with codes, once it is there, gets a copy
//! of these in memory. A copy that cannot be made leaves the segment warm, which answers the same.

use super::DbCore;
use crate::error::Result;

/// Copies the codes of one segment that is not hot yet. False if there is none that fits.
///
/// # Errors
/// What the copying of some segment met; the others were tried.
pub(super) fn make_one_hot(core: &DbCore) -> Result<bool> {
    let mut failed = None;
    for collection in core.all_collections() {
        let (segments, known) = {
            let state = collection.state.read();
            (state.parts.segments().to_vec(), state.clusterings.clone())
        };
        for part in segments {
            core.background.pause_point()?;
            match part.segment.make_hot(&known, &core.hot) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                // Damage in one segment must not keep the others cold.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
    }
    failed.map_or(Ok(false), Err)
}
