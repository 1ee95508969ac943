//! The libraries, each behind the same few calls and each used as its documentation says. What was
//! chosen, and why, stands at each.

use super::data::{Data, dot};
use crate::Result;
use clap::ValueEnum;
use hnsw_rs::{anndists::dist::Distance, hnsw::Hnsw};
use instant_distance::Builder;
use serde::{Deserialize, Serialize};
use std::{
    path::Path,
    sync::{Arc, OnceLock},
    thread,
    time::Instant,
};

/// What is measured. The names are those of the command line and of the JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// AkiDB with its default settings, in one segment.
    Akidb,
    /// usearch, vectors as bfloat16.
    Usearch,
    /// usearch, vectors as bytes.
    UsearchI8,
    /// hnsw_rs.
    HnswRs,
    /// instant-distance.
    InstantDistance,
}

impl Kind {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Akidb => "akidb",
            Self::Usearch => "usearch",
            Self::UsearchI8 => "usearch-i8",
            Self::HnswRs => "hnsw-rs",
            Self::InstantDistance => "instant-distance",
        }
    }
}

/// What a graph is built with.
#[derive(Clone, Copy, Debug)]
pub struct Graph {
    pub m: usize,
    pub ef_construction: usize,
    pub threads: usize,
}

/// A built index.
pub trait Library {
    /// Sets what the sweep varies: `ef`, or, for AkiDB, the cells that are probed.
    fn set_effort(&mut self, effort: usize) -> Result<()>;

    /// The numbers of the k nearest rows, about.
    fn search(&mut self, query: usize, k: usize) -> Result<Vec<u32>>;
}

/// An index, and the seconds that it took.
pub struct Built {
    pub library: Box<dyn Library>,
    pub seconds: f64,
    /// For AkiDB: of that, flush and compaction, without what makes rows durable before.
    pub index_seconds: f64,
}

/// Builds an index of all rows.
pub fn build(kind: Kind, data: &Arc<Data>, graph: Graph, dir: &Path) -> Result<Built> {
    let start = Instant::now();
    let (library, before): (Box<dyn Library>, f64) = match kind {
        Kind::Akidb => {
            let (akidb, before) = Akidb::build(data, dir)?;
            (Box::new(akidb), before)
        }
        Kind::Usearch => (Box::new(Usearch::build(data, graph, usearch::ScalarKind::BF16)?), 0.0),
        Kind::UsearchI8 => (Box::new(Usearch::build(data, graph, usearch::ScalarKind::I8)?), 0.0),
        Kind::HnswRs => (Box::new(HnswRs::build(data, graph)), 0.0),
        Kind::InstantDistance => (Box::new(InstantDistance::build(data, graph)?), 0.0),
    };
    let seconds = start.elapsed().as_secs_f64();
    Ok(Built { library, seconds, index_seconds: seconds - before })
}

/// AkiDB: durable batches of 1,000 rows, a flush, a compaction to one segment. Searches run on the
/// caller's thread.
struct Akidb {
    data: Arc<Data>,
    cells: usize,
    collection: akidb::blocking::Collection,
    // Last, so that it is dropped last.
    _db: akidb::blocking::Db,
}

impl Akidb {
    /// Also returns the seconds until all rows were durable.
    fn build(data: &Arc<Data>, dir: &Path) -> Result<(Self, f64)> {
        let start = Instant::now();
        let settings = akidb::Settings { search_threads: 1, ..akidb::Settings::default() };
        let db = akidb::DbBuilder::new(dir.join("akidb")).settings(settings).open_blocking()?;
        let schema = akidb::Schema::new(u32::try_from(data.dim)?, akidb::Metric::Cosine);
        let collection = db.create_collection("bench", schema)?;
        let numbers: Vec<usize> = (0..data.count()).collect();
        for batch in numbers.chunks(1000) {
            let point = |n: &usize| akidb::Point::new(*n as u64, data.row(*n).to_vec());
            collection.upsert(batch.iter().map(point).collect::<Vec<_>>()).run()?;
        }
        let durable = start.elapsed().as_secs_f64();
        collection.flush()?;
        collection.compact()?;
        Ok((Self { data: Arc::clone(data), cells: 1, collection, _db: db }, durable))
    }
}

impl Library for Akidb {
    fn set_effort(&mut self, effort: usize) -> Result<()> {
        self.cells = effort;
        Ok(())
    }

    fn search(&mut self, query: usize, k: usize) -> Result<Vec<u32>> {
        let search = self.collection.search(self.data.query(query)).k(k).nprobe(self.cells);
        let number = |hit: akidb::Hit| match hit.id {
            akidb::PointId::U64(n) => u32::try_from(n).ok(),
            _ => None,
        };
        Ok(search.run()?.into_iter().filter_map(number).collect())
    }
}

/// usearch: its own kernels for the machine. Its C++ threads are ours: it has none.
struct Usearch {
    data: Arc<Data>,
    index: usearch::Index,
}

