//! The checker on known histories, against a naive one on random histories, and on a long one.

use std::time::Duration;

use quorate_linearizability::{
    Budget, Counterexample, Map, MapOp, MapOutput, Model, Operation, Register, Verdict, check,
};
use quorate_transport::{Rng, Time};

type Reg = Register<u64>;
type Op = Operation<Reg>;

const KEY: () = ();

fn at(tick: u64) -> Time {
    Time::from_nanos(tick)
}

fn get(from: u64, to: u64, seen: Option<u64>) -> Op {
    Op::returned(0, at(from), at(to), MapOp::Get { key: KEY }, MapOutput::Value(seen))
}

fn put(from: u64, to: u64, value: u64) -> Op {
    Op::returned(0, at(from), at(to), MapOp::Put { key: KEY, value }, MapOutput::Done)
}

fn delete(from: u64, to: u64) -> Op {
    Op::returned(0, at(from), at(to), MapOp::Delete { key: KEY }, MapOutput::Done)
}

fn cas(from: u64, to: u64, expected: Option<u64>, value: u64, swapped: bool) -> Op {
    let op = MapOp::CompareAndSet { key: KEY, expected, value };
    Op::returned(0, at(from), at(to), op, MapOutput::Swapped(swapped))
}

fn lost_put(from: u64, value: u64) -> Op {
    Op::indeterminate(0, at(from), MapOp::Put { key: KEY, value })
}

fn is_legal<M: Model>(history: &[Operation<M>]) -> bool {
    match check(history, Budget::default()) {
        Verdict::Ok => true,
        Verdict::Illegal(_) => false,
        Verdict::Unknown => panic!("a small history fits the budget"),
    }
}

fn counterexample<M: Model>(history: &[Operation<M>]) -> Counterexample<M> {
    match check(history, Budget::default()) {
        Verdict::Illegal(counterexample) => counterexample,
        Verdict::Ok => panic!("found an order for an impossible history"),
        Verdict::Unknown => panic!("a small history fits the budget"),
    }
}

#[test]
fn known_good_histories_pass() {
    let lost_get = Op::indeterminate(0, at(0), MapOp::Get { key: KEY });
    let good: &[(&str, Vec<Op>)] = &[
        ("nothing happened", vec![]),
        ("one after the other", vec![put(0, 1, 1), get(2, 3, Some(1)), get(4, 5, Some(1))]),
        ("a read beside a write sees before", vec![put(0, 9, 1), get(1, 2, None)]),
        ("a read beside a write sees after", vec![put(0, 9, 1), get(1, 2, Some(1))]),
        ("touching operations are concurrent", vec![put(0, 1, 1), get(1, 2, None)]),
        ("two writes in either order", vec![put(0, 9, 1), put(0, 9, 2), get(10, 11, Some(1))]),
        ("a lost write took effect", vec![lost_put(0, 1), get(1, 2, Some(1))]),
        (
            "a lost write took effect late",
            vec![lost_put(0, 1), get(1, 2, None), put(3, 4, 2), get(5, 6, Some(1))],
        ),
        ("a lost write never took effect", vec![lost_put(0, 1), get(1, 2, None)]),
        ("a lost read says nothing", vec![lost_get, put(1, 2, 1), get(3, 4, Some(1))]),
        ("deleted", vec![put(0, 1, 1), delete(2, 3), get(4, 5, None), cas(6, 7, None, 2, true)]),
        ("a refused swap", vec![put(0, 1, 1), cas(2, 3, Some(2), 3, false), get(4, 5, Some(1))]),
        (
            "two swaps, one wins",
            vec![cas(0, 9, None, 1, true), cas(0, 9, None, 2, false), get(10, 11, Some(1))],
        ),
    ];
    for (name, history) in good {
        assert!(is_legal(history), "{name}");
    }
}

