//! Row ids: a number, a UUID or a short string, and their one byte form.
//!
//! The byte form is what the log, segments and tombstones store and hash; it is specified in
//! `docs/format/segment.md` ("Id"). Ids of different kinds are never equal: `7` is not `"7"`.

use std::{fmt, str::FromStr};
use uuid::Uuid;

/// The longest string id, in bytes of UTF-8.
pub const ID_BYTES_MAX: usize = 64;

const TAG_U64: u8 = 1;
const TAG_UUID: u8 = 2;
const TAG_STR: u8 = 3;

/// The id of a row, unique in its collection.
///
/// ```
/// use akidb::PointId;
/// let number = PointId::from(7_u64);
/// let text = PointId::from("7");
/// assert_ne!(number, text);
/// assert_eq!(text.to_string(), "7");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PointId {
    /// A number.
    U64(u64),
    /// A UUID.
    Uuid(Uuid),
    /// UTF-8 text of 1 to [`ID_BYTES_MAX`] bytes. A longer or empty text can be held but is
    /// refused by every verb.
    Str(Box<str>),
}

impl PointId {
    /// Appends the byte form: a tag byte, then 8 bytes little-endian, 16 bytes, or the text.
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::U64(n) => {
                out.push(TAG_U64);
                out.extend_from_slice(&n.to_le_bytes());
            }
            Self::Uuid(u) => {
                out.push(TAG_UUID);
                out.extend_from_slice(u.as_bytes());
            }
            Self::Str(s) => {
                out.push(TAG_STR);
                out.extend_from_slice(s.as_bytes());
            }
        }
    }

    /// How many bytes [`PointId::encode_into`] appends.
    pub(crate) fn encoded_len(&self) -> usize {
        1 + match self {
            Self::U64(n) => size_of_val(n),
            Self::Uuid(u) => u.as_bytes().len(),
            Self::Str(s) => s.len(),
        }
    }

    /// The byte form on its own.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(17);
        self.encode_into(&mut out);
        out
    }

    /// Reads the byte form; `None` if it is not one that [`PointId::encode`] writes.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (tag, body) = bytes.split_first()?;
        match *tag {
            TAG_U64 => Some(Self::U64(u64::from_le_bytes(body.try_into().ok()?))),
            TAG_UUID => Some(Self::Uuid(Uuid::from_bytes(body.try_into().ok()?))),
            TAG_STR if (1..=ID_BYTES_MAX).contains(&body.len()) => {
                std::str::from_utf8(body).ok().map(|s| Self::Str(s.into()))
            }
            _ => None,
        }
    }

    /// A 64-bit hash of the byte form, the same on every machine and version (XXH3).
    pub(crate) fn hash64(encoded: &[u8]) -> u64 {
        xxhash_rust::xxh3::xxh3_64(encoded)
    }

    /// The kind's name, as the `id_kind` column of a cold object spells it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::U64(_) => "u64",
            Self::Uuid(_) => "uuid",
            Self::Str(_) => "str",
        }
    }
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::U64(n) => n.fmt(f),
            Self::Uuid(u) => u.fmt(f),
            Self::Str(s) => s.fmt(f),
        }
    }
}

/// For reports: numbers stay numbers, UUIDs and strings become strings, and so cannot be told apart.
impl serde::Serialize for PointId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::U64(n) => serializer.serialize_u64(*n),
            other => serializer.collect_str(other),
        }
    }
}

impl From<u64> for PointId {
    fn from(id: u64) -> Self {
        Self::U64(id)
    }
}

impl From<Uuid> for PointId {
    fn from(id: Uuid) -> Self {
        Self::Uuid(id)
    }
}

impl From<&str> for PointId {
    fn from(id: &str) -> Self {
        Self::Str(id.into())
    }
}

impl From<String> for PointId {
    fn from(id: String) -> Self {
        Self::Str(id.into())
    }
}

impl From<&PointId> for PointId {
    fn from(id: &PointId) -> Self {
        id.clone()
    }
}

impl FromStr for PointId {
    type Err = std::convert::Infallible;

    /// Reads an id as people type it: digits are a number, a hyphenated UUID is a UUID, anything
    /// else is text. Programs that know the kind use `From`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(n) = text.parse::<u64>() {
            return Ok(Self::U64(n));
        }
        if text.len() == 36
            && let Ok(u) = Uuid::try_parse(text)
        {
            return Ok(Self::Uuid(u));
        }
        Ok(Self::Str(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_id() -> impl Strategy<Value = PointId> {
        prop_oneof![
            any::<u64>().prop_map(PointId::U64),
            any::<u128>().prop_map(|n| PointId::Uuid(Uuid::from_u128(n))),
            "\\PC{1,16}".prop_map(PointId::from),
        ]
    }

    proptest! {
        #[test]
        fn every_valid_id_survives_its_byte_form(id in any_id()) {
            prop_assert_eq!(id.encode().len(), id.encoded_len());
            prop_assert_eq!(PointId::decode(&id.encode()), Some(id));
        }

        #[test]
        fn byte_forms_of_different_ids_differ(a in any_id(), b in any_id()) {
            prop_assert_eq!(a == b, a.encode() == b.encode());
        }

        #[test]
        fn hostile_bytes_are_refused_or_round_trip(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(id) = PointId::decode(&bytes) {
                prop_assert_eq!(id.encode(), bytes);
            }
        }
    }
}
