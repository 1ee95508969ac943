//! Moves that were given up, as dead letters: kept until somebody retries or drops them. The
//! collections are where they were; a letter that is dropped loses a note, and lets the policy try
//! again.

use crate::{
    collection::CollectionCore,
    db::DbCore,
    error::{Cause, Error, Result},
    maintenance::moves,
};
use akidb_handoff::Tier;
use akidb_tiering::{DeadLetter, DeadLetterQueue};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A move between tiers that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeadMove {
    /// Its number, to retry or drop it.
    pub id: u64,
    /// The collection; `None` if it was dropped since.
    pub collection: Option<String>,
    /// Where it was to go: `hot`, `warm` or `cold`; `None` if the letter cannot be read.
    pub to: Option<&'static str>,
    /// What went wrong the last time.
    pub error: String,
    /// How often it was given up.
    pub failures: u32,
    /// When it was given up for the first time, in milliseconds since 1970 UTC.
    pub first_unix_ms: u64,
    /// When for the last time.
    pub last_unix_ms: u64,
}

/// What a letter says.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Payload {
    collection: u32,
    to: String,
}

impl Payload {
    fn read(letter: &DeadLetter) -> Option<(u32, Tier)> {
        let payload: Self = serde_json::from_slice(&letter.payload).ok()?;
        let to = Tier::ALL.into_iter().find(|tier| tier.name() == payload.to)?;
        Some((payload.collection, to))
    }
}

fn queue(core: &DbCore) -> Result<&DeadLetterQueue> {
    core.tiers.letters.as_ref().map_err(Clone::clone)
}

/// One letter per collection and direction.
fn name(collection: u32, to: Tier) -> String {
    format!("collection {collection} to {to}")
}

/// The moves that are not to be tried.
pub(super) fn given_up(core: &DbCore) -> BTreeSet<(u32, Tier)> {
    let letters = queue(core).map(DeadLetterQueue::list).unwrap_or_default();
    letters.iter().filter_map(Payload::read).collect()
}

/// Notes that a move was given up. False if that could not be noted: then it goes on being tried.
pub(super) fn add(core: &DbCore, collection: &CollectionCore, to: Tier, why: &Error) -> bool {
    let payload = Payload { collection: collection.id, to: to.name().to_owned() };
    let added = serde_json::to_vec(&payload)
        .map_err(|_| Error::bug("a dead letter did not serialise"))
        .and_then(|payload| {
            let name = name(collection.id, to);
            Ok(queue(core)?.add(&name, &payload, &why.to_string()).map_err(Cause::from)?)
        });
    added.inspect_err(|error| core.background.note(error.clone())).is_ok()
}

impl DbCore {
    /// Moves that were given up, the oldest first.
    pub(crate) fn dead_letters(&self) -> Result<Vec<DeadMove>> {
        let collections = self.all_collections();
        let dead_move = |letter: DeadLetter| {
            let about = Payload::read(&letter);
            let found = about.and_then(|(id, _)| collections.iter().find(|c| c.id == id));
            DeadMove {
                id: letter.id,
                collection: found.map(|collection| collection.name.clone()),
                to: about.map(|(_, to)| to.name()),
                error: letter.error,
                failures: letter.failures,
                first_unix_ms: letter.first_unix_ms,
                last_unix_ms: letter.last_unix_ms,
            }
        };
        Ok(queue(self)?.list().into_iter().map(dead_move).collect())
    }

    /// Tries a move again that was given up. The letter goes if it succeeds, or if its collection is
    /// gone; returns false if nothing had to move.
    pub(crate) fn retry_dead_letter(&self, id: u64) -> Result<bool> {
        self.check_may_write()?;
        let letters = queue(self)?;
        let letter = letters.get(id).map_err(Cause::from)?;
        let moved = self.move_again(&letter);
        let noted = match &moved {
            Ok(_) => letters.settle(&letter.name),
            Err(error) => letters.add(&letter.name, &letter.payload, &error.to_string()).map(drop),
        };
        noted.map_err(Cause::from)?;
        moved
    }

    fn move_again(&self, letter: &DeadLetter) -> Result<bool> {
        let Some((number, to)) = Payload::read(letter) else {
            return Err(Error::bug("a dead letter cannot be read"));
        };
        match self.all_collections().iter().find(|collection| collection.id == number) {
            Some(collection) => moves::move_to(self, collection, to, None),
            None => Ok(false),
        }
    }

    /// Drops a letter: the policy may try that move again.
    pub(crate) fn drop_dead_letter(&self, id: u64) -> Result<()> {
        self.check_may_write()?;
        queue(self)?.drop_letter(id).map_err(Cause::from)?;
        Ok(())
    }

    /// Ends the letter of a move that was made by hand.
    pub(crate) fn settle_dead_letter(&self, collection: u32, to: Tier) {
        if let Ok(letters) = queue(self)
            && let Err(error) = letters.settle(&name(collection, to))
        {
            self.background.note(Cause::from(error).into());
        }
    }
}
