//! Turns and medians: every side is measured once a round, so that what disturbs the machine
//! disturbs all of them.

/// The middle value; of an even number of values, the greater of the two in the middle.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The least and the greatest value.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn spread(values: &[f64]) -> [f64; 2] {
    let least = values.iter().copied().min_by(f64::total_cmp).expect("at least one value");
    let greatest = values.iter().copied().max_by(f64::total_cmp).expect("at least one value");
    [least, greatest]
}

/// Runs every side once a round, in order; gives the values of each side, by round.
pub fn in_turns(rounds: usize, sides: &mut [&mut dyn FnMut() -> f64]) -> Vec<Vec<f64>> {
    let mut values = vec![Vec::with_capacity(rounds); sides.len()];
    for _ in 0..rounds {
        for (side, values) in sides.iter_mut().zip(&mut values) {
            values.push(side());
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_spread_of_unsorted_values() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(spread(&[3.0, 1.0, 2.0]), [1.0, 3.0]);
    }

    #[test]
    fn sides_take_turns() {
        let order = std::cell::RefCell::new(Vec::new());
        let mut a = || {
            order.borrow_mut().push('a');
            1.0
        };
        let mut b = || {
            order.borrow_mut().push('b');
            2.0
        };
        assert_eq!(in_turns(2, &mut [&mut a, &mut b]), [[1.0, 1.0], [2.0, 2.0]]);
        assert_eq!(*order.borrow(), ['a', 'b', 'a', 'b']);
    }
}
