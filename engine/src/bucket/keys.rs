//! The keys below a root: the manifest, and the objects of a database, each under the epoch that
//! made it. Owns their form both ways; what is not exactly of that form is never deleted.

#![deny(clippy::indexing_slicing)]

use akidb_tiering::{KeyError, ObjectKey};
use uuid::Uuid;

/// The key of the manifest.
pub(crate) const MANIFEST_KEY: &str = "manifest";

/// The key of an object that holds rows of a collection.
pub(crate) fn cold_key(
    database: Uuid,
    epoch: u64,
    collection: u32,
    random: u128,
) -> Result<ObjectKey, KeyError> {
    ObjectKey::new(format!("{}/e{epoch}/c{collection}/{random:032x}.parquet", database.simple()))
}

/// The key of an object that holds a snapshot.
pub(crate) fn snapshot_key(
    database: Uuid,
    epoch: u64,
    random: u128,
) -> Result<ObjectKey, KeyError> {
    ObjectKey::new(format!("{}/e{epoch}/snapshots/{random:032x}.parquet", database.simple()))
}

/// The key of an object that holds the files of several collections.
pub(crate) fn pack_key(database: Uuid, epoch: u64, random: u128) -> Result<ObjectKey, KeyError> {
    ObjectKey::new(format!("{}/e{epoch}/packs/{random:032x}.pack", database.simple()))
}

/// What all keys of a database's objects begin with.
pub(super) fn prefix(database: Uuid) -> String {
    format!("{}/", database.simple())
}

/// The epoch that made an object; `None` for a key that none of the above makes.
pub(super) fn epoch_of(database: Uuid, key: &str) -> Option<u64> {
    let mut parts = key.strip_prefix(&prefix(database))?.split('/');
    let epoch = number(parts.next()?.strip_prefix('e')?)?;
    let folder = parts.next()?;
    let suffix = match folder {
        "packs" => ".pack",
        "snapshots" => ".parquet",
        folder => folder.strip_prefix('c').filter(|id| is_collection(id)).map(|_| ".parquet")?,
    };
    let name = parts.next()?.strip_suffix(suffix)?;
    let hex = |c: char| matches!(c, '0'..='9' | 'a'..='f');
    let ours = name.len() == 32 && name.chars().all(hex) && parts.next().is_none();
    ours.then_some(epoch)
}

fn is_collection(digits: &str) -> bool {
    number(digits).is_some_and(|number| u32::try_from(number).is_ok())
}

/// A number as we write it: no sign, no zero in front.
fn number(digits: &str) -> Option<u64> {
    let number: u64 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_that_we_make_have_an_epoch() {
        let database = Uuid::from_u128(0x2a);
        let cold = cold_key(database, 7, 3, 0xfeed).unwrap();
        let snapshot = snapshot_key(database, 12, 1).unwrap();
        assert_eq!(epoch_of(database, cold.as_str()), Some(7));
        assert_eq!(epoch_of(database, snapshot.as_str()), Some(12));
        let pack = pack_key(database, 5, 9).unwrap();
        assert_eq!(epoch_of(database, pack.as_str()), Some(5));
        let other = Uuid::from_u128(0x2b);
        assert_eq!(epoch_of(other, cold.as_str()), None, "another database's");
        let name = format!("{:032x}.parquet", 1);
        for foreign in [
            format!("c3/{name}"),
            format!("e07/c3/{name}"),
            format!("e+7/c3/{name}"),
            format!("e7/c-3/{name}"),
            format!("e7/c99999999999/{name}"),
            format!("e7/notes/{name}"),
            format!("e7/c3/more/{name}"),
            "e7/c3/readme.parquet".to_owned(),
            format!("e7/packs/{name}"),
            format!("e7/c3/{:032x}.pack", 1),
            "e7".to_owned(),
        ] {
            assert_eq!(epoch_of(database, &format!("{}{foreign}", prefix(database))), None);
        }
    }
}
