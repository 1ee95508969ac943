//! Read-only views of whole files: a real memory map, or an aligned copy in memory where the file
//! system has no maps (the simulated disk) or must not use them (`pread` mode).

use std::ops::Deref;

/// The bytes of one immutable file.
///
/// The first byte is 8-byte aligned in memory (a page boundary for a real map); users that cast to
/// wider types check alignment with `bytemuck`.
#[derive(Debug)]
pub struct Mapping(Inner);

#[derive(Debug)]
enum Inner {
    Map(memmap2::Mmap),
    /// Words, so that the bytes are aligned for every element type of our formats.
    Memory {
        words: Box<[u64]>,
        len: usize,
    },
}

impl Mapping {
    /// Wraps a memory map.
    pub(crate) fn from_mmap(map: memmap2::Mmap) -> Self {
        Self(Inner::Map(map))
    }

    /// Copies bytes into aligned memory.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut words = vec![0_u64; bytes.len().div_ceil(8)].into_boxed_slice();
        bytemuck::cast_slice_mut::<u64, u8>(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Self(Inner::Memory { words, len: bytes.len() })
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Inner::Map(map) => map,
            Inner::Memory { words, len } => &bytemuck::cast_slice::<u64, u8>(words)[..*len],
        }
    }
}
