//! Object keys, validated once so that no store has to escape, normalise or distrust them.
//!
//! # Invariants
//! - A key is 1 to [`KEY_BYTES_MAX`] bytes of `[a-z0-9/_=.-]`: it needs no encoding in a URL, a
//!   signature or a file name, and two keys never differ by letter case alone.
//! - No segment between slashes is empty, `.` or `..`: a key below a directory stays below it.
//! - No segment is longer than [`KEY_SEGMENT_BYTES_MAX`]: each fits a file name, with room for a
//!   temporary suffix.

use std::{borrow::Borrow, fmt, str::FromStr};

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 512;
/// The longest part of a key between two slashes, in bytes.
pub const KEY_SEGMENT_BYTES_MAX: usize = 200;

/// The name of an object. Ordered by its bytes, as object stores list.
///
/// ```
/// use akidb_tiering::ObjectKey;
/// assert!(ObjectKey::new("c/1/0000.parquet").is_ok());
/// assert!(ObjectKey::new("c/../secrets").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(Box<str>);

/// Text that cannot be an object key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Nothing, or more than [`KEY_BYTES_MAX`] bytes.
    #[error("an object key of {found} bytes is not possible; give 1 to {KEY_BYTES_MAX}")]
    Length {
        /// The bytes given.
        found: usize,
    },
    /// A character outside the permitted ones.
    #[error("{character:?} at byte {offset} cannot be in an object key; use a-z, 0-9, / _ = . -")]
    Character {
        /// The first such character.
        character: char,
        /// Where it is, in bytes.
        offset: usize,
    },
    /// A part between slashes that is empty, `.`, `..` or too long.
    #[error(
        "{segment:?} cannot be a part of an object key; \
         give 1 to {KEY_SEGMENT_BYTES_MAX} bytes, not . or .."
    )]
    Segment {
        /// The part.
        segment: String,
    },
}

impl ObjectKey {
    /// Checks every rule of a key.
    pub fn new(text: impl Into<String>) -> Result<Self, KeyError> {
        let text = text.into();
        if text.is_empty() || text.len() > KEY_BYTES_MAX {
            return Err(KeyError::Length { found: text.len() });
        }
        let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '/' | '_' | '=' | '.' | '-');
        if let Some((offset, character)) = text.char_indices().find(|(_, c)| !allowed(*c)) {
            return Err(KeyError::Character { character, offset });
        }
        let bad = |s: &&str| matches!(*s, "" | "." | "..") || s.len() > KEY_SEGMENT_BYTES_MAX;
        if let Some(segment) = text.split('/').find(bad) {
            return Err(KeyError::Segment { segment: segment.to_owned() });
        }
        Ok(Self(text.into()))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for ObjectKey {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ObjectKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for ObjectKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    #[test]
    fn good_keys_are_taken_as_they_are() {
        for good in ["a", "a/b", "db-1/c=2/x_y.parquet", "...", "a/.hidden", &"x".repeat(200)] {
            assert_eq!(ObjectKey::new(good).map(|k| k.to_string()), Ok(good.to_owned()));
        }
    }

    #[test]
    fn each_rule_has_its_error() {
        let long = ["x".repeat(200), "y".repeat(200), "z".repeat(111)].join("/");
        for bad in ["", &format!("{long}z")] {
            assert_eq!(ObjectKey::new(bad), Err(KeyError::Length { found: bad.len() }));
        }
        assert!(ObjectKey::new(long[..512].to_owned()).is_ok());
        for bad in ["A", "a b", "a\\b", "a~", "a%2f", "a\0", "é", "a:b"] {
            assert!(matches!(ObjectKey::new(bad), Err(KeyError::Character { .. })), "{bad}");
        }
        for bad in ["/", "/a", "a/", "a//b", ".", "..", "../a", "a/./b", "a/..", &"x".repeat(201)] {
            assert!(matches!(ObjectKey::new(bad), Err(KeyError::Segment { .. })), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_key_joined_to_a_directory_stays_below_it(text in "[a-z./_~\\\\-]{0,24}") {
            if let Ok(key) = ObjectKey::new(text) {
                let plain = |c: Component<'_>| matches!(c, Component::Normal(_));
                prop_assert!(Path::new(key.as_str()).components().all(plain));
            }
        }
    }
}
