//! `akidb bench tier`: how long one collection takes from tier to tier, with each object store in turn,
//! round by round. That it is the same collection at the other end is checked, not timed.

use super::{Measured, rows::Rows};
use crate::{
    args::BenchTierArgs,
    database::Workplace,
    error::{CliError, Result},
    output::{self, Output, Report},
    progress::Progress,
    units,
};
use akidb::{
    DbBuilder, Durability, Metric, PointId, Schema, Settings, Tier, TierSettings,
    blocking::{Collection, Db},
    tiering::{LocalStore, ObjectStore, TierPolicy},
    vfs::{Clock, RealFs, SystemClock},
};
use serde::Serialize;
use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

/// Rows of a batch while the collection is filled.
const BATCH: usize = 1_000;
/// How many nearest rows are compared before and after a round.
const K: usize = 10;
/// The moves of a round, from hot to hot again.
const ROUND: [Tier; 6] = [Tier::Warm, Tier::Hot, Tier::Warm, Tier::Cold, Tier::Warm, Tier::Hot];

#[derive(Debug, Serialize)]
struct TierResult {
    rows: usize,
    dim: u32,
    rounds: usize,
    latency_ms: u64,
    read_bytes: u64,
    /// Of the collection's segment, and of its object.
    segment_bytes: u64,
    object_bytes: u64,
    moves: Vec<Moves>,
}

/// The same move, made several times.
#[derive(Debug, Serialize)]
struct Moves {
    /// "local" or "s3".
    store: &'static str,
    from: &'static str,
    to: &'static str,
    median_ms: f64,
    /// In the order in which they were made.
    ms: Vec<f64>,
}

impl Report for TierResult {
    fn text(&self) -> String {
        let mut table = output::table(["store", "from", "to", "median", "least", "most"]);
        for moves in &self.moves {
            let most = moves.ms.iter().copied().fold(0.0, f64::max);
            let least = moves.ms.iter().copied().fold(f64::INFINITY, f64::min);
            let time = |ms: f64| units::micros(ms * 1e3);
            table.add_row([
                moves.store.to_owned(),
                moves.from.to_owned(),
                moves.to.to_owned(),
                time(moves.median_ms),
                time(least),
                time(most),
            ]);
        }
        output::align_right(&mut table, [3, 4, 5]);
        format!(
            "{} rows of dimension {}: {} as a segment, {} as an object\n{table}",
            units::count(self.rows as u64),
            self.dim,
            units::bytes(self.segment_bytes),
            units::bytes(self.object_bytes),
        )
    }
}

/// A database on one kind of store, and what was measured there.
struct Site {
    store: &'static str,
    db: Db,
    collection: Collection,
    /// By the tiers that they go from and to.
    times: BTreeMap<(Tier, Tier), Vec<Duration>>,
    /// What a search must find.
    nearest: Vec<PointId>,
}

pub(super) fn run(args: &BenchTierArgs, output: Output) -> Result<()> {
    let place = Workplace::new(args.dir.as_deref())?;
    let rows = Rows::new(args.dim, args.rows);
    #[cfg(feature = "bench-s3")]
    let server = server::start(args.latency_ms)?;
    let mut sites = vec![Site::new("local", local(place.path())?, place.path(), args, &rows)?];
    #[cfg(feature = "bench-s3")]
    sites.push(Site::new("s3", server::client(&server)?, place.path(), args, &rows)?);
    let moves = args.rounds * sites.len() * ROUND.len();
    let progress = Progress::things(output, "moving", "moves", moves as u64);
    let (mut segment_bytes, mut object_bytes) = (0, 0);
    for _ in 0..args.rounds {
        for site in &mut sites {
            for to in ROUND {
                site.move_to(to)?;
                let stats = site.collection.stats();
                let segments = stats.segments.iter().map(|segment| segment.bytes).sum::<u64>();
                segment_bytes = segment_bytes.max(segments);
                object_bytes =
                    object_bytes.max(stats.cold.iter().map(|object| object.bytes).sum::<u64>());
                progress.add(1);
            }
            site.check(args, &rows)?;
            site.collection.compact()?;
        }
    }
    drop(progress);
    let moves = sites.iter().flat_map(Site::moves).collect();
    sites.into_iter().try_for_each(|site| site.db.close())?;
    let &BenchTierArgs { rows, dim, rounds, latency_ms, read_bytes, .. } = args;
    let result = TierResult {
        rows,
        dim,
        rounds,
        latency_ms,
        read_bytes,
        segment_bytes,
        object_bytes,
        moves,
    };
    output.report(&Measured::new("bench tier", place.path(), result))
}

