//! Estimates are unbiased, bounds hold as often as they say, and bytes of any content are safe.

use super::*;
use crate::{BLOCK_ROWS, Kernels, Layout, Metric, inv_norm, kernel::scalar, rotation::SplitMix64};
use proptest::prelude::*;

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::L2];
const WIDTHS: [Bits; 3] = [Bits::One, Bits::Four, Bits::Eight];
const DIMS: [usize; 8] = [1, 2, 63, 65, 383, 384, 1536, 4096];

/// Normally distributed components: a sum of twelve uniform ones.
fn gaussian(random: &mut SplitMix64, dim: usize, deviation: f32) -> Vec<f32> {
    let mut uniform = || (random.next_word() >> 40) as f32 / (1 << 24) as f32 - 0.5;
    (0..dim).map(|_| (0..12).map(|_| uniform()).sum::<f32>() * deviation).collect()
}

fn added(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(x, y)| x + y).collect()
}

/// The exact score in rank units.
fn exact(metric: Metric, row: &[f32], query: &[f32]) -> f64 {
    let norm = |v: &[f32]| scalar::dot(v, v).sqrt().max(1e-300);
    match metric {
        Metric::Cosine => scalar::dot(row, query) / norm(row) / norm(query),
        Metric::Dot => scalar::dot(row, query),
        Metric::L2 => -scalar::l2_squared(row, query),
    }
}

fn encoded(codec: &Codec, bits: Bits, row: &[f32], centre: &Centre) -> (Vec<u8>, Factors) {
    let mut encoder = codec.encoder();
    let mut code = vec![0; bits.code_len(codec.padded())];
    encoder.set_row(row, inv_norm(row));
    encoder.set_centre(centre);
    let factors = encoder.encode(bits, &mut code);
    (code, factors)
}

/// Rows around a centre that lies off the origin, and a query near them.
struct Scene {
    origin: Vec<f32>,
    centre: Vec<f32>,
    row: Vec<f32>,
    query: Vec<f32>,
}

fn scene(random: &mut SplitMix64, dim: usize) -> Scene {
    let origin = gaussian(random, dim, 1.0);
    let centre = added(&origin, &gaussian(random, dim, 0.7));
    let row = added(&centre, &gaussian(random, dim, 0.5));
    let query = added(&centre, &gaussian(random, dim, 0.6));
    Scene { origin, centre, row, query }
}

/// A centre for the metric: under cosine it lies among vectors of length 1.
fn centre_of(codec: &Codec, centre: &[f32]) -> Centre {
    let scale = if codec.metric() == Metric::Cosine { inv_norm(centre) * 0.8 } else { 1.0 };
    codec.centre(&centre.iter().map(|x| x * scale).collect::<Vec<_>>())
}

fn codec_of(metric: Metric, origin: &[f32], seed: u64) -> Codec {
    let scale = if metric == Metric::Cosine { inv_norm(origin) * 0.7 } else { 1.0 };
    let origin: Vec<f32> = origin.iter().map(|x| x * scale).collect();
    Codec::new(metric, origin.len(), seed).with_origin(&origin)
}

/// The error of an estimate and its margin at the usual confidence.
fn error_and_margin(codec: &Codec, bits: Bits, scene: &Scene) -> (f64, f64) {
    let centre = centre_of(codec, &scene.centre);
    let (code, factors) = encoded(codec, bits, &scene.row, &centre);
    let query = codec.query(&scene.query, CONFIDENCE);
    let found = query.estimate(bits, &code, factors, &query.probe(&centre));
    let truth = exact(codec.metric(), &scene.row, &scene.query);
    (f64::from(found.score) - truth, f64::from(found.margin))
}

/// The mean over many rotations is the truth: within four standard errors of it.
#[test]
fn estimates_are_unbiased_over_the_rotation() {
    const ROTATIONS: u64 = 600;
    for (metric, bits) in METRICS.into_iter().flat_map(|m| WIDTHS.map(|b| (m, b))) {
        let scene = scene(&mut SplitMix64(3), 65);
        let errors: Vec<f64> = (0..ROTATIONS)
            .map(|seed| error_and_margin(&codec_of(metric, &scene.origin, seed), bits, &scene).0)
            .collect();
        let n = ROTATIONS as f64;
        let mean = errors.iter().sum::<f64>() / n;
        let deviation = (errors.iter().map(|e| (e - mean).powi(2)).sum::<f64>() / n).sqrt();
        assert!(mean.abs() < 4.0 * deviation / n.sqrt(), "{metric:?} {bits:?}: {mean} {deviation}");
    }
}

