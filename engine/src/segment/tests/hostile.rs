//! Disks that lie: every flip, every cut, every exchange gives an error that names the file, or
//! the exact data.

use super::*;
use crate::{
    Cause, Error, ErrorKind,
    segment::{
        describe,
        directory::{BlockEntry, BlockKind, Footer},
        format::{EXTENT, HEADER_LEN, Header, TAIL_LEN, Tail, extent_crc},
    },
};
use akidb_vfs::{
    FsOp,
    sim::{Fault, FaultKind},
};
use proptest::prelude::*;
use std::{ops::Range, path::PathBuf};

fn path_of(number: u64) -> PathBuf {
    Path::new(DIR).join(format!("{number:012}.seg"))
}

fn bytes_of(fs: &SimFs, number: u64) -> Vec<u8> {
    akidb_vfs::read_file(fs, &path_of(number)).unwrap()
}

fn replace(fs: &SimFs, number: u64, bytes: &[u8]) {
    akidb_vfs::write_file_durably(fs, &path_of(number), bytes).unwrap();
}

fn open_and_read(fs: &SimFs, meta: &SegmentMeta, dim: u32, mode: ReadMode) -> Result<Content> {
    read(&open(fs, meta, dim, mode)?)
}

#[track_caller]
fn assert_corruption(error: &Error, number: u64) {
    match error.cause() {
        Cause::Corruption { file, .. } => assert_eq!(*file, path_of(number)),
        other => panic!("not a corruption: {other}"),
    }
}

#[test]
fn a_flipped_bit_is_named_or_harmless() {
    let (fs, content) = (disk(1), small());
    let meta = write(&fs, 9, 3, &content).unwrap();
    let path = path_of(9);
    let told = describe(&fs, &path).unwrap();
    let blocks = told.blocks.iter().map(|block| block.offset..block.offset + block.bytes);
    let last = told.blocks.last().unwrap();
    let footer = (last.offset + last.bytes).next_multiple_of(64)..meta.len;
    let covered: Vec<Range<u64>> = blocks.chain([0..HEADER_LEN as u64, footer]).collect();
    for at in 0..meta.len {
        let mask = 1 << (at % 8);
        fs.corrupt(&path, at, mask).unwrap();
        let mode = BOTH_MODES[(at % 2) as usize];
        let result = open_and_read(&fs, &meta, 3, mode);
        if covered.iter().any(|range| range.contains(&at)) {
            assert_corruption(&result.expect_err(&format!("a flip at {at}")), 9);
        } else {
            assert_eq!(result.unwrap(), content, "padding at {at}");
            let segment = open(&fs, &meta, 3, mode).unwrap();
            assert_corruption(&segment.verify().unwrap_err(), 9);
        }
        fs.corrupt(&path, at, mask).unwrap();
    }
}

#[test]
fn damage_in_any_extent_is_found_where_it_is() {
    let (fs, content) = (disk(1), large());
    let meta = write(&fs, 9, 33, &content).unwrap();
    let path = path_of(9);
    for block in describe(&fs, &path).unwrap().blocks {
        for extent in 0..block.extents {
            let start = block.offset + extent * EXTENT;
            let at = (start + 777).min(block.offset + block.bytes - 1);
            fs.corrupt(&path, at, 0x10).unwrap();
            for mode in BOTH_MODES {
                let found = open(&fs, &meta, 33, mode).and_then(|segment| segment.verify());
                match found.unwrap_err().cause() {
                    Cause::Corruption { offset, .. } => assert_eq!(*offset, start),
                    other => panic!("{other}"),
                }
            }
            fs.corrupt(&path, at, 0x10).unwrap();
        }
    }
}

#[test]
fn damage_elsewhere_does_not_stop_reading_what_is_whole() {
    let (fs, content) = (disk(1), large());
    let meta = write(&fs, 9, 33, &content).unwrap();
    fs.corrupt(&path_of(9), 4096 + EXTENT + 1, 1).unwrap();
    for mode in BOTH_MODES {
        let segment = open(&fs, &meta, 33, mode).unwrap();
        assert_eq!(*segment.vectors(0, 1).unwrap(), *content.rows[0].vector);
        assert_corruption(&segment.vectors(500, 1).unwrap_err(), 9);
        assert_corruption(&segment.vectors(500, 1).unwrap_err(), 9);
        assert_eq!(*segment.vectors(5999, 1).unwrap(), *content.rows[5999].vector);
    }
}

