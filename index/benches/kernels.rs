//! What one call of each kernel costs, on every level of this machine, at 384 components.
//!
//! `cargo bench -p akidb-index`. Codes and rows are cached, except where the name says otherwise.

#![expect(missing_docs, reason = "criterion's macro makes a public function without any")]

use akidb_index::{
    BLOCK_ROWS, Kernels, Metric, Rotation,
    codebook::{Codebook, Router},
    rabitq::{
        Bits, Blocks, CONFIDENCE, CellCodes, Codec, Collector, Factors, FineCodes, block_len,
        lay_out, pack_block,
    },
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

const DIM: usize = 384;
/// 12 MB of blocks: more than the second cache holds.
const MANY_BLOCKS: usize = 6_400;
/// 30 MB of rows, asked for out of order.
const SCATTERED: u32 = 20_000;

fn vector(seed: u32) -> Vec<f32> {
    (0..DIM as u32).map(|i| ((i * 97 + seed * 31) as f32 * 0.618).sin()).collect()
}

fn per_level(c: &mut Criterion) {
    let (a, b) = (vector(1), vector(2));
    let code: Vec<u8> = (0..4 * DIM).map(|i| (i * 37 + 11) as u8).collect();
    let query: Vec<i8> = (0..DIM).map(|i| (i * 29 % 255) as u8 as i8).collect();
    let mut sums = [0; BLOCK_ROWS];
    for kernels in Kernels::available() {
        let level = format!("{:?}", kernels.level());
        let mut group = c.benchmark_group(&level);
        group.bench_function("dot", |x| x.iter(|| kernels.dot(black_box(&a), &b)));
        group.bench_function("l2_squared", |x| x.iter(|| kernels.l2_squared(black_box(&a), &b)));
        group.bench_function("dot_u8", |x| {
            x.iter(|| kernels.dot_u8(black_box(&code[..DIM]), &query));
        });
        group.bench_function("dot_u4", |x| {
            x.iter(|| kernels.dot_u4(black_box(&code[..DIM / 2]), &query));
        });
        group.bench_function("block_sums of 32 rows", |x| {
            x.iter(|| kernels.block_sums(black_box(&code), &code, &mut sums));
        });
        group.finish();
    }
}

fn scattered_rows(c: &mut Criterion) {
    let rows: Vec<f32> = (0..SCATTERED).flat_map(vector).collect();
    let wanted: Vec<u32> = (0..1_000).map(|i: u32| i * 7_919 % SCATTERED).collect();
    let mut out = vec![0.0; wanted.len()];
    let (query, kernels) = (vector(3), Kernels::best());
    let mut group = c.benchmark_group("scattered rows");
    group.throughput(Throughput::Elements(wanted.len() as u64));
    group.bench_function("dot_rows", |x| {
        x.iter(|| kernels.dot_rows(&query, &rows, black_box(&wanted), &mut out));
    });
    group.bench_function("dot, one by one", |x| {
        x.iter(|| {
            for (out, row) in out.iter_mut().zip(black_box(&wanted)) {
                *out = kernels.dot(&query, &rows[*row as usize * DIM..][..DIM]);
            }
        });
    });
    group.finish();
}

fn codec(c: &mut Criterion) {
    let rotation = Rotation::new(DIM, 1);
    let codec = Codec::new(Metric::Cosine, DIM, 1);
    let (row, centre) = (vector(1), codec.centre(&vector(2)));
    let mut out = vec![0.0; rotation.padded()];
    c.bench_function("rotate", |x| x.iter(|| rotation.apply(black_box(&row), &mut out)));
    let mut encoder = codec.encoder();
    encoder.set_row(&row, 0.1);
    encoder.set_centre(&centre);
    for bits in [Bits::One, Bits::Four, Bits::Eight] {
        let mut code = vec![0; bits.code_len(codec.padded())];
        c.bench_with_input(BenchmarkId::new("encode", format!("{bits:?}")), &bits, |x, bits| {
            x.iter(|| encoder.encode(*bits, black_box(&mut code)));
        });
    }
    c.bench_function("query", |x| x.iter(|| codec.query(black_box(&row), CONFIDENCE)));
}

fn scan(c: &mut Criterion) {
    let codec = Codec::new(Metric::Cosine, DIM, 1);
    let centre = codec.origin_centre();
    let mut code = vec![0; Bits::One.code_len(DIM)];
    let mut encoder = codec.encoder();
    encoder.set_row(&vector(1), 0.1);
    encoder.set_centre(&centre);
    let factors = encoder.encode(Bits::One, &mut code);
    let mut block = Vec::new();
    pack_block(DIM, &[(&*code, factors); BLOCK_ROWS], &mut block);
    let bytes = block.repeat(MANY_BLOCKS);
    assert_eq!(bytes.len(), MANY_BLOCKS * block_len(DIM));
    let rows = MANY_BLOCKS * BLOCK_ROWS;
    let blocks = Blocks::new(&bytes, DIM, rows).expect("the bytes are of that many rows");
    let query = codec.query(&vector(5), CONFIDENCE);
    let probe = query.probe(&centre);
    let mut group = c.benchmark_group("scan of 12 MB");
    group.throughput(Throughput::Elements(rows as u64));
    group.bench_function("nothing near", |x| {
        x.iter(|| blocks.scan(&query, &probe, None, black_box(f32::MAX), |_, _| f32::MAX));
    });
    let mut copy = bytes.clone();
    lay_out(codec.layout(), DIM, &mut copy);
    let copy = Blocks::laid_out(codec.layout(), &copy, DIM, rows).expect("as many bytes");
    group.bench_function("nothing near, laid out for this machine", |x| {
        x.iter(|| copy.scan(&query, &probe, None, black_box(f32::MAX), |_, _| f32::MAX));
    });
    let sparse: Vec<u32> = (0..MANY_BLOCKS).map(|i| u32::from(i % 10 == 0)).collect();
    group.bench_function("one block in ten", |x| {
        x.iter(|| blocks.scan(&query, &probe, Some(&sparse), f32::MAX, |_, _| f32::MAX));
    });
    group.finish();
}

/// Choosing cells, and finding the cells of rows.
fn cells(c: &mut Criterion) {
    for cells in [256, 1_024, 4_096_u32] {
        let book = Codebook::from_centroids((0..cells).flat_map(vector).collect(), DIM);
        let codec = book.codec(Metric::Cosine);
        let router = Router::new(&book, &codec);
        let query = codec.query(&vector(5), CONFIDENCE);
        let probed = cells as usize * 7 / 100;
        c.bench_function(&format!("route among {cells} cells"), |x| {
            x.iter(|| router.route(black_box(&query), probed));
        });
        let rows: Vec<f32> = (0..256).flat_map(|row| vector(row * 7 + 3)).collect();
        let mut group = c.benchmark_group("assign");
        group.throughput(Throughput::Elements(256));
        group.bench_function(format!("rows to {cells} cells"), |x| {
            x.iter(|| book.assign(black_box(&rows)));
        });
        group.finish();
    }
}

/// A search of 80 cells of 96 rows: all but the exact scores.
fn collect(c: &mut Criterion) {
    let codec = Codec::new(Metric::Cosine, DIM, 1);
    let centre = codec.origin_centre();
    let mut encoder = codec.encoder();
    let (mut blocks, mut codes, mut factors) = (Vec::new(), Vec::new(), Vec::new());
    let rows = 80 * 96_u32;
    let mut ones: Vec<(Vec<u8>, Factors)> = Vec::new();
    for row in 0..rows {
        encoder.set_row(&vector(row * 13), 0.1);
        encoder.set_centre(&centre);
        let (mut one, mut fine) = (vec![0; Bits::One.code_len(DIM)], vec![0; DIM]);
        let of_one = encoder.encode(Bits::One, &mut one);
        factors.extend(encoder.encode(Bits::Eight, &mut fine).to_bytes());
        codes.extend(fine);
        ones.push((one, of_one));
    }
    for block in ones.chunks(BLOCK_ROWS) {
        let block: Vec<_> = block.iter().map(|(code, factors)| (&**code, *factors)).collect();
        pack_block(DIM, &block, &mut blocks);
    }
    let query = codec.query(&vector(5), CONFIDENCE);
    let probe = query.probe(&centre);
    let cell = |cell: usize| CellCodes {
        blocks: Blocks::new(&blocks[cell * 3 * block_len(DIM)..][..3 * block_len(DIM)], DIM, 96)
            .expect("three blocks"),
        fine: FineCodes::new(
            &codes[cell * 96 * DIM..][..96 * DIM],
            &factors[cell * 1_152..][..1_152],
            DIM,
        )
        .expect("96 rows"),
        mask: None,
    };
    let mut group = c.benchmark_group("search by codes");
    group.throughput(Throughput::Elements(u64::from(rows)));
    group.bench_function("80 cells", |x| {
        x.iter(|| {
            let mut found = Collector::new(&query, 10);
            for number in 0..80 {
                found.scan(&cell(number), &probe, |row| Some((number, row)));
            }
            found.finish()
        });
    });
    let fine = FineCodes::new(&codes, &factors, DIM).expect("all rows");
    let wanted = (0..1_000).filter_map(|i| fine.row((i * 7_919 % rows) as usize));
    let wanted: Vec<_> = wanted.map(|row| (row, probe)).collect();
    let mut out = Vec::new();
    group.throughput(Throughput::Elements(wanted.len() as u64));
    group.bench_function("scattered rows of a filter", |x| {
        x.iter(|| {
            out.clear();
            query.estimate_rows(black_box(&wanted), &mut out);
        });
    });
    group.finish();
}

fn quick() -> Criterion {
    let second = std::time::Duration::from_secs(1);
    Criterion::default().sample_size(20).warm_up_time(second / 4).measurement_time(second)
}

criterion_group! { name = benches; config = quick(); targets = per_level, scattered_rows, codec, scan, cells, collect }
criterion_main!(benches);
