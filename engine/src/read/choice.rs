//! Which cells of a segment a search looks through.
//!
//! Without a filter: the nearest, as many as the recall takes, and more if they hold fewer than k rows
//! that count. A filter that leaves many rows changes nothing but that. With one that leaves few,
//! cells without a match are passed over, and what counts is the share of the matches that is
//! looked at. If matches were spread like all rows that share would be that of the cells; but the
//! cells near a query may hold few matches though there are many elsewhere ("animals" for a sentence
//! on music). Then the order of the cells says little about where the nearest matches are, and more
//! of them are looked at: the share is raised to a power below 1 that falls with how much scarcer
//! matches are in the nearest cells than in all.

use super::counted::{Counted, Rows};
use crate::segment::CellTable;
use akidb_index::{
    codebook::Ranking,
    rabitq::{Probe, Query},
};

/// The power of the share for a filter without a match near the query.
const SCARCE: f64 = 0.15;
/// How the power falls with scarcity: measured on two filters of sentence embeddings.
const FALL: f64 = 0.75;

/// How many times more cells a sparse filter is given than rows without one need: the table of a
/// segment knows all rows, not those of the filter.
const RESERVE: f64 = 1.15;

/// A segment, and what counts in it.
pub(super) struct Choice<'a> {
    pub(super) table: &'a CellTable,
    pub(super) query: &'a Query,
    pub(super) rows: &'a Counted<'a>,
    /// How many of them the cells must hold at least.
    pub(super) wanted: u64,
}

impl Choice<'_> {
    /// The cells, the most promising first: about `nprobe`, more where those do not do.
    pub(super) fn cells(&self, nprobe: usize) -> Vec<(u32, Probe)> {
        let router = self.table.clustering().router();
        let all = self.table.row_count();
        match self.rows.which() {
            Rows::Only(_) if self.rows.is_sparse() => self.among_matches(nprobe),
            _ => {
                let order = router.route(self.query, nprobe);
                let held: u64 =
                    order.iter().map(|(cell, _)| self.table.rows(*cell).len() as u64).sum();
                // As many as these may be hidden.
                let safe = held.saturating_sub(all - self.rows.all()) >= self.wanted;
                if safe || self.held(&order) >= self.wanted {
                    return order;
                }
                let mut order = router.route(self.query, usize::MAX);
                let mut held = 0;
                let enough = order.iter().position(|(cell, _)| {
                    held += self.rows.count_in(&self.table.rows(*cell));
                    held >= self.wanted
                });
                order.truncate(enough.map_or(usize::MAX, |last| (last + 1).max(nprobe)));
                order
            }
        }
    }

    /// Rows that count in some cells.
    fn held(&self, order: &[(u32, Probe)]) -> u64 {
        order.iter().map(|(cell, _)| self.rows.count_in(&self.table.rows(*cell))).sum()
    }

    fn among_matches(&self, nprobe: usize) -> Vec<(u32, Probe)> {
        let nprobe = (nprobe as f64 * RESERVE).ceil() as usize;
        let mut ranking = self.table.clustering().router().ranking(self.query);
        let enough = self.enough(&mut ranking, nprobe);
        let (mut chosen, mut held) = (Vec::new(), 0);
        for place in 0.. {
            let Some(cell) = ranking.cell(place).filter(|_| place < nprobe || held < enough) else {
                break;
            };
            let matching = self.rows.count_in(&self.table.rows(cell));
            held += matching;
            if matching > 0 {
                chosen.extend(ranking.probe(cell).map(|probe| (cell, probe)));
            }
        }
        chosen
    }

    /// How many matches are to be looked at.
    fn enough(&self, ranking: &mut Ranking<'_>, nprobe: usize) -> u64 {
        let (mut near, mut near_rows) = (0, 0);
        for cell in (0..nprobe).map_while(|place| ranking.cell(place)) {
            let rows = self.table.rows(cell);
            near += self.rows.count_in(&rows);
            near_rows += rows.len() as u64;
        }
        let share = nprobe as f64 / f64::from(self.table.clustering().cells().max(1));
        let expected = self.rows.all() as f64 * near_rows as f64 / self.table.row_count() as f64;
        let power = (near as f64 / expected.max(1.0)).powf(FALL).clamp(SCARCE, 1.0);
        let enough = (self.rows.all() as f64 * share.powf(power)).ceil() as u64;
        enough.max(self.wanted)
    }
}