/// 1.9 standard deviations hold 94 of 100 normally distributed errors; the margins may be a little
/// wider than they need to be (rounding is allowed for), not narrower, and not twice as wide.
#[test]
fn bounds_hold_as_often_as_they_say_and_are_not_slack() {
    const ROWS: usize = 1000;
    for (metric, bits) in METRICS.into_iter().flat_map(|m| WIDTHS.map(|b| (m, b))) {
        for dim in [63, 65, 384] {
            let random = &mut SplitMix64(dim as u64);
            let mut held = 0;
            let mut ratios = 0.0;
            for seed in 0..ROWS as u64 {
                let scene = scene(random, dim);
                let codec = codec_of(metric, &scene.origin, seed / 50);
                let (error, margin) = error_and_margin(&codec, bits, &scene);
                held += usize::from(error.abs() <= margin);
                ratios += (error / margin).powi(2);
            }
            let spread = (ratios / ROWS as f64).sqrt() * f64::from(CONFIDENCE);
            assert!(held * 100 >= ROWS * 92, "{metric:?} {bits:?} {dim}: {held} of {ROWS}");
            assert!((0.5..1.1).contains(&spread), "{metric:?} {bits:?} {dim}: {spread}");
        }
    }
}

#[test]
fn more_bits_err_less() {
    for metric in METRICS {
        let random = &mut SplitMix64(9);
        let mut squares = [0.0; 3];
        for seed in 0..100 {
            let scene = scene(random, 384);
            let codec = codec_of(metric, &scene.origin, seed);
            for (sum, bits) in squares.iter_mut().zip(WIDTHS) {
                *sum += error_and_margin(&codec, bits, &scene).0.powi(2);
            }
        }
        assert!(squares[0] > 20.0 * squares[1], "{metric:?}: {squares:?}");
        assert!(squares[1] > 20.0 * squares[2], "{metric:?}: {squares:?}");
    }
}

/// L2 of data at 1,000 from zero with a spread of 1: without an origin, rounding the query loses
/// everything that tells rows apart.
#[test]
fn an_origin_keeps_data_far_from_zero_precise() {
    let random = &mut SplitMix64(5);
    let far = vec![1000.0; 128];
    let codec = Codec::new(Metric::L2, 128, 1).with_origin(&far);
    for _ in 0..50 {
        let row = added(&far, &gaussian(random, 128, 1.0));
        let query = added(&far, &gaussian(random, 128, 1.0));
        let (code, factors) = encoded(&codec, Bits::Eight, &row, &codec.origin_centre());
        let prepared = codec.query(&query, CONFIDENCE);
        let probe = prepared.probe(&codec.origin_centre());
        let found = prepared.estimate(Bits::Eight, &code, factors, &probe);
        let truth = exact(Metric::L2, &row, &query);
        assert!((f64::from(found.score) - truth).abs() < 0.05 * truth.abs(), "{found:?} {truth}");
    }
}

#[test]
fn a_row_at_its_centre_is_known_exactly() {
    for metric in METRICS {
        let row = [0.6, -0.8];
        let codec = Codec::new(metric, 2, 3);
        let centre = codec.centre(&row);
        for bits in WIDTHS {
            let (code, factors) = encoded(&codec, bits, &row, &centre);
            let query = codec.query(&[0.0, 2.0], CONFIDENCE);
            let found = query.estimate(bits, &code, factors, &query.probe(&centre));
            let truth = exact(metric, &row, &[0.0, 2.0]);
            assert!((f64::from(found.score) - truth).abs() < 1e-5, "{metric:?} {bits:?}");
            assert!(found.margin < 1e-5, "{metric:?} {bits:?} {found:?}");
        }
    }
}

