//! Rows, queries and the true neighbours, from the Parquet files that `akidb` reads and makes. All
//! vectors are brought to unit length, so that the inner product orders as the cosine does, and
//! rows are known by their number.

use crate::Result;
use akidb::{
    Point,
    import::{ImportOptions, ParquetImport},
    vfs::RealFs,
};
use serde_json::Value;
use simsimd::SpatialSimilarity;
use std::{
    collections::{HashMap, HashSet},
    path::Path,
    thread,
};

/// What every library gets.
#[derive(Debug)]
pub struct Data {
    pub dim: usize,
    /// Rows, one behind the other.
    pub rows: Vec<f32>,
    /// Queries, one behind the other.
    pub queries: Vec<f32>,
    /// The numbers of the true neighbours, per query.
    pub truth: Vec<HashSet<u32>>,
}

impl Data {
    pub fn read(input: &Path, queries: &Path, k: usize, threads: usize) -> Result<Self> {
        let (dim, points) = points(input, false)?;
        let numbers: HashMap<String, u32> =
            points.iter().zip(0..).map(|(point, n)| (point.id.to_string(), n)).collect();
        let rows = vectors(&points);
        let (query_dim, points) = points_of_queries(queries)?;
        if query_dim != dim {
            return Err(format!("queries have {query_dim} numbers, rows {dim}").into());
        }
        let queries = vectors(&points);
        let given: Option<Vec<_>> = points.iter().map(|point| given(point, &numbers, k)).collect();
        let truth = match given {
            Some(truth) => truth,
            None => computed(&rows, &queries, dim, k, threads),
        };
        Ok(Self { dim, rows, queries, truth })
    }

    pub fn count(&self) -> usize {
        self.rows.len() / self.dim
    }

    pub fn row(&self, n: usize) -> &[f32] {
        &self.rows[n * self.dim..][..self.dim]
    }

    pub fn query(&self, n: usize) -> &[f32] {
        &self.queries[n * self.dim..][..self.dim]
    }

    /// The mean share of the true neighbours that were found.
    pub fn recall(&self, answers: &[Vec<u32>]) -> f64 {
        let found = |(truth, answer): (&HashSet<u32>, &Vec<u32>)| {
            answer.iter().filter(|n| truth.contains(n)).count() as f64 / truth.len() as f64
        };
        self.truth.iter().zip(answers).map(found).sum::<f64>() / self.truth.len() as f64
    }
}

fn points(path: &Path, number_rows: bool) -> Result<(usize, Vec<Point>)> {
    let options = ImportOptions { number_rows, ..ImportOptions::default() };
    let import = ParquetImport::open(&RealFs, path, &options)?;
    let mut points = Vec::new();
    for batch in import.batches()? {
        points.extend(batch?);
    }
    Ok((import.dim() as usize, points))
}

fn points_of_queries(path: &Path) -> Result<(usize, Vec<Point>)> {
    points(path, true)
}

fn vectors(points: &[Point]) -> Vec<f32> {
    let unit = |point: &Point| {
        let length = dot(&point.vector, &point.vector).sqrt();
        let scale = if length > 0.0 { 1.0 / length } else { 1.0 };
        point.vector.iter().map(|x| x * scale).collect::<Vec<_>>()
    };
    points.iter().flat_map(unit).collect()
}

fn given(point: &Point, numbers: &HashMap<String, u32>, k: usize) -> Option<HashSet<u32>> {
    let ids = point.metadata.get("neighbours")?.as_array().filter(|ids| ids.len() >= k)?;
    let text = |id: &Value| id.as_str().map_or_else(|| id.to_string(), str::to_owned);
    ids.iter().take(k).map(|id| numbers.get(&text(id)).copied()).collect()
}

/// By comparing every query with every row.
fn computed(
    rows: &[f32],
    queries: &[f32],
    dim: usize,
    k: usize,
    threads: usize,
) -> Vec<HashSet<u32>> {
    let nearest = |query: &[f32]| {
        let scores = rows.chunks_exact(dim).zip(0..).map(|(row, n)| (dot(query, row), n));
        let mut scores: Vec<(f32, u32)> = scores.collect();
        let k = k.min(scores.len());
        scores.select_nth_unstable_by(k - 1, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        scores.iter().take(k).map(|(_, n)| *n).collect()
    };
    let share = (queries.len() / dim).div_ceil(threads) * dim;
    thread::scope(|scope| {
        let work = |part: &[f32]| part.chunks_exact(dim).map(nearest).collect::<Vec<_>>();
        let parts: Vec<_> =
            queries.chunks(share).map(|part| scope.spawn(move || work(part))).collect();
        parts.into_iter().flat_map(|part| part.join().expect("no part panics")).collect()
    })
}

/// The inner product by the best instructions of the machine: what the Rust libraries get too.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    <f32 as SpatialSimilarity>::dot(a, b).expect("both have the same length") as f32
}
