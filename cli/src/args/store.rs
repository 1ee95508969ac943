//! Which object store a database keeps its cold collections and snapshots in: options of every command
//! that opens one.

use super::values;
use clap::{Args, Subcommand, ValueEnum};
use std::{fmt, path::PathBuf};

/// The options, the same on every command.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Object store")]
pub(crate) struct StoreArgs {
    /// Where cold collections and snapshots lie: file:DIR, or s3://BUCKET/PREFIX in a build with the
    /// feature `s3` [default: `objects` in the database's directory].
    #[arg(long, global = true, value_name = "PLACE", env = "AKIDB_STORE", value_parser = values::store)]
    pub(crate) store: Option<StorePlace>,

    /// The S3 server, if it is not AWS [default: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL]. Credentials
    /// are found as AWS's tools find them, and are never options.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) endpoint: Option<String>,

    /// The region of the bucket [default: AWS_REGION, AWS_DEFAULT_REGION, us-east-1].
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) region: Option<String>,

    /// How the bucket gets into the address [default: host for AWS, path for an endpoint].
    #[arg(long, global = true, value_enum, value_name = "STYLE")]
    pub(crate) addressing: Option<AddressingStyle>,

    /// Trust the certificates in this PEM file too.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,

    /// Allow an endpoint without TLS: everything can be read and changed on the way.
    #[arg(long, global = true)]
    pub(crate) s3_allow_http: bool,
}

/// Where objects lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StorePlace {
    /// In a local directory.
    File(PathBuf),
    /// In a bucket, below a prefix.
    S3 { bucket: String, prefix: Option<String> },
}

impl fmt::Display for StorePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(dir) => write!(f, "file:{}", dir.display()),
            Self::S3 { bucket, prefix: None } => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix: Some(prefix) } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// How the bucket gets into the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AddressingStyle {
    /// `https://endpoint/bucket/key`.
    Path,
    /// `https://bucket.endpoint/key`.
    Host,
}

/// Look at the object store.
#[derive(Debug, Args)]
pub(crate) struct StoreCommandArgs {
    #[command(subcommand)]
    pub(crate) command: StoreCommand,
}

const CHECK_EXAMPLES: &str = "\
Examples:
  akidb store check --store file:/mnt/objects
  akidb store check --store s3://vectors/production --region eu-west-1
  akidb store check --store s3://vectors --endpoint http://127.0.0.1:9000 --s3-allow-http

Exit codes: 0 everything that AkiDB relies on holds; 1 it cannot be used: no access, no such bucket,
a wrong address; 2 the command line is wrong; 3 it can be used by one writer only, since it does not
keep to conditions of puts, or is a directory, which does within one process.";

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Try out what the store can do, with some 30 small requests that leave nothing behind.
    #[command(after_help = CHECK_EXAMPLES)]
    Check,
}
