//! The checked way to call the tables of [`super`]: what an inner loop relies on is asserted here.

#![expect(unsafe_code, reason = "calls of functions for instructions that the machine has")]

use super::{
    BLOCK_ROWS, FACTOR_BYTES, GROUP_BYTES, Layout, Scan,
    portable::{Grid, Nearest, PANEL, Sums},
    rounded::{self, LaneBest, ROWS, Rounded},
    table::{self, Level, Table},
};

/// The kernels of one level that this machine can run.
///
/// ```
/// use akidb_index::Kernels;
/// let kernels = Kernels::best();
/// assert_eq!(kernels.dot(&[1.0, 2.0], &[3.0, 4.0]), 11.0);
/// assert_eq!(kernels.dot_u8(&[255; 64], &[-1; 64]), -255 * 64);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    level: Level,
    table: &'static Table,
}

impl Kernels {
    /// The fastest level of this machine.
    pub fn best() -> Self {
        let (level, table) = table::best();
        Self { level, table }
    }

    /// Every level of this machine, the plainest first.
    pub fn available() -> Vec<Self> {
        table::available().into_iter().map(|(level, table)| Self { level, table }).collect()
    }

    /// The level.
    pub fn level(self) -> Level {
        self.level
    }

    /// The layout of codes in memory that this level scans fastest.
    pub fn layout(self) -> Layout {
        if self.level == Level::Vbmi { Layout::Rows } else { Layout::Groups }
    }

