//! The log-linear scale: exact up to 64, then fifty buckets for every doubling.

/// No value is taken for one that is farther off than this part of it.
pub const RELATIVE_ERROR: f64 = 0.01;

/// The range of a histogram of latencies in nanoseconds: an hour.
pub const HOUR_NANOS: u64 = 3_600_000_000_000;

/// Values below have a bucket each.
const EXACT: u64 = 1 << EXACT_BITS;
const EXACT_BITS: u32 = 6;
/// Buckets of one doubling: the widest is a fiftieth of its least value.
const STEPS: u64 = 50;
/// Beyond, `value * STEPS` would not fit.
pub(crate) const VALUE_MAX: u64 = 1 << 57;

/// The bucket of a value, which is at most [`VALUE_MAX`].
#[inline]
pub(crate) fn bucket(value: u64) -> usize {
    if value < EXACT {
        return value as usize;
    }
    let octave = value.ilog2();
    let step = ((value - (1 << octave)) * STEPS) >> octave;
    (EXACT + u64::from(octave - EXACT_BITS) * STEPS + step) as usize
}

/// The least value of a bucket.
pub(crate) fn lowest(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < EXACT {
        return bucket;
    }
    let octave = EXACT_BITS + ((bucket - EXACT) / STEPS) as u32;
    let step = (bucket - EXACT) % STEPS;
    (1 << octave) + (step << octave).div_ceil(STEPS)
}

/// What a value of this bucket is taken for: the middle, at most [`RELATIVE_ERROR`] off.
pub(crate) fn middle(bucket: usize) -> u64 {
    let (low, next) = (lowest(bucket), lowest(bucket + 1));
    low + (next - low) / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_follow_each_other_without_gap_or_overlap() {
        let last = bucket(VALUE_MAX);
        for at in 0..last {
            let (low, next) = (lowest(at), lowest(at + 1));
            assert!(low < next, "bucket {at}");
            assert_eq!((bucket(low), bucket(next - 1)), (at, at));
        }
    }

    #[test]
    fn an_hour_of_nanoseconds_in_two_stripes_takes_less_than_36_kib() {
        assert!((bucket(HOUR_NANOS) + 2) * 8 * 2 <= 36 << 10);
    }

    proptest! {
        #[test]
        fn a_value_is_in_its_bucket_and_near_its_middle(value in 0u64..=VALUE_MAX) {
            let at = bucket(value);
            prop_assert!(lowest(at) <= value && value < lowest(at + 1));
            let off = middle(at).abs_diff(value) as f64;
            prop_assert!(off <= RELATIVE_ERROR * value as f64, "{value}: {}", middle(at));
        }
    }
}
