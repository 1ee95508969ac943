//! Targets whose input is a file or a directory of files, with its checksums made right.

use super::{
    input::{Input, put},
    seal::{self, End, Frames},
};
use akidb::{
    import::{ImportOptions, ParquetImport},
    inspect, testing,
};
use akidb_vfs::{Fs, SystemRandom, sim::SimFs, write_file_durably};
use akidb_wal::{
    Env, FrameKind, Log, LogOptions, Lsn, WAL_KIND, WalError,
    framed::{FrameStatus, FramedFile},
};
use bytes::Bytes;
use std::{path::Path, sync::Arc};

const DIR: &str = "/fuzz";
/// The most WAL files of a directory.
const FILES_MAX: usize = 4;
const ALIGN: usize = 64;
const ALIGN_VECTORS: usize = 4096;

/// A disk with this file on it.
fn disk(bytes: &[u8]) -> SimFs {
    let fs = SimFs::new(1);
    fs.create_dir_all(Path::new(DIR)).expect("an empty disk takes a directory");
    write(&fs, "file", bytes);
    fs
}

fn write(fs: &SimFs, name: &str, bytes: &[u8]) {
    write_file_durably(fs, &Path::new(DIR).join(name), bytes).expect("the disk has room");
}

fn file() -> std::path::PathBuf {
    Path::new(DIR).join("file")
}

/// Two bytes of control, then a WAL file.
pub(super) fn framed_file(data: &[u8]) -> bool {
    let mut input = Input(data);
    let how = Frames { number: input.u8() & 1 != 0, broken: input.u8() };
    let mut bytes = input.0.to_vec();
    seal::framed(&mut bytes, how);
    let fs = disk(&bytes);
    drop(inspect(&fs, &file()).map(|report| report.to_string()));
    let Ok(image) = FramedFile::read(&fs, &file(), WAL_KIND) else { return false };
    let mut seen = Vec::new();
    let scan = image.scan(&mut |frame| {
        seen.push((frame.offset, frame.seq, frame.payload.len() as u64));
        Ok::<_, WalError>(())
    });
    let told = image.inspect();
    let good = told.iter().map_while(|frame| match frame.status {
        FrameStatus::Good { kind, seq, payload_len, .. } => {
            Some((kind, (frame.offset, seq, u64::from(payload_len))))
        }
        FrameStatus::Bad { .. } => None,
    });
    let good: Vec<_> =
        good.filter(|(kind, _)| *kind == FrameKind::Data).map(|(_, frame)| frame).collect();
    assert_eq!(seen, good, "a scan and an inspection see other frames");
    scan.is_ok_and(|report| {
        assert_eq!(report.frames, seen.len() as u64);
        assert!(report.end <= bytes.len() as u64);
        report.frames > 0
    })
}

/// Four bytes of control, then WAL files: a number, a length in two bytes, the bytes.
pub(super) fn log_replay(data: &[u8]) -> bool {
    let mut input = Input(data);
    let (control, broken) = (input.u8(), input.u8());
    // Small numbers, and those near the end, where counting on would overflow.
    let after = Lsn::new(i64::from(input.u8().cast_signed()).cast_unsigned());
    let must_exist = input.u8() & 1 != 0;
    let fs = SimFs::new(1);
    fs.create_dir_all(Path::new(DIR)).expect("an empty disk takes a directory");
    let mut before: Option<(u64, End)> = None;
    for _ in 0..FILES_MAX {
        if input.is_empty() {
            break;
        }
        let number = u64::from(input.u8());
        let mut bytes = input.chunk().to_vec();
        if control & 2 != 0 {
            link(&mut bytes, number, before);
        }
        let how = Frames { number: control & 1 != 0, broken: broken.rotate_left(3) };
        before = Some((number, seal::framed(&mut bytes, how)));
        write(&fs, &format!("{number:020}.wal"), &bytes);
    }
    replay(&fs, LogOptions { file_bytes: 4096, must_exist, ..LogOptions::default() }, after)
}

