//! Distance kernels, codes, cells and top-k: the arithmetic of search.
//!
//! [`Scorer`] and [`TopK`] are exact search. Approximate search is made of [`codebook`] (which cells
//! a query visits), [`lists`] (the rows of a cell), [`rabitq`] (codes with bounds, and which rows
//! these leave to be scored exactly), over the inner loops in [`Kernels`].
//!
//! Everything here is a pure function of its arguments: no I/O, no threads but those of an
//! [`Executor`] that is handed in, no clock, no global state. The engine calls it for every row it scores, in whichever tier the row lives, and the
//! same bytes give the same score everywhere.
//!
//! ```
//! use akidb_index::{Metric, Scorer, TopK, inv_norm};
//!
//! let rows: [&[f32]; 3] = [&[1.0, 0.0], &[0.0, 2.0], &[3.0, 3.0]];
//! let scorer = Scorer::new(Metric::Cosine, &[0.0, 1.0]);
//! let mut best = TopK::new(2);
//! for (id, row) in rows.iter().enumerate() {
//!     best.push(scorer.score(row, inv_norm(row)), id);
//! }
//! let ids: Vec<usize> = best.into_sorted_vec().into_iter().map(|hit| hit.item).collect();
//! assert_eq!(ids, [1, 2]);
//! ```

pub mod codebook;
mod executor;
pub mod kernel;
mod kernels;
pub mod lists;
mod metric;
pub mod rabitq;
mod rotation;
mod topk;

pub use executor::{Executor, Serial, map};
pub use kernel::inv_norm;
pub use kernels::{BLOCK_ROWS, Kernels, Layout, Level};
pub use metric::{Metric, Scorer};
pub use rotation::{PAD, Rotation};
pub use topk::{Scored, TopK};
