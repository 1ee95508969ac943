//! The key-values of a cold object's footer: what it holds, where it comes from, and the checksums
//! of its row groups, themselves under a checksum.
//!
//! Keys that this version does not know are ignored; a key given twice, one that is missing or one
//! that does not parse makes the object damaged.

#![deny(clippy::indexing_slicing)]

use super::{FORMAT_VERSION, guard};
use crate::{
    Schema,
    error::{Cause, Error, Result},
};
use bytes::Bytes;
use parquet::{
    arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions},
    file::{metadata::KeyValue, reader::ChunkReader},
};
use uuid::Uuid;

const VERSION: &str = "akidb.format_version";
const SCHEMA: &str = "akidb.schema";
const DATABASE: &str = "akidb.database";
const COLLECTION: &str = "akidb.collection";
const ROWS: &str = "akidb.rows";
const LSN_MIN: &str = "akidb.lsn_min";
const LSN_MAX: &str = "akidb.lsn_max";
const ROW_GROUPS: &str = "akidb.row_groups";
const CHECKSUM: &str = "akidb.crc32";

/// The keys under the checksum, in its order.
const CHECKED: [&str; 8] =
    [VERSION, SCHEMA, DATABASE, COLLECTION, ROWS, LSN_MIN, LSN_MAX, ROW_GROUPS];

/// Rows and checksum of one row group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowGroup {
    pub(super) rows: u64,
    pub(super) crc32: u32,
}

/// What the key-values say.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Footer {
    pub(super) schema: Schema,
    pub(super) database: Uuid,
    pub(super) collection: u32,
    pub(super) rows: u64,
    pub(super) lsn_min: u64,
    pub(super) lsn_max: u64,
    pub(super) row_groups: Vec<RowGroup>,
}

impl Footer {
    /// Parses the footer of an object, called `name` in errors: Parquet's own part and ours. Its size is
    /// checked before anything is allocated by it. Nothing before the footer is looked at.
    pub(super) fn read(
        input: &impl ChunkReader,
        name: &str,
    ) -> Result<(ArrowReaderMetadata, Self)> {
        let damaged = |detail: String| Error::corruption(name, 0, detail);
        let len = input.len();
        let tail = match len.checked_sub(guard::TAIL_BYTES as u64) {
            Some(at) => guard::contain(|| input.get_bytes(at, guard::TAIL_BYTES)),
            None => Ok(Bytes::new()),
        };
        tail.and_then(|tail| guard::check_tail(&tail, len)).map_err(damaged)?;
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata =
            guard::contain(|| ArrowReaderMetadata::load(input, options)).map_err(damaged)?;
        let pairs = metadata.metadata().file_metadata().key_value_metadata();
        let footer = Self::from_key_values(name, pairs.map_or(&[], Vec::as_slice))?;
        Ok((metadata, footer))
    }

    /// The key-values, ending with their checksum.
    pub(super) fn to_key_values(&self) -> Result<Vec<KeyValue>> {
        let schema = serde_json::to_string(&self.schema)
            .map_err(|_| Error::bug("a schema did not serialise"))?;
        let row_groups: Vec<String> =
            self.row_groups.iter().map(|g| format!("{}:{:08x}", g.rows, g.crc32)).collect();
        let values = [
            FORMAT_VERSION.to_string(),
            schema,
            self.database.to_string(),
            self.collection.to_string(),
            self.rows.to_string(),
            self.lsn_min.to_string(),
            self.lsn_max.to_string(),
            row_groups.join(","),
        ];
        let mut pairs: Vec<KeyValue> = CHECKED
            .iter()
            .zip(values)
            .map(|(key, value)| KeyValue::new((*key).to_owned(), value))
            .collect();
        let checksum = checksum(pairs.iter().map(|pair| (pair.key.as_str(), value_of(pair))));
        pairs.push(KeyValue::new(CHECKSUM.to_owned(), format!("{checksum:08x}")));
        Ok(pairs)
    }

