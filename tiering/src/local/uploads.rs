//! Uploads in parts to a directory. The upload `4f..` is the directory `~uploads/4f..` below the
//! root (no key begins with `~`): a file `key` names the object to be, and `00003.part` is a part.
//!
//! # Protocol
//! - Create: the directory durably, then `key` durably. An upload is there when `key` is.
//! - Part: a temporary file, synced, renamed, the directory synced.
//! - Complete: the parts are copied to a temporary file beside the object, each compared with its
//!   receipt on the way, and published as a put is. Then the upload is removed.
//! - Abort: the parts go first and `key` after them, so that an abort that was cut short can be
//!   repeated.
//!
//! # Crash consistency
//! A kill leaves the upload with the parts whose `put_part` returned, to be completed or aborted by
//! whoever wrote its id down, or swept by whoever lists uploads. After the rename of a complete it
//! leaves the object, and an upload that is garbage. A directory without `key` is of a create that
//! nobody was told of, or the end of an abort: [`LocalStore::sweep_unfinished`] removes it.

#![deny(clippy::indexing_slicing)]

use super::{HEAD_BUFFER_BYTES, LocalStore, describe, etag, failed, len_of};
use crate::{
    KEY_BYTES_MAX, ListedPart, ListedUpload, MultipartStore, ObjectKey, Outcome, PageToken,
    PartPage, PartReceipt, PutCondition, PutReceipt, StoreError, StoreErrorKind, StoreResult,
    Upload, UploadId, UploadOptions, UploadPage, joined,
    multipart::{bad_part, check_number, check_order, ended},
    store::BoxFuture,
};
use akidb_vfs::{EntryKind, FsError, FsFile, OpenMode, read_file, write_file_durably};
use bytes::Bytes;
use std::path::{Path, PathBuf};

/// The directory of uploads, below the root.
const UPLOADS: &str = "~uploads";
/// Names the object to be, in the directory of an upload.
const KEY: &str = "key";
const PART_END: &str = ".part";

/// Either a file call failed or what was read is not what was named.
enum CopyError {
    File(FsError),
    Store(StoreError),
}

impl From<FsError> for CopyError {
    fn from(error: FsError) -> Self {
        Self::File(error)
    }
}

fn part_name(number: u32) -> String {
    format!("{number:05}{PART_END}")
}

fn part_number(name: &str) -> Option<u32> {
    name.strip_suffix(PART_END)?.parse().ok()
}

impl LocalStore {
    /// Removes uploads without a `key`, and returns how many.
    pub(super) fn sweep_uploads(&self) -> Result<u64, FsError> {
        let mut removed = 0;
        for id in self.upload_ids()? {
            let directory = self.root.join(UPLOADS).join(&id);
            match self.fs.metadata(&directory.join(KEY)) {
                Err(error) if error.is_not_found() => {
                    self.remove_upload(&directory)?;
                    removed += 1;
                }
                found => drop(found?),
            }
        }
        Ok(removed)
    }