#[test]
fn zero_rows_and_zero_queries_have_estimates() {
    for (metric, bits) in METRICS.into_iter().flat_map(|m| WIDTHS.map(|b| (m, b))) {
        for (row, query) in [([0.0; 3], [1.0; 3]), ([1.0; 3], [0.0; 3]), ([0.0; 3], [0.0; 3])] {
            let codec = Codec::new(metric, 3, 3);
            let centre = codec.origin_centre();
            let (code, factors) = encoded(&codec, bits, &row, &centre);
            let prepared = codec.query(&query, CONFIDENCE);
            let found = prepared.estimate(bits, &code, factors, &prepared.probe(&centre));
            let truth = if metric == Metric::Cosine { 0.0 } else { exact(metric, &row, &query) };
            let off = (f64::from(found.score) - truth).abs();
            assert!(off <= f64::from(found.margin) + 1e-5, "{metric:?} {bits:?} {found:?} {truth}");
        }
    }
}

/// Coded rows and the block they make.
struct Coded {
    codec: Codec,
    centre: Centre,
    rows: Vec<(Vec<u8>, Factors)>,
    bytes: Vec<u8>,
}

fn coded(metric: Metric, dim: usize, rows: usize, seed: u64) -> Coded {
    let random = &mut SplitMix64(seed);
    let codec = Codec::new(metric, dim, seed);
    let centre = codec.centre(&gaussian(random, dim, 0.2));
    let rows: Vec<_> = (0..rows)
        .map(|_| encoded(&codec, Bits::One, &gaussian(random, dim, 1.0), &centre))
        .collect();
    let mut bytes = Vec::new();
    for block in rows.chunks(BLOCK_ROWS) {
        let block: Vec<_> = block.iter().map(|(code, factors)| (&**code, *factors)).collect();
        pack_block(codec.padded(), &block, &mut bytes);
    }
    Coded { codec, centre, rows, bytes }
}

fn scene_of_blocks() -> impl Strategy<Value = (Coded, Vec<f32>, Vec<u32>)> {
    let metric = prop::sample::select(&METRICS[..]);
    let dim = prop::sample::select(&DIMS[..6]);
    (metric, dim, 0_usize..100, any::<u64>()).prop_flat_map(|(metric, dim, rows, seed)| {
        let query = prop::collection::vec(-2.0_f32..2.0, dim);
        let words = prop_oneof![1 => Just(0_u32), 1 => Just(u32::MAX), 2 => any::<u32>()];
        let mask = prop::collection::vec(words, rows.div_ceil(BLOCK_ROWS));
        (Just(()), query, mask)
            .prop_map(move |((), query, mask)| (coded(metric, dim, rows, seed), query, mask))
    })
}

impl std::fmt::Debug for Coded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} rows, {:?}, {}", self.rows.len(), self.codec.metric(), self.codec.dim())
    }
}

fn scanned(scene: &Coded, query: &Query, mask: Option<&[u32]>, at_least: f32) -> Vec<(usize, u32)> {
    scanned_in(Layout::Groups, scene, query, mask, at_least)
}

