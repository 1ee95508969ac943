//! Segments as specifications. Helpers here; one behaviour per file.

mod cells;
mod faults;
pub(crate) mod golden;
mod hostile;
mod round_trip;

use super::{ReadMode, RowRef, Segment, SegmentMeta, SegmentParams, SegmentWriter};
use crate::{FieldDef, FieldType, Metric, PointId, Result};
use akidb_vfs::{Fs, SystemRandom, sim::SimFs};
use std::{path::Path, sync::Arc};
use uuid::Uuid;

const DIR: &str = "/segments";
const BOTH_MODES: [ReadMode; 2] = [ReadMode::Mmap, ReadMode::Pread];

/// A row that a test owns.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    id: PointId,
    lsn: u64,
    vector: Vec<f32>,
    metadata: String,
}

/// All that goes into a segment, and all that must come out.
#[derive(Clone, Debug, PartialEq)]
struct Content {
    rows: Vec<Row>,
    deletes: Vec<(PointId, u64)>,
    fields: Vec<(FieldDef, Vec<u8>)>,
}

fn params(dim: u32) -> SegmentParams {
    SegmentParams { collection: 3, dim, metric: Metric::Cosine }
}

fn disk(seed: u64) -> SimFs {
    let fs = SimFs::new(seed);
    fs.create_dir_all(Path::new(DIR)).unwrap();
    fs
}

fn write(fs: &SimFs, number: u64, dim: u32, content: &Content) -> Result<SegmentMeta> {
    let random = SystemRandom::from_seed(number);
    let fs = Arc::new(fs.clone());
    let mut writer = SegmentWriter::create(fs, &random, Path::new(DIR), number, params(dim), None)?;
    for Row { id, lsn, vector, metadata } in &content.rows {
        let inv_norm = akidb_index::inv_norm(vector);
        let (lsn, metadata) = (*lsn, metadata.as_bytes());
        writer.push(RowRef { id, lsn, vector, inv_norm, metadata })?;
    }
    for (id, lsn) in &content.deletes {
        writer.push_delete(id, *lsn)?;
    }
    writer.finish(content.fields.clone())
}

fn open(fs: &SimFs, meta: &SegmentMeta, dim: u32, mode: ReadMode) -> Result<Segment> {
    Segment::open(fs, Path::new(DIR), meta, params(dim), mode)
}

/// Reads everything, row by row and through every accessor.
fn read(segment: &Segment) -> Result<Content> {
    let mut rows = Vec::new();
    for row in 0..segment.rows() {
        let id = segment.id(row)?;
        let found = segment.find(&id)?;
        assert_eq!(found, Some(row), "an id leads to its row");
        let metadata = segment.metadata(row)?;
        let vector = segment.vectors(row, 1)?.to_vec();
        assert_eq!(*segment.inv_norms(row, 1)?, [akidb_index::inv_norm(&vector)]);
        rows.push(Row {
            id,
            lsn: segment.lsn(row)?,
            vector,
            metadata: serde_json::to_string(&metadata).unwrap(),
        });
    }
    let mut fields = Vec::new();
    for def in &segment.meta().fields {
        let block = segment.field_block(&def.name)?.expect("a field of the meta has a block");
        fields.push((def.clone(), block.into_owned()));
    }
    Ok(Content { rows, deletes: segment.deletes()?, fields })
}

/// Three rows, an id of each kind, one index and one delete.
fn small() -> Content {
    let row = |id: PointId, lsn, vector: [f32; 3], metadata: &str| Row {
        id,
        lsn,
        vector: vector.to_vec(),
        metadata: metadata.to_owned(),
    };
    Content {
        rows: vec![
            row(PointId::from(7), 11, [3.0, 4.0, 0.0], r#"{"pos":"noun"}"#),
            row(PointId::from("dog"), 12, [0.0, 0.5, 0.0], "{}"),
            row(PointId::from(Uuid::from_u128(0xA1)), 14, [-1.0, 2.0, -2.0], r#"{"pos":"verb"}"#),
        ],
        deletes: vec![(PointId::from("cat"), 13)],
        fields: vec![(
            FieldDef { name: "pos".to_owned(), field_type: FieldType::Keyword },
            b"opaque".to_vec(),
        )],
    }
}

/// Several extents in each block that grows with the rows.
fn large() -> Content {
    let rows = (0..6000_u32).map(|n| Row {
        id: PointId::from(format!("row-{n:05}")),
        lsn: 1000 + u64::from(n),
        vector: (0..33_u16).map(|d| n as f32 + f32::from(d) / 64.0 + 1.0).collect(),
        metadata: format!(r#"{{"n":{n},"text":"some words about row {n}"}}"#),
    });
    let deletes = (0..9000_u64).map(|n| (PointId::from(n), n)).collect();
    let name = "n".to_owned();
    let block = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    let fields = vec![(FieldDef { name, field_type: FieldType::Integer }, block)];
    Content { rows: rows.collect(), deletes, fields }
}
