//! What a searched collection takes in memory: measured in a child process that opens the database,
//! answers queries and does nothing else. The process that built it is no witness: what it freed
//! stays with it.

use crate::{
    args::{ColumnArgs, SearchReaderArgs},
    child::Writer,
    error::{CliError, Result},
    machine,
    output::Output,
    source, tiers,
};
use akidb::DbBuilder;
use serde::{Deserialize, Serialize};

/// What the child had resident after the searches, beyond what it had before it opened the database.
/// Pages of mapped files can be taken away at any time; the rest cannot.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Memory {
    pub(super) anonymous_bytes_per_row: Option<f64>,
    pub(super) mapped_bytes_per_row: Option<f64>,
}

/// Lets a child measure. It only reads: the database may be open here.
pub(super) fn measure(args: &SearchReaderArgs) -> Result<Memory> {
    let line = Writer::start(args.to_words())?.next_line()?;
    serde_json::from_str(&line).map_err(|_| {
        let detail = "the child process failed; its message is above".to_owned();
        CliError::Check { detail }
    })
}

/// The child: prints one line of JSON.
pub(crate) fn read_and_tell(args: &SearchReaderArgs, output: Output) -> Result<()> {
    let ColumnArgs { vector_column, .. } = &args.columns;
    let queries = source::read_queries(&args.queries, vector_column.as_deref(), args.dim)?;
    let before = machine::resident();
    let db = DbBuilder::new(&args.dir).read_only().open_blocking()?;
    let collection = db.collection(super::COLLECTION)?;
    tiers::search_all(&collection, &queries, args.k)?;
    let now = machine::resident();
    let rows = collection.count(None)?.max(1) as f64;
    let grown = |of: fn(&machine::Resident) -> u64| {
        Some(of(now.as_ref()?).saturating_sub(of(before.as_ref()?)) as f64 / rows)
    };
    let memory = Memory {
        anonymous_bytes_per_row: grown(|resident| resident.anonymous_bytes),
        mapped_bytes_per_row: grown(|resident| resident.mapped_bytes),
    };
    output.say(serde_json::to_string(&memory).unwrap_or_default())?;
    Ok(db.close()?)
}
