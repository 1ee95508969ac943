//! What a virtual machine wrote to its disk, in order, with its flushes: read from the log that
//! qemu's `blklogwrites` keeps (the format of Linux's dm-log-writes), and made into the images that
//! a loss of power may leave. Only reads and makes bytes; knows no database.

use std::ops::Range;

/// "jfswshr" and a zero, as a little-endian number.
const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
/// Disks write whole sectors or nothing of them.
const SECTOR: usize = 512;

/// A write of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Write {
    /// On the disk, in bytes.
    at: usize,
    /// In the log, in bytes.
    data: Range<usize>,
    /// On the disk before it was answered.
    forced: bool,
}

/// All writes of a machine's life.
#[derive(Debug)]
pub(super) struct WriteLog {
    bytes: Vec<u8>,
    writes: Vec<Write>,
    /// How many of them a flush covers.
    flushed: usize,
    /// Flushes.
    pub(super) flushes: u64,
}

/// What became of the writes that no flush covered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fate {
    pub(super) kept: u64,
    pub(super) torn: u64,
    pub(super) dropped: u64,
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    bytes.try_into().ok().map(u64::from_le_bytes)
}

impl WriteLog {
    /// Reads a log as far as it goes: the machine may have been lost while an entry was written.
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self, String> {
        if number(&bytes, 0) != Some(MAGIC) {
            return Err("this is no log of writes".to_owned());
        }
        let (mut writes, mut flushed, mut flushes) = (Vec::new(), 0, 0);
        let mut at = SECTOR;
        while let Some(entry) = entry(&bytes, at) {
            let Entry { sector, flags, data } = entry;
            at = data.end;
            if !data.is_empty() {
                let forced = flags & FUA != 0;
                writes.push(Write { at: sector * SECTOR, data, forced });
            }
            if flags & FLUSH != 0 {
                flushed = writes.len();
                flushes += 1;
            }
        }
        Ok(Self { bytes, writes, flushed, flushes })
    }

    /// The disk as its writes left it, all of them: what a crash of the operating system alone
    /// leaves.
    pub(super) fn whole(&self, before: &[u8]) -> Vec<u8> {
        let mut image = before.to_vec();
        for write in &self.writes {
            self.apply(&mut image, write, |_| true);
        }
        image
    }

    /// The disk after a loss of power: of what no flush covered, each write is kept with
    /// `share` in 4, and of those one in four only in some sectors.
    pub(super) fn after_power_loss(
        &self,
        before: &[u8],
        share: u8,
        rng: &mut fastrand::Rng,
    ) -> (Vec<u8>, Fate) {
        let mut image = before.to_vec();
        let mut fate = Fate::default();
        let (flushed, unsure) = self.writes.split_at(self.flushed);
        for write in flushed {
            self.apply(&mut image, write, |_| true);
        }
        for write in unsure {
            if write.forced {
                self.apply(&mut image, write, |_| true);
            } else if rng.u8(0..4) >= share {
                fate.dropped += 1;
            } else if rng.u8(0..4) == 0 {
                self.apply(&mut image, write, |_| rng.bool());
                fate.torn += 1;
            } else {
                self.apply(&mut image, write, |_| true);
                fate.kept += 1;
            }
        }
        (image, fate)
    }

    fn apply(&self, image: &mut [u8], write: &Write, mut keep: impl FnMut(usize) -> bool) {
        let data = self.bytes.get(write.data.clone()).unwrap_or_default();
        for (n, sector) in data.chunks(SECTOR).enumerate() {
            let at = write.at + n * SECTOR;
            if keep(n)
                && let Some(there) = image.get_mut(at..at + sector.len())
            {
                there.copy_from_slice(sector);
            }
        }
    }
}

struct Entry {
    sector: usize,
    flags: u64,
    data: Range<usize>,
}

/// The entry at a place of the log; `None` where it ends.
fn entry(bytes: &[u8], at: usize) -> Option<Entry> {
    let sector = usize::try_from(number(bytes, at)?).ok()?;
    let sectors = usize::try_from(number(bytes, at + 8)?).ok()?;
    let flags = number(bytes, at + 16)?;
    // The file is longer than the log: the rest of it is zeros.
    if sectors == 0 && flags == 0 {
        return None;
    }
    let begin = at.checked_add(SECTOR)?;
    let len = if flags & DISCARD != 0 { 0 } else { sectors.checked_mul(SECTOR)? };
    let end = begin.checked_add(len)?;
    (end <= bytes.len()).then_some(Entry { sector, flags, data: begin..end })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of these (sector, byte that fills it, flags); no sector: a flush alone.
    fn log(entries: &[(Option<u64>, u8, u64)]) -> WriteLog {
        let mut bytes = vec![0; SECTOR];
        bytes[..8].copy_from_slice(&MAGIC.to_le_bytes());
        for (sector, fill, flags) in entries {
            let mut head = vec![0; SECTOR];
            head[..8].copy_from_slice(&sector.unwrap_or(0).to_le_bytes());
            head[8..16].copy_from_slice(&u64::from(sector.is_some()).to_le_bytes());
            head[16..24].copy_from_slice(&flags.to_le_bytes());
            bytes.extend(head);
            bytes.extend(vec![*fill; if sector.is_some() { SECTOR } else { 0 }]);
        }
        bytes.extend(vec![0; 4 * SECTOR]);
        WriteLog::parse(bytes).unwrap()
    }

    fn sectors(image: &[u8]) -> Vec<u8> {
        image.chunks(SECTOR).map(|sector| sector[0]).collect()
    }

    #[test]
    fn what_a_flush_covers_and_what_was_forced_survives_and_the_rest_may_go() {
        let log = log(&[
            (Some(0), 1, 0),
            (Some(1), 2, 0),
            (None, 0, FLUSH),
            (Some(1), 3, 0),
            (Some(2), 4, FUA),
        ]);
        let before = vec![9; 4 * SECTOR];
        assert_eq!(sectors(&log.whole(&before)), [1, 3, 4, 9]);
        let mut rng = fastrand::Rng::with_seed(1);
        let (strict, fate) = log.after_power_loss(&before, 0, &mut rng);
        assert_eq!(sectors(&strict), [1, 2, 4, 9]);
        assert_eq!((fate, log.flushes), (Fate { dropped: 1, ..Fate::default() }, 1));
        let kinds: std::collections::BTreeSet<_> =
            (0..40).map(|_| sectors(&log.after_power_loss(&before, 2, &mut rng).0)).collect();
        assert_eq!(kinds.len(), 2, "with and without the write that no flush covers");
    }

    #[test]
    fn a_log_ends_where_it_breaks_off() {
        let whole = log(&[(Some(0), 1, 0), (Some(1), 2, FLUSH)]);
        let mut bytes = whole.bytes;
        bytes.truncate(SECTOR * 4 + 100);
        let cut = WriteLog::parse(bytes).unwrap();
        assert_eq!((cut.writes.len(), cut.flushed), (1, 0));
        assert!(WriteLog::parse(vec![1; 64]).is_err());
    }
}