fn local(dir: &Path) -> Result<Arc<dyn ObjectStore>> {
    Ok(Arc::new(LocalStore::open(Arc::new(RealFs), dir.join("objects"))?))
}

impl Site {
    /// A collection of one segment, with its hot copy made.
    fn new(
        store: &'static str,
        objects: Arc<dyn ObjectStore>,
        dir: &Path,
        args: &BenchTierArgs,
        rows: &Rows,
    ) -> Result<Self> {
        let policy = TierPolicy { enabled: false, ..TierPolicy::default() };
        let read_bytes = args.read_bytes;
        let tiers = TierSettings { policy, read_bytes, ..TierSettings::default() };
        // What came back gets its codes from a compaction, seconds on all cores: by itself it would come in the
        // middle of the other store's moves.
        let settings = Settings { tiers, compaction_auto: false, ..Settings::default() };
        let builder = DbBuilder::new(dir.join(store)).settings(settings).object_store(objects);
        let db = builder.open_blocking()?;
        let collection = db.create_collection("bench", Schema::new(args.dim, Metric::Cosine))?;
        for first in (0..args.rows).step_by(BATCH) {
            let batch = first..args.rows.min(first + BATCH);
            let points = batch.map(|n| rows.row(n));
            collection.upsert(points).durability(Durability::Memory).run()?;
        }
        collection.flush()?;
        collection.compact()?;
        // Through warm, so that the copies are made here and not by whoever comes first.
        collection.move_to(Tier::Warm)?;
        collection.move_to(Tier::Hot)?;
        let mut site = Self { store, db, collection, times: BTreeMap::new(), nearest: Vec::new() };
        site.nearest = site.search(args, rows)?;
        Ok(site)
    }

    fn move_to(&mut self, to: Tier) -> Result<()> {
        let (clock, from) = (SystemClock::new(), self.collection.tier());
        let moved = self.collection.move_to(to)?;
        let time = clock.monotonic();
        if !moved || self.collection.tier() != to {
            let detail = format!("the move from {from} to {to} did not happen");
            return Err(CliError::Check { detail });
        }
        self.times.entry((from, to)).or_default().push(time);
        Ok(())
    }

    fn search(&self, args: &BenchTierArgs, rows: &Rows) -> Result<Vec<PointId>> {
        let query = rows.row(args.rows / 2).vector;
        let hits = self.collection.search(&query).k(K).exact(true).run()?;
        Ok(hits.into_iter().map(|hit| hit.id).collect())
    }

    /// Every row is there, and a search finds what it found at first.
    fn check(&self, args: &BenchTierArgs, rows: &Rows) -> Result<()> {
        let found = self.collection.count(None)?;
        if found != args.rows as u64 || self.search(args, rows)? != self.nearest {
            let detail = format!("{found} of {} rows came back, or other ones", args.rows);
            return Err(CliError::Check { detail });
        }
        Ok(())
    }

    fn moves(&self) -> impl Iterator<Item = Moves> {
        self.times.iter().map(|((from, to), times)| {
            let ms: Vec<_> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
            let mut sorted = ms.clone();
            sorted.sort_by(f64::total_cmp);
            let median_ms = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
            Moves { store: self.store, from: from.name(), to: to.name(), median_ms, ms }
        })
    }
}

/// The S3 server, in this process.
#[cfg(feature = "bench-s3")]
mod server {
    use crate::{
        bench::client::{self, BUCKET},
        error::{CliError, Result},
    };
    use akidb::tiering::ObjectStore;
    use akidb_s3server::S3Server;
    use std::{sync::Arc, time::Duration};

    pub(super) fn start(latency_ms: u64) -> Result<S3Server> {
        let server = S3Server::start(BUCKET).map_err(CliError::Thread)?;
        server.stop_recording();
        server.set_latency(Duration::from_millis(latency_ms));
        Ok(server)
    }

    pub(super) fn client(server: &S3Server) -> Result<Arc<dyn ObjectStore>> {
        Ok(client::open(&server.endpoint(), 0)?)
    }
}
