//! Requests: how many, how many in vain, how long they took.

use core::time::Duration;

use crate::histogram::Histogram;
use crate::snapshot::Snapshot;

/// What is counted of requests: total, successes, failures, latencies.
///
/// Successes and failures have a histogram each and nothing else is counted, so that the numbers of
/// one snapshot always add up: total is success plus failed, and so many latencies there are.
#[derive(Debug, Default)]
pub struct RequestMetrics {
    success: Histogram,
    failed: Histogram,
}

impl RequestMetrics {
    /// Nothing counted yet: 60 KiB.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A request succeeded after so long.
    pub fn success(&self, took: Duration) {
        self.success.record(nanos(took));
    }

    /// So many succeeded together after so long each.
    pub fn success_many(&self, took: Duration, count: u64) {
        self.success.record_many(nanos(took), count);
    }

    /// A request failed after so long.
    pub fn failed(&self, took: Duration) {
        self.failed.record(nanos(took));
    }

    /// So many failed together after so long each.
    pub fn failed_many(&self, took: Duration, count: u64) {
        self.failed.record_many(nanos(took), count);
    }

    /// What was counted until now.
    #[must_use]
    pub fn snapshot(&self) -> RequestSnapshot {
        RequestSnapshot { success: self.success.snapshot(), failed: self.failed.snapshot() }
    }
}

fn nanos(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}

/// The requests at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestSnapshot {
    success: Snapshot,
    failed: Snapshot,
}

impl RequestSnapshot {
    /// All requests that have ended.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.success().saturating_add(self.failed())
    }

    /// Those that succeeded.
    #[must_use]
    pub fn success(&self) -> u64 {
        self.success.count()
    }

    /// Those that failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.count()
    }

    /// Latencies of those that succeeded, in nanoseconds.
    #[must_use]
    pub fn latencies(&self) -> &Snapshot {
        &self.success
    }

    /// Latencies of those that failed, in nanoseconds.
    #[must_use]
    pub fn latencies_failed(&self) -> &Snapshot {
        &self.failed
    }

    /// Requests a second, over the time since the start that the caller knows; 0 at the start.
    #[must_use]
    pub fn rate(&self, since_start: Duration) -> f64 {
        let seconds = since_start.as_secs_f64();
        if seconds > 0.0 { self.total() as f64 / seconds } else { 0.0 }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_snapshot_add_up_while_requests_end() {
        let metrics = RequestMetrics::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for at in 0..20_000 {
                    metrics.success(Duration::from_nanos(at));
                    metrics.failed_many(Duration::from_nanos(at), 2);
                }
            });
            let mut last = 0;
            while last < 60_000 {
                let now = metrics.snapshot();
                assert_eq!(now.total(), now.success() + now.failed());
                assert_eq!(now.success(), now.latencies().count());
                assert!(now.total() >= last);
                last = now.total();
            }
        });
    }

    #[test]
    fn a_rate_is_over_the_time_since_the_start() {
        let metrics = RequestMetrics::new();
        metrics.success_many(Duration::from_millis(1), 30);
        assert!((metrics.snapshot().rate(Duration::from_secs(10)) - 3.0).abs() < 1e-9);
        assert!(metrics.snapshot().rate(Duration::ZERO).abs() < 1e-9);
    }
}
