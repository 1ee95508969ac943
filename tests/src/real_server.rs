//! The S3 server of others that a run was told to use, as `scripts/s3-real.sh` tells it: where it is, what
//! it is known to lack, and how it is killed.
//!
//! The variables are those of the store's own suite: `AKIDB_S3_ENDPOINT`, `AKIDB_S3_REGION`,
//! `AKIDB_S3_BUCKET`, `AKIDB_S3_KEY`, `AKIDB_S3_SECRET`, `AKIDB_S3_LACKS`, `AKIDB_S3_RESTART`. Whoever asks for
//! the server and does not get it fails; nothing here falls back to another one. Called by the suites
//! `tiering` and `s3_real` and by the machine `kill`.

use akidb::tiering::Capabilities;
use std::process::Command;

#[cfg(feature = "s3")]
use akidb::{
    tiering::{
        BreakerSettings, EndpointSettings, RetryPolicy, RetryingStore, Surroundings, TimerSleep,
    },
    vfs::{SystemClock, SystemRandom},
};
#[cfg(feature = "s3")]
use akidb_tiering::s3::{Credentials, S3Settings, S3Store};
#[cfg(feature = "s3")]
use std::sync::Arc;

/// Was this run told to use a server?
pub fn is_asked_for() -> bool {
    std::env::var_os("AKIDB_S3_ENDPOINT").is_some()
}

/// A variable of those above.
///
/// # Errors
/// Says what to run, if it is not set.
pub fn variable(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("{name} is not set: run scripts/s3-real.sh"))
}

/// What the server can do by the list of what it lacks, which the store's own suite compares with what the
/// probe finds. So a process that is to be killed in its first moments need not probe.
///
/// # Errors
/// A variable that is not set, a word in it that names no ability.
pub fn capabilities() -> Result<Capabilities, String> {
    let mut can = Capabilities::ALL_BUT_AGES;
    can.ages = true;
    for word in variable("AKIDB_S3_LACKS")?.split(',').filter(|word| !word.is_empty()) {
        match word {
            "if-absent" => can.if_absent = false,
            "if-match" => can.if_match = false,
            "ranges" => can.ranges = false,
            "batch-delete" => can.batch_delete = false,
            "checksums" => can.checksums = false,
            "put-ids" => can.put_ids = false,
            "ages" => can.ages = false,
            "parts" => can.parts = None,
            "conditional-complete" => can.conditional_complete = false,
            _ => return Err(format!("AKIDB_S3_LACKS names {word:?}, which is no ability")),
        }
    }
    Ok(can)
}

/// Kills the server without a warning, starts it again, and returns when it answers.
///
/// # Errors
/// It does not come back.
pub fn restart() -> Result<(), String> {
    let command = variable("AKIDB_S3_RESTART")?;
    let status = Command::new("bash").args(["-c", &command]).status();
    match status.map_err(|error| error.to_string())? {
        status if status.success() => Ok(()),
        status => Err(format!("the server does not come back: {status}")),
    }
}

/// A client of the server's bucket, with all keys below `prefix`, that tries each call once.
///
/// # Errors
/// A variable that is not set, a server that is not there.
#[cfg(feature = "s3")]
pub fn bucket(prefix: &str) -> Result<S3Store, String> {
    let credentials = Credentials::new(variable("AKIDB_S3_KEY")?, variable("AKIDB_S3_SECRET")?);
    let settings = S3Settings::new(variable("AKIDB_S3_BUCKET")?)
        .endpoint(variable("AKIDB_S3_ENDPOINT")?)
        .region(variable("AKIDB_S3_REGION")?)
        .prefix(prefix)
        .credentials(credentials)
        .assume(capabilities()?)
        .allow_plain_http();
    futures_lite::future::block_on(S3Store::open(settings)).map_err(|error| error.to_string())
}

/// The same, which tries again for as long as a server takes to start.
///
/// # Errors
/// As [`bucket`].
#[cfg(feature = "s3")]
pub fn patient_bucket(prefix: &str) -> Result<RetryingStore, String> {
    let surroundings = Surroundings {
        clock: Arc::new(SystemClock::new()),
        sleep: Arc::new(TimerSleep::start().map_err(|error| error.to_string())?),
        random: Arc::new(SystemRandom::new()),
    };
    let retry = RetryPolicy {
        attempts_max: 60,
        pause_max_ms: 1_000,
        budget: 1_000_000,
        ..RetryPolicy::default()
    };
    // A breaker would refuse calls while the server starts.
    let breaker = BreakerSettings { enabled: false, ..BreakerSettings::default() };
    let settings = EndpointSettings { retry, breaker, ..EndpointSettings::default() };
    Ok(RetryingStore::new(Arc::new(bucket(prefix)?), settings, surroundings))
}
