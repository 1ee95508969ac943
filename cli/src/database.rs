//! Opening databases and looking things up in them, with errors that help: used by every command
//! that takes `--dir`.

use crate::{
    args::{IdKind, Place, ReadOnlyArgs, StoreArgs},
    error::{CliError, Result},
    output::Output,
    store::{self, Use},
};
use akidb::{
    DbBuilder, ErrorKind, PointId, Settings,
    blocking::{Collection, Db},
    vfs::{Fs, RealFs},
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Opens a database that must exist: opening creates one, which is not what a typing error in
/// `--dir` should do.
pub(crate) fn open_existing(dir: &Path, store: &StoreArgs) -> Result<Db> {
    open_existing_with(dir, store, Settings::default())
}

/// The same with other settings than the usual ones.
pub(crate) fn open_existing_with(dir: &Path, store: &StoreArgs, settings: Settings) -> Result<Db> {
    if is_absent_or_empty(dir)? {
        return Err(CliError::NoDatabase { dir: dir.to_owned() });
    }
    Ok(builder(dir, store, Use::Write)?.settings(settings).open_blocking()?)
}

/// A builder with the object store that was asked for.
fn builder(dir: &Path, store: &StoreArgs, purpose: Use) -> Result<DbBuilder> {
    let builder = DbBuilder::new(dir);
    Ok(match store::open(store, purpose)? {
        Some(store) => builder.object_store(store),
        None => builder,
    })
}

/// Opens a database that must exist for a command that only reads. What is damaged is told on
/// standard error: the answer on standard output lacks it.
pub(crate) fn open_to_read(
    dir: &Path,
    store: &StoreArgs,
    how: ReadOnlyArgs,
    output: Output,
) -> Result<Db> {
    open_to_read_with(dir, store, how, Settings::default(), output)
}

/// The same with other settings than the usual ones.
pub(crate) fn open_to_read_with(
    dir: &Path,
    store: &StoreArgs,
    how: ReadOnlyArgs,
    settings: Settings,
    output: Output,
) -> Result<Db> {
    if !how.read_only {
        return open_existing_with(dir, store, settings);
    }
    let builder = builder(dir, store, Use::Read)?.settings(settings).read_only();
    let builder = if how.allow_damage { builder.allow_damage() } else { builder };
    let db = builder.open_blocking()?;
    for loss in db.damage() {
        output.warn(&format!("lost: {loss}"));
    }
    Ok(db)
}

/// Opens or creates a database.
pub(crate) fn open_or_create(dir: &Path, store: &StoreArgs, settings: Settings) -> Result<Db> {
    Ok(builder(dir, store, Use::Write)?.settings(settings).open_blocking()?)
}

/// Makes a database in a new directory of what the object store holds.
pub(crate) fn restore(dir: &Path, store: &StoreArgs) -> Result<Db> {
    if !is_absent_or_empty(dir)? {
        return Err(CliError::NotEmpty { dir: dir.to_owned() });
    }
    let Some(store) = store::open(store, Use::Write)? else { return Err(CliError::WhichStore) };
    let builder = DbBuilder::new(dir).object_store(store).restore_from_store();
    Ok(builder.open_blocking()?)
}

/// Opens the database and the collection.
pub(crate) fn open_collection(place: &Place, store: &StoreArgs) -> Result<(Db, Collection)> {
    let db = open_existing(&place.dir, store)?;
    let collection = collection(&db, &place.collection)?;
    Ok((db, collection))
}

/// As [`open_collection`], for a command that only reads.
pub(crate) fn collection_to_read(
    place: &Place,
    store: &StoreArgs,
    how: ReadOnlyArgs,
    output: Output,
) -> Result<(Db, Collection)> {
    let db = open_to_read(&place.dir, store, how, output)?;
    let collection = collection(&db, &place.collection)?;
    Ok((db, collection))
}

/// The collection of this name; the error lists those that exist.
pub(crate) fn collection(db: &Db, name: &str) -> Result<Collection> {
    match db.collection(name) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let existing = db.list_collections()?;
            Err(CliError::NoCollection { name: name.to_owned(), existing })
        }
        other => Ok(other?),
    }
}

fn is_absent_or_empty(dir: &Path) -> Result<bool> {
    match RealFs.list_dir(dir) {
        Ok(entries) => Ok(entries.is_empty()),
        Err(error) if error.is_not_found() => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Where a command makes a database of its own: a temporary directory, removed at the end, or one
/// that was asked for and stays.
#[derive(Debug)]
pub(crate) enum Workplace {
    Temporary(TempDir),
    Kept(PathBuf),
}

impl Workplace {
    /// A kept directory must be new or empty.
    pub(crate) fn new(keep: Option<&Path>) -> Result<Self> {
        match keep {
            None => tempfile::Builder::new()
                .prefix("akidb-")
                .tempdir()
                .map(Self::Temporary)
                .map_err(CliError::TempDir),
            Some(dir) if is_absent_or_empty(dir)? => {
                RealFs.create_dir_all(dir)?;
                Ok(Self::Kept(dir.to_owned()))
            }
            Some(dir) => Err(CliError::NotEmpty { dir: dir.to_owned() }),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Temporary(dir) => dir.path(),
            Self::Kept(dir) => dir,
        }
    }

    /// The directory, if it stays.
    pub(crate) fn kept(&self) -> Option<&Path> {
        match self {
            Self::Temporary(_) => None,
            Self::Kept(dir) => Some(dir),
        }
    }
}

/// The ids that the texts of the command line mean. With [`IdKind::Auto`] a text of digits means
/// the number unless only the string exists.
pub(crate) fn resolve_ids(
    collection: &Collection,
    texts: &[String],
    kind: IdKind,
) -> Result<Vec<PointId>> {
    let as_text = |text: &String| PointId::from(text.as_str());
    if kind == IdKind::String {
        return Ok(texts.iter().map(as_text).collect());
    }
    let guesses: Vec<PointId> = texts
        .iter()
        .map(|text| match text.parse::<PointId>() {
            Ok(id) => id,
            Err(never) => match never {},
        })
        .collect();
    let found = collection.get(&guesses)?;
    let mut ids = Vec::with_capacity(guesses.len());
    for ((guess, found), text) in guesses.into_iter().zip(found).zip(texts) {
        let other = as_text(text);
        let only_text_exists = found.is_none()
            && guess != other
            && collection.get([&other])?.into_iter().flatten().next().is_some();
        ids.push(if only_text_exists { other } else { guess });
    }
    Ok(ids)
}

/// An id as JSON: numbers stay numbers.
pub(crate) fn id_json(id: &PointId) -> Value {
    match id {
        PointId::U64(n) => json!(n),
        other => json!(other.to_string()),
    }
}

/// Such an id as people read it: without quotes.
pub(crate) fn id_text(id: &Value) -> String {
    match id {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
