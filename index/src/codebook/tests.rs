//! Cells fit the data, on any data; routing finds the cells that an exact comparison finds.

use super::*;
use crate::{
    Metric,
    executor::tests::Backwards,
    inv_norm,
    kernel::scalar,
    rabitq::{CONFIDENCE, Codec, Probe},
};
use proptest::prelude::*;

/// Rows around `clusters` places far apart.
fn clustered(clusters: usize, rows: usize, dim: usize, seed: u64) -> Vec<f32> {
    let random = &mut SplitMix64(seed);
    let mut uniform = |width: f32| ((random.below(20_001) as f32) / 10_000.0 - 1.0) * width;
    let places: Vec<Vec<f32>> =
        (0..clusters).map(|_| (0..dim).map(|_| uniform(10.0)).collect()).collect();
    (0..rows)
        .flat_map(|row| {
            let place = &places[row % clusters];
            place.iter().map(|x| x + uniform(0.5)).collect::<Vec<_>>()
        })
        .collect()
}

fn mean_squared_distance(cells: &[Assignment]) -> f64 {
    cells.iter().map(|a| f64::from(a.squared_distance)).sum::<f64>() / cells.len() as f64
}

#[test]
fn cells_fit_clustered_rows_far_better_than_one_cell() {
    for cells in [20, 60] {
        let rows = clustered(20, 4_000, 24, 1);
        let fitted = mean_squared_distance(&Codebook::train(&rows, 24, cells, 7).assign(&rows));
        let one = mean_squared_distance(&Codebook::train(&rows, 24, 1, 7).assign(&rows));
        assert!(fitted * 5.0 < one, "{cells} cells: {fitted} beside {one}");
    }
}

#[test]
fn the_same_seed_gives_the_same_centroids() {
    let rows = clustered(9, 3_000, 17, 2);
    let train = |seed| Codebook::train(&rows, 17, 50, seed);
    assert_eq!(train(5), train(5));
    assert_ne!(train(5), train(6));
}

/// Of many cells rounding chooses the few that are compared: that of a few rows is not the nearest,
/// but nearly so. Rows that cannot be rounded are compared with all.
#[test]
fn rows_of_many_cells_get_the_nearest_but_for_a_few() {
    let mut rows = clustered(700, 6_000, 38, 3);
    rows[..38].fill(3e38);
    rows[38..2 * 38].fill(0.0);
    let book = Codebook::train(&rows[2 * 38..], 38, 400, 1);
    let (mut same, mut farther) = (0, 0.0);
    for (row, found) in rows.chunks_exact(38).zip(book.assign(&rows)) {
        let distance = |cell| scalar::l2_squared(row, book.centroid(cell).unwrap());
        let cells = 0..book.cells() as u32;
        let nearest = cells.min_by(|a, b| distance(*a).total_cmp(&distance(*b))).unwrap();
        same += usize::from(found.cell == nearest);
        farther += (distance(found.cell) / distance(nearest) - 1.0).max(0.0);
        let off = (f64::from(found.squared_distance) - distance(found.cell)).abs();
        assert!(off <= distance(found.cell) * 1e-3 + 1e-2 || off.is_nan() || off.is_infinite());
    }
    assert!(same >= 5_950, "{same} of 6000");
    assert!(farther < 1.0, "{farther} in all");
}

/// Components of very different widths, as embeddings have: what the wide ones cost the others.
#[test]
fn a_few_wide_components_do_not_spoil_the_choice() {
    let mut rows = clustered(500, 5_000, 65, 9);
    for row in rows.chunks_exact_mut(65) {
        row.iter_mut().skip(3).for_each(|x| *x *= 0.05);
        row[0] += 500.0;
    }
    let book = Codebook::train(&rows, 65, 300, 1);
    let exact = |row: &[f32]| {
        let distance = |cell: &u32| scalar::l2_squared(row, book.centroid(*cell).unwrap());
        (0..book.cells() as u32).min_by(|a, b| distance(a).total_cmp(&distance(b)))
    };
    let found = book.assign(&rows);
    let rows = rows.chunks_exact(65).zip(found).step_by(7);
    let (mut same, mut all) = (0, 0);
    for (row, found) in rows {
        same += usize::from(Some(found.cell) == exact(row));
        all += 1;
    }
    assert!(same * 100 >= all * 97, "{same} of {all}");
}

#[test]
fn the_order_in_which_parts_are_worked_on_does_not_matter() {
    let rows = clustered(9, 7_000, 17, 2);
    for cells in [20, 90] {
        let book = Codebook::train(&rows, 17, cells, 5);
        assert_eq!(Codebook::train_on(&Backwards, &rows, 17, cells, 5), book);
        assert_eq!(book.assign_on(&Backwards, &rows), book.assign(&rows));
    }
}

