//! A life whose objects are in a bucket: which one, and what a child that looks does there beside printing.
//! Owns nothing of the plan, which is the machine's.

use super::child::collection;
use crate::evidence::Options;
use akidb::{Tier, blocking::Db, tiering::ObjectStore};
use akidb_vfs::{Random, SystemRandom};
use std::sync::Arc;

/// The prefix of a life's objects, if they go to a bucket. Never the same twice: a seed that is played again
/// must not find what it left there.
pub(super) fn prefix(seed: u64, options: &Options) -> Result<Option<String>, String> {
    match options.get("store") {
        None => Ok(None),
        Some("s3") => {
            Ok(Some(format!("kill/{seed}-{:016x}", SystemRandom::new().next_u128() as u64)))
        }
        Some(other) => Err(format!("no store is called {other:?}")),
    }
}

/// The bucket.
#[cfg(feature = "s3")]
pub(super) fn store(prefix: &str) -> Result<Arc<dyn ObjectStore>, String> {
    Ok(Arc::new(crate::real_server::patient_bucket(prefix)?))
}

#[cfg(not(feature = "s3"))]
pub(super) fn store(prefix: &str) -> Result<Arc<dyn ObjectStore>, String> {
    Err(format!("to use {prefix} in a bucket, build with --features s3"))
}

/// Is everything that is named readable, does everything still move, and is nothing stuck? Leaves all of
/// these collections cold.
pub(super) fn settle(db: &Db, names: &[&str]) -> Result<(), String> {
    let failed = |what: String| move |error: akidb::Error| format!("{what}: {error}");
    for snapshot in db.list_snapshots() {
        let found = db.verify_snapshot(&snapshot.name).map_err(failed(snapshot.name.clone()))?;
        if found != snapshot.rows {
            return Err(format!("{} has {found} rows, not {}", snapshot.name, snapshot.rows));
        }
    }
    let cycle = db.run_tiering().map_err(failed("a cycle".to_owned()))?;
    if cycle.failed > 0 {
        return Err(format!("the cycle failed: {cycle:?}"));
    }
    for name in names {
        let Some(docs) = collection(db, name)? else { continue };
        for to in [Tier::Cold, Tier::Warm, Tier::Cold] {
            docs.move_to(to).map_err(failed(format!("{name} to {to}")))?;
        }
        if docs.tier() != Tier::Cold {
            return Err(format!("{name} is {}", docs.tier()));
        }
    }
    let stats = db.stats();
    let letters = db.dead_letters().map_err(failed("dead letters".to_owned()))?;
    let bucket = stats.bucket.ok_or("a database of a bucket has none")?;
    if stats.poisoned.is_some() || bucket.epoch == 0 || !letters.is_empty() {
        return Err(format!("it is not well: {letters:?} {stats:?}"));
    }
    Ok(())
}
