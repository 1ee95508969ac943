//! Object stores: where cold data lives.
//!
//! [`ObjectStore`] is the seam; [`LocalStore`] keeps objects as plain files in a directory and
//! [`MemoryStore`] in memory. Both, and every implementation to come, pass the suite in
//! [`contract`]. This crate moves opaque bytes under validated keys: it knows nothing of what an
//! object holds, and the engine knows nothing of where it is kept.
//!
//! Around the stores: [`RetryingStore`] tries calls again, [`Uploader`] and [`Shipper`] send objects
//! in parts and in batches, [`DeadLetterQueue`] keeps what was given up, and [`AccessTracker`] and
//! [`plan`] say which collections are due for another tier. Nothing here starts a thread or reads a
//! clock that it was not handed.
//!
//! ```
//! use akidb_tiering::{MemoryStore, ObjectKey, ObjectStore, PutOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = MemoryStore::new();
//! let key = ObjectKey::new("c/1/rows.parquet")?;
//! let put = store.put(&key, "bytes".into(), PutOptions::if_absent());
//! let receipt = futures_lite::future::block_on(put)?;
//! let head = futures_lite::future::block_on(store.head(&key))?;
//! assert_eq!((head.len, head.crc32), (receipt.len, receipt.crc32));
//! # Ok(())
//! # }
//! ```

mod access;
mod batch;
mod breaker;
mod capabilities;
pub mod contract;
mod cutter;
mod dead_letters;
mod error;
pub mod faulty;
mod gate;
mod join;
mod journal;
mod key;
mod limit;
mod local;
mod memory;
mod multipart;
mod pieces;
mod policy;
mod probe;
#[cfg(feature = "s3")]
mod ranges;
mod records;
mod retry;
mod retrying;
#[cfg(feature = "s3")]
pub mod s3;
mod shipper;
mod sleep;
mod store;
mod upload;
mod verified;

pub use access::{Access, AccessTracker, SLOTS};
pub use batch::{Batch, BatchReason, BatchSettings, Batcher};
pub use breaker::{
    Admitted, BreakerOpen, BreakerSettings, BreakerState, BreakerStats, CircuitBreaker,
};
pub use capabilities::Capabilities;
pub use dead_letters::{
    DeadLetter, DeadLetterError, DeadLetterQueue, LETTER_NAME_BYTES_MAX, LETTER_PAYLOAD_BYTES_MAX,
    Retried,
};
pub use error::{Outcome, StoreError, StoreErrorKind};
pub use journal::{JournalEntry, TAG_BYTES_MAX, UploadJournal};
pub use key::{KEY_BYTES_MAX, KEY_SEGMENT_BYTES_MAX, KeyError, ObjectKey};
pub use local::LocalStore;
pub use memory::{Conditions, MemoryStore};
pub use multipart::{
    ListedPart, ListedUpload, MultipartStore, PART_NUMBER_MAX, PartLimits, PartPage, PartReceipt,
    Upload, UploadId, UploadOptions, UploadPage, joined,
};
pub use pieces::Pieces;
pub use policy::{Candidate, MoveReason, PlannedMove, TierOverrides, TierPolicy, plan};
pub use probe::probe;
pub use records::RecordsError;
pub use retry::RetryPolicy;
pub use retrying::{EndpointSettings, EndpointStats, RetryingStore, Surroundings};
pub use shipper::{
    Answer, NameBatch, ShipError, Shipped, Shipper, ShipperDriver, ShipperParts, ShipperSettings,
    ShipperStats,
};
pub use sleep::{SkippedSleep, Sleep, TimerSleep};
pub use store::{
    BoxFuture, ETag, Head, ListPage, ListedObject, Object, ObjectStore, PageToken, PutCondition,
    PutId, PutOptions, PutReceipt, StoreResult,
};
pub use upload::{
    ObjectSource, Recovered, RecoveredEnd, SourceError, SweepReport, UploadError, UploadSettings,
    Uploaded, Uploader,
};
pub use verified::{Misreads, get_slice_verified, get_verified, put_verified};