#[test]
fn a_cut_or_grown_file_is_refused_before_it_is_mapped() {
    let fs = disk(1);
    let meta = write(&fs, 9, 3, &small()).unwrap();
    let whole = bytes_of(&fs, 9);
    for len in 0..whole.len() {
        replace(&fs, 9, &whole[..len]);
        let mode = BOTH_MODES[len % 2];
        assert_corruption(&open_and_read(&fs, &meta, 3, mode).unwrap_err(), 9);
        // A manifest that agrees with the cut does not help.
        let lying = SegmentMeta { len: len as u64, ..meta.clone() };
        assert_corruption(&open_and_read(&fs, &lying, 3, mode).unwrap_err(), 9);
        assert_corruption(&describe(&fs, &path_of(9)).unwrap_err(), 9);
    }
    replace(&fs, 9, &[whole.as_slice(), &[0]].concat());
    assert_corruption(&open_and_read(&fs, &meta, 3, ReadMode::Mmap).unwrap_err(), 9);
}

#[test]
fn pread_mode_never_maps_and_mapped_data_is_never_read() {
    let (fs, content) = (disk(1), small());
    let meta = write(&fs, 9, 3, &content).unwrap();
    for (forbidden, mode) in [(FsOp::Map, ReadMode::Pread), (FsOp::Read, ReadMode::Mmap)] {
        fs.inject(Fault::new(FaultKind::Eio).on(forbidden).sticky());
        assert_eq!(open_and_read(&fs, &meta, 3, mode).unwrap(), content);
        fs.clear_faults();
    }
}

