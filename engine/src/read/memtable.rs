//! Search of a memtable: exactly while it is small or the request says so, else by codes.
//!
//! Rows whose chunk has codes are scanned by one bit and decided by eight, as in segments
//! ([`super::cells`]); the others are scored by their vectors. Every row is looked at, so the only
//! rows that can be missed are those whose bound fails.

use super::{
    explain::{BY_CODES, PartExplain},
    filtering,
    place::Place,
    search::{Candidate, Search, micros},
};
use crate::{
    collection::MemView,
    error::Result,
    ivf::calibrate::rank_units,
    memtable::{CHUNK_ROWS, Chunk, ChunkCodes, MemRow},
};
use akidb_index::{
    BLOCK_ROWS,
    rabitq::{CONFIDENCE, CellCodes, Collector},
};
use roaring::RoaringBitmap;

/// Fewer rows that match are scored one by one: preparing the query costs as much.
const FEW: u64 = 1_024;

/// Words of a mask of a chunk.
const WORDS: usize = CHUNK_ROWS / BLOCK_ROWS;

/// A chunk that has codes, and which of its rows match; `None` if all do.
struct Coded<'a> {
    first: u32,
    chunk: &'a Chunk,
    codes: &'a ChunkCodes,
    mask: Option<[u32; WORDS]>,
}

impl Search<'_> {
    /// Searches a memtable.
    pub(super) fn memtable(&mut self, at: usize, part: &MemView) -> Result<PartExplain> {
        let start = self.scene.clock.monotonic();
        let matching = match &self.scene.filter {
            Some(filter) => Some(filtering::matching_slots(part, self.scene.view.lsn, filter)?),
            None => None,
        };
        let filtered = self.scene.clock.monotonic();
        let allowed = matching.as_ref().map(|matching| &matching.rows);
        let counting = allowed.map_or(part.rows.len() as u64, RoaringBitmap::len);
        let explain = if self.scene.spec.effort.is_exact() || counting < FEW {
            let scored = match allowed {
                Some(allowed) => {
                    self.score_slots(at, allowed.iter().filter_map(|slot| part.slot(slot)))
                }
                None => self.score_slots(at, part.rows.iter()),
            };
            let score_us = micros(self.scene.clock.monotonic().saturating_sub(filtered));
            PartExplain { plan: "exact", scored, score_us, ..PartExplain::default() }
        } else {
            self.memtable_by_codes(at, part, allowed)?
        };
        Ok(PartExplain {
            part: "memtable".to_owned(),
            rows: part.rows.len() as u64,
            matched: allowed.map(RoaringBitmap::len),
            filter: matching.map(|matching| matching.plan).unwrap_or_default(),
            filter_us: micros(filtered.saturating_sub(start)),
            ..explain
        })
    }

    /// Scores those of the rows that are live; how many those were.
    fn score_slots<'r>(&mut self, at: usize, rows: impl Iterator<Item = (u32, &'r MemRow)>) -> u64 {
        let mut scored = 0;
        for (slot, row) in rows.filter(|(_, row)| row.live_at(self.scene.view.lsn)) {
            let score = self.scorer.score(&row.vector, row.inv_norm);
            scored += 1;
            if self.admits(score) {
                let place = Place::Mem { part: at, slot };
                self.best.push(score, Candidate { id: row.id.clone(), place });
            }
        }
        scored
    }

    fn memtable_by_codes(
        &mut self,
        at: usize,
        part: &MemView,
        allowed: Option<&RoaringBitmap>,
    ) -> Result<PartExplain> {
        let start = self.scene.clock.monotonic();
        if let Some((_, chunk)) = part.rows.full_chunks().find(|(_, chunk)| chunk.codes().is_none())
        {
            part.memtable.encode(chunk, self.scene.pool);
        }
        let counts = |slot: &u32| allowed.is_none_or(|allowed| allowed.contains(*slot));
        let mut coded = Vec::new();
        let mut scored = 0;
        for (first, chunk) in part.rows.full_chunks() {
            match chunk.codes() {
                Some(codes) => {
                    let mask = allowed.map(|allowed| mask(allowed, first));
                    if mask.is_none_or(|words| set_bits(&words) > 0) {
                        coded.push(Coded { first, chunk, codes, mask });
                    }
                }
                None => {
                    let slots = (first..).take(CHUNK_ROWS).filter(counts);
                    let rows = slots.filter_map(|slot| part.slot(slot));
                    scored += self.score_slots(at, rows);
                }
            }
        }
        let rest = part.rows.rest().filter(|(slot, _)| counts(slot));
        scored += self.score_slots(at, rest);
        let vectors = self.scene.clock.monotonic();
        let codec = part.memtable.codec();
        let query = codec.query(&self.scene.spec.query, CONFIDENCE);
        let probe = query.probe(&codec.origin_centre());
        let floor = rank_units(self.scene.view.schema.metric, self.best.threshold());
        let mut collector = Collector::new(&query, self.scene.spec.k).above(floor);
        let mut looked_at = 0;
        for Coded { first, chunk, codes, mask } in &coded {
            looked_at += mask.map_or(CHUNK_ROWS as u64, |words| set_bits(&words));
            let cell =
                CellCodes { mask: mask.as_ref().map(<[u32; WORDS]>::as_slice), ..codes.cell()? };
            collector.scan(&cell, &probe, |at| {
                // Whether a row is live is looked up for the few that the scan leaves.
                chunk.row(at).filter(|row| row.live_at(self.scene.view.lsn))?;
                Some(first + at as u32)
            });
        }
        collector.settle();
        let decided = collector.decided() as u64;
        let left = collector.finish();
        let scanned = self.scene.clock.monotonic();
        scored += self.score_slots(at, left.into_iter().filter_map(|slot| part.slot(slot)));
        let end = self.scene.clock.monotonic();
        let on_vectors = vectors.saturating_sub(start) + end.saturating_sub(scanned);
        Ok(PartExplain {
            plan: BY_CODES,
            scanned: looked_at,
            decided,
            scored,
            scan_us: micros(scanned.saturating_sub(vectors)),
            score_us: micros(on_vectors),
            ..PartExplain::default()
        })
    }
}

/// A bit for each slot of a chunk.
fn mask(allowed: &RoaringBitmap, first: u32) -> [u32; WORDS] {
    let mut words = [0; WORDS];
    for slot in allowed.range(first..first + CHUNK_ROWS as u32) {
        let at = (slot - first) as usize;
        words[at / BLOCK_ROWS] |= 1 << (at % BLOCK_ROWS);
    }
    words
}

fn set_bits(words: &[u32; WORDS]) -> u64 {
    words.iter().map(|word| u64::from(word.count_ones())).sum()
}
