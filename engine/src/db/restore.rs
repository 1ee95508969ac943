//! A new directory for a database of which there is the object store alone.
//!
//! Reads the manifest in the bucket and makes of it what the directory's manifest will say; `open` goes on
//! as always: collections are cold, the log begins above every LSN that was shipped. Never writes: the
//! bucket is taken, and the lost machine fenced, by the opening of the bucket that every open does.

use super::{RecoveryReport, open::Components};
use crate::{
    bucket::{Root, Version},
    error::{Cause, Result},
    manifest::{FoundManifest, ManifestState},
};
use std::path::PathBuf;

/// What a directory begins with: its own manifest, what the bucket says if the directory is new and that
/// is asked for, or nothing. And the state of the bucket that it was.
pub(super) fn begin(
    parts: &Components,
    found: Option<&FoundManifest>,
    report: &mut RecoveryReport,
) -> Result<(ManifestState, Option<Version>)> {
    if let Some(found) = found {
        return Ok((found.state().clone(), None));
    }
    let Some(store) = parts.store.as_ref().filter(|_| parts.from_bucket) else {
        return Ok((ManifestState::default(), None));
    };
    let found =
        futures_lite::future::block_on(Root::new(store.clone(), "").look()).map_err(Cause::from)?;
    let Some(found) = found else {
        return Err(Cause::NoDatabase { dir: PathBuf::from("the object store") }.into());
    };
    let restored = found.state.restored();
    report.restored = true;
    report.restored_partly = restored.partial;
    let state = ManifestState { lineage: restored.lineage, ..restored.manifest };
    Ok((state, Some(found.state.version)))
}
