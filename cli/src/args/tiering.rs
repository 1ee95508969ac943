//! The options of the commands about tiers, dead letters and snapshots.

use super::{LimitArgs, Place, ReadOnlyArgs, StorePlace, values};
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use std::path::PathBuf;

const TIER_EXAMPLES: &str = "\
Examples:
  akidb tier list --dir ./data
  akidb tier move --dir ./data -C docs cold --store s3://vectors/production
  akidb tier run  --dir ./data --disk-budget 20GB
  akidb tier policy --dir ./data -C docs --warm-idle 30d
  akidb tier pin --dir ./data -C docs";

/// Where collections are: hot, warm or cold; move them, and say when they move by themselves.
#[derive(Debug, Args)]
#[command(after_help = TIER_EXAMPLES)]
pub(crate) struct TierArgs {
    #[command(subcommand)]
    pub(crate) command: TierCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TierCommand {
    /// Say of each collection where it is, what it takes, and what was set for it.
    List(TierListArgs),
    /// Move a collection.
    Move(TierMoveArgs),
    /// Keep a collection local: nothing makes it cold any more.
    Pin(TierOneArgs),
    /// Let a collection become cold again.
    Unpin(TierOneArgs),
    /// Run one cycle of the policy now.
    Run(TierRunArgs),
    /// Show or change what one collection wants otherwise than the policy.
    Policy(TierPolicyArgs),
}

/// Say of each collection where it is, what it takes, and what was set for it.
///
/// Reads and idle times are counted by the process that has the database open, from its open on: here
/// they are those of this command. In a program: `Collection::stats`.
#[derive(Debug, Args)]
pub(crate) struct TierListArgs {
    /// The database directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,

    #[command(flatten)]
    pub(crate) opening: ReadOnlyArgs,
}

/// Move a collection. Does nothing if it is there already.
#[derive(Debug, Args)]
pub(crate) struct TierMoveArgs {
    #[command(flatten)]
    pub(crate) place: Place,

    /// Where to.
    #[arg(value_enum, value_name = "TIER")]
    pub(crate) to: TierName,
}

/// A tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TierName {
    /// In local files, with the codes of its rows in memory.
    Hot,
    /// In local files.
    Warm,
    /// In the object store.
    Cold,
}

/// One collection.
#[derive(Debug, Args)]
pub(crate) struct TierOneArgs {
    #[command(flatten)]
    pub(crate) place: Place,
}

/// Run one cycle of the policy now, and say what it moved.
///
/// Without options by the usual policy: hot collections that were not read for 6 hours become warm, warm
/// ones after 7 days cold. Times without a read count from the open, which here was a moment ago: say
/// `--warm-idle 0s` to move everything, or give budgets, which do not depend on it.
#[derive(Debug, Args)]
pub(crate) struct TierRunArgs {
    /// The database directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,

    /// Hot collections that were not read for so long become warm, like 90s, 30m, 6h, 7d.
    #[arg(long, value_name = "TIME", value_parser = values::milliseconds)]
    pub(crate) hot_idle: Option<u64>,

    /// Warm ones become cold.
    #[arg(long, value_name = "TIME", value_parser = values::milliseconds)]
    pub(crate) warm_idle: Option<u64>,

    /// What hot collections may hold in memory, like 500MB or 4GiB.
    #[arg(long, value_name = "BYTES", value_parser = values::byte_count)]
    pub(crate) memory_budget: Option<u64>,

    /// What local collections may hold on disk.
    #[arg(long, value_name = "BYTES", value_parser = values::byte_count)]
    pub(crate) disk_budget: Option<u64>,
}

/// Show or change what one collection wants otherwise than the policy. Durable, and for every process that
/// opens the database. Without options it is only shown.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("other").args(["hot_idle", "warm_idle", "hot_accesses", "promote_on_access", "never"]).multiple(true))]
pub(crate) struct TierPolicyArgs {
    #[command(flatten)]
    pub(crate) place: Place,

    /// Hot, it becomes warm when it was not read for so long, like 90s, 30m, 6h, 7d.
    #[arg(long, value_name = "TIME", value_parser = values::milliseconds)]
    pub(crate) hot_idle: Option<u64>,

    /// Warm, it becomes cold when it was not read for so long.
    #[arg(long, value_name = "TIME", value_parser = values::milliseconds)]
    pub(crate) warm_idle: Option<u64>,

    /// Warm, it becomes hot when it was read so often within the window.
    #[arg(long, value_name = "READS")]
    pub(crate) hot_accesses: Option<u64>,

    /// Whether, cold, it becomes warm when it is read.
    #[arg(long, value_name = "BOOL")]
    pub(crate) promote_on_access: Option<bool>,

    /// The policy never moves it, neither by time nor for a budget; by hand it still moves.
    #[arg(long)]
    pub(crate) never: bool,

    /// Forget all that was set: the policy as for every other collection.
    #[arg(long, conflicts_with = "other")]
    pub(crate) clear: bool,
}

const DLQ_EXAMPLES: &str = "\
Examples:
  akidb dlq list  --dir ./data
  akidb dlq retry --dir ./data 3
  akidb dlq drop  --dir ./data --all

Exit code 1 if a move failed again.";

