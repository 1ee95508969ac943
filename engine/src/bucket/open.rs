//! Opening a root for writing: look, judge, prepare, take; again if somebody was in between.
//!
//! Called by the engine's open, after the local manifest is taken over and before any background
//! work. The directory's lock is held, so that only other directories can be in the way.

#![deny(clippy::indexing_slicing)]

use super::{
    error::BucketError,
    lineage::Lineage,
    root::{Found, Root},
    session::Session,
    state::{BucketState, Contents, Nonce, Version, cut_holder},
    swap::{SwapFailure, Swapped, swap},
};
use crate::error::Result;
use akidb_tiering::PutId;
use akidb_vfs::Random;
use std::sync::Arc;
use uuid::Uuid;

/// How often an opening begins again. Only this directory's own late puts, of a process that died,
/// make that necessary, and each of them once.
const TRIES: usize = 4;

/// What an opening needs to know of the local directory.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) root: Root,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) database: Uuid,
    /// Who opens, for people: host and process, say.
    pub(crate) holder: String,
    /// From the local manifest.
    pub(crate) lineage: Lineage,
    /// Of the local manifest. What the bucket says beyond it was never recorded, and is undone.
    pub(crate) contents: Contents,
}

/// Opens the root for writing. `record` makes a lineage durable in the local manifest; it is called
/// before the bucket is touched and after.
///
/// # Errors
/// [`BucketError::Fenced`] if another directory wrote there last or takes it meanwhile;
/// [`BucketError::Foreign`]; damage if the manifest is gone or unreadable, or if the directory names
/// an object that the bucket never had or no longer has; a failed call; what `record` says. Whatever
/// happened, the same opening can be tried again with the lineage that was recorded last.
pub(crate) async fn open_writer(
    opening: Opening,
    record: &mut (dyn FnMut(&Lineage) -> Result<()> + Send),
) -> Result<Session> {
    let mut lineage = opening.lineage.clone();
    for _ in 0..TRIES {
        let found = opening.root.look().await?;
        lineage.judge(&opening.root, opening.database, found.as_ref())?;
        let state = first_state(&opening, &lineage, found.as_ref())?;
        lineage = lineage.preparing(found.as_ref(), state.version);
        record(&lineage)?;
        match take(&opening, state, found).await {
            Ok(mut session) => {
                let taken = session.lineage();
                record(&taken)?;
                session.recorded(&taken);
                return Ok(session);
            }
            Err(BucketError::Raced { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(BucketError::Raced { file: opening.root.file() }.into())
}

/// The state by which the root is taken: that of the directory, under a new nonce.
fn first_state(
    opening: &Opening,
    lineage: &Lineage,
    found: Option<&Found>,
) -> Result<BucketState, BucketError> {
    let mut contents = opening.contents.clone();
    let (mut epoch, mut commit) = (0, 0);
    if let Some(Found { state, .. }) = found {
        (epoch, commit) = (state.version.epoch, state.version.commit);
        let (ours, theirs) = (contents.named(), state.contents.named());
        let mut known = theirs.clone();
        if lineage.is_behind(state.version) {
            // Given up by a commit that was not recorded, after which nothing was deleted.
            known.extend(state.contents.garbage.iter().cloned());
        }
        if let Some(unknown) = ours.difference(&known).next() {
            let detail = format!(
                "it does not name {unknown:?}, which the directory names: the directory is an \
                 older copy; open the database from the bucket into a new one"
            );
            return Err(opening.root.damaged(detail));
        }
        contents.garbage.extend(theirs.difference(&ours).cloned());
        contents.garbage.extend(state.contents.garbage.difference(&ours).cloned());
    }
    let next = |number: u64| number.checked_add(1).ok_or(BucketError::Bug("numbers ran out"));
    let writer = Nonce::new(opening.random.next_u128());
    Ok(BucketState {
        database: opening.database,
        version: Version { epoch: next(epoch)?, writer, commit: next(commit)?, attempt: 0 },
        holder: cut_holder(&opening.holder),
        creator: concat!("akidb ", env!("CARGO_PKG_VERSION")).to_owned(),
        contents,
    })
}

async fn take(
    opening: &Opening,
    state: BucketState,
    found: Option<Found>,
) -> Result<Session, BucketError> {
    let Opening { root, random, .. } = opening;
    let base = found.map(|found| found.etag);
    let put_id = PutId::new(random.next_u128());
    match swap(root, &state, base.as_ref(), put_id).await {
        Ok(Swapped::Done(_)) => {}
        Ok(Swapped::Lost(_)) => return Err(BucketError::Raced { file: root.file() }),
        Err(SwapFailure { error, .. }) => return Err(error),
    }
    // Read again, and the tag from there (F2): a store that took two puts is found out here.
    match root.look().await? {
        Some(Found { state: there, etag }) if there.version == state.version => {
            Ok(Session::new(root.clone(), random.clone(), state, etag))
        }
        Some(_) => Err(BucketError::Raced { file: root.file() }),
        None => Err(root.gone()),
    }
}
