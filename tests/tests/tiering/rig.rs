//! A directory, an S3 server and a clock that moves when told: what the tests of this target open
//! databases on.
//!
//! Most tests take any server ([`Rig::new`]): one of our own on loopback, or the one of others that
//! `scripts/s3-real.sh` started and names in the environment, each rig below a prefix of its own. Those whose
//! server must fail, wait or remember say so ([`Rig::of_our_own`]).

use akidb::{
    DbBuilder, Metric, Point, Schema, Settings, TierSettings,
    blocking::{Collection, Db},
    tiering::{
        Capabilities, EndpointSettings, ObjectStore, RetryPolicy, RetryingStore, SkippedSleep,
        Surroundings, TierPolicy,
    },
    vfs::{Random, SystemClock, SystemRandom},
};
use akidb_s3server::{ACCESS_KEY, REGION, S3Server, SECRET_KEY};
use akidb_tests::{
    oracle::Rows,
    real_server::{self, variable},
    run::scan_all,
    world::World,
};
use akidb_tiering::s3::{Credentials, S3Settings, S3Store, Timeouts};
use akidb_vfs::sim::{CrashPolicy, SimClock};
use std::{
    io::ErrorKind,
    net::{TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DIM: usize = 16;

/// A machine and a bucket.
pub(crate) struct Rig {
    /// Idle while a real one is used.
    pub(crate) server: S3Server,
    /// Of the bucket of a real server.
    prefix: Option<String>,
    pub(crate) clock: SimClock,
    pub(crate) dir: TempDir,
    pub(crate) settings: Settings,
}

impl Rig {
    /// On whichever server there is.
    pub(crate) fn new() -> Self {
        let random = || format!("rigs/{:032x}", SystemRandom::new().next_u128());
        let prefix = real_server::is_asked_for().then(random);
        Self { prefix, ..Self::of_our_own() }
    }

    /// On our own server, which fails, waits and remembers when told.
    pub(crate) fn of_our_own() -> Self {
        let server = S3Server::start("rows").expect("a free port");
        let dir = tempfile::tempdir().expect("a directory");
        let settings = Settings { wal_file_bytes: 64 << 10, ..Settings::default() };
        Self { server, prefix: None, clock: SimClock::new(), dir, settings }
    }

    pub(crate) fn with_policy(policy: TierPolicy) -> Self {
        let mut rig = Self::new();
        rig.settings.tiers = TierSettings { policy, ..TierSettings::default() };
        rig
    }

    /// A client of the bucket that tries each call once.
    pub(crate) fn bucket(&self) -> S3Store {
        opened(self.bucket_settings())
    }

    /// The same, of a server that is known to ignore conditions.
    pub(crate) fn bucket_without_conditions(&self) -> S3Store {
        let mut can = Capabilities::ALL_BUT_AGES;
        (can.if_absent, can.if_match, can.conditional_complete) = (false, false, false);
        opened(self.bucket_settings().assume(can))
    }

    pub(crate) fn bucket_settings(&self) -> S3Settings {
        let timeouts = Timeouts { connect: Duration::from_millis(500), ..Timeouts::default() };
        let settings = match &self.prefix {
            None => S3Settings::new("rows")
                .endpoint(self.server.endpoint())
                .region(REGION)
                .credentials(Credentials::new(ACCESS_KEY, SECRET_KEY)),
            Some(prefix) => real_bucket(prefix),
        };
        settings.timeouts(timeouts).allow_plain_http()
    }

    /// The same with retries, whose pauses take no time.
    pub(crate) fn store(&self) -> Arc<dyn ObjectStore> {
        let surroundings = Surroundings {
            clock: Arc::new(SystemClock::new()),
            sleep: Arc::new(SkippedSleep::new()),
            random: Arc::new(SystemRandom::from_seed(7)),
        };
        let settings = EndpointSettings {
            retry: RetryPolicy { budget: 1_000_000, ..RetryPolicy::default() },
            ..EndpointSettings::default()
        };
        Arc::new(RetryingStore::new(Arc::new(self.bucket()), settings, surroundings))
    }

    pub(crate) fn builder(&self) -> DbBuilder {
        DbBuilder::new(self.dir.path()).settings(self.settings.clone())
    }

    /// Opens on one thread, by the clock that moves when told.
    pub(crate) fn open(&self) -> Db {
        let builder = self.builder().clock(Arc::new(self.clock.clone())).inline();
        builder.object_store(self.store()).open_blocking().expect("it opens")
    }

    /// Opens with threads and the machine's clock.
    pub(crate) fn open_with_threads(&self) -> Db {
        self.builder().object_store(self.store()).open_blocking().expect("it opens")
    }

    /// Whether the server keeps to the conditions that find out every second writer.
    pub(crate) fn fences_safely(&self) -> bool {
        let Some(_) = &self.prefix else { return true };
        let can = real_server::capabilities().expect("the script says what it lacks");
        can.require_multi_writer().is_ok()
    }

    /// Objects of rows in the bucket; the bucket's own manifest is none.
    pub(crate) fn objects(&self) -> usize {
        self.keys().len()
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        let page =
            futures_lite::future::block_on(self.bucket().list("", None, 1_000)).expect("a listing");
        let keys = page.objects.into_iter().map(|object| object.key.to_string());
        keys.filter(|key| holds_rows(key)).collect()
    }
}

/// Whether this is the key of an object of rows.
pub(crate) fn holds_rows(key: &str) -> bool {
    key.ends_with(".parquet") || key.ends_with(".pack")
}

fn opened(settings: S3Settings) -> S3Store {
    futures_lite::future::block_on(S3Store::open(settings)).expect("the bucket opens")
}

/// The bucket of the server that the environment names.
fn real_bucket(prefix: &str) -> S3Settings {
    let of = |name| variable(name).expect("scripts/s3-real.sh sets it");
    S3Settings::new(of("AKIDB_S3_BUCKET"))
        .endpoint(of("AKIDB_S3_ENDPOINT"))
        .region(of("AKIDB_S3_REGION"))
        .credentials(Credentials::new(of("AKIDB_S3_KEY"), of("AKIDB_S3_SECRET")))
        .assume(real_server::capabilities().expect("the script says what it lacks"))
        .prefix(prefix)
}

pub(crate) fn schema() -> Schema {
    Schema::new(DIM as u32, Metric::L2)
}

pub(crate) fn row(id: u64) -> Point {
    let at = |component: u64| ((id * 7919 + component * 104_729) % 1009) as f32;
    Point::new(id, (0..DIM as u64).map(at).collect::<Vec<_>>())
}

/// An address where nobody accepts, and the connections that fill its queue: the next to connect waits
/// until it gives up.
pub(crate) fn full_address() -> (TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    let mut waiting = Vec::new();
    loop {
        match TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            Ok(stream) => waiting.push(stream),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::TimedOut, "after {}: {error}", waiting.len());
                return (listener, waiting);
            }
        }
    }
}

