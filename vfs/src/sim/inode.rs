//! The contents of one simulated file: the live bytes, and what is needed to get back to the
//! durable ones.
//!
//! Owns the bookkeeping of unsynced sectors. Knows nothing of names, faults or power; called by
//! the disk (`disk.rs`) and by the handles (`file.rs`).
//!
//! # Invariants
//! - The durable content is the live content with every dirty sector replaced by its saved bytes
//!   (zeros where none are saved), cut or zero-extended to `durable_len`.
//! - A clean sector holds zeros beyond `durable_len`.
//! - `dirty_bits` has exactly the bits of the sectors in `dirty`.

use super::crash::{CrashEffects, CrashPolicy};
use std::sync::Arc;

/// The unit that a disk writes whole, in bytes.
pub(super) const SECTOR: usize = 512;

/// A sector that was written and not synced since.
#[derive(Clone, Copy, Debug)]
struct Dirty {
    sector: usize,
    /// Where the sector's durable bytes are in `saved`; `None`: they are zeros.
    saved_at: Option<usize>,
    /// A failed sync took the sector for written: the next sync skips it (what Linux does).
    stuck: bool,
}

/// A simulated file's contents.
#[derive(Clone, Debug, Default)]
pub(super) struct FileNode {
    /// Shared with forks of the disk until one of them writes.
    live: Arc<Vec<u8>>,
    durable_len: usize,
    dirty: Vec<Dirty>,
    dirty_bits: Vec<u64>,
    /// The durable bytes of dirty sectors, `SECTOR` each: one buffer, not one per sector.
    saved: Vec<u8>,
    any_stuck: bool,
    /// Open handles: an unlinked file stays while there are any.
    pub(super) handles: u32,
}

impl FileNode {
    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    pub(super) fn live(&self) -> &[u8] {
        &self.live
    }

    /// Copies out what there is at `offset`.
    pub(super) fn read(&self, buf: &mut [u8], offset: usize) -> usize {
        let rest = self.live.get(offset..).unwrap_or_default();
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        count
    }

