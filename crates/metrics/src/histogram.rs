//! How values are spread: recorded without a lock, read without waiting.

use alloc::boxed::Box;
use alloc::vec;

use crate::scale::{HOUR_NANOS, VALUE_MAX, bucket};
use crate::snapshot::Snapshot;
use crate::stripe::{AtomicU64, Ordering, thread};

/// Copies of the buckets: threads of different copies do not slow each other down.
const STRIPES: usize = 2;

/// A log-linear histogram of whole numbers, 1 % exact, in bounded memory.
///
/// - [`record`](Self::record) is wait-free: one atomic addition.
/// - [`snapshot`](Self::snapshot) is wait-free too, and never torn: its count and its sum are those
///   of its buckets. Every record that ended before it began is in it, none twice, and a later
///   snapshot by the same thread holds all that an earlier one held. (G2, G3) Of records under way
///   at that time it holds some: which ones says nothing of their order.
#[derive(Debug)]
pub struct Histogram {
    /// One slice after the other.
    cells: Box<[AtomicU64]>,
    /// Buckets of a stripe; the last holds what is over the highest value.
    buckets: usize,
    stripes: usize,
    highest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// For latencies in nanoseconds, up to an hour: 30 KiB.
    #[must_use]
    pub fn new() -> Self {
        Self::with(HOUR_NANOS, STRIPES)
    }

    /// For values up to `highest`, at most 2^57, with so many stripes; at least one, rounded up to
    /// a power of two.
    #[must_use]
    pub fn with(highest: u64, stripes: usize) -> Self {
        let highest = highest.min(VALUE_MAX);
        let stripes = stripes.clamp(1, 1 << 10).next_power_of_two();
        let buckets = bucket(highest) + 2;
        let cells = (0..buckets * stripes).map(|_| AtomicU64::new(0)).collect();
        Self { cells, buckets, stripes, highest }
    }

    /// Records a value. One over the highest counts as such.
    #[inline]
    pub fn record(&self, value: u64) {
        self.record_at(thread(), value, 1);
    }

    /// Records the same value `count` times.
    #[inline]
    pub fn record_many(&self, value: u64, count: u64) {
        self.record_at(thread(), value, count);
    }

    /// As [`record_many`](Self::record_many), in the stripe of the caller's choice.
    #[inline]
    pub fn record_at(&self, stripe: usize, value: u64, count: u64) {
        let at = if value <= self.highest { bucket(value) } else { self.buckets - 1 };
        let stripe = stripe & (self.stripes - 1);
        self.cells[stripe * self.buckets + at].fetch_add(count, Ordering::Relaxed);
    }

    /// What was recorded until now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut counts = vec![0u64; self.buckets];
        for stripe in self.cells.chunks_exact(self.buckets) {
            for (count, cell) in counts.iter_mut().zip(stripe) {
                *count = count.wrapping_add(cell.load(Ordering::Relaxed));
            }
        }
        Snapshot::new(counts, self.highest)
    }

    /// Bytes of its cells.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        size_of_val(&*self.cells)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_usual_one_fits_in_36_kib() {
        assert!(Histogram::new().byte_len() <= 36 << 10, "{}", Histogram::new().byte_len());
    }

    #[test]
    fn nothing_is_lost_between_threads_whatever_is_read_meanwhile() {
        let histogram = Histogram::with(1 << 20, 2);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let histogram = &histogram;
                scope.spawn(move || (0..10_000).for_each(|at| histogram.record(at * 31 + thread)));
            }
            let mut last = 0;
            while last < 40_000 {
                let count = histogram.snapshot().count();
                assert!(count >= last, "a later snapshot holds what an earlier one held");
                last = count;
            }
        });
        assert_eq!(histogram.snapshot().count(), 40_000);
    }

    #[test]
    fn what_is_over_the_highest_counts_as_such() {
        let histogram = Histogram::with(100, 1);
        [0, 100, 101, u64::MAX].iter().for_each(|value| histogram.record(*value));
        let snapshot = histogram.snapshot();
        assert_eq!((snapshot.count(), snapshot.over()), (4, 2));
        assert_eq!(snapshot.quantile(1.0), Some(100), "no more is known of it");
    }
}
