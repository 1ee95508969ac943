//! What the log thread does with queued writes: resolve, stage, and after the group is durable,
//! apply in LSN order and acknowledge.
//!
//! # Protocol
//! 1. `stage`: a write that depends on what is there (insert-only, partial update, conditional
//!    delete) is resolved against the collection and the writes staged before it in the same
//!    group, so that order in the log is the only order there is.
//! 2. The log writes the group, and syncs it if any member asked for `Sync`.
//! 3. `committed`: every staged write is applied and becomes visible, then acknowledged. A request
//!    of the same group that was refused, or had nothing to write, is answered only now: what it
//!    rests on may be a write of the group, which nobody can see before, and which may yet fail.
//!
//! # Invariants
//! - Nothing is visible that is not written; nothing is acknowledged that is not visible.
//! - A write that failed was not applied, so readers never see what a reopen might not find.
//! - One thread runs this code (or one caller at a time, when driven inline).

use super::{BATCH_BYTES_MAX, Done, Request, Shared, WriteOp, overlay::Overlay, payload};
use crate::{
    PointId, Receipt,
    collection::{CollectionCore, NewRow},
    error::{Cause, InputError, Result},
    quota::LetIn,
    settings::Durability,
};
use akidb_vfs::planted;
use akidb_wal::{Commit, Lsn, Reply, Sink, Staged, Wakes, WalError};
use std::sync::Arc;

/// A write that is in the current group.
struct Pending {
    collection: Arc<CollectionCore>,
    lsn: Lsn,
    durability: Durability,
    change: Change,
    reply: Reply<Done>,
    /// Dropped when the change was applied, or will not be.
    let_in: LetIn,
}

/// A request that writes nothing and waits for its group.
struct Held {
    collection: Arc<CollectionCore>,
    refused: Result<()>,
    reply: Reply<Done>,
}

impl Held {
    fn result(&self) -> Result<Receipt> {
        self.refused.clone()?;
        // Nothing was written, and nothing is said of what was written before.
        let lsn = self.collection.state.read().applied.get();
        Ok(Receipt { lsn, rows: 0, durability: Durability::Memory })
    }
}

/// A resolved change.
pub(crate) enum Change {
    Rows(Vec<NewRow>),
    Deletes(Vec<PointId>),
}

/// The log thread's side of the commit path.
pub(crate) struct CommitSink {
    shared: Arc<Shared>,
    pending: Vec<Pending>,
    /// Never without a pending write of the same collection.
    held: Vec<Held>,
    /// The record bodies of `pending`, once they are written.
    payloads: Vec<Vec<u8>>,
}

impl CommitSink {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, pending: Vec::new(), held: Vec::new(), payloads: Vec::new() }
    }

    /// Turns a request into rows or ids and the record body that says so; `None` if there is
    /// nothing to write.
    fn resolve(
        &self,
        collection: &CollectionCore,
        op: WriteOp,
    ) -> Result<Option<(Change, Vec<u8>)>> {
        let state = collection.state.read();
        if state.dropped {
            return Err(Cause::CollectionNotFound { name: collection.name.clone() }.into());
        }
        let needs_local = !matches!(op, WriteOp::Upsert { .. } | WriteOp::Delete { .. });
        if needs_local && !state.cold.is_empty() {
            return Err(Cause::Moved { name: collection.name.clone() }.into());
        }
        let overlay = || Overlay::new(state, self.staged_for(collection));
        match op {
            WriteOp::Upsert { rows, .. } | WriteOp::Insert { rows, .. } if rows.is_empty() => {
                Ok(None)
            }
            WriteOp::Delete { ids, .. } if ids.is_empty() => Ok(None),
            WriteOp::Upsert { rows, payload } => Ok(Some((Change::Rows(rows), payload))),
            WriteOp::Insert { rows, payload } => {
                overlay().require_absent(rows.iter().map(|row| &row.id))?;
                Ok(Some((Change::Rows(rows), payload)))
            }
            WriteOp::Update { patches } => {
                let rows = overlay().patch(&patches, &self.shared.settings)?;
                let payload = encode_rows(collection, &rows);
                Ok(Some((Change::Rows(rows), payload)))
            }
            WriteOp::Delete { ids, payload } => Ok(Some((Change::Deletes(ids), payload))),
            WriteOp::DeleteMatching { filter, seen } => {
                let ids = overlay().still_matching(&filter, seen)?;
                if ids.is_empty() {
                    return Ok(None);
                }
                let payload = payload::encode_delete(collection.id, ids.iter());
                Ok(Some((Change::Deletes(ids), payload)))
            }
        }
    }

    fn staged_for<'a>(
        &'a self,
        collection: &'a CollectionCore,
    ) -> impl Iterator<Item = (Lsn, &'a Change)> {
        self.pending
            .iter()
            .filter(|pending| pending.collection.id == collection.id)
            .map(|pending| (pending.lsn, &pending.change))
    }

    /// Answers a request that writes nothing, after the group if it may rest on a write of it.
    fn hold(&mut self, held: Held) {
        if self.staged_for(&held.collection).next().is_some() {
            self.held.push(held);
        } else {
            let result = held.result();
            held.reply.answer(Done::new(result));
        }
    }

    /// Makes a write visible; the change is left without what the memtable took.
    fn apply(&self, pending: &mut Pending, commit: &Commit) -> Result<Receipt> {
        let Pending { collection, lsn, durability, change, .. } = pending;
        let (lsn, durability) = (*lsn, *durability);
        let now = self.shared.clock.monotonic();
        let rows = match change {
            Change::Rows(rows) => rows.len(),
            Change::Deletes(ids) => ids.len(),
        };
        let pool = &self.shared.pool;
        let applied = match change {
            Change::Rows(rows) => collection.apply_rows(lsn, rows, now, pool),
            Change::Deletes(ids) => collection.apply_deletes(lsn, ids, now, pool),
        };
        match applied {
            Ok(()) => {
                self.shared.after_apply(collection);
                let durability =
                    if commit.durable_upto >= lsn || planted("commit.receipt-overstates") {
                        Durability::Sync
                    } else {
                        durability
                    };
                Ok(Receipt { lsn: lsn.get(), rows, durability })
            }
            // The record is in the log but its effect is not in memory: go on and later writes
            // would build on a state that recovery will not reproduce.
            Err(error) => Err(self.shared.poison(error)),
        }
    }
}