/// Makes the header of a WAL file agree with its name and follow the file before it.
fn link(bytes: &mut [u8], number: u64, before: Option<(u64, End)>) {
    put(bytes, 24, &number.to_le_bytes());
    if let Some((number, end)) = before {
        put(bytes, 32, &end.seq.wrapping_add(1).to_le_bytes());
        put(bytes, 48, &number.to_le_bytes());
        put(bytes, 56, &end.seq.to_le_bytes());
        put(bytes, 72, &end.crc.to_le_bytes());
    }
}

fn replay(fs: &SimFs, options: LogOptions, after: Lsn) -> bool {
    let dir = Path::new(DIR);
    let before = fs.image();
    let mut told = Vec::new();
    let verdict = Log::verify(fs, dir, options, after, &mut |lsn, payload| {
        told.push((lsn, payload.to_vec()));
        Ok(())
    });
    assert!(fs.image() == before, "looking at a log changes it");
    let env = Env::new(Arc::new(fs.clone()), Arc::new(SystemRandom::from_seed(1)));
    let open = || {
        let mut found = Vec::new();
        let opened = Log::open(&env, dir, options, after, &mut |lsn, payload| {
            found.push((lsn, payload.to_vec()));
            Ok(())
        });
        opened.map(|(log, _)| (log, found))
    };
    let opened = open();
    let Ok(report) = verdict else {
        assert!(opened.is_err(), "a log that is refused opens");
        assert!(fs.image() == before, "a refused log was changed");
        return false;
    };
    // The one thing that a good log can lack is numbers for what comes next.
    let Ok((mut log, found)) = opened else { return false };
    assert!(found == told, "opening replays something else than looking");
    if log.append(b"one more".to_vec()).and_then(|_| log.commit(true)).is_err() {
        return true;
    }
    drop(log);
    told.push((report.last_lsn.next(), b"one more".to_vec()));
    let (_, again) = open().expect("a log that was written opens");
    assert!(again.ends_with(&told[told.len() - 1..]), "the new batch is lost");
    assert!(told.ends_with(&again), "a batch changed when it was carried over");
    true
}

/// A byte of control, then the whole object, or, if it is odd, the JSON of one: few changes of a
/// compressed body would get past the decompressor.
pub(super) fn bucket_manifest(data: &[u8]) -> bool {
    let mut input = Input(data);
    let mut object = match input.u8() & 1 {
        0 => input.0.to_vec(),
        _ => seal::packed_manifest(input.0),
    };
    seal::bucket_manifest(&mut object);
    testing::bucket_manifest(&object).is_ok()
}

pub(super) fn tombstones(data: &[u8]) -> bool {
    let mut bytes = data.to_vec();
    seal::tombstones(&mut bytes);
    drop(inspect(&disk(&bytes), &file()).map(|report| report.to_string()));
    testing::tombstones(&bytes).is_ok()
}

pub(super) fn segment(data: &[u8]) -> bool {
    let mut bytes = data.to_vec();
    seal::segment(&mut bytes);
    drop(inspect(&disk(&bytes), &file()).map(|report| report.to_string()));
    testing::segment(&bytes).is_ok()
}

/// Rows, deletes, dimension, then every block: exactly the bytes that it must have, or, of those
/// without a fixed length, two bytes of length and the bytes.
pub(super) fn segment_block(data: &[u8]) -> bool {
    testing::segment(&assembled(data)).is_ok()
}

/// Kind, bytes, items, and of a field index the type and the name.
struct Block {
    kind: u16,
    bytes: Vec<u8>,
    items: u64,
    field: Option<u16>,
}

fn assembled(data: &[u8]) -> Vec<u8> {
    let mut input = Input(data);
    let rows = usize::from(input.u8() % 32);
    let deletes = usize::from(input.u8() % 16);
    let dim = 1 + usize::from(input.u8() % 8);
    let fields = usize::from(input.u8() % 4);
    let slots = if rows == 0 { 0 } else { (rows * 10).div_ceil(7).max(rows + 1) };
    let mut blocks = Vec::new();
    let mut add = |kind, bytes, items: usize, field| {
        blocks.push(Block { kind, bytes, items: items as u64, field });
    };
    let list = |input: &mut Input<'_>, least: usize| {
        let mut bytes = input.chunk().to_vec();
        bytes.resize(bytes.len().max(least), 0);
        bytes
    };
    add(1, input.exact(rows * dim * 4), rows, None);
    add(2, input.exact(rows * 4), rows, None);
    add(3, list(&mut input, (rows + 1) * 8), rows, None);
    add(4, input.exact(slots * 8), slots, None);
    add(5, input.exact(rows * 8), rows, None);
    add(6, list(&mut input, (rows + 1) * 8), rows, None);
    for _ in 0..fields {
        let field_type = 1 + u16::from(input.u8() % 5);
        add(7, list(&mut input, 0), rows, Some(field_type));
    }
    add(8, list(&mut input, deletes * 8 + (deletes + 1) * 8), deletes, None);
    file_of(&blocks, rows, deletes, dim)
}

