//! Segment files.

use super::parts;
use crate::{
    Error, PointId, ReadMode, Result,
    field_index::FieldIndexView,
    ivf::Clusterings,
    segment::{self, Segment, SegmentDescription, SegmentMeta, SegmentParams, segment_path},
};
use akidb_index::rabitq::{Bits, CONFIDENCE};
use akidb_vfs::{Fs, sim::SimFs, write_file_durably};
use std::path::Path;

const DIR: &str = "/fuzz";

/// Opens a segment file and reads everything in it, by map and by positional reads: both give
/// the same, damage included.
///
/// # Errors
/// Corruption, or a newer version, that was found by opening.
///
/// # Panics
/// If they do not give the same, or an id is found at another id's row.
pub fn segment(bytes: &[u8]) -> Result<u64> {
    let (fs, dir) = (SimFs::new(1), Path::new(DIR));
    fs.create_dir_all(dir)?;
    let stray = dir.join("stray");
    write_file_durably(&fs, &stray, bytes)?;
    let told = segment::describe(&fs, &stray)?;
    write_file_durably(&fs, &segment_path(dir, told.number), bytes)?;
    let mapped = open(&fs, bytes, &told, ReadMode::Mmap);
    let read = open(&fs, bytes, &told, ReadMode::Pread);
    let (mapped, read) = match (mapped, read) {
        (Ok(mapped), Ok(read)) => (mapped, read),
        (Err(mapped), Err(read)) => {
            assert_eq!(mapped.to_string(), read.to_string());
            return Err(mapped);
        }
        (mapped, read) => panic!("opened one way only: {mapped:?} and {read:?}"),
    };
    assert_eq!(everything(&mapped), everything(&read), "two ways of reading differ");
    Ok(u64::from(told.rows))
}

fn open(fs: &SimFs, bytes: &[u8], told: &SegmentDescription, mode: ReadMode) -> Result<Segment> {
    let meta = SegmentMeta {
        number: told.number,
        len: bytes.len() as u64,
        crc32: crc32fast::hash(bytes),
        rows: told.rows,
        deletes: told.deletes,
        min_lsn: told.min_lsn,
        max_lsn: told.max_lsn,
        fields: told.fields.clone(),
    };
    let params = SegmentParams { collection: told.collection, dim: told.dim, metric: told.metric };
    Segment::open(fs, Path::new(DIR), &meta, params, mode)
}

/// Every answer that a segment can give, as text.
fn everything(segment: &Segment) -> Vec<String> {
    let mut answers = Vec::new();
    for row in 0..segment.rows() {
        let id = segment.id(row);
        if let Ok(id) = &id {
            answers.push(found(segment, id));
        }
        answers.push(text(id));
        answers.push(text(segment.lsn(row)));
        answers.push(text(segment.metadata(row)));
        // Bits, because not a number is not equal to itself.
        answers.push(text(segment.vectors(row, 1).map(|slab| bits(&slab))));
        answers.push(text(segment.inv_norms(row, 1).map(|slab| bits(&slab))));
    }
    answers.push(found(segment, &PointId::from("an id that is not there")));
    answers.push(text(segment.deletes()));
    answers.push(text(by_cells(segment)));
    for def in &segment.meta().fields {
        answers.push(text(segment.field_block(&def.name).map(|block| block.map(|b| b.to_vec()))));
        if let Ok(Some(block)) = segment.field_block(&def.name)
            && FieldIndexView::open(&*block).is_ok()
        {
            answers.push(text(parts::field_index(&block, b"dog")));
        }
    }
    answers.push(text(segment.verify()));
    answers
}

/// What a search of every cell finds: rows and the bits of their estimates.
fn by_cells(segment: &Segment) -> Result<Vec<(u32, u32, u32)>> {
    let Some(table) = segment.cells(&Clusterings::default())? else { return Ok(Vec::new()) };
    let clustering = table.clustering();
    let query: Vec<f32> = (0..segment.params().dim).map(|d| d as f32 - 1.0).collect();
    let query = clustering.codec().query(&query, CONFIDENCE);
    let mut found = Vec::new();
    for (cell, probe) in clustering.router().route(&query, usize::MAX) {
        let rows = table.rows(cell);
        let codes = segment.cell_codes(table, cell)?;
        let fine = segment.fine_codes(table, rows.clone())?;
        let fine = fine.view()?;
        codes.blocks()?.scan(&query, &probe, None, f32::NEG_INFINITY, |at, estimate| {
            let (code, factors) = fine.get(at).expect("a row has codes of both kinds");
            let decided = query.estimate(Bits::Eight, code, factors, &probe).score;
            found.push((rows.start + at as u32, estimate.to_bits(), decided.to_bits()));
            f32::NEG_INFINITY
        });
    }
    assert_eq!(found.len() as u64, u64::from(segment.rows()), "every row lies in one cell");
    Ok(found)
}

fn found(segment: &Segment, id: &PointId) -> String {
    let row = segment.find(id);
    if let Ok(Some(row)) = row {
        assert_eq!(segment.id(row).ok().as_ref(), Some(id), "an id leads to another's row");
    }
    text(row)
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

fn text<T: std::fmt::Debug>(answer: Result<T>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(error) => Error::to_string(&error),
    }
}