fn encode_rows(collection: &CollectionCore, rows: &[NewRow]) -> Vec<u8> {
    let dim = collection.schema().dim;
    payload::encode_upsert(
        collection.id,
        dim,
        rows.iter().map(|row| (&row.id, &*row.metadata, &*row.vector)),
    )
}

impl Sink for CommitSink {
    type Request = Request;

    fn stage(&mut self, lsn: Lsn, request: Request) -> Staged {
        let Request { collection, op, durability, reply, let_in } = request;
        let resolved = self.shared.check_writable().and_then(|()| self.resolve(&collection, op));
        match resolved {
            // The log would fail the whole group for it.
            Ok(Some((_, payload))) if payload.len() as u64 > BATCH_BYTES_MAX => {
                let (found, max) = (payload.len() as u64, BATCH_BYTES_MAX);
                reply.answer(Done::new(Err(InputError::BatchTooLarge { found, max }.into())));
                Staged::Answered
            }
            Ok(Some((change, payload))) => {
                self.pending.push(Pending { collection, lsn, durability, change, reply, let_in });
                Staged::Write { payload, durability: durability.for_log() }
            }
            nothing => {
                self.hold(Held { collection, refused: nothing.map(drop), reply });
                Staged::Answered
            }
        }
    }

    fn committed(&mut self, commit: &Commit) {
        let mut wakes = Wakes::new();
        let mut payloads = std::mem::take(&mut self.payloads).into_iter();
        for mut pending in std::mem::take(&mut self.pending) {
            let result = self.apply(&mut pending, commit);
            self.shared.set_applied(pending.lsn);
            let payload = payloads.next().unwrap_or_default();
            drop(pending.let_in);
            let spent = (Some(pending.change), payload);
            // The caller may have gone; its write stands.
            pending.reply.settle(Done { result, spent }, &mut wakes);
        }
        for held in std::mem::take(&mut self.held) {
            let result = held.result();
            held.reply.settle(Done::new(result), &mut wakes);
        }
        wakes.go();
    }

    fn written(&mut self, payloads: Vec<Vec<u8>>) {
        self.payloads = payloads;
    }

    fn failed(&mut self, error: &Arc<WalError>) {
        let error = self.shared.write_failed(error);
        for pending in std::mem::take(&mut self.pending) {
            pending.reply.answer(Done::new(Err(error.clone())));
        }
        for held in std::mem::take(&mut self.held) {
            held.reply.answer(Done::new(Err(error.clone())));
        }
        self.payloads.clear();
    }

    fn rejected(&mut self, request: Request, error: &Arc<WalError>) {
        let error = self.shared.write_failed(error);
        request.reply.answer(Done::new(Err(error)));
    }
}
