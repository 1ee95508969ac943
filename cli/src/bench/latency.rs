//! Times of single operations, and their percentiles.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::Duration;

/// One minute: nothing that is measured here takes longer, and what does counts as this.
const NANOS_MAX: u64 = 60_000_000_000;

/// A histogram of times, to three digits.
#[derive(Clone, Debug)]
pub(crate) struct Latency(Histogram<u64>);

impl Latency {
    pub(crate) fn new() -> Self {
        Self(
            Histogram::new_with_bounds(1, NANOS_MAX, 3)
                .expect("1 ns to 60 s with 3 digits are bounds that a histogram takes"),
        )
    }

    pub(crate) fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(NANOS_MAX));
    }

    /// Adds the times of another thread.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all histograms here have the same bounds");
    }

    pub(crate) fn percentiles(&self) -> Percentiles {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e3;
        Percentiles { p50_us: at(0.50), p95_us: at(0.95), p99_us: at(0.99) }
    }
}

/// In microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50_us: f64,
    pub(crate) p95_us: f64,
    pub(crate) p99_us: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_come_from_all_threads_and_in_microseconds() {
        let (mut a, mut b) = (Latency::new(), Latency::new());
        for ms in 1..=50 {
            a.record(Duration::from_millis(ms));
            b.record(Duration::from_millis(50 + ms));
        }
        a.merge(&b);
        let Percentiles { p50_us, p99_us, .. } = a.percentiles();
        assert!((p50_us - 50_000.0).abs() < 50.0, "{p50_us}");
        assert!((p99_us - 99_000.0).abs() < 99.0, "{p99_us}");
    }

    #[test]
    fn a_time_beyond_the_bounds_counts_as_the_largest() {
        let mut latency = Latency::new();
        latency.record(Duration::from_secs(3600));
        assert!(latency.percentiles().p50_us > 59e6);
    }
}
