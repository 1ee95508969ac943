//! The numbers of tiers: when collections move, how often that is looked at, how objects are sent.

use crate::error::InputError;
use akidb_tiering::{BatchSettings, TierPolicy, UploadSettings};
use serde::{Deserialize, Serialize};

/// How collections move between tiers by themselves, and how their objects are sent.
///
/// ```
/// use akidb::{Settings, TierSettings, tiering::TierPolicy};
/// let off = TierPolicy { enabled: false, ..TierPolicy::default() };
/// let tiers = TierSettings { policy: off, ..TierSettings::default() };
/// let settings = Settings { tiers, ..Settings::default() };
/// assert_eq!(settings.tiers.cycle_ms, 60_000);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TierSettings {
    /// What is due. Nothing becomes cold by itself where no object store was given: an object in the
    /// directory would take the same disk.
    pub policy: TierPolicy,
    /// How often the policy is asked, in milliseconds. Default: 60,000. Lower it where budgets are
    /// tight; a cycle looks at every collection.
    pub cycle_ms: u64,
    /// The most moves that the policy makes at once. Default: 2. Raise it where the store is far away;
    /// each move holds a core while it encodes, and an object of up to `uploads.memory_bytes_max`.
    pub moves_max: usize,
    /// A move that fails in so many cycles one after the other becomes a dead letter, and is not tried
    /// again before that is retried or dropped. Default: 3; 0 counts as 1. One that cannot succeed, by
    /// what the store says, becomes one at once.
    pub give_up_after: u32,
    /// The most dead letters. Default: 1,000. Beyond it moves go on being tried.
    pub dead_letters_max: usize,
    /// When small collections that become cold together share an object, a pack: so many collections, or
    /// so many bytes, or after so long. Default: 10, 16 MiB, 5 s; larger ones than a quarter of it go
    /// alone. Raise the count where thousands of small collections become cold; a pack takes room in the
    /// store until the last of its collections has left it. Each of `moves_max` moves holds one pack in
    /// memory. Not used without an object store.
    pub packs: BatchSettings,
    /// How objects are sent.
    pub uploads: UploadSettings,
    /// Objects longer than this are read in pieces of so many bytes, while they are decoded and written,
    /// instead of whole. Default: 8 MiB; at least 1 KiB. A few pieces are under way at once, beside one
    /// row group (8,192 rows) for each of the `build_threads`: raise it where the store is far away;
    /// memory grows with it.
    pub read_bytes: u64,
}

/// The shortest pieces: below, requests would be most of the work.
const READ_BYTES_MIN: u64 = 1 << 10;

impl Default for TierSettings {
    fn default() -> Self {
        Self {
            policy: TierPolicy::default(),
            cycle_ms: 60_000,
            moves_max: 2,
            give_up_after: 3,
            dead_letters_max: 1_000,
            packs: BatchSettings::default(),
            uploads: UploadSettings::default(),
            read_bytes: 8 << 20,
        }
    }
}

impl TierSettings {
    pub(super) fn validate(&self) -> Result<(), InputError> {
        let read_bytes = self.read_bytes;
        if read_bytes < READ_BYTES_MIN {
            let (name, rule) = ("tiers.read_bytes", "at least 1024");
            return Err(InputError::BadSetting { name, value: read_bytes.to_string(), rule });
        }
        let rule = |ok: bool, name, rule| match ok {
            true => Ok(()),
            false => Err(InputError::BadSetting { name, value: "0".to_owned(), rule }),
        };
        rule(self.cycle_ms > 0, "tiers.cycle_ms", "at least 1")?;
        rule(self.moves_max > 0, "tiers.moves_max", "at least 1")?;
        rule(self.policy.access_window_ms > 0, "tiers.policy.access_window_ms", "at least 1")
    }
}
