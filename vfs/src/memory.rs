//! Large blocks of memory for copies of what is searched all the time: in huge pages where the
//! machine allows them, so that a scan over megabytes does not wait for address translation.
//!
//! Knows nothing of what is in them, and does not count them: who may take how much is the caller's.

use std::{
    io,
    ops::{Deref, DerefMut},
};

/// Bytes that are being filled in.
///
/// ```
/// let mut filling = akidb_vfs::MemoryMut::zeroed(3)?;
/// filling.copy_from_slice(b"abc");
/// assert_eq!(&*filling.freeze()?, b"abc");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct MemoryMut {
    map: memmap2::MmapMut,
    len: usize,
}

impl MemoryMut {
    /// So many bytes of 0, aligned to a page. Memory is taken from the system as it is written.
    ///
    /// # Errors
    /// What the system says if there is no such memory.
    pub fn zeroed(len: usize) -> io::Result<Self> {
        // A map of length 0 is an error on some systems.
        let map = memmap2::MmapMut::map_anon(len.max(1))?;
        #[cfg(all(target_os = "linux", not(miri)))]
        {
            // Advice only: a system without huge pages serves small ones.
            drop(map.advise(memmap2::Advice::HugePage));
        }
        Ok(Self { map, len })
    }

    /// Ends writing. A stray write from then on is a fault and not a wrong answer.
    ///
    /// # Errors
    /// What the system says if it cannot protect the pages.
    pub fn freeze(self) -> io::Result<Memory> {
        Ok(Memory { map: self.map.make_read_only()?, len: self.len })
    }
}

impl Deref for MemoryMut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map[..self.len]
    }
}

impl DerefMut for MemoryMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.map[..self.len]
    }
}

/// Bytes that do not change any more.
#[derive(Debug)]
pub struct Memory {
    map: memmap2::Mmap,
    len: usize,
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_holds_what_was_written_and_starts_at_a_page() {
        for len in [0, 1, 4096, (4 << 20) + 5] {
            let mut filling = MemoryMut::zeroed(len).unwrap();
            assert!(filling.iter().all(|byte| *byte == 0));
            filling.iter_mut().zip(0_u32..).for_each(|(byte, at)| *byte = (at % 251) as u8);
            let memory = filling.freeze().unwrap();
            assert_eq!((memory.len(), memory.as_ptr() as usize % 4096), (len, 0));
            assert!(memory.iter().zip(0_u32..).all(|(byte, at)| *byte == (at % 251) as u8));
        }
    }
}