#[test]
fn a_read_that_fails_is_an_error_that_passes() {
    let (fs, content) = (disk(1), small());
    let meta = write(&fs, 9, 3, &content).unwrap();
    let segment = open(&fs, &meta, 3, ReadMode::Pread).unwrap();
    fs.inject(Fault::new(FaultKind::Eio).on(FsOp::Read));
    assert_eq!(segment.vectors(0, 1).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(read(&segment).unwrap(), content);
    fs.truncate(&path_of(9), 4100).unwrap();
    let segment = open(&fs, &meta, 3, ReadMode::Pread);
    assert_corruption(&segment.unwrap_err(), 9);
}

#[test]
fn a_file_cut_under_an_open_segment_is_an_error_in_pread_mode() {
    let fs = disk(1);
    let meta = write(&fs, 9, 3, &small()).unwrap();
    let segment = open(&fs, &meta, 3, ReadMode::Pread).unwrap();
    fs.truncate(&path_of(9), 4100).unwrap();
    assert_corruption(&segment.vectors(0, 1).unwrap_err(), 9);
}

#[test]
fn a_file_that_is_gone_is_corruption() {
    let fs = disk(1);
    let meta = write(&fs, 9, 3, &small()).unwrap();
    fs.remove_file(&path_of(9)).unwrap();
    for mode in BOTH_MODES {
        assert_corruption(&open(&fs, &meta, 3, mode).unwrap_err(), 9);
    }
}

#[test]
fn an_exchanged_file_is_refused() {
    let fs = disk(1);
    let one = write(&fs, 1, 3, &small()).unwrap();
    let two = write(&fs, 2, 3, &small()).unwrap();
    assert_eq!(one.len, two.len);
    let bytes = bytes_of(&fs, 2);
    replace(&fs, 1, &bytes);
    for mode in BOTH_MODES {
        assert_corruption(&open(&fs, &one, 3, mode).unwrap_err(), 1);
    }
    let other = SegmentParams { collection: 4, ..params(3) };
    let error = Segment::open(&fs, Path::new(DIR), &two, other, ReadMode::Mmap).unwrap_err();
    assert_corruption(&error, 2);
}

#[test]
fn what_the_manifest_says_must_be_what_the_file_says() {
    let fs = disk(1);
    let meta = write(&fs, 9, 3, &small()).unwrap();
    for wrong in [
        SegmentMeta { rows: 2, ..meta.clone() },
        SegmentMeta { deletes: 0, ..meta.clone() },
        SegmentMeta { min_lsn: 1, ..meta.clone() },
        SegmentMeta { max_lsn: 99, ..meta.clone() },
        SegmentMeta { fields: Vec::new(), ..meta.clone() },
    ] {
        assert_corruption(&open(&fs, &wrong, 3, ReadMode::Mmap).unwrap_err(), 9);
    }
    let wrong = SegmentMeta { crc32: !meta.crc32, ..meta };
    let segment = open(&fs, &wrong, 3, ReadMode::Mmap).unwrap();
    assert_corruption(&segment.verify().unwrap_err(), 9);
}

#[test]
fn exchanged_extents_and_blocks_of_another_file_are_refused() {
    let (fs, content) = (disk(1), large());
    let meta = write(&fs, 9, 33, &content).unwrap();
    write(&fs, 10, 33, &content).unwrap();
    let (mut bytes, other) = (bytes_of(&fs, 9), bytes_of(&fs, 10));
    let size = usize::try_from(EXTENT).unwrap();
    let (first, second) = (4096..4096 + size, 4096 + size..4096 + 2 * size);
    let original = bytes.clone();
    bytes[first.clone()].copy_from_slice(&original[second.clone()]);
    bytes[second.clone()].copy_from_slice(&original[first]);
    replace(&fs, 9, &bytes);
    for mode in BOTH_MODES {
        let segment = open(&fs, &meta, 33, mode).unwrap();
        assert_corruption(&segment.vectors(0, 1).unwrap_err(), 9);
    }

    // The same rows, the same place, another file: footer and tail do not pass with our salt.
    let tail = original.len() - TAIL_LEN;
    assert_eq!(original.len(), other.len());
    let grafted = [&original[..tail - 64], &other[tail - 64..]].concat();
    replace(&fs, 9, &grafted);
    assert_corruption(&open(&fs, &meta, 33, ReadMode::Mmap).unwrap_err(), 9);
}

#[test]
fn a_bit_that_flips_on_the_way_is_noticed() {
    let (fs, content) = (disk(1), small());
    let meta = write(&fs, 9, 3, &content).unwrap();
    for nth in 1..60 {
        for mode in BOTH_MODES {
            fs.inject(Fault::new(FaultKind::ReadFlip).nth(nth));
            match open_and_read(&fs, &meta, 3, mode) {
                Ok(read) => assert_eq!(read, content),
                Err(error) => assert_corruption(&error, 9),
            }
            fs.clear_faults();
        }
    }
    assert!(fs.fired()[&FaultKind::ReadFlip] > 8);
}

/// The parts of a segment file, to be changed and signed again: a lie with right checksums.
pub(super) struct Forgery {
    pub(super) bytes: Vec<u8>,
    header: Header,
    pub(super) footer: Footer,
}

impl Forgery {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let len = bytes.len();
        let header = Header::decode(&bytes[..HEADER_LEN]).unwrap();
        let tail = Tail::decode(header.version, &bytes[len - TAIL_LEN..], len as u64).unwrap();
        let at = usize::try_from(tail.footer_offset).unwrap();
        let footer = Footer::decode(&bytes[at..len - TAIL_LEN], tail.footer_offset).unwrap();
        Self { bytes: bytes[..at].to_vec(), header, footer }
    }

    /// What each block holds.
    pub(super) fn names(&self) -> Vec<&'static str> {
        let name =
            |entry: &BlockEntry| BlockKind::from_code(entry.kind).map_or("", BlockKind::name);
        self.footer.blocks.iter().map(name).collect()
    }

    pub(super) fn data(&self, block: usize) -> Range<usize> {
        let entry = &self.footer.blocks[block];
        usize::try_from(entry.offset).unwrap()..usize::try_from(entry.end()).unwrap()
    }

    /// The file with `footer` in place of its own.
    fn with_footer(&self, footer: &[u8]) -> Vec<u8> {
        let tail = Tail::of(self.header.version, footer, self.bytes.len() as u64, self.header.salt);
        [self.bytes.as_slice(), footer, &tail.encode()].concat()
    }

    /// The file with the checksums of its changed data.
    pub(super) fn sign(mut self) -> Vec<u8> {
        for block in 0..self.footer.blocks.len() {
            let data = self.data(block);
            let entry = &mut self.footer.blocks[block];
            entry.crcs = (entry.offset..)
                .step_by(EXTENT as usize)
                .zip(self.bytes[data].chunks(EXTENT as usize))
                .map(|(at, bytes)| extent_crc(self.header.salt, at, bytes))
                .collect();
        }
        self.with_footer(&self.footer.encode())
    }
}

