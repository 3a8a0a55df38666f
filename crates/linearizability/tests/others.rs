//! The same verdicts as another's checker, on thousands of random histories.

use quorate_linearizability::{
    Budget, MapOp, MapOutput, Model, Operation, Queue, QueueOp, QueueOutput, Register, Verdict,
    check,
};
use quorate_transport::{Rng, Time};
use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

/// One of our models as their specification: an operation with its answer, which a call has not
/// got yet and a response has.
struct Ours<M>(std::marker::PhantomData<M>);

impl<M: Model> Specification for Ours<M>
where
    M::State: std::fmt::Debug + std::hash::Hash,
{
    type State = M::State;
    type Operation = (M::Op, Option<M::Output>);

    fn init() -> M::State {
        M::init()
    }

    fn apply((op, output): &Self::Operation, state: &M::State) -> (bool, M::State) {
        match output.as_ref().and_then(|output| M::step(state, op, Some(output))) {
            Some(after) => (true, after),
            None => (false, state.clone()),
        }
    }
}

/// Their history: calls before responses at one time, and every operation answered.
fn theirs<M: Model>(history: &[Operation<M>]) -> History<(M::Op, Option<M::Output>)> {
    let mut events = Vec::new();
    for (process, operation) in history.iter().enumerate() {
        let (at, output) = operation.returned.clone().expect("every one is answered");
        events.push((operation.called, 0, process, Action::Call((operation.op.clone(), None))));
        let response = Action::Response((operation.op.clone(), Some(output)));
        events.push((at, 1, process, response));
    }
    events.sort_by_key(|(at, kind, process, _)| (*at, *kind, *process));
    History::from_actions(
        events.into_iter().map(|(.., process, action)| (process, action)).collect(),
    )
}

fn agrees<M: Model>(seed: u64, mut draw: impl FnMut(&mut Rng) -> (M::Op, M::Output))
where
    M::State: std::fmt::Debug + std::hash::Hash,
{
    let mut rng = Rng::new(seed);
    let mut verdicts = [0, 0];
    for round in 0..10_000 {
        let span = rng.between(4, 40);
        let history: Vec<Operation<M>> = (0..rng.between(1, 12))
            .map(|_| {
                let (op, output) = draw(&mut rng);
                let called = rng.below(span);
                let returned = Time::from_nanos(called + rng.below(10));
                Operation::returned(0, Time::from_nanos(called), returned, op, output)
            })
            .collect();
        let ours = match check(&history, Budget::default()) {
            Verdict::Ok => true,
            Verdict::Illegal(_) => false,
            Verdict::Unknown => panic!("small histories fit the budget"),
        };
        let expected = WGLChecker::<Ours<M>>::is_linearizable(theirs(&history));
        assert_eq!(ours, expected, "round {round}: {history:#?}");
        verdicts[usize::from(expected)] += 1;
    }
    assert!(verdicts.iter().all(|count| *count > 500), "{verdicts:?}");
}

#[test]
fn registers_get_the_verdict_of_another_checker() {
    agrees::<Register<u64>>(21, |rng| {
        let value = rng.between(1, 2);
        match rng.below(6) {
            0..3 => (MapOp::Put { key: (), value }, MapOutput::Done),
            3 => {
                let op = MapOp::CompareAndSet { key: (), expected: Some(value), value: 3 - value };
                (op, MapOutput::Swapped(rng.below(2) == 0))
            }
            _ => (MapOp::Get { key: () }, MapOutput::Value(Some(value))),
        }
    });
}

#[test]
fn queues_get_the_verdict_of_another_checker() {
    agrees::<Queue<(), u64>>(22, |rng| match rng.below(5) {
        0..3 => (QueueOp::Enqueue { key: (), value: rng.between(1, 2) }, QueueOutput::Done),
        _ => (QueueOp::Dequeue { key: () }, QueueOutput::Value(Some(rng.between(1, 2)))),
    });
}