/// A segment file with these blocks and the checksums that belong to it.
fn file_of(blocks: &[Block], rows: usize, deletes: usize, dim: usize) -> Vec<u8> {
    let narrow = |number: usize| u32::try_from(number).expect("small").to_le_bytes();
    let mut file = b"AKIDBSEG".to_vec();
    for number in [1, 3_u32] {
        file.extend_from_slice(&number.to_le_bytes());
    }
    for number in [9, 77_u64] {
        file.extend_from_slice(&number.to_le_bytes());
    }
    file.extend_from_slice(&narrow(dim));
    file.extend_from_slice(&narrow(1));
    file.resize(64, 0);
    let mut footer = [narrow(rows), narrow(deletes)].concat();
    for number in [0, 0_u64] {
        footer.extend_from_slice(&number.to_le_bytes());
    }
    footer.extend_from_slice(&narrow(blocks.len()));
    footer.extend_from_slice(&narrow(64 << 10));
    for (at, block) in blocks.iter().enumerate() {
        let align = if block.kind == 1 { ALIGN_VECTORS } else { ALIGN };
        file.resize(file.len().next_multiple_of(align), 0);
        let name = if block.field.is_some() { format!("field{at}") } else { String::new() };
        for number in [block.kind, 0, 1, block.field.unwrap_or(0)] {
            footer.extend_from_slice(&number.to_le_bytes());
        }
        for number in [file.len() as u64, block.bytes.len() as u64, block.items] {
            footer.extend_from_slice(&number.to_le_bytes());
        }
        footer.extend_from_slice(&narrow(name.len()));
        footer.extend_from_slice(name.as_bytes());
        footer.resize(footer.len() + 4 * block.bytes.len().div_ceil(64 << 10), 0);
        file.extend_from_slice(&block.bytes);
    }
    file.resize(file.len().next_multiple_of(ALIGN), 0);
    let footer_len = footer.len() as u64;
    file.append(&mut footer);
    for number in [0, footer_len] {
        file.extend_from_slice(&number.to_le_bytes());
    }
    file.extend_from_slice(&narrow(0));
    file.extend_from_slice(&narrow(1));
    file.extend_from_slice(b"AKISEGND");
    seal::segment(&mut file).expect("it has a footer");
    file
}

pub(super) fn cold(data: &[u8]) -> bool {
    let groups = testing::cold_checksums(&Bytes::copy_from_slice(data));
    let mut bytes = data.to_vec();
    seal::cold(&mut bytes, &groups);
    drop(inspect(&disk(&bytes), &file()).map(|report| report.to_string()));
    testing::cold(&Bytes::from(bytes)).is_ok()
}

/// A byte of options, then a Parquet file.
pub(super) fn import(data: &[u8]) -> bool {
    let mut input = Input(data);
    let control = input.u8();
    let options = ImportOptions {
        id_column: (control & 1 != 0).then(|| "id".to_owned()),
        vector_column: (control & 2 != 0).then(|| "vector".to_owned()),
        number_rows: control & 4 != 0,
    };
    let fs = disk(input.0);
    let Ok(import) = ParquetImport::open(&fs, &file(), &options) else { return false };
    let Ok(batches) = import.batches() else { return false };
    let (mut rows, mut whole) = (0, true);
    for batch in batches {
        let Ok(points) = batch else {
            whole = false;
            break;
        };
        rows += points.len() as u64;
        assert!(points.iter().all(|point| point.vector.len() == import.dim() as usize));
    }
    assert!(!whole || rows == import.rows(), "{rows} rows of {}", import.rows());
    whole
}
