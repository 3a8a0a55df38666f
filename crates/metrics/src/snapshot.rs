//! What a histogram held at some time: quantiles, sums, merges.

use alloc::vec::Vec;

use thiserror::Error;

use crate::scale::{lowest, middle};

/// The values of a histogram at some time. Two of one range can be merged, in any order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    counts: Vec<u64>,
    highest: u64,
}

/// The ranges of two snapshots differ: the caller's fault. Neither was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("values up to {0} cannot be merged with values up to {1}")]
pub struct RangeError(pub u64, pub u64);

impl Snapshot {
    pub(crate) fn new(counts: Vec<u64>, highest: u64) -> Self {
        Self { counts, highest }
    }

    /// How many values there are: the sum of all buckets.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// How many of them are over the range.
    #[must_use]
    pub fn over(&self) -> u64 {
        self.counts.last().copied().unwrap_or(0)
    }

    /// The sum of all values, each at most 1 % off; one over the range counts as the highest.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.each().map(|(value, count)| value as f64 * count as f64).sum()
    }

    /// Their mean; `None` of none.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        let count = self.count();
        (count > 0).then(|| self.sum() / count as f64)
    }

    /// The value below which the part `q` of all values lies, at most 1 % off: 0.5 is the median, 0
    /// the least, 1 the greatest. `None` of none, or for a `q` that is no such part.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let count = self.count();
        if count == 0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        // The cast saturates; the first value is the least.
        let mut left = (q * count as f64) as u64;
        if (left as f64) < q * count as f64 {
            left += 1;
        }
        let mut left = left.clamp(1, count);
        for (value, count) in self.each() {
            if left <= count {
                return Some(value);
            }
            left -= count;
        }
        None
    }

    /// How many values are at most `bound`, to the bucket.
    #[must_use]
    pub fn at_most(&self, bound: u64) -> u64 {
        let within = |(bucket, _): &(usize, &u64)| {
            *bucket + 1 < self.counts.len() && lowest(bucket + 1) - 1 <= bound
        };
        let counts = self.counts.iter().enumerate().take_while(within);
        counts.fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// Adds the values of another.
    ///
    /// # Errors
    /// [`RangeError`].
    pub fn merge(&mut self, other: &Self) -> Result<(), RangeError> {
        if self.highest != other.highest {
            return Err(RangeError(self.highest, other.highest));
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
        Ok(())
    }

    /// Each bucket that holds something, as the value it stands for and how often.
    fn each(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let over = self.counts.len() - 1;
        let value = move |bucket| if bucket == over { self.highest } else { middle(bucket) };
        let held = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        held.map(move |(bucket, count)| (value(bucket).min(self.highest), *count))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::Histogram;
    use proptest::prelude::*;

    fn of(values: &[u64]) -> Snapshot {
        let histogram = Histogram::with(1 << 40, 1);
        values.iter().for_each(|value| histogram.record(*value));
        histogram.snapshot()
    }

    #[test]
    fn none_have_no_quantile_and_no_mean() {
        let none = of(&[]);
        assert_eq!((none.quantile(0.5), none.mean(), none.sum()), (None, None, 0.0));
        let one = of(&[7]);
        for q in [0.0, 0.5, 1.0] {
            assert_eq!(one.quantile(q), Some(7));
        }
        for q in [-0.1, 1.1, f64::NAN] {
            assert_eq!(one.quantile(q), None);
        }
    }

    #[test]
    fn other_ranges_are_not_merged() {
        let mut one = of(&[1]);
        let before = one.clone();
        assert_eq!(one.merge(&Histogram::with(5, 1).snapshot()), Err(RangeError(1 << 40, 5)));
        assert_eq!(one, before);
    }

    proptest! {
        #[test]
        fn quantiles_and_sums_are_within_a_percent(
            mut values in prop::collection::vec(0u64..1 << 40, 1..200),
            q in 0.0f64..=1.0,
        ) {
            let snapshot = of(&values);
            values.sort_unstable();
            let rank = ((q * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let want = values[rank - 1] as f64;
            let have = snapshot.quantile(q).unwrap() as f64;
            prop_assert!((have - want).abs() <= 0.01 * want, "{have} for {want}");
            let sum: u64 = values.iter().sum();
            prop_assert!((snapshot.sum() - sum as f64).abs() <= 0.01 * sum as f64 + 1e-6);
            prop_assert_eq!(snapshot.count(), values.len() as u64);
        }

        #[test]
        fn merging_is_adding_in_any_order(
            a in prop::collection::vec(0u64..1 << 30, 0..50),
            b in prop::collection::vec(0u64..1 << 30, 0..50),
        ) {
            let (mut ab, mut ba) = (of(&a), of(&b));
            ab.merge(&of(&b)).unwrap();
            ba.merge(&of(&a)).unwrap();
            let all: Vec<u64> = a.iter().chain(&b).copied().collect();
            prop_assert_eq!(&ab, &ba);
            prop_assert_eq!(ab, of(&all));
        }

        #[test]
        fn what_is_at_most_a_bound_rises_to_the_count(
            values in prop::collection::vec(0u64..1 << 20, 1..100),
        ) {
            let snapshot = of(&values);
            let mut last = 0;
            for bound in (0..21).map(|bit| (1u64 << bit) - 1) {
                let now = snapshot.at_most(bound);
                prop_assert!(now >= last);
                last = now;
            }
            prop_assert_eq!(snapshot.at_most(u64::MAX), snapshot.count());
        }
    }
}
