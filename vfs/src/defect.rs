//! Planted defects: known storage bugs that a test build can switch on, one at a time, to see
//! whether the tests find them. Without the feature `defects` every [`planted`] is `false` at
//! compile time and its branch is gone; no shipped binary has the feature. Owns the switch and a
//! count of how often the bug was reached; what each bug is stands where it is planted, and the
//! list of all is in the tests (`evidence::defects`).

/// Is the bug `name` switched on? Always `false` without the feature `defects`.
///
/// ```
/// if akidb_vfs::planted("example") {
///     unreachable!("nobody switched it on");
/// }
/// ```
#[inline(always)]
#[must_use]
pub fn planted(name: &'static str) -> bool {
    switch::is_on(name)
}

#[cfg(not(feature = "defects"))]
mod switch {
    #[inline(always)]
    pub(super) const fn is_on(_: &'static str) -> bool {
        false
    }
}

#[cfg(feature = "defects")]
mod switch {
    use parking_lot::RwLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static PLANTED: RwLock<Option<String>> = RwLock::new(None);
    static REACHED: AtomicU64 = AtomicU64::new(0);

    pub(super) fn is_on(name: &'static str) -> bool {
        let on = PLANTED.read().as_deref() == Some(name);
        if on {
            // Relaxed: a statistic.
            REACHED.fetch_add(1, Ordering::Relaxed);
        }
        on
    }

    /// Switches the bug `name` on for the whole process, and every other off; `None`: all off.
    pub fn plant(name: Option<&str>) {
        *PLANTED.write() = name.map(str::to_owned);
        REACHED.store(0, Ordering::Relaxed);
    }

    /// How often the bug's place was reached since it was switched on. A bug that was never
    /// reached was not missed by the tests: they never came by.
    #[must_use]
    pub fn defect_reached() -> u64 {
        REACHED.load(Ordering::Relaxed)
    }
}

#[cfg(feature = "defects")]
pub use switch::{defect_reached, plant};