fn scanned_in(
    layout: Layout,
    scene: &Coded,
    query: &Query,
    mask: Option<&[u32]>,
    at_least: f32,
) -> Vec<(usize, u32)> {
    let mut bytes = scene.bytes.clone();
    lay_out(layout, scene.codec.padded(), &mut bytes);
    let blocks = Blocks::laid_out(layout, &bytes, scene.codec.padded(), scene.rows.len())
        .expect("the bytes are of that many rows");
    let mut found = Vec::new();
    blocks.scan(query, &query.probe(&scene.centre), mask, at_least, |row, estimate| {
        found.push((row, estimate.to_bits()));
        at_least
    });
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_scan_finds_what_single_codes_estimate((scene, query, mask) in scene_of_blocks()) {
        let query = scene.codec.query(&query, CONFIDENCE);
        let probe = query.probe(&scene.centre);
        let every: Vec<Estimate> = scene.rows.iter()
            .map(|(code, factors)| query.estimate(Bits::One, code, *factors, &probe))
            .collect();
        let threshold = every.get(every.len() / 2).map_or(0.0, |middle| middle.score);
        let want: Vec<_> = every.iter().enumerate()
            .filter(|(row, _)| mask[row / BLOCK_ROWS] >> (row % BLOCK_ROWS) & 1 == 1)
            .filter(|(_, found)| found.score + found.margin >= threshold)
            .map(|(row, found)| (row, found.score.to_bits()))
            .collect();
        prop_assert_eq!(scanned(&scene, &query, Some(&mask), threshold), want);
        let all = scanned(&scene, &query, None, f32::NEG_INFINITY);
        prop_assert_eq!(all.len(), scene.rows.len());
    }

    #[test]
    fn a_scan_is_the_same_on_every_level_and_layout((scene, query, mask) in scene_of_blocks()) {
        let mut found = Kernels::available().into_iter().flat_map(|kernels| {
            let query = scene.codec.clone().on(kernels).query(&query, CONFIDENCE);
            let scanned = |layout| scanned_in(layout, &scene, &query, Some(&mask), 0.0);
            [scanned(Layout::Groups), scanned(Layout::Rows)]
        });
        let first = found.next();
        prop_assert!(found.all(|other| Some(&other) == first.as_ref()));
    }

    /// Blocks are scanned several at a time; a caller cannot tell, whatever it does to the threshold.
    #[test]
    fn a_raised_threshold_holds_from_the_next_block_on(
        rows in 200_usize..700,
        raise in 0.0_f32..40.0,
        seed in any::<u64>(),
    ) {
        let scene = coded(Metric::Dot, 9, rows, seed);
        let vector = gaussian(&mut SplitMix64(!seed), 9, 1.0);
        for kernels in Kernels::available() {
            let query = scene.codec.clone().on(kernels).query(&vector, CONFIDENCE);
            let probe = query.probe(&scene.centre);
            let (mut want, mut threshold) = (Vec::new(), f32::NEG_INFINITY);
            for (block, coded) in scene.rows.chunks(BLOCK_ROWS).enumerate() {
                let of_block = threshold;
                for (at, (code, factors)) in coded.iter().enumerate() {
                    let found = query.estimate(Bits::One, code, *factors, &probe);
                    if found.score + found.margin >= of_block {
                        want.push((block * BLOCK_ROWS + at, found.score.to_bits()));
                        threshold = threshold.max(found.score - raise);
                    }
                }
            }
            let blocks = Blocks::new(&scene.bytes, scene.codec.padded(), rows).unwrap();
            let (mut visited, mut threshold) = (Vec::new(), f32::NEG_INFINITY);
            blocks.scan(&query, &probe, None, threshold, |row, score| {
                visited.push((row, score.to_bits()));
                threshold = threshold.max(score - raise);
                threshold
            });
            prop_assert_eq!(visited, want, "{:?}", kernels.level());
        }
    }

    #[test]
    fn rows_come_out_of_a_block_as_they_went_in((scene, _, _) in scene_of_blocks()) {
        let (padded, rows) = (scene.codec.padded(), scene.rows.len());
        let mut by_row = scene.bytes.clone();
        lay_out(Layout::Rows, padded, &mut by_row);
        let all = [
            Blocks::new(&scene.bytes, padded, rows).unwrap(),
            Blocks::laid_out(Layout::Rows, &by_row, padded, rows).unwrap(),
        ];
        for blocks in all {
            let mut code = vec![0xAA; Bits::One.code_len(padded)];
            for (row, (want, factors)) in scene.rows.iter().enumerate() {
                prop_assert_eq!(blocks.copy_row(row, &mut code), Some(*factors));
                prop_assert_eq!(&code, want);
            }
            prop_assert_eq!(blocks.copy_row(rows, &mut code), None);
        }
    }

    /// Any finite row and query: no panic, and a bound that excludes a row is right.
    #[test]
    fn extreme_values_are_bounded_or_not_at_all(
        (row, query) in (prop::collection::vec(any::<f32>(), 9), prop::collection::vec(any::<f32>(), 9)),
    ) {
        let finite = |v: Vec<f32>| -> Vec<f32> {
            v.into_iter().map(|x| if x.is_finite() { x } else { f32::MAX }).collect()
        };
        let (row, query) = (finite(row), finite(query));
        for (metric, bits) in METRICS.into_iter().flat_map(|m| WIDTHS.map(|b| (m, b))) {
            let codec = Codec::new(metric, 9, 1);
            let centre = codec.origin_centre();
            let (code, factors) = encoded(&codec, bits, &row, &centre);
            // Wide bounds: what is tested is what happens at the ends of f32, not luck.
            let prepared = codec.query(&query, 20.0);
            let found = prepared.estimate(bits, &code, factors, &prepared.probe(&centre));
            let upper = f64::from(found.score) + f64::from(found.margin);
            let truth = exact(metric, &row, &query);
            let slack = 1e-5 * (1.0 + truth.abs());
            prop_assert!(upper.is_nan() || upper + slack >= truth,
                "{:?} {:?} {:?} {}", metric, bits, found, truth);
        }
    }

    #[test]
    fn blocks_of_any_bytes_are_scanned(mut bytes in prop::collection::vec(any::<u8>(), 640..1300)) {
        let codec = Codec::new(Metric::L2, 64, 1);
        let query = codec.query(&[0.1; 64], CONFIDENCE);
        prop_assert_eq!(block_len(64), 640);
        prop_assert!(Blocks::new(&bytes, 64, 65).is_err());
        prop_assert!(Blocks::new(&bytes, 65, 1).is_err());
        bytes.truncate(640);
        for layout in [Layout::Groups, Layout::Rows] {
            let blocks = Blocks::laid_out(layout, &bytes, 64, 32).unwrap();
            let mut visits = 0;
            blocks.scan(&query, &query.probe(&codec.origin_centre()), None, 0.0, |row, _| {
                assert!(row < 32);
                visits += 1;
                0.0
            });
            prop_assert!(visits <= 32);
        }
    }
}

