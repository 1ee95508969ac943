//! `akidb dlq`: moves that the policy gave up, listed, tried again, dropped.

use crate::{
    args::{DlqArgs, DlqCommand, DlqLettersArgs, DlqListArgs, StoreArgs},
    database,
    error::{CliError, Result},
    output::{self, Output, Report},
    progress::Progress,
    units,
};
use akidb::{
    DeadMove,
    blocking::Db,
    vfs::{Clock, SystemClock},
};
use serde::Serialize;

pub(crate) fn run(args: &DlqArgs, store: &StoreArgs, output: Output) -> Result<()> {
    match &args.command {
        DlqCommand::List(args) => list(args, store, output),
        DlqCommand::Retry(args) => retry(args, store, output),
        DlqCommand::Drop(args) => drop_letters(args, store, output),
    }
}

#[derive(Debug, Serialize)]
struct Listed {
    command: &'static str,
    dead_letters: Vec<DeadMove>,
    #[serde(skip)]
    now_unix_ms: u64,
}

impl Report for Listed {
    fn text(&self) -> String {
        if self.dead_letters.is_empty() {
            return "no move was given up".to_owned();
        }
        let mut table = output::table(["id", "collection", "to", "failures", "since", "error"]);
        for letter in &self.dead_letters {
            let since = self.now_unix_ms.saturating_sub(letter.first_unix_ms);
            table.add_row([
                letter.id.to_string(),
                letter.collection.clone().unwrap_or_else(|| "(dropped)".to_owned()),
                letter.to.unwrap_or("?").to_owned(),
                units::count(u64::from(letter.failures)),
                units::period(since),
                letter.error.clone(),
            ]);
        }
        output::align_right(&mut table, [0, 3, 4]);
        table.to_string()
    }
}

fn list(args: &DlqListArgs, store: &StoreArgs, output: Output) -> Result<()> {
    let db = database::open_existing(&args.dir, store)?;
    let dead_letters = db.dead_letters()?;
    db.close()?;
    let now_unix_ms = SystemClock::new().unix_ms();
    output.report(&Listed { command: "dlq list", dead_letters, now_unix_ms })
}

#[derive(Debug, Serialize)]
struct Settled {
    command: &'static str,
    letters: Vec<Letter>,
}

#[derive(Debug, Serialize)]
struct Letter {
    id: u64,
    /// "moved", "nothing to move", "failed" or "dropped".
    outcome: &'static str,
    error: Option<String>,
}

impl Report for Settled {
    fn text(&self) -> String {
        let line = |letter: &Letter| {
            let error = letter.error.as_ref().map_or(String::new(), |error| format!(": {error}"));
            format!("{}: {}{error}", letter.id, letter.outcome)
        };
        let lines: Vec<String> = self.letters.iter().map(line).collect();
        if lines.is_empty() { "no move was given up".to_owned() } else { lines.join("\n") }
    }
}

/// The letters that were asked for. A number that does not exist is an error before anything is done.
fn chosen(db: &Db, args: &DlqLettersArgs) -> Result<Vec<u64>> {
    let there: Vec<u64> = db.dead_letters()?.iter().map(|letter| letter.id).collect();
    if args.all {
        return Ok(there);
    }
    match args.ids.iter().find(|id| !there.contains(id)) {
        Some(id) => Err(CliError::NoLetter { id: *id, there }),
        None => Ok(args.ids.clone()),
    }
}

fn retry(args: &DlqLettersArgs, store: &StoreArgs, output: Output) -> Result<()> {
    let db = database::open_existing(&args.dir, store)?;
    let ids = chosen(&db, args)?;
    let progress = Progress::things(output, "moving", "moves", ids.len() as u64);
    let mut letters = Vec::with_capacity(ids.len());
    for id in ids {
        let (outcome, error) = match db.retry_dead_letter(id) {
            Ok(true) => ("moved", None),
            Ok(false) => ("nothing to move", None),
            Err(error) => ("failed", Some(error.to_string())),
        };
        letters.push(Letter { id, outcome, error });
        progress.add(1);
    }
    drop(progress);
    db.close()?;
    let failed = letters.iter().filter(|letter| letter.error.is_some()).count() as u64;
    output.report(&Settled { command: "dlq retry", letters })?;
    if failed > 0 { Err(CliError::MovesFailed { failed }) } else { Ok(()) }
}

fn drop_letters(args: &DlqLettersArgs, store: &StoreArgs, output: Output) -> Result<()> {
    let db = database::open_existing(&args.dir, store)?;
    let mut letters = Vec::new();
    for id in chosen(&db, args)? {
        db.drop_dead_letter(id)?;
        letters.push(Letter { id, outcome: "dropped", error: None });
    }
    db.close()?;
    output.report(&Settled { command: "dlq drop", letters })
}