/// A collection of this many rows.
pub(crate) fn filled(db: &Db, name: &str, rows: u64) -> Collection {
    let docs = db.create_collection(name, schema()).expect("a new name");
    for start in (0..rows).step_by(1000) {
        docs.upsert((start..rows.min(start + 1000)).map(row)).run().expect("rows");
    }
    docs
}

pub(crate) fn all(docs: &Collection) -> Rows {
    scan_all(docs, 1000).expect("a scan")
}

/// Loses power at one call on the disk after the other that `work` makes, and opens again, until `work` comes to
/// its end: after more than `calls_min` calls, or little was tried. `prepare` is told the number of the call,
/// and keeps no handle; `check` is told what became of the work.
pub(crate) fn lose_power_anywhere<T>(
    calls_min: u64,
    prepare: impl Fn(u64) -> (World, Db, T),
    work: impl Fn(&Db) -> akidb::Result<()>,
    check: impl Fn(&Db, T, &akidb::Result<()>, u64),
) {
    for nth in 1.. {
        let (world, db, prepared) = prepare(nth);
        world.sim.power_off_at(nth);
        let done = work(&db);
        let went_off = !world.sim.is_powered();
        assert!(went_off || done.is_ok(), "call {nth}: {done:?}");
        drop(db);
        world.sim.crash(CrashPolicy::DropAll);
        let db = world.open().unwrap_or_else(|error| panic!("call {nth}: {error:?}"));
        check(&db, prepared, &done, nth);
        if !went_off {
            assert!(nth > calls_min, "only {nth} calls");
            return;
        }
    }
}