#[test]
fn a_row_without_bounds_is_always_visited() {
    let codec = Codec::new(Metric::Dot, 4, 1);
    let code = [0; 8];
    let mut bytes = Vec::new();
    let known = Factors { add: 0.0, scale: 1.0, error: 0.1 };
    pack_block(64, &[(&code, known), (&code, Factors::UNKNOWN)], &mut bytes);
    let query = codec.query(&[0.5; 4], CONFIDENCE);
    let mut visited = Vec::new();
    let blocks = Blocks::new(&bytes, 64, 2).unwrap();
    blocks.scan(&query, &query.probe(&codec.origin_centre()), None, f32::MAX, |row, _| {
        visited.push(row);
        f32::MAX
    });
    assert_eq!(visited, [1]);
}

#[test]
fn the_longest_vectors_that_the_engine_takes_do_not_overflow() {
    let row = vec![1.0; 65_535];
    let codec = Codec::new(Metric::Dot, row.len(), 1);
    let centre = codec.origin_centre();
    for bits in WIDTHS {
        let (code, factors) = encoded(&codec, bits, &row, &centre);
        let query = codec.query(&row, CONFIDENCE);
        let found = query.estimate(bits, &code, factors, &query.probe(&centre));
        let off = (f64::from(found.score) - 65_535.0).abs();
        assert!(off <= 2.0 * f64::from(found.margin), "{bits:?}: {found:?}");
    }
}

/// Bytes of codes are part of segments: this test fails when a change would orphan them.
#[test]
fn codes_and_factors_of_a_row_are_fixed_for_ever() {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for (metric, bits) in METRICS.into_iter().flat_map(|m| WIDTHS.map(|b| (m, b))) {
        for dim in DIMS {
            let scene = scene(&mut SplitMix64(1), dim);
            let codec = codec_of(metric, &scene.origin, 77);
            let centre = centre_of(&codec, &scene.centre);
            let (mut bytes, factors) = encoded(&codec, bits, &scene.row, &centre);
            for value in [factors.add, factors.scale, factors.error] {
                bytes.extend(value.to_le_bytes());
            }
            for byte in bytes {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
    assert_eq!(hash, 0x84c7_4d5e_1fbf_779f);
}
