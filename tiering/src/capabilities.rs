//! What a store can do beyond the plain verbs. Servers that speak S3 differ most where it matters
//! most: several take a conditional put and ignore the condition without an error, which turns
//! "exactly one writer wins" into "all of them win". So nothing here is assumed of a server;
//! [`probe`](crate::probe()) finds it out, and whoever needs a capability asks for it.

use crate::{PartLimits, StoreError, StoreErrorKind, StoreResult};

/// What a store can do. The default is nothing.
///
/// ```
/// use akidb_tiering::{MemoryStore, ObjectStore};
/// let can = MemoryStore::new().capabilities();
/// assert!(can.require_multi_writer().is_ok());
/// assert_eq!(can.missing(), ["ages"]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Of many puts with [`IfAbsent`](crate::PutCondition::IfAbsent) at once exactly one wins.
    pub if_absent: bool,
    /// Puts with [`IfMatch`](crate::PutCondition::IfMatch) are refused unless the tag is right.
    pub if_match: bool,
    /// Reads of ranges transfer no more than was asked for.
    pub ranges: bool,
    /// [`delete_many`](crate::ObjectStore::delete_many) is one request for many keys.
    pub batch_delete: bool,
    /// The store verifies the checksum of what it is handed, and
    /// [`head`](crate::ObjectStore::head) tells it without reading the object.
    pub checksums: bool,
    /// [`head`](crate::ObjectStore::head) shows the mark of the put.
    pub put_ids: bool,
    /// Listings tell ages by the store's own clock.
    pub ages: bool,
    /// Uploads in parts, and what a part may be; `None` where objects are put whole.
    pub parts: Option<PartLimits>,
    /// The condition of [`complete`](crate::MultipartStore::complete) holds as that of a put.
    pub conditional_complete: bool,
}

impl Capabilities {
    /// Everything but ages, with parts as S3 has them.
    pub const ALL_BUT_AGES: Self = Self {
        if_absent: true,
        if_match: true,
        ranges: true,
        batch_delete: true,
        checksums: true,
        put_ids: true,
        ages: false,
        parts: Some(PartLimits::S3),
        conditional_complete: true,
    };

    /// The names of what is missing, for messages.
    pub fn missing(&self) -> Vec<&'static str> {
        let has = [
            ("if-absent", self.if_absent),
            ("if-match", self.if_match),
            ("ranges", self.ranges),
            ("batch-delete", self.batch_delete),
            ("checksums", self.checksums),
            ("put-ids", self.put_ids),
            ("ages", self.ages),
            ("parts", self.parts.is_some()),
            ("conditional-complete", self.conditional_complete),
        ];
        has.into_iter().filter(|(_, has)| !has).map(|(name, _)| name).collect()
    }

    /// Demands what several writers of one bucket rely on: without conditional puts that hold,
    /// two of them would both believe to have won. Fails with [`StoreErrorKind::Unsupported`],
    /// naming what is missing.
    pub fn require_multi_writer(&self) -> StoreResult<()> {
        let needed = ["if-absent", "if-match"];
        let missing: Vec<_> =
            self.missing().into_iter().filter(|name| needed.contains(name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let detail = format!(
            "several writers need conditional puts that hold, and here these do not: {}; \
             use one writer, or a store that has them",
            missing.join(", ")
        );
        Err(StoreError::listing(StoreErrorKind::Unsupported).with_source(detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_writers_are_refused_unless_both_conditions_hold() {
        let all = Capabilities::ALL_BUT_AGES;
        assert!(all.require_multi_writer().is_ok());
        let cases = [
            (Capabilities { if_absent: false, ..all }, "if-absent"),
            (Capabilities { if_match: false, ..all }, "if-match"),
            (Capabilities::default(), "if-absent, if-match"),
        ];
        for (can, named) in cases {
            let error = can.require_multi_writer().expect_err("a condition is missing");
            assert_eq!(error.kind, StoreErrorKind::Unsupported);
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(Capabilities::default().missing().len(), 9);
        let all = Capabilities { ages: true, ..Capabilities::ALL_BUT_AGES };
        assert!(all.missing().is_empty());
    }
}