impl Usearch {
    fn build(data: &Arc<Data>, graph: Graph, quantization: usearch::ScalarKind) -> Result<Self> {
        let index = usearch::Index::new(&usearch::IndexOptions {
            dimensions: data.dim,
            metric: usearch::MetricKind::IP,
            quantization,
            connectivity: graph.m,
            expansion_add: graph.ef_construction,
            expansion_search: 64,
            multi: false,
        })?;
        index.reserve_capacity_and_threads(data.count(), graph.threads)?;
        thread::scope(|scope| {
            let add = |first: usize| -> Result<()> {
                for n in (first..data.count()).step_by(graph.threads) {
                    index.add(n as u64, data.row(n))?;
                }
                Ok(())
            };
            let threads: Vec<_> =
                (0..graph.threads).map(|first| scope.spawn(move || add(first))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("no thread panics"))
        })?;
        Ok(Self { data: Arc::clone(data), index })
    }
}

impl Library for Usearch {
    fn set_effort(&mut self, effort: usize) -> Result<()> {
        self.index.change_expansion_search(effort);
        Ok(())
    }

    fn search(&mut self, query: usize, k: usize) -> Result<Vec<u32>> {
        let found = self.index.search(self.data.query(query), k)?;
        Ok(found.keys.into_iter().map(|key| key as u32).collect())
    }
}

/// hnsw_rs, with simsimd's kernel for the inner product, as instant-distance: its own goes up to
/// AVX2. Its threads are rayon's, one per core.
struct HnswRs {
    data: Arc<Data>,
    hnsw: Hnsw<'static, f32, Dot>,
    ef: usize,
}

/// One minus the inner product, and 0 where rounding would make it less: hnsw_rs panics there.
struct Dot;

impl Distance<f32> for Dot {
    fn eval(&self, a: &[f32], b: &[f32]) -> f32 {
        (1.0 - dot(a, b)).max(0.0)
    }
}

impl HnswRs {
    fn build(data: &Arc<Data>, graph: Graph) -> Self {
        /// Its documentation's number; the graph uses as many as it needs.
        const LAYERS: usize = 16;
        let count = data.count();
        let mut hnsw = Hnsw::new(graph.m, count, LAYERS, graph.ef_construction, Dot);
        let rows: Vec<(&[f32], usize)> = (0..count).map(|n| (data.row(n), n)).collect();
        hnsw.parallel_insert_slice(&rows);
        hnsw.set_searching_mode(true);
        Self { data: Arc::clone(data), hnsw, ef: 64 }
    }
}

impl Library for HnswRs {
    fn set_effort(&mut self, effort: usize) -> Result<()> {
        self.ef = effort;
        Ok(())
    }

    fn search(&mut self, query: usize, k: usize) -> Result<Vec<u32>> {
        let found = self.hnsw.search(self.data.query(query), k, self.ef);
        Ok(found.into_iter().map(|near| near.d_id as u32).collect())
    }
}

/// instant-distance, which the first system of this project used, with simsimd's kernel. Its graph
/// always has 32 neighbours, 64 at the bottom; its threads are rayon's. It fixes `ef` when it builds,
/// so the graph goes through its serialised form to get another one.
struct InstantDistance {
    data: Arc<Data>,
    hnsw: instant_distance::Hnsw<Row>,
    search: instant_distance::Search,
}

/// A row by its number, or, from the number of rows on, a query: vectors stay in one place, so that
/// the serialised graph is only a graph.
#[derive(Clone, Serialize, Deserialize)]
struct Row(u32);

static DATA: OnceLock<Arc<Data>> = OnceLock::new();

impl Row {
    fn vector(&self) -> &[f32] {
        let data = DATA.get().expect("it is set before the first row is made");
        let n = self.0 as usize;
        if n < data.count() { data.row(n) } else { data.query(n - data.count()) }
    }
}

impl instant_distance::Point for Row {
    fn distance(&self, other: &Self) -> f32 {
        1.0 - dot(self.vector(), other.vector())
    }
}

impl InstantDistance {
    fn build(data: &Arc<Data>, graph: Graph) -> Result<Self> {
        DATA.get_or_init(|| Arc::clone(data));
        let rows: Vec<Row> = (0..u32::try_from(data.count())?).map(Row).collect();
        let builder = Builder::default().ef_construction(graph.ef_construction).seed(1);
        let (hnsw, _) = builder.build_hnsw(rows);
        let search = instant_distance::Search::default();
        Ok(Self { data: Arc::clone(data), hnsw, search })
    }
}

impl Library for InstantDistance {
    fn set_effort(&mut self, effort: usize) -> Result<()> {
        let mut graph = serde_json::to_value(&self.hnsw)?;
        graph["ef_search"] = effort.into();
        self.hnsw = serde_json::from_value(graph)?;
        Ok(())
    }

    fn search(&mut self, query: usize, k: usize) -> Result<Vec<u32>> {
        let query = Row(u32::try_from(self.data.count() + query)?);
        let found = self.hnsw.search(&query, &mut self.search);
        Ok(found.take(k).map(|item| item.point.0).collect())
    }
}