#[test]
fn there_are_about_as_many_cells_as_were_asked_for() {
    let rows = clustered(30, 20_000, 8, 3);
    for cells in [1, 7, 32, 33, 100, 256] {
        let trained = Codebook::train(&rows, 8, cells, 1).cells();
        assert!((cells * 9 / 10..=cells * 11 / 10).contains(&trained), "{cells}: {trained}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Few rows, equal rows, zero rows: every row has the nearest of the cells that there are.
    #[test]
    fn any_rows_have_cells(
        dim in prop::sample::select(vec![1_usize, 2, 63, 65]),
        rows in 0_usize..40,
        alike in any::<bool>(),
        cells in 1_usize..80,
        values in prop::collection::vec(-3.0_f32..3.0, 40 * 65),
    ) {
        let rows = if alike { vec![values[0]; rows * dim] } else { values[..rows * dim].to_vec() };
        let book = Codebook::train(&rows, dim, cells, 3);
        prop_assert!(book.cells() >= 1 && book.cells() <= cells + cells.isqrt());
        prop_assert!(book.centroids().iter().all(|x| x.is_finite()));
        for (row, found) in rows.chunks_exact(dim).zip(book.assign(&rows)) {
            let distance = |cell| scalar::l2_squared(row, book.centroid(cell).unwrap());
            let least = (0..book.cells() as u32).map(distance).fold(f64::MAX, f64::min);
            prop_assert!(distance(found.cell) <= least + 1e-3, "{} {}", distance(found.cell), least);
            prop_assert!((f64::from(found.squared_distance) - distance(found.cell)).abs() < 1e-2);
        }
        prop_assert_eq!(book.centroid(book.cells() as u32), None);
    }
}

#[test]
fn routing_finds_the_cells_that_an_exact_comparison_finds() {
    let dim = 48;
    let rows = clustered(40, 4_000, dim, 4);
    for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
        let rows: Vec<f32> = rows
            .chunks_exact(dim)
            .flat_map(|row| {
                let scale = if metric == Metric::Cosine { inv_norm(row) } else { 1.0 };
                row.iter().map(move |x| x * scale)
            })
            .collect();
        // Without radii: then nothing but the centroids decides.
        let trained = Codebook::train(&rows, dim, 64, 1);
        let book = Codebook::from_centroids(trained.centroids().to_vec(), dim);
        let codec = Codec::new(metric, dim, 2);
        let router = Router::new(&book, &codec);
        let mut same = 0;
        for row in rows.chunks_exact(dim).step_by(40) {
            let score = |cell: u32| {
                let centroid = book.centroid(cell).unwrap();
                match metric {
                    Metric::L2 => -scalar::l2_squared(row, centroid),
                    Metric::Cosine | Metric::Dot => scalar::dot(row, centroid),
                }
            };
            let cells = book.cells() as u32;
            let best = (0..cells).max_by(|a, b| score(*a).total_cmp(&score(*b))).unwrap();
            let found = router.route(&codec.query(row, CONFIDENCE), 5);
            assert_eq!(found.len(), 5);
            // Of cells that are as near as estimates can tell, either will do.
            let (cell, probe) = found[0];
            same += usize::from(score(cell) + 2.0 * f64::from(probe.slack()) >= score(best));
        }
        assert!(same >= 97, "{metric:?}: {same} of 100");
        assert!(router.centre(0).is_some() && router.centre(book.cells() as u32).is_none());
    }
}

/// Random centroids: each a cell of its own, more of them than are compared one by one.
fn many_cells(dim: usize) -> Codebook {
    Codebook::from_centroids(clustered(2_500, 2_500, dim, 6), dim)
}

#[test]
fn of_many_cells_nearly_those_are_chosen_that_would_be_of_all() {
    let book = many_cells(48);
    for metric in [Metric::Dot, Metric::L2] {
        let codec = Codec::new(metric, 48, 2);
        let router = Router::new(&book, &codec);
        let (mut same, mut all) = (0, 0);
        for row in book.centroids().chunks_exact(48).step_by(97) {
            let query = codec.query(row, CONFIDENCE);
            let (few, every) = (router.route(&query, 30), router.route(&query, usize::MAX));
            assert_eq!((few.len(), every.len()), (30, book.cells()));
            let mut ranking = router.ranking(&query);
            for (place, (cell, probe)) in every.iter().enumerate().rev() {
                assert_eq!(ranking.cell(place), Some(*cell), "asked from the end");
                let bits = |probe: &Probe| [probe.centre_score(), probe.slack()].map(f32::to_bits);
                assert_eq!(ranking.probe(*cell).map(|probe| bits(&probe)), Some(bits(probe)));
            }
            let mut ranking = router.ranking(&query);
            let by_step = (0..book.cells()).map_while(|place| ranking.cell(place));
            assert!(by_step.eq(every.iter().map(|(cell, _)| *cell)), "asked one by one");
            assert_eq!(ranking.cell(book.cells()), None);
            let of_all: Vec<u32> = every[..30].iter().map(|(cell, _)| *cell).collect();
            same += few.iter().filter(|(cell, _)| of_all.contains(cell)).count();
            all += few.len();
        }
        assert!(same * 100 >= all * 95, "{metric:?}: {same} of {all}");
    }
}

#[test]
fn an_estimated_probe_is_as_near_to_the_exact_one_as_it_says() {
    for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
        let book = Codebook::train(&clustered(40, 2_000, 65, 5), 65, 80, 1);
        let codec = book.codec(metric);
        let router = Router::new(&book, &codec);
        let (mut held, mut all) = (0, 0);
        for row in clustered(7, 30, 65, 8).chunks_exact(65) {
            let query = codec.query(row, CONFIDENCE);
            for (cell, probe) in (0..).zip(router.probes(&query)) {
                let exact = query.probe(router.centre(cell).unwrap());
                let off = (probe.centre_score() - exact.centre_score()).abs();
                held += usize::from(off <= probe.slack() && probe.distance() >= exact.distance());
                all += 1;
            }
        }
        assert!(held * 100 >= all * 93, "{metric:?}: {held} of {all}");
    }
}

#[test]
fn the_likelier_of_two_cells_at_one_distance_is_the_wider_one() {
    for metric in [Metric::Cosine, Metric::Dot] {
        let centroids = vec![3.0, 1.0, 0.0, 3.0, 0.0, 1.0];
        let book = Codebook::from_parts(centroids, vec![0.5, 2.0], vec![0.0; 3], 1, 9);
        let codec = book.codec(metric);
        let query = codec.query(&[1.0, 0.0, 0.0], CONFIDENCE);
        let found = Router::new(&book, &codec).route(&query, 2);
        assert_eq!(found[0].0, 1, "{metric:?}");
    }
}
