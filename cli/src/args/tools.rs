//! The options of the commands that look into files: inspect, verify, wal.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Describe any AkiDB file in words: a WAL file, manifest, segment, tombstones or cold object.
///
/// Reads only the file, never locks or repairs anything, and works on a database that is open
/// elsewhere.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The file.
    pub(crate) file: PathBuf,
}

const VERIFY_EXAMPLES: &str = "\
Examples:
  akidb verify ./data                every file, length and checksum
  akidb verify ./data --deep --json  every row decoded too; for scripts

Exit codes: 0 sound, 1 it could not be verified, 2 the command line is wrong, 3 damage that costs
no row, 4 damage that may cost rows whose writes were acknowledged.";

/// Say whether a database is sound, and what is wrong with it.
///
/// Reads every file that the manifest names: that it is there, its length, every checksum, the
/// chain of the log, and that what refers to each other agrees. Takes no lock and changes nothing,
/// so it can run beside an open database.
#[derive(Debug, Args)]
#[command(after_help = VERIFY_EXAMPLES)]
pub(crate) struct VerifyArgs {
    /// The database directory.
    pub(crate) dir: PathBuf,

    /// Decode every row too: ids are unique, indexes agree with the rows, objects can be read.
    #[arg(long)]
    pub(crate) deep: bool,
}

const REPAIR_EXAMPLES: &str = "\
Examples:
  akidb repair ./data                  say what would be done and what is lost; changes nothing
  akidb repair ./data --apply          do it; nobody may have the database open
  akidb repair ./data --salvage-after-damage

Exit codes: 0 nothing to repair, or it was repaired; 1 it could not be, or damage remains; 2 the
command line is wrong; for a plan: 3 it costs nothing, 4 something is lost.";

/// Make a damaged database whole again, without what is lost.
///
/// What is whole is kept, what follows from it is made again, what is lost is named. Without
/// --apply nothing is changed: the repair is tried in memory. Nothing is destroyed: files that are
/// damaged or replaced are moved to `lost+damaged-N` in the directory, with a report.
#[derive(Debug, Args)]
#[command(after_help = REPAIR_EXAMPLES)]
pub(crate) struct RepairArgs {
    /// The database directory.
    pub(crate) dir: PathBuf,

    /// Only say what would be done; the default.
    #[arg(long, conflicts_with = "apply")]
    pub(crate) plan: bool,

    /// Do it.
    #[arg(long)]
    pub(crate) apply: bool,

    /// Keep writes that can be read though writes before them are lost. Otherwise the log ends
    /// before the first one that is lost.
    #[arg(long)]
    pub(crate) salvage_after_damage: bool,
}

/// How a database is opened by a command that reads.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ReadOnlyArgs {
    /// Write nothing and take no lock: works beside a process that has the database open, and on
    /// a damaged one.
    #[arg(long)]
    pub(crate) read_only: bool,

    /// Read damaged collections too, without what is lost, which is listed on standard error.
    #[arg(long, requires = "read_only")]
    pub(crate) allow_damage: bool,
}

/// Look into the log.
#[derive(Debug, Args)]
pub(crate) struct WalArgs {
    #[command(subcommand)]
    pub(crate) command: WalCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WalCommand {
    /// Print the log frame by frame.
    Dump(WalDumpArgs),
}

const WAL_DUMP_EXAMPLES: &str = "\
Examples:
  akidb wal dump ./data
  akidb wal dump ./data --from 1000 --to 1010 --rows
  akidb wal dump ./data/wal/00000000000000000007.wal --json";

/// Print the log frame by frame, over all its files.
///
/// Damaged files are printed as far as they go, and their damage is named. Takes no lock and
/// changes nothing. Exit code 1 if something is damaged.
#[derive(Debug, Args)]
#[command(after_help = WAL_DUMP_EXAMPLES)]
pub(crate) struct WalDumpArgs {
    /// A database directory, its directory `wal`, or one WAL file.
    pub(crate) path: PathBuf,

    /// The first LSN.
    #[arg(long, value_name = "LSN", default_value_t = 0)]
    pub(crate) from: u64,

    /// The last LSN [default: the last there is].
    #[arg(long, value_name = "LSN")]
    pub(crate) to: Option<u64>,

    /// Print every id with its metadata.
    #[arg(long)]
    pub(crate) rows: bool,
}
