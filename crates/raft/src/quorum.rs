//! What a majority has.

use crate::members::MEMBERS_MAX;

/// How many of `voters` are a majority.
pub(crate) fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The greatest value that a majority of `voters` has reached; those not given count as 0.
pub(crate) fn reached(values: impl Iterator<Item = u64>, voters: usize) -> u64 {
    debug_assert!(voters <= MEMBERS_MAX, "as many as a configuration may name");
    if voters == 3 {
        return middle(values);
    }
    if voters <= SMALL { nth::<SMALL>(values, voters) } else { nth::<MEMBERS_MAX>(values, voters) }
}

/// The middle of three: nearly every group is one of three.
fn middle(mut values: impl Iterator<Item = u64>) -> u64 {
    let mut next = || values.next().unwrap_or(0);
    let (a, b, c) = (next(), next(), next());
    a.min(b).max(a.max(b).min(c))
}

/// Nearly every other group is this small: there is less to clear.
const SMALL: usize = 5;

fn nth<const MAX: usize>(values: impl Iterator<Item = u64>, voters: usize) -> u64 {
    // Kept in falling order while it fills: groups are small.
    let mut sorted = [0; MAX];
    for (count, value) in values.enumerate() {
        let mut at = count;
        while at > 0 && sorted[at - 1] < value {
            sorted[at] = sorted[at - 1];
            at -= 1;
        }
        sorted[at] = value;
    }
    sorted[majority(voters) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_transport::Rng;

    /// Counts, for each value, who has reached it.
    fn naive(values: &[u64], voters: usize) -> u64 {
        let has = |v: u64| values.iter().filter(|value| **value >= v).count() * 2 > voters;
        (0..=9).rev().find(|v| *v == 0 || has(*v)).unwrap()
    }

    #[test]
    fn the_quorum_function_agrees_with_counting_for_every_size() {
        let mut rng = Rng::new(1);
        for voters in 1..=9 {
            for _ in 0..2000 {
                let given = rng.between(0, voters as u64) as usize;
                let values: alloc::vec::Vec<u64> = (0..given).map(|_| rng.below(10)).collect();
                assert_eq!(reached(values.iter().copied(), voters), naive(&values, voters));
            }
        }
    }

    #[test]
    fn two_majorities_always_meet() {
        for voters in 1..=9 {
            assert!(2 * majority(voters) > voters);
            assert!(2 * (majority(voters) - 1) <= voters, "and none is larger than needed");
        }
    }
}
