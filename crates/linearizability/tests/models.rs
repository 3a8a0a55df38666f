//! Each model on histories that are known, and against trying every order on random ones.

use quorate_linearizability::{
    Budget, FencedLock, LockOp, LockOutput, Map, MapOp, MapOutput, Model, Operation, Queue,
    QueueOp, QueueOutput, SessionOp, SessionOutput, Sessions, Verdict, check,
};
use quorate_transport::{Rng, Time};

type Line = Queue<(), u64>;
type Lock = FencedLock<()>;
type Visits = Sessions<Map<(), u64>>;

fn is_legal<M: Model>(history: &[Operation<M>]) -> bool {
    match check(history, Budget::default()) {
        Verdict::Ok => true,
        Verdict::Illegal(_) => false,
        Verdict::Unknown => panic!("small histories fit the budget"),
    }
}

/// One operation after the other.
fn in_turn<M: Model>(operations: Vec<(M::Op, Option<M::Output>)>) -> Vec<Operation<M>> {
    let at = |number: usize, part| Time::from_nanos(10 * number as u64 + part);
    let timed = |(number, (op, output)): (usize, (M::Op, Option<M::Output>))| {
        let returned = output.map(|output| (at(number, 5), output));
        Operation { client: 0, called: at(number, 0), returned, op }
    };
    operations.into_iter().enumerate().map(timed).collect()
}

/// Every order that the times allow is tried, with every subset of those that never returned.
fn naive<M: Model>(state: &M::State, left: &[&Operation<M>]) -> bool {
    if left.iter().all(|op| op.returned.is_none()) {
        return true;
    }
    let soonest = left.iter().filter_map(|op| op.returned.as_ref().map(|(at, _)| *at)).min();
    left.iter().enumerate().any(|(number, op)| {
        let rest = || left.iter().enumerate().filter(|(n, _)| *n != number).map(|(_, op)| *op);
        soonest.is_none_or(|soonest| op.called <= soonest)
            && M::step(state, &op.op, op.returned.as_ref().map(|(_, output)| output))
                .is_some_and(|after| naive(&after, &rest().collect::<Vec<_>>()))
    })
}

/// Random histories with random answers: the search and the naive checker agree, and both verdicts
/// are common.
fn agrees<M: Model>(seed: u64, mut draw: impl FnMut(&mut Rng) -> (M::Op, M::Output)) {
    let mut rng = Rng::new(seed);
    let mut verdicts = [0, 0];
    for round in 0..20_000 {
        let history: Vec<Operation<M>> = (0..rng.between(1, 6))
            .map(|_| {
                let (op, output) = draw(&mut rng);
                let called = Time::from_nanos(rng.below(12));
                let returned = Time::from_nanos(called.as_nanos() + rng.below(8));
                let returned = Some((returned, output)).filter(|_| rng.below(6) > 0);
                Operation { client: 0, called, returned, op }
            })
            .collect();
        let expected = naive(&M::init(), &history.iter().collect::<Vec<_>>());
        assert_eq!(is_legal(&history), expected, "round {round}: {history:#?}");
        verdicts[usize::from(expected)] += 1;
    }
    assert!(verdicts.iter().all(|count| *count > 1_000), "{verdicts:?}");
}

fn enqueue(value: u64) -> QueueOp<(), u64> {
    QueueOp::Enqueue { key: (), value }
}

const DEQUEUE: QueueOp<(), u64> = QueueOp::Dequeue { key: () };

#[test]
fn a_queue_gives_back_in_order_and_each_value_once() {
    let taken = |value| Some(QueueOutput::Value(value));
    let done = Some(QueueOutput::Done);
    let two = [(enqueue(1), done.clone()), (enqueue(2), done)];
    let with = |rest: &[Option<u64>]| {
        let rest = rest.iter().map(|value| (DEQUEUE, taken(*value)));
        is_legal::<Line>(&in_turn(two.iter().cloned().chain(rest).collect()))
    };
    assert!(with(&[Some(1), Some(2), None]));
    assert!(!with(&[Some(2)]), "out of order");
    assert!(!with(&[Some(1), Some(1)]), "twice");
    assert!(!with(&[Some(1), None]), "lost");
    assert!(!with(&[Some(3)]), "from nowhere");
    // A value that was taken by somebody who was never told so.
    let lost = vec![(enqueue(1), Some(QueueOutput::Done)), (DEQUEUE, None), (DEQUEUE, taken(None))];
    assert!(is_legal::<Line>(&in_turn(lost)));
}

#[test]
fn queues_get_the_verdict_of_a_naive_checker() {
    agrees::<Line>(11, |rng| match rng.below(2) {
        0 => (enqueue(rng.below(3)), QueueOutput::Done),
        _ => (DEQUEUE, QueueOutput::Value(Some(rng.below(3)).filter(|value| *value > 0))),
    });
}

fn acquire(client: u64) -> LockOp<()> {
    LockOp::Acquire { key: (), client }
}

