//! A codebook as bytes: see `docs/format/codebook.md`.
//!
//! Owns the layout and every check of it. The bytes lie in a block of a segment, whose checksums
//! the segment verifies; the id is a hash of all other bytes all the same, so that what is decoded
//! is what was encoded, wherever the bytes came from.
//!
//! # Invariants
//! - Decoding any bytes gives an error or a codebook that encodes to the same bytes.
//! - No number that is not finite gets in: every distance to it would be none.
//! - Nothing is allocated before the length of the bytes has been compared with what they say.

#![deny(clippy::indexing_slicing)]

use super::Codebook;
use xxhash_rust::xxh3::Xxh3;

const MAGIC: [u8; 4] = *b"AKCB";
const VERSION: u16 = 1;
const HEADER: usize = 64;
/// Where the id lies, which the id does not cover.
const ID: std::ops::Range<usize> = 16..24;
/// Sums over more components than this leave 32 bits.
pub const DIM_MAX: usize = 65_536;

/// Bytes that are no codebook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCodebook {
    /// There is no whole header.
    #[error("a codebook begins with {HEADER} bytes of header, there are {got}")]
    Short {
        /// Bytes that there are.
        got: usize,
    },
    /// The bytes are something else.
    #[error("a codebook begins with \"AKCB\"; these bytes are something else")]
    Magic,
    /// Written by a newer AkiDB.
    #[error("codebook of version {found}; this AkiDB reads version {VERSION}: use a newer one")]
    Version {
        /// The version.
        found: u16,
    },
    /// No components, too many, or no cells.
    #[error(
        "a codebook of {cells} cells of {dim} components; there must be some of each, and at most {DIM_MAX} components"
    )]
    Shape {
        /// Components of a centroid.
        dim: u32,
        /// Cells.
        cells: u32,
    },
    /// The bytes are more or less than the header says.
    #[error("{cells} cells of {dim} components take {want} bytes, there are {got}")]
    Length {
        /// Components of a centroid.
        dim: u32,
        /// Cells.
        cells: u32,
        /// Bytes that those take.
        want: u64,
        /// Bytes that there are.
        got: usize,
    },
    /// A field that must be zero is not.
    #[error("byte {offset} of a codebook is not zero, as it must be")]
    Reserved {
        /// Where it lies.
        offset: usize,
    },
    /// The bytes have changed since they were written.
    #[error(
        "the codebook says that its id is {stored:016x}; that of its content is {computed:016x}"
    )]
    Id {
        /// The id in the bytes.
        stored: u64,
        /// The hash of the rest of them.
        computed: u64,
    },
    /// A component is infinite or not a number.
    #[error("the number at byte {offset} of a codebook is not finite")]
    NotFinite {
        /// Where it lies.
        offset: usize,
    },
    /// A radius is less than nothing.
    #[error("cell {cell} of a codebook has a negative radius")]
    Negative {
        /// The cell.
        cell: usize,
    },
}

impl Codebook {
    /// The codebook as bytes, the same for the same codebook on every machine.
    pub fn encode(&self) -> Vec<u8> {
        let numbers = self.origin.iter().chain(&self.centroids).chain(&self.radii);
        let mut bytes = Vec::with_capacity(HEADER + 4 * numbers.clone().count());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&0_u16.to_le_bytes());
        bytes.extend_from_slice(&(self.dim as u32).to_le_bytes());
        bytes.extend_from_slice(&(self.cells() as u32).to_le_bytes());
        for number in [self.id, self.seed, self.trained_rows, 0, 0, 0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend(numbers.flat_map(|x| x.to_le_bytes()));
        bytes
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`BadCodebook`] says what is wrong with the bytes, and where.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadCodebook> {
        let header = Header::read(bytes)?;
        let computed = id(bytes);
        if computed != header.id {
            return Err(BadCodebook::Id { stored: header.id, computed });
        }
        let (numbers, _) = bytes.get(HEADER..).unwrap_or_default().as_chunks::<4>();
        let mut origin: Vec<f32> = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        if let Some(at) = origin.iter().position(|x| !x.is_finite()) {
            return Err(BadCodebook::NotFinite { offset: HEADER + 4 * at });
        }
        let mut centroids = origin.split_off(header.dim);
        let radii = centroids.split_off(header.dim * header.cells);
        if let Some(cell) = radii.iter().position(|radius| radius.is_sign_negative()) {
            return Err(BadCodebook::Negative { cell });
        }
        Ok(Self {
            dim: header.dim,
            centroids,
            radii,
            origin,
            seed: header.seed,
            trained_rows: header.trained_rows,
            id: header.id,
            panels: std::sync::OnceLock::new(),
        })
    }
}

/// The hash of the content: all bytes but those of the id itself.
pub(super) fn id(bytes: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(bytes.get(..ID.start).unwrap_or_default());
    hash.update(bytes.get(ID.end..).unwrap_or_default());
    hash.digest()
}

/// What the header says, when the bytes are as many as it says.
struct Header {
    dim: usize,
    cells: usize,
    id: u64,
    seed: u64,
    trained_rows: u64,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, BadCodebook> {
        let Some(header) = bytes.first_chunk::<HEADER>() else {
            return Err(BadCodebook::Short { got: bytes.len() });
        };
        let (words, _) = header.as_chunks::<8>();
        let [first, shape, id, seed, trained_rows, zeros @ ..] = words else {
            return Err(BadCodebook::Short { got: bytes.len() });
        };
        let [a, b, c, d, low, high, zero @ ..] = *first;
        if [a, b, c, d] != MAGIC {
            return Err(BadCodebook::Magic);
        }
        let found = u16::from_le_bytes([low, high]);
        if found != VERSION {
            return Err(BadCodebook::Version { found });
        }
        if let Some(at) = zero.iter().position(|byte| *byte != 0) {
            return Err(BadCodebook::Reserved { offset: 6 + at });
        }
        if let Some(at) = zeros.as_flattened().iter().position(|byte| *byte != 0) {
            return Err(BadCodebook::Reserved { offset: 40 + at });
        }
        let [a, b, c, d, cells @ ..] = *shape;
        let (dim, cells) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes(cells));
        if dim == 0 || dim as usize > DIM_MAX || cells == 0 {
            return Err(BadCodebook::Shape { dim, cells });
        }
        // About 2^16 * 2^32 numbers of 4 bytes at most: no overflow in 64 bits.
        let numbers = u64::from(dim) * (u64::from(cells) + 1) + u64::from(cells);
        let want = HEADER as u64 + 4 * numbers;
        if bytes.len() as u64 != want {
            return Err(BadCodebook::Length { dim, cells, want, got: bytes.len() });
        }
        let [id, seed, trained_rows] = [id, seed, trained_rows].map(|b| u64::from_le_bytes(*b));
        Ok(Self { dim: dim as usize, cells: cells as usize, id, seed, trained_rows })
    }
}