/// Moves that the policy gave up: look at them, try them again, or drop them.
#[derive(Debug, Args)]
#[command(after_help = DLQ_EXAMPLES)]
pub(crate) struct DlqArgs {
    #[command(subcommand)]
    pub(crate) command: DlqCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// Say what was given up, and why.
    List(DlqListArgs),
    /// Try moves again. Those that succeed are struck from the list.
    Retry(DlqLettersArgs),
    /// Forget them: the policy may try these moves again. No row is touched.
    Drop(DlqLettersArgs),
}

/// Say what was given up, and why.
#[derive(Debug, Args)]
pub(crate) struct DlqListArgs {
    /// The database directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

/// Some dead letters, or all.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("letters").required(true).args(["ids", "all"]))]
pub(crate) struct DlqLettersArgs {
    /// The database directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,

    /// Numbers, as `akidb dlq list` shows them.
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<u64>,

    /// All of them.
    #[arg(long)]
    pub(crate) all: bool,
}

const SNAPSHOT_EXAMPLES: &str = "\
Examples:
  akidb snapshot create  --dir ./data -C docs before-import
  akidb snapshot list    --dir ./data
  akidb snapshot verify  --dir ./data before-import
  akidb snapshot restore --dir ./data before-import --to docs-as-it-was
  akidb snapshot restore --dir ./data before-import --to docs --over
  akidb snapshot copy    --dir ./data before-import --to file:/mnt/backup
  akidb snapshot restore --dir ./data before-import.parquet --from file:/mnt/backup --to docs-as-it-was
  akidb snapshot delete  --dir ./data before-import";

/// Collections as they were at one moment, in the object store.
#[derive(Debug, Args)]
#[command(after_help = SNAPSHOT_EXAMPLES)]
pub(crate) struct SnapshotArgs {
    #[command(subcommand)]
    pub(crate) command: SnapshotCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Keep a collection as it is now.
    Create(SnapshotCreateArgs),
    /// Say which snapshots there are.
    List(SnapshotListArgs),
    /// Read a snapshot whole and check it.
    Verify(SnapshotVerifyArgs),
    /// Make a collection of a snapshot, or of a copy of one.
    Restore(SnapshotRestoreArgs),
    /// Put a copy of a snapshot into another object store.
    Copy(SnapshotCopyArgs),
    /// Remove a snapshot and its object.
    Delete(SnapshotDeleteArgs),
}

/// Keep a collection as it is now. Writers and readers go on meanwhile.
#[derive(Debug, Args)]
pub(crate) struct SnapshotCreateArgs {
    #[command(flatten)]
    pub(crate) place: Place,

    /// The snapshot's name.
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) snapshot: String,

    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}

/// Say which snapshots there are.
#[derive(Debug, Args)]
pub(crate) struct SnapshotListArgs {
    /// The database directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,

    #[command(flatten)]
    pub(crate) opening: ReadOnlyArgs,
}

/// Make a collection of a snapshot, or, with --from, of a copy of one.
#[derive(Debug, Args)]
pub(crate) struct SnapshotRestoreArgs {
    /// The database directory. With --from it is made if it does not exist.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,

    /// The snapshot's name; with --from, the key of the copy.
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) snapshot: String,

    /// The object store that a copy lies in: file:DIR or s3://BUCKET/PREFIX, reached by the options
    /// of --store. The copy may be of any database.
    #[arg(long, value_name = "PLACE", value_parser = values::store, conflicts_with = "over")]
    pub(crate) from: Option<StorePlace>,

    /// The name of the collection, which must be new.
    #[arg(long, value_name = "COLLECTION")]
    pub(crate) to: String,

    /// The collection is there, and gives way to the snapshot in one step.
    #[arg(long)]
    pub(crate) over: bool,

    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}

/// Put a copy of a snapshot into another object store: one Parquet file that needs nothing beside it.
#[derive(Debug, Args)]
pub(crate) struct SnapshotCopyArgs {
    /// The database directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,

    /// The snapshot's name.
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) snapshot: String,

    /// Where to: file:DIR or s3://BUCKET/PREFIX, reached by the options of --store.
    #[arg(long, value_name = "PLACE", value_parser = values::store)]
    pub(crate) to: StorePlace,

    /// The copy's key, which must be free there [default: SNAPSHOT.parquet].
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
}

/// Read a snapshot whole: its bytes, the checksums of its rows, and their number.
#[derive(Debug, Args)]
pub(crate) struct SnapshotVerifyArgs {
    /// The database directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,

    /// The snapshot's name.
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) snapshot: String,
}

const RESTORE_EXAMPLES: &str = "\
Examples:
  akidb --store file:./bucket restore --dir ./new
  akidb --store s3://bucket/prefix restore --dir ./new    (built with the feature s3)";

/// Make a new directory of what an object store holds, after its machine is lost.
///
/// Collections are cold, as they were when they were shipped. From then on this directory is the writer:
/// the machine before, should it come back, is refused.
#[derive(Debug, Args)]
#[command(after_help = RESTORE_EXAMPLES)]
pub(crate) struct RestoreArgs {
    /// The directory, which must be new or empty.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

/// Remove a snapshot and its object.
#[derive(Debug, Args)]
pub(crate) struct SnapshotDeleteArgs {
    /// The database directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,

    /// The snapshot's name.
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) snapshot: String,
}
