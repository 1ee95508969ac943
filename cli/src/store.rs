//! The object store of `--store`, opened, and `akidb store check`. The only place in this crate that
//! knows S3, and only with the feature `s3`. Called by `database` for every command that opens one.

use crate::{
    args::{StoreArgs, StorePlace},
    error::{CliError, Result},
    output::{self, Output, Report},
};
use akidb::{
    tiering::{Capabilities, LocalStore, ObjectKey, ObjectStore, probe},
    vfs::{Fs, Random, RealFs, SystemRandom},
};
use serde::Serialize;
use std::{path::Path, process::ExitCode, sync::Arc};

/// What the store will be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Puts and reads: what the server can do is tried out.
    Write,
    /// Reads only: nothing is made, tried out or changed.
    Read,
}

/// The store that was asked for; `None` for that in the database's directory.
pub(crate) fn open(args: &StoreArgs, purpose: Use) -> Result<Option<Arc<dyn ObjectStore>>> {
    args.store.as_ref().map(|place| open_at(place, args, purpose)).transpose()
}

/// A store at this place, reached as that of the database is.
pub(crate) fn open_at(
    place: &StorePlace,
    how: &StoreArgs,
    purpose: Use,
) -> Result<Arc<dyn ObjectStore>> {
    match place {
        StorePlace::File(dir) => open_file(dir, purpose),
        StorePlace::S3 { bucket, prefix } => open_bucket(how, bucket, prefix.as_deref(), purpose),
    }
}

fn open_file(dir: &Path, purpose: Use) -> Result<Arc<dyn ObjectStore>> {
    if purpose == Use::Read {
        // Opening would make it.
        RealFs.list_dir(dir)?;
    }
    Ok(Arc::new(LocalStore::open(Arc::new(RealFs), dir)?))
}

#[cfg(feature = "s3")]
fn open_bucket(
    args: &StoreArgs,
    bucket: &str,
    prefix: Option<&str>,
    purpose: Use,
) -> Result<Arc<dyn ObjectStore>> {
    use crate::args::AddressingStyle;
    use akidb::tiering::{
        EndpointSettings, RetryingStore, Surroundings,
        s3::{Addressing, S3Settings, S3Store},
    };
    let mut settings = S3Settings::new(bucket);
    if let Some(prefix) = prefix {
        settings = settings.prefix(prefix);
    }
    if let Some(endpoint) = &args.endpoint {
        settings = settings.endpoint(endpoint);
    }
    if let Some(region) = &args.region {
        settings = settings.region(region);
    }
    if let Some(file) = &args.ca_file {
        settings = settings.ca_file(file);
    }
    settings = settings.addressing(match args.addressing {
        None => Addressing::Automatic,
        Some(AddressingStyle::Path) => Addressing::Path,
        Some(AddressingStyle::Host) => Addressing::VirtualHost,
    });
    if args.s3_allow_http {
        settings = settings.allow_plain_http();
    }
    if purpose == Use::Read {
        // No put, no condition to rely on: and who may only read could not try any.
        settings = settings.assume(Capabilities::ALL_BUT_AGES);
    }
    let store = futures_lite::future::block_on(S3Store::open(settings));
    let store = store.map_err(|error| CliError::Store(Box::new(error)))?;
    let surroundings = Surroundings::of_machine().map_err(CliError::Thread)?;
    Ok(Arc::new(RetryingStore::new(Arc::new(store), EndpointSettings::default(), surroundings)))
}

#[cfg(not(feature = "s3"))]
fn open_bucket(
    _: &StoreArgs,
    bucket: &str,
    _: Option<&str>,
    _: Use,
) -> Result<Arc<dyn ObjectStore>> {
    Err(CliError::NoS3 { bucket: bucket.to_owned() })
}

#[derive(Debug, Serialize)]
struct Checked {
    command: &'static str,
    store: String,
    /// Whether several writers may use it.
    multi_writer: bool,
    #[serde(skip)]
    directory: bool,
    capabilities: Vec<Capability>,
}

#[derive(Debug, Serialize)]
struct Capability {
    name: &'static str,
    there: bool,
    /// What AkiDB does without it.
    without: &'static str,
}

/// Every capability by the name that [`Capabilities::missing`] gives it.
const WITHOUT: [(&str, &str); 9] = [
    ("if-absent", "one writer only: of two that create an object both would believe to have won"),
    ("if-match", "one writer only: one could replace what another wrote meanwhile"),
    ("ranges", "parts of an object are cut out of the whole, which is transferred"),
    ("batch-delete", "objects are deleted one by one"),
    ("checksums", "what was put is read back and summed here"),
    ("put-ids", "a put whose answer was lost is recognised by length and checksum"),
    ("ages", "the age of a leftover is not known, so only those of known uploads are removed"),
    ("parts", "large objects are put whole, and must fit into memory"),
    ("conditional-complete", "the end of an upload in parts replaces what is there"),
];

impl Report for Checked {
    fn text(&self) -> String {
        let mut table = output::table(["capability", "there", "without it"]);
        for one in &self.capabilities {
            let there = if one.there { "yes" } else { "NO" };
            table.add_row([one.name, there, if one.there { "" } else { one.without }]);
        }
        let verdict = match (self.multi_writer, self.directory) {
            (true, _) => "several writers may use it: conditional puts hold",
            (false, true) => "one writer only: a directory holds conditions within one process",
            (false, false) => {
                "ONE WRITER ONLY: conditional puts do not hold here, so several writers are refused"
            }
        };
        format!("{}\n{table}\n{verdict}", self.store)
    }
}

/// `akidb store check`.
pub(crate) fn check(args: &StoreArgs, output: Output) -> Result<ExitCode> {
    let Some(store) = open(args, Use::Write)? else { return Err(CliError::WhichStore) };
    let scratch = format!("akidb-probe/{:032x}", SystemRandom::new().next_u128());
    let scratch = ObjectKey::new(scratch).expect("hexadecimal digits are a key");
    let found = futures_lite::future::block_on(probe(&*store, &scratch));
    let found = found.map_err(|error| CliError::Store(Box::new(error)))?;
    // The probe races within one process, where a directory keeps its word.
    let directory = matches!(args.store, Some(StorePlace::File(_)));
    let multi_writer = !directory && found.require_multi_writer().is_ok();
    output.report(&Checked {
        command: "store check",
        store: args.store.as_ref().map(ToString::to_string).unwrap_or_default(),
        multi_writer,
        directory,
        capabilities: capabilities(&found),
    })?;
    Ok(if multi_writer { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

fn capabilities(found: &Capabilities) -> Vec<Capability> {
    let missing = found.missing();
    let capability =
        |(name, without)| Capability { name, there: !missing.contains(&name), without };
    WITHOUT.into_iter().map(capability).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capability_that_a_store_can_lack_is_explained() {
        let explained = WITHOUT.map(|(name, _)| name).to_vec();
        assert_eq!(explained, Capabilities::default().missing());
        assert!(capabilities(&Capabilities::default()).iter().all(|one| !one.there));
    }
}
