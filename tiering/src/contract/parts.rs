//! Uploads in parts.

use super::{check_age, expect, key, ok, refused};
use crate::{
    ETag, ListedPart, MultipartStore, ObjectKey, ObjectStore, PartLimits, PartReceipt,
    PutCondition, PutId, StoreErrorKind, Upload, UploadOptions,
};
use bytes::Bytes;

/// A store and its uploads.
struct Suite<'a> {
    store: &'a dyn ObjectStore,
    parts: &'a dyn MultipartStore,
    /// Long enough not to be the last part.
    long: usize,
}

pub(super) async fn run(store: &dyn ObjectStore, parts: &dyn MultipartStore, limits: PartLimits) {
    let long = usize::try_from(limits.part_min.max(1_000)).expect("parts fit in memory");
    let suite = Suite { store, parts, long };
    suite.an_object_appears_when_its_parts_are_complete().await;
    suite.parts_that_will_not_do_are_refused().await;
    suite.an_upload_that_was_aborted_is_gone().await;
    suite.listings_come_in_pages().await;
    if store.capabilities().conditional_complete {
        suite.a_complete_keeps_to_its_condition().await;
    }
}

impl Suite<'_> {
    fn body(&self, fill: u8) -> Bytes {
        Bytes::from(vec![fill; self.long])
    }

    async fn create(&self, name: &ObjectKey) -> Upload {
        let upload = ok("create", self.parts.create(name, UploadOptions::default()).await);
        assert_eq!(&upload.key, name, "contract: an upload knows its object");
        upload
    }

    async fn put(&self, upload: &Upload, number: u32, body: &Bytes) -> PartReceipt {
        let part = ok("put_part", self.parts.put_part(upload, number, body.clone()).await);
        let want = PartReceipt::new(number, body, part.etag.clone());
        assert_eq!(part, want, "contract: a part's receipt tells number, length and CRC-32");
        part
    }

    async fn uploads_of(&self, name: &ObjectKey) -> Vec<Upload> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = self.parts.list_uploads(name.as_str(), after.as_ref(), 1).await;
            let page = ok("list_uploads", page);
            assert!(page.uploads.len() <= 1, "contract: a page of uploads keeps to its limit");
            for listed in page.uploads {
                check_age(self.store, listed.age);
                found.push(listed.upload);
            }
            match page.next {
                Some(token) => after = Some(token),
                None => return found,
            }
        }
    }

    async fn an_object_appears_when_its_parts_are_complete(&self) {
        let name = key("parts/whole");
        let mark = PutId::new(21);
        let options = UploadOptions::default().with_put_id(mark);
        let upload = ok("create", self.parts.create(&name, options).await);
        let bodies = [self.body(1), self.body(2), Bytes::from_static(b"the rest")];
        // Out of order, and one of them twice.
        let three = self.put(&upload, 3, &bodies[2]).await;
        self.put(&upload, 1, &bodies[1]).await;
        let two = self.put(&upload, 2, &bodies[1]).await;
        let one = self.put(&upload, 1, &bodies[0]).await;
        refused("head before the end", self.store.head(&name).await, StoreErrorKind::NotFound);
        let under_way = self.uploads_of(&name).await;
        assert_eq!(under_way, std::slice::from_ref(&upload), "contract: it is under way");

        let parts = [one, two, three];
        let receipt = self.parts.complete(&upload, &parts, PutCondition::Any).await;
        let receipt = ok("complete", receipt);
        let whole = Bytes::from(bodies.concat());
        assert_eq!(receipt.len, whole.len() as u64, "contract: the receipt tells the length");
        assert_eq!(receipt.crc32, crc32fast::hash(&whole), "contract: and the CRC-32 of the whole");
        expect(self.store, &name, &whole, &receipt.etag).await;
        let found = ok("head", self.store.head(&name).await).put_id;
        let promised = self.store.capabilities().put_ids.then_some(mark);
        assert_eq!(found, promised, "contract: marks of uploads come back where promised");
        assert!(self.uploads_of(&name).await.is_empty(), "contract: a complete ends the upload");

        let seam = self.long as u64;
        let seams = [seam - 2..seam + 2, 2 * seam - 1..2 * seam + 1];
        let around = ok("get_ranges", self.store.get_ranges(&name, &seams).await);
        assert_eq!(around, [&[1, 1, 2, 2][..], b"\x02t"], "contract: parts lie end to end");
        ok("delete", self.store.delete(&name).await);
    }

    async fn parts_that_will_not_do_are_refused(&self) {
        let name = key("parts/bad");
        let upload = self.create(&name).await;
        let one = self.put(&upload, 1, &self.body(1)).await;
        let two = self.put(&upload, 2, &Bytes::from_static(b"last")).await;
        let stray = PartReceipt { etag: ETag::new("\"0123456789abcdef\""), ..two.clone() };
        let missing = PartReceipt { number: 3, ..two.clone() };
        let cases: [(&str, &[PartReceipt]); 4] = [
            ("no parts", &[]),
            ("a part of another tag", &[one.clone(), stray]),
            ("a part that is not there", &[one.clone(), two.clone(), missing]),
            ("parts out of order", &[two.clone(), one.clone()]),
        ];
        for (what, parts) in cases {
            let result = self.parts.complete(&upload, parts, PutCondition::Any).await;
            refused(what, result, StoreErrorKind::InvalidPart);
        }
        for number in [0, crate::PART_NUMBER_MAX + 1] {
            let result = self.parts.put_part(&upload, number, Bytes::from_static(b"x")).await;
            refused("a part out of numbers", result, StoreErrorKind::InvalidPart);
        }
        refused("head of no object", self.store.head(&name).await, StoreErrorKind::NotFound);
        ok("abort", self.parts.abort(&upload).await);
    }

    async fn an_upload_that_was_aborted_is_gone(&self) {
        let name = key("parts/aborted");
        let upload = self.create(&name).await;
        let part = self.put(&upload, 1, &Bytes::from_static(b"part")).await;
        ok("abort", self.parts.abort(&upload).await);
        let gone = StoreErrorKind::NoSuchUpload;
        let put = self.parts.put_part(&upload, 1, Bytes::from_static(b"part")).await;
        refused("a part after the end", put, gone);
        refused("the parts after the end", self.parts.list_parts(&upload, None, 5).await, gone);
        let end = self.parts.complete(&upload, &[part], PutCondition::Any).await;
        refused("a complete after the end", end, gone);
        assert!(self.uploads_of(&name).await.is_empty(), "contract: an abort ends the upload");
        refused("head after an abort", self.store.head(&name).await, StoreErrorKind::NotFound);
        ok("a second abort", self.parts.abort(&upload).await);
    }

    async fn listings_come_in_pages(&self) {
        let name = key("parts/listed");
        let (upload, other) = (self.create(&name).await, self.create(&name).await);
        assert_ne!(upload.id, other.id, "contract: two uploads differ, also of one object");
        let mut listed = Vec::new();
        for number in [2, 5, 9] {
            let part = self.put(&upload, number, &Bytes::from(vec![7; number as usize])).await;
            listed.push(ListedPart::new(number, part.len, part.etag));
        }
        for limit in [1, 2, 3, 100] {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = ok("list_parts", self.parts.list_parts(&upload, after, limit).await);
                assert!(page.parts.len() <= limit, "contract: a page of parts keeps to its limit");
                found.extend(page.parts);
                match page.next {
                    Some(number) => after = Some(number),
                    None => break,
                }
            }
            assert_eq!(found, listed, "contract: all parts, by number");
        }
        let mut found = self.uploads_of(&name).await;
        found.sort_by_key(|found| found.id != upload.id);
        assert_eq!(found, [upload.clone(), other.clone()], "contract: all uploads of a prefix");
        for upload in [upload, other] {
            ok("abort", self.parts.abort(&upload).await);
        }
    }

    async fn a_complete_keeps_to_its_condition(&self) {
        let name = key("parts/conditional");
        let body = Bytes::from_static(b"the only part");
        let upload = self.create(&name).await;
        let part = self.put(&upload, 1, &body).await;
        let first = self.parts.complete(&upload, &[part], PutCondition::IfAbsent).await;
        let first = ok("a complete of a new object", first).etag;
        let second = self.create(&name).await;
        let part = self.put(&second, 1, &Bytes::from_static(b"another")).await;
        let result = self.parts.complete(&second, &[part], PutCondition::IfAbsent).await;
        refused("a complete of what is there", result, StoreErrorKind::PreconditionFailed);
        expect(self.store, &name, &body, &first).await;
        ok("abort", self.parts.abort(&second).await);
        ok("delete", self.store.delete(&name).await);
    }
}