    /// Reads and checks the key-values of the object `key`.
    pub(super) fn from_key_values(key: &str, pairs: &[KeyValue]) -> Result<Self> {
        let reader = Reader { key, pairs };
        // Before all else: a newer version may have changed everything but this.
        let found: u32 = reader.parse(VERSION)?;
        if found > FORMAT_VERSION {
            return Err(Cause::Newer { file: key.into(), found, supported: FORMAT_VERSION }.into());
        }
        let mut checked = Vec::with_capacity(CHECKED.len());
        for name in CHECKED {
            checked.push((name, reader.get(name)?));
        }
        if reader.get(CHECKSUM)? != format!("{:08x}", checksum(checked.into_iter())) {
            return Err(reader.damaged(CHECKSUM));
        }
        let schema = reader.get(SCHEMA)?;
        let schema: Schema = serde_json::from_str(schema).map_err(|_| reader.damaged(SCHEMA))?;
        schema.validate().map_err(|_| reader.damaged(SCHEMA))?;
        Ok(Self {
            schema,
            database: reader.parse(DATABASE)?,
            collection: reader.parse(COLLECTION)?,
            rows: reader.parse(ROWS)?,
            lsn_min: reader.parse(LSN_MIN)?,
            lsn_max: reader.parse(LSN_MAX)?,
            row_groups: reader.row_groups()?,
        })
    }
}

/// CRC-32 over every key and value, each followed by a zero byte so that none can move.
fn checksum<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for (key, value) in pairs {
        for part in [key, value] {
            hasher.update(part.as_bytes());
            hasher.update(&[0]);
        }
    }
    hasher.finalize()
}

fn value_of(pair: &KeyValue) -> &str {
    pair.value.as_deref().unwrap_or_default()
}

struct Reader<'a> {
    key: &'a str,
    pairs: &'a [KeyValue],
}

impl<'a> Reader<'a> {
    fn damaged(&self, name: &str) -> Error {
        Error::corruption(self.key, 0, format!("its key-value {name} is not what AkiDB writes"))
    }

    fn get(&self, name: &str) -> Result<&'a str> {
        let mut found = self.pairs.iter().filter(|pair| pair.key == name);
        match (found.next().and_then(|pair| pair.value.as_deref()), found.next()) {
            (Some(value), None) => Ok(value),
            (None, _) => {
                let detail = format!("its key-value {name} is missing; is it an AkiDB object?");
                Err(Error::corruption(self.key, 0, detail))
            }
            (Some(_), Some(_)) => Err(self.damaged(name)),
        }
    }

    fn parse<T: std::str::FromStr>(&self, name: &str) -> Result<T> {
        self.get(name)?.parse().map_err(|_| self.damaged(name))
    }

    fn row_groups(&self) -> Result<Vec<RowGroup>> {
        let text = self.get(ROW_GROUPS)?;
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let parse = |item: &str| {
            let (rows, crc32) = item.split_once(':')?;
            let crc32 = u32::from_str_radix(crc32, 16).ok()?;
            Some(RowGroup { rows: rows.parse().ok()?, crc32 })
        };
        let groups: Option<Vec<_>> = text.split(',').map(parse).collect();
        groups.ok_or_else(|| self.damaged(ROW_GROUPS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, FieldType, Metric};

    fn footer() -> Footer {
        Footer {
            schema: Schema::new(3, Metric::L2).field("pos", FieldType::Keyword),
            database: Uuid::from_u128(7),
            collection: 9,
            rows: 30,
            lsn_min: 1,
            lsn_max: u64::MAX,
            row_groups: vec![RowGroup { rows: 20, crc32: 1 }, RowGroup { rows: 10, crc32: !0 }],
        }
    }

    #[test]
    fn a_footer_comes_back_as_it_was() {
        for footer in [footer(), Footer { row_groups: Vec::new(), rows: 0, ..footer() }] {
            let mut pairs = footer.to_key_values().unwrap();
            pairs.push(KeyValue::new("akidb.of_a_later_version".to_owned(), None));
            assert_eq!(Footer::from_key_values("k", &pairs).unwrap(), footer);
        }
    }

    #[test]
    fn a_missing_doubled_or_changed_key_value_is_damage() {
        let pairs = footer().to_key_values().unwrap();
        for at in 0..pairs.len() {
            let mut missing = pairs.clone();
            missing.remove(at);
            let mut doubled = pairs.clone();
            doubled.push(pairs[at].clone());
            let mut changed = pairs.clone();
            let last = changed[at].value.as_mut().and_then(String::pop).unwrap();
            changed[at].value.as_mut().unwrap().push(if last == '0' { '1' } else { '0' });
            for bad in [missing, doubled, changed] {
                let error = Footer::from_key_values("k", &bad).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corruption, "{}: {error}", pairs[at].key);
                assert!(error.to_string().contains("akidb."), "{error}");
            }
        }
    }

    #[test]
    fn a_newer_version_is_refused_by_name() {
        let mut pairs = footer().to_key_values().unwrap();
        pairs[0].value = Some("2".to_owned());
        let error = Footer::from_key_values("c/1.parquet", &pairs).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        assert!(error.to_string().contains("c/1.parquet"), "{error}");
    }
}
