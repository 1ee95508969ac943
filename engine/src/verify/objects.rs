//! Where verification and repair read objects: from the store that was given, or straight from the
//! files under `objects`. Opening a local store makes its directory, which a look must not do.

use crate::{
    db::paths::Paths,
    error::{Error, Result},
    manifest::ColdMeta,
};
use akidb_tiering::{ObjectKey, ObjectStore, StoreErrorKind};
use akidb_vfs::{Fs, read_file};
use bytes::Bytes;
use std::{ops::Range, path::PathBuf, sync::Arc};

/// The objects of a database, read-only.
#[derive(Clone, Debug)]
pub(crate) struct Objects {
    fs: Arc<dyn Fs>,
    root: PathBuf,
    store: Option<Arc<dyn ObjectStore>>,
}

/// What fetching an object gave.
#[derive(Clone, Debug)]
pub(crate) enum Fetched {
    /// What was put, by length and checksum.
    Whole(Bytes),
    /// Something else.
    Damaged(Bytes),
    Missing,
}

/// The bytes of a range, as far as there are any.
fn cut(object: &Bytes, range: Range<u64>) -> Bytes {
    let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(object.len());
    object.slice(within(range.start)..within(range.end))
}

impl Objects {
    pub(crate) fn new(
        fs: &Arc<dyn Fs>,
        paths: &Paths,
        store: Option<Arc<dyn ObjectStore>>,
    ) -> Self {
        Self { fs: fs.clone(), root: paths.objects.clone(), store }
    }

    /// The file of an object, if objects are files of this directory.
    pub(crate) fn path(&self, key: &str) -> Option<PathBuf> {
        self.store.is_none().then(|| self.root.join(key))
    }

    /// Where an object is, for people: its file, or its key in the store; of a slice, with its offset.
    pub(crate) fn place(&self, meta: &ColdMeta) -> PathBuf {
        self.path(&meta.name()).unwrap_or_else(|| PathBuf::from(&*meta.name()))
    }

    /// Fetches an object and compares it with what the manifest says.
    ///
    /// # Errors
    /// The store's, but for an object that is not there.
    pub(crate) fn fetch(&self, meta: &ColdMeta) -> Result<Fetched> {
        let Some(object) = self.get(&meta.key)? else { return Ok(Fetched::Missing) };
        let bytes = match meta.slice {
            None => object,
            // What is left of it, if the object was cut: a repair saves what can be read.
            Some(_) => cut(&object, meta.range().unwrap_or_default()),
        };
        let same = bytes.len() as u64 == meta.len && crc32fast::hash(&bytes) == meta.crc32;
        Ok(if same { Fetched::Whole(bytes) } else { Fetched::Damaged(bytes) })
    }

    fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let key = ObjectKey::new(key).map_err(Error::from)?;
        match &self.store {
            Some(store) => match futures_lite::future::block_on(store.get(&key)) {
                Ok(object) => Ok(Some(object.body)),
                Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
                Err(error) => Err(error.into()),
            },
            None => match read_file(&*self.fs, &self.root.join(key.as_str())) {
                Ok(bytes) => Ok(Some(bytes.into())),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error.into()),
            },
        }
    }
}