#[test]
fn known_bad_histories_shrink_to_what_is_wrong() {
    let noise = || vec![put(0, 1, 90), get(2, 3, Some(90)), delete(4, 5)];
    let bad: &[(&str, Vec<Op>)] = &[
        ("stale read", vec![put(10, 11, 1), put(12, 13, 2), get(14, 15, Some(1))]),
        ("lost write", vec![put(10, 11, 1), get(14, 15, None)]),
        ("a value out of nowhere", vec![get(14, 15, Some(7))]),
        (
            "duplicated write",
            vec![put(10, 11, 1), put(12, 13, 2), get(14, 15, Some(2)), get(16, 17, Some(1))],
        ),
        ("reads that go back", vec![put(10, 99, 1), get(11, 12, Some(1)), get(13, 14, None)]),
        (
            "a lost write that takes effect twice",
            vec![lost_put(10, 1), get(11, 12, Some(1)), put(13, 14, 2), get(15, 16, Some(2))]
                .into_iter()
                .chain([get(17, 18, Some(1))])
                .collect(),
        ),
        ("two swaps, both win", vec![cas(10, 19, None, 1, true), cas(10, 19, None, 2, true)]),
        ("a swap refused for no reason", vec![put(10, 11, 1), cas(12, 13, Some(1), 2, false)]),
    ];
    for (name, history) in bad {
        assert!(!is_legal(history), "{name}");
        let tail = [put(100, 101, 91), get(102, 103, Some(91))];
        let noisy: Vec<Op> = noise().into_iter().chain(history.clone()).chain(tail).collect();
        let small = counterexample(&noisy);
        assert!(!is_legal(&small.operations), "{name}: {small}");
        assert!(small.operations.len() <= history.len() + 2, "{name}: {small}");
    }
}

#[test]
fn a_counterexample_keeps_the_write_that_a_stale_read_saw() {
    let mut history: Vec<Op> = (0..100).map(|i| put(i * 10, i * 10 + 1, i)).collect();
    history.push(get(1000, 1001, Some(42)));
    let small = counterexample(&history);
    assert_eq!(small.operations.len(), 3, "{small}");
    assert!(matches!(small.operations[0].op, MapOp::Put { value: 42, .. }), "{small}");
    let shown = small.to_string();
    assert!(shown.contains("Put { key: (), value: 42 } -> Done"), "{shown}");
}

#[test]
fn keys_are_checked_apart_and_the_guilty_one_is_named() {
    let mut history: Vec<Operation<Map<u8, u64>>> = Vec::new();
    for key in 0..3_u8 {
        let (value, begin) = (u64::from(key), u64::from(key));
        let seen = if key == 1 { None } else { Some(value) };
        let (put, get) = (MapOp::Put { key, value }, MapOp::Get { key });
        history.push(Operation::returned(1, at(begin), at(10), put, MapOutput::Done));
        history.push(Operation::returned(2, at(20), at(21), get, MapOutput::Value(seen)));
    }
    assert_eq!(counterexample(&history).key, 1);
    history.remove(2);
    assert!(is_legal(&history));
}

#[test]
fn running_out_of_budget_is_never_a_pass() {
    let history = [put(0, 1, 1), get(2, 3, Some(1))];
    let verdict = check::<Reg>(&history, Budget { steps_max: 1 });
    assert!(matches!(verdict, Verdict::Unknown));
}

#[test]
#[should_panic(expected = "returned before it was called")]
fn a_return_before_its_call_is_refused() {
    let _ = check(&[put(2, 1, 1)], Budget::default());
}

/// Whether some order explains `left` from `state` on, by trying all.
fn naive(state: Option<u64>, left: &[&Op]) -> bool {
    let answered = || left.iter().filter_map(|op| op.returned.as_ref());
    let Some(first_return) = answered().map(|(at, _)| *at).min() else {
        return true;
    };
    (0..left.len()).any(|at| {
        let (op, output) = (left[at], left[at].returned.as_ref().map(|(_, output)| output));
        let mut rest = left.to_vec();
        rest.remove(at);
        op.called <= first_return
            && Reg::step(&state, &op.op, output).is_some_and(|after| naive(after, &rest))
    })
}

fn random_operation(rng: &mut Rng, value: u64) -> Op {
    let (from, span) = (rng.below(12), rng.below(6));
    let small = |rng: &mut Rng| Some(rng.below(4)).filter(|value| *value > 0);
    let (op, output) = match rng.below(8) {
        0..=3 => (MapOp::Get { key: KEY }, MapOutput::Value(small(rng))),
        4..=5 => (MapOp::Put { key: KEY, value }, MapOutput::Done),
        6 => (MapOp::Delete { key: KEY }, MapOutput::Done),
        _ => {
            let expected = small(rng);
            let swapped = MapOutput::Swapped(rng.below(2) == 0);
            (MapOp::CompareAndSet { key: KEY, expected, value }, swapped)
        }
    };
    let returned = Some((at(from + span), output)).filter(|_| rng.below(6) > 0);
    Op { client: 0, called: at(from), returned, op }
}

