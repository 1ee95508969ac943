//! Segments with cells: the bytes of format version 2, checked in, and what forged ones do.

use super::{golden::check_golden, hostile::Forgery, *};
use crate::{
    Cause,
    ivf::{Clustering, Clusterings},
    segment::{CellPlan, CellTable, Look, RowCodes, Run},
};
use akidb_index::{
    BLOCK_ROWS, Serial, inv_norm,
    lists::Places,
    rabitq::{Bits, CONFIDENCE},
};
use akidb_vfs::read_file;
use proptest::prelude::*;
use std::{borrow::Cow, fmt::Debug, ops::Range};

const DIM: usize = 3;

/// Forty rows around four places, in the order of their cells, and their codes.
struct Coded {
    plan: CellPlan,
    vectors: Vec<Vec<f32>>,
    codes: Vec<RowCodes>,
}

fn coded() -> Coded {
    let mut vectors: Vec<Vec<f32>> = (0..40_u16)
        .map(|n| {
            let place = f32::from(n % 4) * 8.0 - 12.0;
            let off = f32::from(n * 7 % 16) / 16.0;
            vec![place + off, 1.0 - off, place * 0.5 + 1.0]
        })
        .collect();
    let rows: Vec<f32> = vectors.iter().flatten().copied().collect();
    let clustering = Arc::new(Clustering::train(&Serial, Metric::L2, DIM as u32, &rows, 4));
    let cell = |vector: &Vec<f32>| clustering.book().assign(vector)[0].cell;
    vectors.sort_by_key(cell);
    let cells: Vec<u32> = vectors.iter().map(cell).collect();
    let starts = (0..=clustering.cells())
        .map(|cell| cells.partition_point(|found| *found < cell) as u32)
        .collect();
    let places = Places::new(starts).unwrap();
    let codec = clustering.codec();
    let mut encoder = codec.encoder();
    let mut code = |(vector, cell): (&Vec<f32>, &u32)| {
        let mut codes = RowCodes::new(codec.padded());
        encoder.set_row(vector, inv_norm(vector));
        encoder.set_centre(clustering.router().centre(*cell).unwrap());
        codes.one_factors = encoder.encode(Bits::One, &mut codes.one);
        codes.fine_factors = encoder.encode(Bits::Eight, &mut codes.fine);
        codes
    };
    let codes = vectors.iter().zip(&cells).map(&mut code).collect();
    Coded { plan: CellPlan { clustering: clustering.clone(), places }, vectors, codes }
}

fn l2() -> SegmentParams {
    SegmentParams { metric: Metric::L2, ..params(DIM as u32) }
}

fn write_coded(fs: &SimFs, coded: &Coded) -> SegmentMeta {
    let (random, disk) = (SystemRandom::from_seed(9), Arc::new(fs.clone()));
    let plan = Some(coded.plan.clone());
    let mut writer = SegmentWriter::create(disk, &random, Path::new(DIR), 9, l2(), plan).unwrap();
    // A run for each cell, in the memory of the one before.
    let mut run = Run::default();
    for cell in 0..coded.plan.clustering.cells() {
        run.clear();
        fill(&mut run, coded, coded.plan.places.rows(cell));
        writer.append(&run).unwrap();
    }
    let vector = |row: u32| Ok(Cow::Borrowed(&*coded.vectors[row as usize]));
    writer.finish_with(Vec::new(), &Look { executor: &Serial, vector }).unwrap()
}

/// Rows of one cell, and their codes.
fn fill(run: &mut Run, coded: &Coded, rows: Range<u32>) {
    for n in rows.clone() {
        let (id, vector) = (PointId::from(u64::from(n)), &coded.vectors[n as usize]);
        let (lsn, inv_norm) = (u64::from(n) + 1, inv_norm(vector));
        run.push(RowRef { id: &id, lsn, vector, inv_norm, metadata: b"{}" }).unwrap();
    }
    for block in coded.codes[rows.start as usize..rows.end as usize].chunks(BLOCK_ROWS) {
        run.push_block(coded.plan.clustering.codec().padded(), block);
    }
}

fn open_coded(fs: &SimFs, meta: &SegmentMeta, mode: ReadMode) -> Result<Segment> {
    Segment::open(fs, Path::new(DIR), meta, l2(), mode)
}

/// Everything that belongs to cells, as it is read.
fn read_codes(segment: &Segment) -> Result<(CellPlan, Vec<RowCodes>)> {
    let table = segment.cells(&Clusterings::default())?.expect("the segment has cells");
    let mut starts = vec![0];
    let mut rows = Vec::new();
    for cell in 0..table.clustering().cells() {
        let range = table.rows(cell);
        starts.push(range.end);
        let ones = segment.cell_codes(table, cell)?;
        let ones = ones.blocks()?;
        let fine = segment.fine_codes(table, range.clone())?;
        for at in 0..range.len() {
            assert_eq!(table.cell_of(range.start + at as u32), cell);
            let mut codes = RowCodes::new(table.clustering().codec().padded());
            codes.one_factors = ones.copy_row(at, &mut codes.one).expect("a row of the cell");
            let (code, factors) = fine.view()?.get(at).expect("a row of the cell");
            (codes.fine, codes.fine_factors) = (code.to_vec(), factors);
            rows.push(codes);
        }
        assert!(fine.view()?.get(range.len()).is_none());
    }
    let places = Places::new(starts).expect("cells follow each other");
    Ok((CellPlan { clustering: table.clustering().clone(), places }, rows))
}