    /// Writes at `offset`, extending with zeros up to it where needed.
    pub(super) fn write(&mut self, bytes: &[u8], offset: usize) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        for sector in offset / SECTOR..=(end - 1) / SECTOR {
            self.mark_dirty(sector);
        }
        let live = Arc::make_mut(&mut self.live);
        if end > live.len() {
            live.resize(end, 0);
        }
        live[offset..end].copy_from_slice(bytes);
    }

    /// Makes the file at least `len` long; the new bytes are zeros.
    pub(super) fn extend(&mut self, len: usize) {
        if len > self.live.len() {
            Arc::make_mut(&mut self.live).resize(len, 0);
        }
    }

    /// Makes the live content durable, except for stuck sectors.
    pub(super) fn sync(&mut self) {
        self.durable_len = self.live.len();
        if self.any_stuck {
            let bits = &mut self.dirty_bits;
            self.dirty.retain(|dirty| {
                if !dirty.stuck {
                    bits[dirty.sector / 64] &= !(1 << (dirty.sector % 64));
                }
                dirty.stuck
            });
        } else {
            self.forget_dirty();
        }
    }

    /// A sync that failed and left the pages in the cache, marked clean: readers see the new
    /// bytes, and no later sync writes them unless they are written again.
    pub(super) fn fail_sync_keeping_cache(&mut self) {
        self.any_stuck = !self.dirty.is_empty();
        for dirty in &mut self.dirty {
            dirty.stuck = true;
        }
    }

    /// A sync that failed, after which the cache was dropped: readers see the old bytes again.
    /// The length stays: it lives in the inode, which was not evicted.
    pub(super) fn fail_sync_dropping_cache(&mut self) {
        for at in 0..self.dirty.len() {
            self.restore(at);
        }
        self.forget_dirty();
    }

    /// What a crash right now, under `DropAll`, would leave.
    pub(super) fn durable(&self) -> Vec<u8> {
        let mut copy = self.clone();
        copy.drop_unsynced();
        Arc::unwrap_or_clone(copy.live)
    }

    /// Loses power: what survives becomes both the live and the durable content.
    pub(super) fn crash(
        &mut self,
        policy: CrashPolicy,
        rng: &mut fastrand::Rng,
        effects: &mut CrashEffects,
    ) {
        match policy {
            CrashPolicy::DropAll => {
                effects.sectors_dropped += self.dirty.len() as u64;
                effects.lengths_lost += u64::from(self.durable_len != self.live.len());
                self.drop_unsynced();
            }
            CrashPolicy::KeepAll => self.keep_written_back(effects),
            CrashPolicy::Random => self.keep_some(rng, effects),
        }
        self.forget_dirty();
        self.durable_len = self.live.len();
    }

    /// Cuts the file behind the back of whoever uses it; what is left is durable.
    pub(super) fn truncate(&mut self, len: usize) {
        self.sync();
        self.forget_dirty();
        Arc::make_mut(&mut self.live).truncate(len);
        self.durable_len = self.live.len();
    }

    /// Flips bits of one byte in both views; false when the file ends before it.
    pub(super) fn corrupt(&mut self, offset: usize, mask: u8) -> bool {
        let Some(byte) = Arc::make_mut(&mut self.live).get_mut(offset) else {
            return false;
        };
        *byte ^= mask;
        let sector = offset / SECTOR;
        let saved_at = self.dirty.iter().find(|dirty| dirty.sector == sector);
        if let Some(at) = saved_at.and_then(|dirty| dirty.saved_at) {
            self.saved[at + offset % SECTOR] ^= mask;
        }
        true
    }

    fn mark_dirty(&mut self, sector: usize) {
        let (word, bit) = (sector / 64, 1 << (sector % 64));
        if word >= self.dirty_bits.len() {
            self.dirty_bits.resize(word + 1, 0);
        }
        if self.dirty_bits[word] & bit != 0 {
            if self.any_stuck {
                self.unstick(sector);
            }
            return;
        }
        self.dirty_bits[word] |= bit;
        let start = sector * SECTOR;
        let saved_at = (start < self.durable_len).then(|| {
            let at = self.saved.len();
            let end = (start + SECTOR).min(self.live.len());
            self.saved.extend_from_slice(self.live.get(start..end).unwrap_or_default());
            self.saved.resize(at + SECTOR, 0);
            at
        });
        self.dirty.push(Dirty { sector, saved_at, stuck: false });
    }

    /// A rewritten page is dirty again: the next sync writes it.
    fn unstick(&mut self, sector: usize) {
        if let Some(dirty) = self.dirty.iter_mut().find(|dirty| dirty.sector == sector) {
            dirty.stuck = false;
        }
    }

    fn forget_dirty(&mut self) {
        for dirty in self.dirty.drain(..) {
            self.dirty_bits[dirty.sector / 64] = 0;
        }
        self.saved.clear();
        self.any_stuck = false;
    }

    /// Puts back the durable bytes of the dirty sector number `at` of the list, from byte `from`
    /// of the sector on.
    fn restore_from(&mut self, at: usize, from: usize) {
        let Dirty { sector, saved_at, .. } = self.dirty[at];
        let live = Arc::make_mut(&mut self.live);
        let start = (sector * SECTOR + from).min(live.len());
        let end = ((sector + 1) * SECTOR).min(live.len());
        let target = &mut live[start..end];
        match saved_at {
            Some(saved) => {
                target.copy_from_slice(&self.saved[saved + from..][..target.len()]);
            }
            None => target.fill(0),
        }
    }

    fn restore(&mut self, at: usize) {
        self.restore_from(at, 0);
    }

    fn drop_unsynced(&mut self) {
        for at in 0..self.dirty.len() {
            self.restore(at);
        }
        let len = self.durable_len;
        if len != self.live.len() {
            Arc::make_mut(&mut self.live).resize(len, 0);
        }
    }

    /// Everything that the cache would still have written reached the disk; stuck sectors would
    /// not have been written.
    fn keep_written_back(&mut self, effects: &mut CrashEffects) {
        for at in 0..self.dirty.len() {
            if self.dirty[at].stuck {
                self.restore(at);
                effects.sectors_dropped += 1;
            } else {
                effects.sectors_kept += 1;
            }
        }
    }

    fn keep_some(&mut self, rng: &mut fastrand::Rng, effects: &mut CrashEffects) {
        if self.dirty.is_empty() && self.durable_len == self.live.len() {
            return;
        }
        // Per file a bias, so that "almost all", "almost none" and "half" all come up.
        let keep_in_8 = rng.u8(0..=8);
        for at in 0..self.dirty.len() {
            if rng.u8(0..8) >= keep_in_8 {
                self.restore(at);
                effects.sectors_dropped += 1;
            } else if rng.u8(0..16) == 0 {
                self.restore_from(at, rng.usize(1..SECTOR));
                effects.sectors_torn += 1;
            } else {
                effects.sectors_kept += 1;
            }
        }
        self.choose_length(rng, effects);
    }

    /// The new length survives, or the old one, or one that write-back recorded in between.
    fn choose_length(&mut self, rng: &mut fastrand::Rng, effects: &mut CrashEffects) {
        let (old, new) = (self.durable_len, self.live.len());
        if old >= new {
            return;
        }
        let len = match rng.u8(0..4) {
            0 => old,
            1 => rng.usize(old..new),
            _ => new,
        };
        if len != new {
            effects.lengths_lost += 1;
            Arc::make_mut(&mut self.live).truncate(len);
        }
    }
}