/// Opens forged bytes as leniently as a manifest can be and reads what there is to read.
fn read_forged(fs: &SimFs, meta: &SegmentMeta, bytes: &[u8], mode: ReadMode) {
    replace(fs, 9, bytes);
    let meta = SegmentMeta { len: bytes.len() as u64, ..meta.clone() };
    let result = open(fs, &meta, 3, mode).and_then(|segment| {
        for row in 0..segment.rows() {
            let id = segment.id(row)?;
            segment.find(&id)?;
            segment.metadata(row)?;
            segment.lsn(row)?;
            segment.vectors(row, 1)?;
        }
        segment.deletes()?;
        segment.field_block("pos")?;
        segment.verify()
    });
    if let Err(error) = result {
        let kind = error.kind();
        assert!(matches!(kind, ErrorKind::Corruption | ErrorKind::Incompatible), "{error:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_footer_that_lies_with_right_checksums_is_refused_or_read(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let fs = disk(1);
        let meta = write(&fs, 9, 3, &small()).unwrap();
        let forgery = Forgery::of(&bytes_of(&fs, 9));
        let mut footer = forgery.footer.encode();
        for (at, value) in edits {
            let at = at.index(footer.len());
            footer[at] = value;
        }
        if let Some(cut) = cut {
            footer.truncate(cut.index(footer.len()));
        }
        for mode in BOTH_MODES {
            read_forged(&fs, &meta, &forgery.with_footer(&footer), mode);
        }
    }

    #[test]
    fn data_that_lies_with_right_checksums_is_refused_or_read(
        block in 0_usize..8,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let fs = disk(1);
        let meta = write(&fs, 9, 3, &small()).unwrap();
        let mut forgery = Forgery::of(&bytes_of(&fs, 9));
        let data = forgery.data(block);
        for (at, value) in edits {
            forgery.bytes[data.start + at.index(data.len())] = value;
        }
        let bytes = forgery.sign();
        for mode in BOTH_MODES {
            read_forged(&fs, &meta, &bytes, mode);
        }
    }
}

/// Puts a file as a later version of this format could write it in place: one more block.
fn add_block_of_kind_99(
    fs: &SimFs,
    meta: &SegmentMeta,
    whole: &[u8],
    (optional, since): (bool, u16),
) -> SegmentMeta {
    let mut forgery = Forgery::of(whole);
    let offset = forgery.bytes.len() as u64;
    forgery.bytes.resize(forgery.bytes.len() + 64, 7);
    forgery.footer.blocks.push(BlockEntry {
        kind: 99,
        optional,
        since,
        detail: 0,
        name: String::new(),
        offset,
        len: 64,
        items: 0,
        crcs: vec![0],
    });
    let bytes = forgery.sign();
    replace(fs, 9, &bytes);
    SegmentMeta { len: bytes.len() as u64, crc32: crc32fast::hash(&bytes), ..meta.clone() }
}

#[test]
fn an_unknown_block_is_passed_over_if_it_may_be() {
    let (fs, content) = (disk(1), small());
    let meta = write(&fs, 9, 3, &content).unwrap();
    let newer = add_block_of_kind_99(&fs, &meta, &bytes_of(&fs, 9), (true, 1));
    assert_eq!(open_and_read(&fs, &newer, 3, ReadMode::Mmap).unwrap(), content);
    assert_eq!(describe(&fs, &path_of(9)).unwrap().blocks[8].kind, "unknown (99)");
}

#[test]
fn an_unknown_block_that_must_be_understood_needs_a_newer_binary() {
    let fs = disk(1);
    let meta = write(&fs, 9, 3, &small()).unwrap();
    let whole = bytes_of(&fs, 9);
    let newer = add_block_of_kind_99(&fs, &meta, &whole, (false, 3));
    let error = open(&fs, &newer, 3, ReadMode::Mmap).unwrap_err();
    assert!(matches!(error.cause(), Cause::Newer { found: 3, supported: 2, .. }), "{error}");
    let impossible = add_block_of_kind_99(&fs, &meta, &whole, (false, 1));
    assert_corruption(&open(&fs, &impossible, 3, ReadMode::Mmap).unwrap_err(), 9);
}

#[test]
fn a_newer_file_is_refused_by_name() {
    let fs = disk(1);
    let meta = write(&fs, 9, 3, &small()).unwrap();
    let mut bytes = bytes_of(&fs, 9);
    bytes[8] = 3;
    let crc = crc32fast::hash(&bytes[..HEADER_LEN - 4]);
    bytes[HEADER_LEN - 4..HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
    replace(&fs, 9, &bytes);
    let error = open(&fs, &meta, 3, ReadMode::Mmap).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.to_string().contains("000000000009.seg"), "{error}");
}
