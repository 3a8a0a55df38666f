//! From a history that no order explains to the few operations that matter.
//!
//! Every cut is sound: were the whole history explainable, what is left would be too. So a
//! counterexample never blames the cut itself, as in "read 1, which nobody wrote".

use quorate_transport::Time;

use super::search::{Outcome, Search};
use super::{Model, Operation};

/// Removes what the contradiction does not need; `stuck_at` is where the search could not go on.
pub(super) fn shrink<M: Model>(
    operations: &[&Operation<M>],
    stuck_at: Time,
    steps_max: u64,
) -> Vec<Operation<M>> {
    let mut steps_left = steps_max;
    let mut kept: Vec<Operation<M>> = operations.iter().copied().cloned().collect();
    kept.sort_by_key(|operation| operation.called);
    // The search never looked at what was called later.
    let later = kept.partition_point(|operation| operation.called <= stuck_at);
    kept = without(&kept, later, kept.len());
    let mut chunk = kept.len().div_ceil(2);
    loop {
        let before = kept.len();
        let mut begin = 0;
        while begin < kept.len() {
            let end = kept.len().min(begin + chunk);
            let rest = without(&kept, begin, end);
            if rest.len() < kept.len() && is_illegal(&rest, &mut steps_left) {
                // What is owed to the rest stays, in front: step over it.
                begin += rest.len() - (kept.len() - (end - begin));
                kept = rest;
            } else {
                begin = end;
            }
        }
        if chunk > 1 {
            chunk = chunk.div_ceil(2);
        } else if kept.len() == before {
            return kept;
        }
    }
}

/// `kept` less `begin..end`, but for what an output that stays may be owed to.
fn without<M: Model>(kept: &[Operation<M>], begin: usize, end: usize) -> Vec<Operation<M>> {
    let mut stays: Vec<bool> = (0..kept.len()).map(|at| !(begin..end).contains(&at)).collect();
    let mut observers: Vec<usize> = (0..kept.len()).filter(|at| stays[*at]).collect();
    while let Some(observer) = observers.pop() {
        let Some((returned, observed)) = &kept[observer].returned else {
            continue;
        };
        for at in begin..end {
            let owed = kept[at].called <= *returned
                && M::feeds(&kept[at].op, &kept[observer].op, observed);
            if owed && !stays[at] {
                stays[at] = true;
                observers.push(at);
            }
        }
    }
    kept.iter().zip(stays).filter(|(_, stays)| *stays).map(|(kept, _)| kept.clone()).collect()
}

fn is_illegal<M: Model>(operations: &[Operation<M>], steps_left: &mut u64) -> bool {
    let operations: Vec<&Operation<M>> = operations.iter().collect();
    let outcome = Search::<M>::new(&operations).run(steps_left);
    matches!(outcome, Outcome::Illegal { .. })
}

#[cfg(test)]
mod tests {
    use quorate_transport::Rng;

    use super::*;
    use crate::{Budget, MapOp, MapOutput, Register, Verdict, check};

    /// Answered operations of one register that take effect one a tick, each open for a while.
    fn explainable(rng: &mut Rng) -> Vec<Operation<Register<u64>>> {
        let mut state = None;
        let operation = |tick: u64| {
            let (value, key) = (rng.between(1, 3), ());
            let op = match rng.below(4) {
                0 => MapOp::Put { key, value },
                1 => MapOp::Delete { key },
                2 => MapOp::Get { key },
                _ => MapOp::CompareAndSet { key, expected: Some(rng.between(1, 3)), value },
            };
            let output = match &op {
                MapOp::Get { .. } => MapOutput::Value(state),
                MapOp::CompareAndSet { expected, .. } => MapOutput::Swapped(*expected == state),
                _ => MapOutput::Done,
            };
            state = Register::step(&state, &op, Some(&output)).expect("the model's own output");
            let (called, returned) = (tick - rng.below(4), tick + rng.below(4));
            let returned = Some((Time::from_nanos(returned), output));
            let called = Time::from_nanos(called);
            Operation { client: tick, called, returned: returned.filter(|_| rng.below(8) > 0), op }
        };
        let mut history: Vec<_> = (10..22).map(operation).collect();
        history.sort_by_key(|operation| operation.called);
        history
    }

    #[test]
    fn no_cut_makes_an_explainable_history_look_wrong() {
        let mut rng = Rng::new(5);
        for _ in 0..3_000 {
            let history = explainable(&mut rng);
            let begin = rng.below(12) as usize;
            let end = begin + rng.below(13 - begin as u64) as usize;
            let rest = without(&history, begin, end);
            assert!(
                matches!(check(&rest, Budget::default()), Verdict::Ok),
                "{history:#?} {rest:#?}"
            );
        }
    }
}
