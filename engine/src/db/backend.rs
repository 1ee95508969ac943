//! How the log of a database writes and syncs: the setting, tried in the log's directory, and what
//! came of it in the report. Called once, by `open`, with the lock held and before the log is read.

#![deny(clippy::indexing_slicing)]

use super::{Components, RecoveryReport, paths::Paths};
use crate::{error::Result, settings::WalBackend};
use akidb_wal::{Backend, BackendChoice, Env};

/// What the log works with.
///
/// # Errors
/// When a backend was asked for by name and does not work here; nothing was changed.
pub(super) fn env(
    parts: &Components,
    paths: &Paths,
    asked: WalBackend,
    report: &mut RecoveryReport,
) -> Result<Env> {
    let choice = match asked {
        WalBackend::Std => BackendChoice::Std,
        WalBackend::Auto => BackendChoice::Auto,
        WalBackend::Uring => BackendChoice::Uring,
        WalBackend::TokioUring => BackendChoice::TokioUring,
    };
    let chosen = Backend::choose(&*parts.fs, &paths.wal, choice)?;
    report.wal_backend = match chosen.backend {
        Backend::Std => WalBackend::Std,
        Backend::Uring => WalBackend::Uring,
        Backend::TokioUring => WalBackend::TokioUring,
    };
    report.wal_backend_fallback = chosen.fallback.map(|reason| reason.to_string());
    Ok(Env { fs: parts.fs.clone(), random: parts.random.clone(), io: chosen.io })
}