    /// The inner product of two vectors, in an order of sums that every level shares. Infinite or
    /// NaN if a sum leaves the range of f32.
    ///
    /// # Panics
    /// If the lengths differ, which is a bug of the caller.
    pub fn dot(self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len(), "kernels take vectors of one length");
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.dot)(a, b) }
    }

    /// The squared Euclidean distance of two vectors, in an order of sums that every level shares.
    /// Infinite if a sum leaves the range of f32.
    ///
    /// # Panics
    /// If the lengths differ, which is a bug of the caller.
    pub fn l2_squared(self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len(), "kernels take vectors of one length");
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.l2_squared)(a, b) }
    }

    /// The inner products of a query with scattered rows of a matrix, the next rows asked of memory
    /// while one is summed. Row `wanted[i]` of `rows` goes to `out[i]`; each is what
    /// [`Self::dot`] gives.
    ///
    /// # Panics
    /// If `out` is not as long as `wanted`, or a wanted row is not in `rows`: bugs of the caller.
    pub fn dot_rows(self, query: &[f32], rows: &[f32], wanted: &[u32], out: &mut [f32]) {
        assert_eq!(wanted.len(), out.len(), "each wanted row has its place");
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.dot_rows)(query, rows, wanted, out) }
    }

    /// The squared distances of a query to scattered rows of a matrix: see [`Self::dot_rows`].
    ///
    /// # Panics
    /// Like [`Self::dot_rows`].
    pub fn l2_squared_rows(self, query: &[f32], rows: &[f32], wanted: &[u32], out: &mut [f32]) {
        assert_eq!(wanted.len(), out.len(), "each wanted row has its place");
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.l2_squared_rows)(query, rows, wanted, out) }
    }

    /// [`Self::dot_u8`] of a query with scattered codes, which lie one behind the other in `codes`:
    /// see [`Self::dot_rows`].
    ///
    /// # Panics
    /// Like [`Self::dot_rows`] and [`Self::dot_u8`].
    pub fn dot_u8_rows(self, codes: &[u8], query: &[i8], wanted: &[u32], out: &mut [i32]) {
        assert_eq!(wanted.len(), out.len(), "each wanted row has its place");
        assert_eq!(query.len() % 64, 0, "codes have whole words of 64 components");
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.dot_u8_rows)(codes, query, wanted, out) }
    }

    /// [`Self::dot_u8`] of a query with each of the codes, which lie one behind the other.
    ///
    /// # Panics
    /// If there is not a place in `out` for each code, or like [`Self::dot_u8`].
    pub fn dot_u8_all(self, codes: &[u8], query: &[i8], out: &mut [i32]) {
        assert_eq!(codes.len(), query.len() * out.len(), "each code has its place");
        assert!(is_padded(query), "codes have whole words of 64 components");
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.dot_u8_all)(codes, query, out) }
    }

    /// FastScan: adds up, for each of 32 rows, the table entries that its code picks.
    ///
    /// `codes` holds 16 bytes per group of four components: byte `j` has the four bits of row `j`
    /// below and those of row `16 + j` above. `tables` holds 16 sums per group, one per value of
    /// the four bits, each at most 248.
    ///
    /// # Panics
    /// If the lengths differ or are no multiple of 256 (64 components), which is a bug of the
    /// caller.
    pub fn block_sums(self, codes: &[u8], tables: &[u8], sums: &mut [u32; BLOCK_ROWS]) {
        assert_eq!(codes.len(), tables.len(), "a table belongs to codes of one dimension");
        assert_eq!(codes.len() % (16 * GROUP_BYTES), 0, "codes have whole words of 64 components");
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.block_sums)(codes, tables, sums) }
    }

    /// The sum of `code[i] * query[i]`: a code of one byte per component.
    ///
    /// # Panics
    /// If the lengths differ or are no multiple of 64, which is a bug of the caller.
    pub fn dot_u8(self, code: &[u8], query: &[i8]) -> i32 {
        assert_eq!(code.len(), query.len(), "kernels take vectors of one length");
        assert_eq!(code.len() % 64, 0, "codes have whole words of 64 components");
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.dot_u8)(code, query) }
    }

    /// The sum of the products of a code of half a byte per component and a query. Each 32 bytes
    /// hold 64 components: the first 32 in the low halves, the next 32 in the high ones.
    ///
    /// # Panics
    /// If the query is not twice as long as the code or no multiple of 64, which is a bug of the
    /// caller.
    pub fn dot_u4(self, code: &[u8], query: &[i8]) -> i32 {
        assert_eq!(code.len() * 2, query.len(), "kernels take vectors of one length");
        assert_eq!(query.len() % 64, 0, "codes have whole words of 64 components");
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.dot_u4)(code, query) }
    }

    /// Estimates the scores of the rows of blocks, of which there are as many as words in `near`:
    /// each the codes of 32 rows as [`Self::block_sums`] takes them, then [`FACTOR_BYTES`] of
    /// factors. A word of `near` has a bit for each row that is wanted; those stay set whose upper
    /// bound is not below the threshold (see `portable::score_block`). A block of which nothing is
    /// wanted is not read, and has no estimates.
    ///
    /// # Panics
    /// If lengths do not fit each other, or the tables are no multiple of 256 bytes (64 components):
    /// bugs of the caller.
    pub(crate) fn scan_blocks(
        self,
        scan: &Scan<'_>,
        blocks: &[u8],
        near: &mut [u32],
        estimates: &mut [[f32; BLOCK_ROWS]],
    ) {
        let len = scan.tables.len() + FACTOR_BYTES;
        assert_eq!(scan.tables.len() % (16 * GROUP_BYTES), 0, "codes have whole words");
        assert_eq!(blocks.len(), near.len() * len, "every block has a word of wanted rows");
        assert!(estimates.len() >= near.len(), "every block has a place for its estimates");
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.scan_blocks)(scan, blocks, near, estimates) }
    }

    /// Which cells rows may be nearest to: see `rounded::lane_best`.
    ///
    /// # Panics
    /// If lengths do not fit each other, which is a bug of the caller.
    pub(crate) fn lane_best(
        self,
        rows: &[u8],
        steps: &[f32],
        rounded: &Rounded<'_>,
        best: &mut [LaneBest],
    ) {
        let cells = rounded.zeros.len();
        assert!(!steps.is_empty() && steps.len().is_multiple_of(ROWS), "rows come in fours");
        assert_eq!(best.len(), steps.len(), "every row has a place for its cells");
        assert!(cells.is_multiple_of(PANEL), "panels are full");
        assert_eq!(rounded.scales.len(), cells, "every cell has a scale");
        assert_eq!(rounded.offsets.len(), cells, "every cell has an offset");
        let dim = rows.len() / steps.len();
        assert_eq!(rows.len(), dim * steps.len(), "rows are whole");
        assert_eq!(rounded.panels.len(), dim * cells, "centroids have the dimension of the rows");
        assert!(dim > 0 && dim.is_multiple_of(rounded::QUAD), "components come in fours");
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.lane_best)(rows, steps, rounded, best) }
    }

    /// The nearest cell of each row: see `portable::nearest`.
    ///
    /// # Panics
    /// If there is no cell, or the lengths do not fit each other: bugs of the caller.
    pub(crate) fn nearest(
        self,
        rows: &[f32],
        panels: &[f32],
        offsets: &[f32],
        best: &mut [Nearest],
    ) {
        assert!(!offsets.is_empty() && offsets.len().is_multiple_of(PANEL), "panels are full");
        assert_eq!(panels.len() % offsets.len(), 0, "a panel has whole centroids");
        assert_eq!(rows.len(), best.len() * (panels.len() / offsets.len()), "a row has a place");
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.nearest)(rows, panels, offsets, best) }
    }

    /// See [`crate::Rotation::apply`], which checks the lengths.
    pub(crate) fn rotate(self, v: &mut [f32], signs: &[u32]) {
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.rotate)(v, signs) }
    }

    /// Asks memory for bytes that are needed soon; the first 2 KiB of them, behind which the machine
    /// sees by itself where it goes on.
    pub(crate) fn prefetch(self, bytes: &[u8]) {
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.prefetch)(bytes) }
    }

    /// One bit per component of a residual, and the sums for its factors.
    pub(crate) fn encode_bits(self, residual: &[f32], centre: &[f32], code: &mut [u8]) -> Sums {
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.encode_bits)(residual, centre, code) }
    }

    /// One byte per component of a residual, its level on the grid, and the sums for its factors.
    pub(crate) fn encode_levels(
        self,
        residual: &[f32],
        centre: &[f32],
        grid: Grid,
        levels: &mut [u8],
    ) -> Sums {
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.encode_levels)(residual, centre, grid, levels) }
    }
}

/// True for the components of a code, which are whole words.
fn is_padded(query: &[i8]) -> bool {
    !query.is_empty() && query.len().is_multiple_of(crate::PAD)
}