#[test]
fn random_histories_get_the_verdict_of_a_naive_checker() {
    let mut rng = Rng::new(1);
    let (mut legal, mut illegal) = (0, 0);
    for round in 0..20_000 {
        let count = rng.between(1, 7);
        let history: Vec<Op> = (0..count)
            .map(|_| {
                let value = rng.between(1, 3);
                random_operation(&mut rng, value)
            })
            .collect();
        let expected = naive(None, &history.iter().collect::<Vec<_>>());
        match check(&history, Budget::default()) {
            Verdict::Ok => assert!(expected, "round {round}: {history:#?}"),
            Verdict::Illegal(small) => {
                assert!(!expected, "round {round}: {history:#?}");
                let left: Vec<&Op> = small.operations.iter().collect();
                assert!(!naive(None, &left), "round {round}: {small}");
            }
            Verdict::Unknown => panic!("round {round}: a small history fits the budget"),
        }
        if expected { legal += 1 } else { illegal += 1 }
    }
    // Both verdicts must be common, or the comparison shows nothing.
    assert!(legal > 2_000 && illegal > 2_000, "{legal} legal, {illegal} illegal");
}

#[test]
fn a_long_past_changes_no_verdict() {
    let mut rng = Rng::new(2);
    for round in 0..4_000 {
        // The sets of the search are made of words: let the random part straddle two of them.
        let past = rng.between(57, 66);
        let mut history: Vec<Op> = (0..past).map(|i| put(i * 10, i * 10 + 1, 1)).collect();
        history.push(delete(past * 10, past * 10 + 1));
        let begin = history.len();
        for _ in 0..8 {
            let value = rng.between(1, 3);
            let mut op = random_operation(&mut rng, value);
            let shift = Duration::from_nanos(1_000);
            op.called = op.called + shift;
            op.returned = op.returned.map(|(at, output)| (at + shift, output));
            history.push(op);
        }
        let expected = naive(None, &history[begin..].iter().collect::<Vec<_>>());
        assert_eq!(is_legal(&history), expected, "round {round}: {:#?}", &history[begin..]);
    }
}

/// A history of `count` operations on one register by `clients`, each busy all the time; an
/// operation takes effect at some instant between its call and its return.
fn busy(seed: u64, count: u64, clients: u64, lost_ppm: u32) -> Vec<Op> {
    let mut rng = Rng::new(seed);
    let mut free = vec![0_u64; clients as usize];
    let mut planned = Vec::new();
    for id in 1..=count {
        let client = (0..clients).min_by_key(|client| free[*client as usize]).unwrap_or(0);
        let called = free[client as usize] + rng.between(1, 5);
        let (effect, lag) = (called + rng.below(100), rng.below(100));
        free[client as usize] = effect + lag + 1;
        planned.push((effect, id, client, called, effect + lag));
    }
    planned.sort_unstable();
    let mut state = None;
    let perform = |(_, id, client, called, returned): (u64, u64, u64, u64, u64)| {
        let op = match rng.below(4) {
            0 => MapOp::Put { key: KEY, value: id },
            1 => MapOp::CompareAndSet { key: KEY, expected: state, value: id },
            _ => MapOp::Get { key: KEY },
        };
        let output = match &op {
            MapOp::Get { .. } => MapOutput::Value(state),
            MapOp::CompareAndSet { .. } => MapOutput::Swapped(true),
            _ => MapOutput::Done,
        };
        state = Reg::step(&state, &op, Some(&output)).expect("the output is the model's own");
        let returned = Some((at(returned), output)).filter(|_| !rng.chance_ppm(lost_ppm));
        Op { client, called: at(called), returned, op }
    };
    planned.into_iter().map(perform).collect()
}

#[test]
fn a_long_busy_history_of_one_key_is_checked() {
    assert!(is_legal(&busy(1, 10_000, 10, 0)));
    assert!(is_legal(&busy(2, 10_000, 10, 1_000)));
}

#[test]
fn one_wrong_read_in_a_long_history_is_found_and_shrunk() {
    let mut history = busy(3, 10_000, 10, 0);
    let reads = |op: &Op| matches!(op.op, MapOp::Get { .. });
    let wrong = (8_000..).find(|at| reads(&history[*at])).expect("half of them are reads");
    let (returned, _) = history[wrong].returned.clone().expect("all are answered");
    let (old, _) = history[100..].iter().find_map(|op| Some((written(op)?, ()))).expect("a write");
    history[wrong].returned = Some((returned, MapOutput::Value(Some(old))));
    let small = counterexample(&history);
    assert!(small.operations.len() <= 12, "{small}");
    assert!(!is_legal(&small.operations), "{small}");
}

fn written(op: &Op) -> Option<u64> {
    match &op.op {
        MapOp::Put { value, .. } => Some(*value),
        _ => None,
    }
}