#[test]
fn codes_come_back_as_they_were_written_and_the_bytes_are_the_golden_ones() {
    let (fs, coded) = (disk(1), coded());
    let meta = write_coded(&fs, &coded);
    for mode in BOTH_MODES {
        let segment = open_coded(&fs, &meta, mode).unwrap();
        segment.verify().unwrap();
        segment.verify_cells().unwrap();
        let (plan, rows) = read_codes(&segment).unwrap();
        assert_eq!(plan.clustering.id(), coded.plan.clustering.id());
        assert_eq!(plan.places, coded.plan.places);
        assert_eq!(rows, coded.codes);
    }
    let bytes = read_file(&fs, &Path::new(DIR).join("000000000009.seg")).unwrap();
    check_golden("segment-v2.seg", &bytes);
}

#[test]
fn a_plan_that_the_rows_do_not_keep_is_a_bug_and_leaves_no_file() {
    let (fs, coded) = (disk(1), coded());
    let (random, disk) = (SystemRandom::from_seed(9), Arc::new(fs.clone()));
    let start =
        |plan| SegmentWriter::create(disk.clone(), &random, Path::new(DIR), 9, l2(), plan).unwrap();
    let is_bug = |error: crate::Error| matches!(error.cause(), Cause::Bug { .. });
    let (mut run, mut bare) = (Run::default(), Run::default());
    fill(&mut run, &coded, coded.plan.places.rows(0));
    let row = RowRef {
        id: &PointId::from(1),
        lsn: 1,
        vector: &[0.0; DIM],
        inv_norm: 0.0,
        metadata: b"{}",
    };
    bare.push(row).unwrap();

    let mut short = start(Some(coded.plan.clone()));
    short.append(&run).unwrap();
    let vector = |_| Ok(Cow::Borrowed(&*coded.vectors[0]));
    let look = Look { executor: &Serial, vector };
    assert!(is_bug(short.finish_with(Vec::new(), &look).unwrap_err()));
    assert!(is_bug(start(Some(coded.plan.clone())).append(&bare).unwrap_err()));
    assert!(is_bug(start(None).append(&run).unwrap_err()));
    let mut long = start(Some(coded.plan.clone()));
    assert!((0..40).any(|_| long.append(&run).is_err_and(&is_bug)));
    drop(long);
    assert!(fs.list_dir(Path::new(DIR)).unwrap().is_empty());
}

/// A forged file gives corruption that names the block, or answers; it never panics.
fn forged(change: impl FnOnce(&mut Forgery), mode: ReadMode) -> Option<String> {
    let (fs, coded) = (disk(1), coded());
    let meta = write_coded(&fs, &coded);
    let path = Path::new(DIR).join("000000000009.seg");
    let mut forgery = Forgery::of(&read_file(&fs, &path).unwrap());
    change(&mut forgery);
    let bytes = forgery.sign();
    akidb_vfs::write_file_durably(&fs, &path, &bytes).unwrap();
    let meta = SegmentMeta { len: bytes.len() as u64, crc32: crc32fast::hash(&bytes), ..meta };
    let result = open_coded(&fs, &meta, mode).and_then(|segment| {
        let read = read_codes(&segment)?;
        scan_everything(&segment, segment.cells(&Clusterings::default())?.unwrap());
        Ok(read)
    });
    result.err().map(|error| match error.cause() {
        Cause::Corruption { detail, .. } => detail.clone(),
        other => panic!("not a corruption: {other}"),
    })
}

fn scan_everything(segment: &Segment, table: &CellTable) {
    let query = table.clustering().codec().query(&[1.0, 2.0, 3.0], CONFIDENCE);
    for (cell, probe) in table.clustering().router().route(&query, usize::MAX) {
        let codes = segment.cell_codes(table, cell).unwrap();
        codes.blocks().unwrap().scan(&query, &probe, None, f32::NEG_INFINITY, |_, estimate| {
            std::hint::black_box(estimate);
            f32::NEG_INFINITY
        });
    }
}

fn block_of(forgery: &Forgery, kind: &str) -> usize {
    let position = forgery.names().iter().position(|name| *name == kind);
    position.expect("the segment has such a block")
}

fn set(kind: &'static str, at: usize, bytes: &'static [u8]) -> impl FnOnce(&mut Forgery) {
    move |forgery| {
        let block = block_of(forgery, kind);
        let start = forgery.data(block).start + at;
        forgery.bytes[start..start + bytes.len()].copy_from_slice(bytes);
    }
}

#[test]
fn cells_that_lie_under_good_checksums_are_named() {
    fn says(told: impl Debug, what: &str) {
        assert!(format!("{told:?}").contains(what), "{told:?}");
    }
    for mode in BOTH_MODES {
        says(forged(set("cells", 0, &[1, 0, 0, 0]), mode), "do not divide");
        says(forged(set("cells", 4, &[255; 4]), mode), "do not divide");
        says(forged(set("codebook", 0, b"XXXX"), mode), "codebook block");
        says(forged(set("calibration", 0, &[0; 4]), mode), "calibration");
        let more = |forgery: &mut Forgery| {
            let block = block_of(forgery, "cells");
            forgery.footer.blocks[block].items += 1;
        };
        says(forged(more, mode), "cells block");
        let gone = |forgery: &mut Forgery| {
            let block = block_of(forgery, "fine factors");
            forgery.footer.blocks.remove(block);
        };
        says(forged(gone, mode), "no fine factors block");
        assert_eq!(forged(|_| {}, mode), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_content_of_codes_and_factors_is_harmless(
        kind in prop::sample::select(vec!["codes", "fine codes", "fine factors", "cells", "calibration"]),
        noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
    ) {
        let change = |forgery: &mut Forgery| {
            let data = forgery.data(block_of(forgery, kind));
            for (at, byte) in &noise {
                let at = data.start + at.index(data.len());
                forgery.bytes[at] = *byte;
            }
        };
        forged(change, ReadMode::Mmap);
    }
}
