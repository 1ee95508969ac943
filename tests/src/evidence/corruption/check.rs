//! Opens a damaged directory, reads all of it, and judges: exact, or an error that names a damaged
//! file, or one of the documented limits. Anything else is a failure.

use super::{
    damage::{BLOCK, Damage},
    golden::{AllRows, Golden},
};
use crate::{
    oracle::{Rows, rows_of},
    run::{difference, disk_part},
    world::World,
};
use akidb::{Error, ErrorKind};
use std::path::Path;

/// What came of a damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// An error that names the file, and the offset where there is one.
    Named { offset: bool, at_open: bool },
    /// Everything was read as if nothing had been.
    Harmless,
    /// The end of the log is gone and nobody noticed: one of the limits of D8.
    Limit(&'static str),
}

/// Judges one damage to one file.
pub(super) fn judge(
    golden: &Golden,
    file: usize,
    damage: Damage,
    world: &World,
) -> Result<Verdict, String> {
    let path = &golden.files[file].0;
    match read_all(world, golden) {
        Ok(rows) if rows == *golden.rows() => Ok(Verdict::Harmless),
        Ok(rows) => {
            let limit = limit(golden, file, damage);
            let earlier = golden.history.iter().rposition(|then| *then == rows);
            match (limit, earlier) {
                (Some(limit), Some(_)) => Ok(Verdict::Limit(limit)),
                _ => {
                    Err(format!("wrong rows and no error{}", apart(&rows, golden.rows(), earlier)))
                }
            }
        }
        Err((error, at_open)) => {
            let kinds = [ErrorKind::Corruption, ErrorKind::Incompatible];
            if !kinds.contains(&error.kind()) {
                return Err(format!("an error of the wrong kind: {error:?}"));
            }
            let text = error.to_string();
            let named = names(&text, path)
                || damage.other(golden).is_some_and(|other| names(&text, other))
                || (damage == Damage::Deleted && (names_neighbour(&text, path) || misses(&text, path)))
                // What is not there any more has no place: the log as a whole is named.
                || (disk_part(path) == "log" && names_neighbour(&text, path))
                || (damage == Damage::Duplicated)
                // Where two files contradict each other both are named.
                || (disk_part(path) == "manifest" && text.contains("the manifest"));
            if !named {
                return Err(format!("the error does not name the file: {error}"));
            }
            Ok(Verdict::Named { offset: text.contains("offset"), at_open })
        }
    }
}

fn names(text: &str, file: &Path) -> bool {
    file.file_name().is_some_and(|name| text.contains(&*name.to_string_lossy()))
}

/// Of a file that is gone its directory may be named: nobody knows what it was called.
fn names_neighbour(text: &str, file: &Path) -> bool {
    let dir = file.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    text.contains(&format!("/{dir} "))
        || text.contains(&format!("the directory {dir}"))
        || text.contains("its manifest")
}

/// Of a WAL file that is gone the next one knows.
fn misses(text: &str, file: &Path) -> bool {
    disk_part(file) == "log" && (text.contains("is missing") || text.contains("still needed"))
}

/// The limits that docs/durability.md states beside D8.
fn limit(golden: &Golden, file: usize, damage: Damage) -> Option<&'static str> {
    let path = &golden.files[file].0;
    let logs = golden.files.iter().filter(|(path, _)| disk_part(path) == "log");
    let newest = logs.map(|(path, _)| path).max();
    if newest != Some(path) {
        return None;
    }
    let used = golden.files[file].1.chunks(BLOCK).rposition(|block| block.iter().any(|b| *b != 0));
    // The last group and the seal behind it may lie in two blocks.
    let ends = |block: usize| used.is_some_and(|last| block + 1 >= last);
    match damage {
        Damage::Deleted => Some("the newest log file is gone"),
        Damage::Older(_) => Some("the newest log file is an earlier copy"),
        Damage::Zero(block) | Damage::Swap(block, _) | Damage::Foreign { block, .. }
            if ends(block) =>
        {
            Some("the end of the log is gone with its seal")
        }
        _ if !golden.closed => Some("the log was not sealed"),
        _ => None,
    }
}

fn apart(found: &AllRows, wanted: &AllRows, earlier: Option<usize>) -> String {
    let mut text = earlier.map_or_else(String::new, |at| format!("; they are those of step {at}"));
    for (name, rows) in wanted {
        match found.get(name) {
            Some(found) => text += &format!("\n{name}:\n{}", difference(found, rows)),
            None => text += &format!("\n{name} is gone"),
        }
    }
    text.chars().take(1500).collect()
}

/// Every row of every collection, each read in several ways that must agree; or the first error,
/// and whether opening met it.
fn read_all(world: &World, golden: &Golden) -> Result<AllRows, (Error, bool)> {
    let db = world.open().map_err(|error| (error, true))?;
    let later = |error| (error, false);
    let mut all = AllRows::new();
    for name in db.list_collections().map_err(later)? {
        let collection = db.collection(&name).map_err(later)?;
        let mut found = Rows::new();
        let page = collection.scan().limit(1000).with_vectors(true).run().map_err(later)?;
        found.extend(rows_of(page.records));
        let filter = akidb::field("color").eq("red");
        let reds = collection.count(Some(&filter)).map_err(later)?;
        let wanted = found.values().filter(|row| row.metadata["color"] == "red").count();
        assert_eq!(reds, wanted as u64, "count and scan of {name} disagree");
        let hits = collection.search(&[1.0; 4]).k(1000).run().map_err(later)?;
        assert_eq!(hits.len(), found.len(), "search and scan of {name} disagree");
        let ids: Vec<_> =
            golden.rows().get(&name).into_iter().flat_map(|rows| rows.keys()).cloned().collect();
        let records = collection.get(ids.clone()).map_err(later)?;
        for (id, record) in ids.iter().zip(records) {
            assert_eq!(record.is_some(), found.contains_key(id), "get and scan of {id} disagree");
        }
        all.insert(name, found);
    }
    for snapshot in db.list_snapshots() {
        db.restore_snapshot(&snapshot.name, "restored").map_err(later)?;
        db.drop_collection("restored").map_err(later)?;
    }
    Ok(all)
}
