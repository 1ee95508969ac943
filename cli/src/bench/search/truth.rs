//! The right answers: the true neighbours of each query, as the input says or as a comparison with
//! every row finds them, and how many of them an answer has.
//!
//! The comparison is the bench's own and shares no code with the engine, whose answers it judges.

use crate::{bench::in_parallel, error::Result, source::Query};
use akidb::{Hit, Point, PointId};
use std::{cmp::Ordering, collections::HashSet};

/// Rows that are compared with all queries before the next ones are: they stay in the cache.
const TILE: usize = 32;
/// Numbers that are multiplied side by side.
const LANES: usize = 16;

/// The ids of the true neighbours, per query.
#[derive(Debug)]
pub(super) struct Truth(Vec<HashSet<String>>);

impl Truth {
    /// As the file of the queries says; `None` if it does not, or says too little.
    pub(super) fn given(queries: &[Query], k: usize) -> Option<Self> {
        let first = |query: &Query| {
            let ids = query.neighbours.as_ref().filter(|ids| ids.len() >= k)?;
            Some(ids.iter().take(k).cloned().collect())
        };
        queries.iter().map(first).collect::<Option<_>>().map(Self)
    }

    /// By cosine, over rows that `batches` reads anew for each of the threads.
    pub(super) fn computed<I: Iterator<Item = Result<Vec<Point>>>>(
        queries: &[Query],
        k: usize,
        threads: usize,
        batches: impl Fn() -> Result<I> + Sync,
    ) -> Result<Self> {
        let shares = in_parallel("bench-truth", threads, |thread| {
            let share: Vec<&Query> = queries.iter().skip(thread).step_by(threads).collect();
            nearest(&share, k, batches()?)
        })?;
        let mut shares: Vec<_> = shares.into_iter().map(Vec::into_iter).collect();
        let ids = (0..queries.len()).filter_map(|at| shares.get_mut(at % threads)?.next());
        Ok(Self(ids.collect()))
    }

    /// What another way of searching answered.
    pub(super) fn answered(answers: &[Vec<Hit>]) -> Self {
        let ids = |hits: &Vec<Hit>| hits.iter().map(|hit| hit.id.to_string()).collect();
        Self(answers.iter().map(ids).collect())
    }

    /// Of each query, the share of its true neighbours that were found; all of none is 1.
    pub(super) fn recalls(&self, answers: &[Vec<Hit>]) -> Vec<f64> {
        let recall = |(truth, hits): (&HashSet<String>, &Vec<Hit>)| {
            let found = hits.iter().filter(|hit| truth.contains(&hit.id.to_string())).count();
            if truth.is_empty() { 1.0 } else { found as f64 / truth.len() as f64 }
        };
        self.0.iter().zip(answers).map(recall).collect()
    }

    /// How many queries got fewer hits than there are true neighbours: always wrong.
    pub(super) fn short_answers(&self, answers: &[Vec<Hit>]) -> usize {
        self.0.iter().zip(answers).filter(|(truth, hits)| hits.len() < truth.len()).count()
    }
}

/// The nearest rows of one query so far, the nearest first. Ties go to the smaller id, as in the
/// engine.
struct Nearest {
    k: usize,
    rows: Vec<(f32, PointId)>,
}

impl Nearest {
    fn offer(&mut self, score: f32, id: &PointId) {
        let before = |(other, other_id): &(f32, PointId)| match other.total_cmp(&score) {
            Ordering::Equal => other_id < id,
            order => order == Ordering::Greater,
        };
        if self.rows.len() < self.k || !self.rows.last().is_some_and(before) {
            let at = self.rows.partition_point(before);
            self.rows.insert(at, (score, id.clone()));
            self.rows.truncate(self.k);
        }
    }
}

fn nearest(
    queries: &[&Query],
    k: usize,
    batches: impl Iterator<Item = Result<Vec<Point>>>,
) -> Result<Vec<HashSet<String>>> {
    let mut best: Vec<_> =
        queries.iter().map(|_| Nearest { k, rows: Vec::with_capacity(k + 1) }).collect();
    for points in batches {
        for tile in points?.chunks(TILE) {
            let lengths: Vec<f32> =
                tile.iter().map(|point| dot(&point.vector, &point.vector).sqrt()).collect();
            for (query, best) in queries.iter().zip(&mut best) {
                for (point, length) in tile.iter().zip(&lengths) {
                    best.offer(dot(&query.vector, &point.vector) / length, &point.id);
                }
            }
        }
    }
    let ids = |best: Nearest| best.rows.into_iter().map(|(_, id)| id.to_string()).collect();
    Ok(best.into_iter().map(ids).collect())
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(id: &str) -> Hit {
        Hit { id: id.into(), score: 0.0, vector: None, metadata: None }
    }

    fn query(vector: &[f32], neighbours: Option<&[&str]>) -> Query {
        let neighbours = neighbours.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect());
        Query { text: String::new(), vector: vector.to_vec(), neighbours }
    }

    #[test]
    fn recall_counts_the_first_k_neighbours_in_any_order() {
        let queries = [query(&[], Some(&["a", "b", "c"])), query(&[], Some(&["d", "e", "f"]))];
        let answers = [vec![hit("b"), hit("a")], vec![hit("f"), hit("d")]];
        assert_eq!(Truth::given(&queries, 2).unwrap().recalls(&answers), [1.0, 0.5]);
    }

    #[test]
    fn without_enough_neighbours_in_the_file_there_is_no_given_truth() {
        assert!(Truth::given(&[query(&[], None)], 1).is_none());
        assert!(Truth::given(&[query(&[], Some(&["a"]))], 2).is_none());
    }

    #[test]
    fn neighbours_are_by_cosine_and_ties_go_to_the_smaller_id() {
        let rows = [("far", [-1.0, 0.0]), ("b", [9.0, 9.0]), ("a", [2.0, 2.0]), ("c", [1.0, 0.9])];
        let points: Vec<_> = rows.iter().map(|(id, v)| Point::new(*id, v.to_vec())).collect();
        let queries = [query(&[1.0, 1.0], None), query(&[-5.0, 0.1], None)];
        for threads in [1, 2, 3] {
            let batches = || Ok([Ok(points.clone())].into_iter());
            let truth = Truth::computed(&queries, 1, threads, batches).unwrap();
            assert_eq!(truth.recalls(&[vec![hit("a")], vec![hit("far")]]), [1.0, 1.0]);
        }
    }
}