fn release(client: u64, fence: u64) -> LockOp<()> {
    LockOp::Release { key: (), client, fence }
}

fn granted(fence: u64) -> Option<LockOutput> {
    Some(LockOutput::Granted { fence })
}

#[test]
fn a_lock_has_one_holder_and_growing_fences() {
    let released = |held| Some(LockOutput::Released(held));
    let expire = || LockOp::Expire { key: () };
    let legal = |operations: Vec<_>| is_legal::<Lock>(&in_turn(operations));
    let first = || (acquire(1), granted(4));
    assert!(legal(vec![
        first(),
        (acquire(2), Some(LockOutput::Held)),
        (release(1, 4), released(true))
    ]));
    assert!(legal(vec![first(), (expire(), released(true)), (acquire(2), granted(9))]));
    assert!(legal(vec![first(), (expire(), released(true)), (release(1, 4), released(false))]));
    assert!(!legal(vec![first(), (acquire(2), granted(5))]), "two holders");
    assert!(
        !legal(vec![first(), (expire(), released(true)), (acquire(2), granted(4))]),
        "no fence"
    );
    assert!(!legal(vec![first(), (release(2, 4), released(true))]), "released by another");
    assert!(!legal(vec![first(), (release(1, 3), released(true))]), "another grant");
    // Granted to somebody who was never told so, and gave back what must have been that.
    assert!(legal(vec![
        (acquire(1), None),
        (release(1, 7), released(true)),
        (acquire(2), granted(8))
    ]));
    assert!(!legal(vec![
        (acquire(1), None),
        (release(1, 7), released(true)),
        (acquire(2), granted(7))
    ]));
}

#[test]
fn locks_get_the_verdict_of_a_naive_checker() {
    agrees::<Lock>(12, |rng| {
        let (client, fence) = (rng.between(1, 2), rng.between(1, 3));
        match rng.below(5) {
            0 | 1 => (acquire(client), LockOutput::Granted { fence }),
            2 => (acquire(client), LockOutput::Held),
            3 => (release(client, fence), LockOutput::Released(rng.below(4) > 0)),
            _ => (LockOp::Expire { key: () }, LockOutput::Released(rng.below(2) > 0)),
        }
    });
}

fn visit(session: u64, number: u64, op: MapOp<(), u64>) -> SessionOp<MapOp<(), u64>> {
    SessionOp { session, number, op }
}

fn swap(expected: Option<u64>, value: u64) -> MapOp<(), u64> {
    MapOp::CompareAndSet { key: (), expected, value }
}

#[test]
fn what_a_session_asks_twice_takes_effect_once_and_has_one_answer() {
    let answer = |output| Some(SessionOutput::Answer(output));
    let swapped = |swapped| answer(MapOutput::Swapped(swapped));
    let legal = |operations: Vec<_>| is_legal::<Visits>(&in_turn(operations));
    let first = || (visit(1, 1, swap(None, 5)), swapped(true));
    let other = || (visit(2, 1, MapOp::Delete { key: () }), answer(MapOutput::Done));
    assert!(legal(vec![first(), other(), first()]));
    let read = |seen| (visit(3, 1, MapOp::Get { key: () }), answer(MapOutput::Value(seen)));
    assert!(legal(vec![first(), other(), first(), read(None)]));
    assert!(!legal(vec![first(), other(), first(), read(Some(5))]), "it took effect twice");
    assert!(!legal(vec![first(), (visit(1, 1, swap(None, 5)), swapped(false))]), "two answers");
    // The first answer was lost: the second one is the first one's.
    let lost = || (visit(1, 1, swap(None, 5)), None);
    assert!(legal(vec![lost(), other(), first(), read(None)]));
    assert!(!legal(vec![
        other(),
        lost(),
        read(Some(5)),
        (visit(1, 1, swap(None, 5)), swapped(false))
    ]));
    // What comes too late says so.
    let later = || (visit(1, 2, MapOp::Delete { key: () }), answer(MapOutput::Done));
    let late = (visit(1, 1, swap(None, 5)), Some(SessionOutput::Late));
    assert!(legal(vec![first(), later(), late.clone()]));
    assert!(!legal(vec![first(), later(), first()]), "answered though the session went on");
    assert!(!legal(vec![first(), late]), "nothing later was asked for");
}

#[test]
fn sessions_get_the_verdict_of_a_naive_checker() {
    agrees::<Visits>(13, |rng| {
        let (session, number) = (rng.between(1, 2), rng.between(1, 2));
        let value = rng.between(1, 2);
        let (op, output) = match rng.below(3) {
            0 => (MapOp::Put { key: (), value }, MapOutput::Done),
            1 => {
                (swap(Some(value).filter(|v| *v > 1), value), MapOutput::Swapped(rng.below(3) > 0))
            }
            _ => (MapOp::Get { key: () }, MapOutput::Value(Some(value).filter(|v| *v > 1))),
        };
        let answer = SessionOutput::Answer(output);
        (visit(session, number, op), if rng.below(8) == 0 { SessionOutput::Late } else { answer })
    });
}
