//! Numbers that grow, and numbers that rise and fall.

use alloc::boxed::Box;

use crate::stripe::{AtomicI64, AtomicU64, Ordering, Padded, thread};

/// Cells of a counter: as many threads add without slowing each other down.
const STRIPES: usize = 16;

/// A number that only grows, modulo 2^64.
///
/// Adding is wait-free, one atomic addition to a cell that threads seldom share; it takes no order
/// with other memory. Reading is wait-free too and never less than what an earlier read by the same
/// thread gave. (G1)
#[derive(Debug)]
pub struct Counter {
    stripes: Box<[Padded<AtomicU64>]>,
}

impl Default for Counter {
    fn default() -> Self {
        Self::new()
    }
}

impl Counter {
    /// A counter at zero: 2 KiB.
    #[must_use]
    pub fn new() -> Self {
        Self::with_stripes(STRIPES)
    }

    /// A counter of this many cells, 128 bytes each; at least one, rounded up to a power of two.
    #[must_use]
    pub fn with_stripes(stripes: usize) -> Self {
        let count = stripes.clamp(1, 1 << 10).next_power_of_two();
        Self { stripes: (0..count).map(|_| Padded(AtomicU64::new(0))).collect() }
    }

    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.add_at(thread(), n);
    }

    /// Adds `n` in the cell of the caller's choice: the number of a worker, of a core.
    #[inline]
    pub fn add_at(&self, stripe: usize, n: u64) {
        let at = stripe & (self.stripes.len() - 1);
        self.stripes[at].0.fetch_add(n, Ordering::Relaxed);
    }

    /// The sum of all that was added; of additions under way, some.
    #[must_use]
    pub fn get(&self) -> u64 {
        let cells = self.stripes.iter().map(|cell| cell.0.load(Ordering::Relaxed));
        cells.fold(0, u64::wrapping_add)
    }
}

/// A number that rises and falls, modulo 2^64. One cell: the last [`set`](Self::set) wins.
#[derive(Debug)]
pub struct Gauge(Padded<AtomicI64>);

impl Default for Gauge {
    fn default() -> Self {
        Self::new()
    }
}

impl Gauge {
    /// A gauge at zero.
    #[must_use]
    pub fn new() -> Self {
        Self(Padded(AtomicI64::new(0)))
    }

    /// Sets it.
    pub fn set(&self, value: i64) {
        self.0.0.store(value, Ordering::Relaxed);
    }

    /// Adds to it.
    pub fn add(&self, n: i64) {
        self.0.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Takes from it.
    pub fn sub(&self, n: i64) {
        self.0.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// What it is now.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.0.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_stripe_counts_and_any_number_names_one() {
        let counter = Counter::with_stripes(3);
        (0..100).for_each(|at| counter.add_at(at, 2));
        counter.add_at(usize::MAX, 1);
        counter.inc();
        assert_eq!(counter.get(), 202);
        assert_eq!(Counter::with_stripes(0).stripes.len(), 1);
        assert_eq!(Counter::with_stripes(usize::MAX).stripes.len(), 1 << 10);
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let (counter, gauge) = (Counter::new(), Gauge::new());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        counter.inc();
                        gauge.add(3);
                        gauge.sub(2);
                    }
                });
            }
        });
        assert_eq!((counter.get(), gauge.get()), (40_000, 40_000));
        gauge.set(-7);
        assert_eq!(gauge.get(), -7);
    }

    #[test]
    fn an_overflow_wraps_and_does_not_panic() {
        let (counter, gauge) = (Counter::new(), Gauge::new());
        counter.add_at(0, u64::MAX);
        counter.add_at(1, 3);
        gauge.set(i64::MAX);
        gauge.add(1);
        assert_eq!((counter.get(), gauge.get()), (2, i64::MIN));
    }
}