    /// The directory of an upload, if it is there and is for that key.
    fn upload_directory(&self, upload: &Upload) -> StoreResult<PathBuf> {
        let id = upload.id.as_str();
        // Ids come back from files that people can edit: none may lead out of the directory.
        if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ended(upload));
        }
        let key = self.upload_key(id);
        let key = key.map_err(|source| failed(&upload.key, Outcome::NotDone, source))?;
        if key.as_ref() != Some(&upload.key) {
            return Err(ended(upload));
        }
        Ok(self.root.join(UPLOADS).join(id))
    }

    /// The object that an upload is for; `None` if there is no such upload.
    fn upload_key(&self, id: &str) -> Result<Option<ObjectKey>, FsError> {
        let path = self.root.join(UPLOADS).join(id).join(KEY);
        let bytes = match self.fs.metadata(&path) {
            Ok(meta) if meta.len <= KEY_BYTES_MAX as u64 => read_file(self.fs.as_ref(), &path)?,
            Ok(_) => return Ok(None),
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(String::from_utf8(bytes).ok().and_then(|text| ObjectKey::new(text).ok()))
    }

    /// The ids of all uploads, in order.
    fn upload_ids(&self) -> Result<Vec<String>, FsError> {
        let entries = match self.fs.list_dir(&self.root.join(UPLOADS)) {
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            entries => entries?,
        };
        let directories = entries.into_iter().filter(|entry| entry.kind == EntryKind::Dir);
        Ok(directories.filter_map(|entry| entry.name.into_string().ok()).collect())
    }

    fn create_now(&self, key: &ObjectKey) -> StoreResult<Upload> {
        let id = format!("{:032x}", self.random.next_u128());
        let directory = self.root.join(UPLOADS).join(&id);
        let fs = self.fs.as_ref();
        fs.create_dir_all(&directory)
            .and_then(|()| write_file_durably(fs, &directory.join(KEY), key.as_str().as_bytes()))
            .map_err(|source| failed(key, Outcome::Unknown, source))?;
        Ok(Upload { key: key.clone(), id: UploadId::new(id) })
    }

    fn put_part_now(&self, upload: &Upload, number: u32, body: &[u8]) -> StoreResult<PartReceipt> {
        check_number(&upload.key, number)?;
        let directory = self.upload_directory(upload)?;
        let path = directory.join(part_name(number));
        let write = |file: &dyn FsFile| file.write_all_at(body, 0);
        let temp = self
            .write_temporary(&path, write)
            .map_err(|source| failed(&upload.key, Outcome::NotDone, source))?;
        self.fs
            .rename(&temp, &path)
            .and_then(|()| self.fs.sync_dir(&directory))
            .map_err(|source| failed(&upload.key, Outcome::Unknown, source))?;
        let tag = etag(body.len() as u64, crc32fast::hash(body));
        Ok(PartReceipt::new(number, body, tag))
    }

    fn complete_now(
        &self,
        upload: &Upload,
        parts: &[PartReceipt],
        condition: &PutCondition,
    ) -> StoreResult<PutReceipt> {
        let key = &upload.key;
        let directory = self.upload_directory(upload)?;
        check_order(key, parts)?;
        let path = self.path(key);
        self.fs
            .create_dir_all(self.directory_of(&path))
            .map_err(|source| failed(key, Outcome::NotDone, source))?;
        let copy = |file: &dyn FsFile| self.copy_parts(key, &directory, parts, file);
        let temp = self.write_temporary(&path, copy).map_err(|error| match error {
            CopyError::File(source) => failed(key, Outcome::NotDone, source),
            CopyError::Store(error) => error,
        })?;
        if let Err(error) = self.publish(key, &temp, &path, condition) {
            // The error is what matters; a leftover is swept later.
            let _ = self.fs.remove_file(&temp);
            return Err(error);
        }
        // The object is there. What is left of the upload can be listed and aborted.
        let _ = self.remove_upload(&directory);
        let (len, crc32) = joined(parts);
        Ok(PutReceipt::of(len, crc32, etag(len, crc32)))
    }

    /// Writes the parts one after the other, each compared with its receipt.
    fn copy_parts(
        &self,
        key: &ObjectKey,
        directory: &Path,
        parts: &[PartReceipt],
        to: &dyn FsFile,
    ) -> Result<(), CopyError> {
        let mut buffer = vec![0; HEAD_BUFFER_BYTES];
        let mut offset = 0;
        for part in parts {
            let path = directory.join(part_name(part.number));
            let file = match self.fs.open(&path, OpenMode::Read) {
                Err(error) if error.is_not_found() => {
                    let detail = format!("part {} is not there", part.number);
                    return Err(CopyError::Store(bad_part(key, detail)));
                }
                opened => opened?,
            };
            let mut sum = crc32fast::Hasher::new();
            let mut left = len_of(key, file.as_ref()).map_err(CopyError::Store)?;
            let mut from = 0;
            while left > 0 {
                let take = left.min(HEAD_BUFFER_BYTES as u64);
                let chunk = buffer.get_mut(..take as usize).expect("it is at most the buffer");
                file.read_exact_at(chunk, from)?;
                to.write_all_at(chunk, offset)?;
                sum.update(chunk);
                (left, from, offset) = (left - take, from + take, offset + take);
            }
            if etag(from, sum.finalize()) != part.etag {
                let detail = format!("part {} is not the one that is named", part.number);
                return Err(CopyError::Store(bad_part(key, detail)));
            }
        }
        Ok(())
    }

    fn abort_now(&self, upload: &Upload) -> StoreResult<()> {
        match self.upload_directory(upload) {
            Ok(directory) => self
                .remove_upload(&directory)
                .map_err(|source| failed(&upload.key, Outcome::Unknown, source)),
            Err(error) if error.kind == StoreErrorKind::NoSuchUpload => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes an upload: parts first, `key` after them, the directory at last.
    fn remove_upload(&self, directory: &Path) -> Result<(), FsError> {
        let mut names: Vec<_> =
            self.fs.list_dir(directory)?.into_iter().map(|entry| entry.name).collect();
        names.sort_by_key(|name| name == KEY);
        for name in names {
            self.fs.remove_file(&directory.join(name))?;
        }
        self.fs.remove_dir(directory)?;
        self.fs.sync_dir(&self.root.join(UPLOADS))
    }

    fn list_parts_now(
        &self,
        upload: &Upload,
        after: Option<u32>,
        limit: usize,
    ) -> StoreResult<PartPage> {
        let key = &upload.key;
        let directory = self.upload_directory(upload)?;
        let entries = self.fs.list_dir(&directory);
        let entries = entries.map_err(|source| failed(key, Outcome::NotDone, source))?;
        let mut numbers: Vec<_> = entries
            .iter()
            .filter_map(|entry| part_number(entry.name.to_str()?))
            .filter(|number| after.is_none_or(|after| *number > after))
            .collect();
        numbers.sort_unstable();
        let more = numbers.len() > limit.max(1);
        numbers.truncate(limit.max(1));
        let mut parts = Vec::with_capacity(numbers.len());
        for number in &numbers {
            let opened = self.fs.open(&directory.join(part_name(*number)), OpenMode::Read);
            let file = opened.map_err(|source| failed(key, Outcome::NotDone, source))?;
            let found = describe(key, file.as_ref())?;
            parts.push(ListedPart::new(*number, found.len, found.etag));
        }
        Ok(PartPage::new(parts, numbers.last().copied().filter(|_| more)))
    }

    fn list_uploads_now(
        &self,
        prefix: &str,
        after: Option<&PageToken>,
        limit: usize,
    ) -> Result<UploadPage, FsError> {
        let mut uploads = Vec::new();
        for id in self.upload_ids()? {
            let before = after.is_some_and(|token| *id <= *token.as_str());
            let key = if before { None } else { self.upload_key(&id)? };
            if let Some(key) = key.filter(|key| key.as_str().starts_with(prefix)) {
                let upload = Upload { key, id: UploadId::new(id) };
                uploads.push(ListedUpload::new(upload, None));
            }
            if uploads.len() > limit.max(1) {
                break;
            }
        }
        let more = uploads.len() > limit.max(1);
        uploads.truncate(limit.max(1));
        let last = uploads.last().map(|listed| PageToken::new(listed.upload.id.as_str()));
        Ok(UploadPage::new(uploads, last.filter(|_| more)))
    }
}

impl MultipartStore for LocalStore {
    fn create<'a>(
        &'a self,
        key: &'a ObjectKey,
        _: UploadOptions,
    ) -> BoxFuture<'a, StoreResult<Upload>> {
        Box::pin(async move { self.create_now(key) })
    }

    fn put_part<'a>(
        &'a self,
        upload: &'a Upload,
        number: u32,
        body: Bytes,
    ) -> BoxFuture<'a, StoreResult<PartReceipt>> {
        Box::pin(async move { self.put_part_now(upload, number, &body) })
    }

    fn complete<'a>(
        &'a self,
        upload: &'a Upload,
        parts: &'a [PartReceipt],
        condition: PutCondition,
    ) -> BoxFuture<'a, StoreResult<PutReceipt>> {
        Box::pin(async move { self.complete_now(upload, parts, &condition) })
    }

    fn abort<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, StoreResult<()>> {
        Box::pin(async move { self.abort_now(upload) })
    }

    fn list_parts<'a>(
        &'a self,
        upload: &'a Upload,
        after: Option<u32>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<PartPage>> {
        Box::pin(async move { self.list_parts_now(upload, after, limit) })
    }

    fn list_uploads<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a PageToken>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<UploadPage>> {
        Box::pin(async move {
            self.list_uploads_now(prefix, after, limit).map_err(|source| {
                StoreError::listing(StoreErrorKind::Unavailable).with_source(source)
            })
        })
    }
}
