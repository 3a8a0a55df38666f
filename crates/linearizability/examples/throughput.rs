//! How long histories take to check: `cargo run --release -p quorate-linearizability --example
//! throughput`.

use std::time::Instant;

use quorate_linearizability::{Budget, Map, MapOp, MapOutput, Model, Operation, Verdict, check};
use quorate_transport::{Rng, Time};

type Kv = Map<u64, u64>;

/// `count` operations on each of `keys` keys by `clients` clients a key, each busy all the time; of
/// a million, `lost` are never answered.
fn history(keys: u64, count: u64, clients: u64, lost: u32) -> Vec<Operation<Kv>> {
    let mut rng = Rng::new(7);
    let mut all = Vec::new();
    for key in 0..keys {
        let mut free = vec![0; clients as usize];
        let mut planned = Vec::new();
        for id in 0..count {
            let client = (0..clients).min_by_key(|client| free[*client as usize]).unwrap_or(0);
            let called = free[client as usize] + rng.between(1, 5);
            let (effect, lag) = (called + rng.below(100), rng.below(100));
            free[client as usize] = effect + lag + 1;
            planned.push((effect, id, client, called, effect + lag));
        }
        planned.sort_unstable();
        let mut state = None;
        for (_, id, client, called, returned) in planned {
            let (op, output) = match rng.below(4) {
                0 => (MapOp::Put { key, value: id }, MapOutput::Done),
                1 => {
                    let swap = MapOp::CompareAndSet { key, expected: state, value: id };
                    (swap, MapOutput::Swapped(true))
                }
                _ => (MapOp::Get { key }, MapOutput::Value(state)),
            };
            state = Kv::step(&state, &op, Some(&output)).expect("the answer is the model's own");
            let returned = Some((Time::from_nanos(returned), output));
            let returned = returned.filter(|_| !rng.chance_ppm(lost));
            all.push(Operation { client, called: Time::from_nanos(called), returned, op });
        }
    }
    all
}

#[allow(clippy::disallowed_methods, reason = "a stopwatch of a measurement")]
fn measure(name: &str, history: &[Operation<Kv>]) {
    let begun = Instant::now();
    let verdict = check(history, Budget { steps_max: 1 << 32 });
    let seconds = begun.elapsed().as_secs_f64();
    let verdict = match verdict {
        Verdict::Ok => "linearizable".into(),
        Verdict::Illegal(small) => {
            format!("illegal, {} operations show it", small.operations.len())
        }
        Verdict::Unknown => "unknown".into(),
    };
    println!("{name}: {} operations, {verdict}, {seconds:.3} s", history.len());
}

fn main() {
    measure("one key, 10 clients", &history(1, 10_000, 10, 0));
    measure("one key, 10 clients, 1 in 1,000 lost", &history(1, 10_000, 10, 1_000));
    measure("one key, 14 clients", &history(1, 10_000, 14, 0));
    measure("1,000 keys, 10 clients each", &history(1_000, 1_000, 10, 0));
    let mut wrong = history(1, 10_000, 10, 0);
    let reads = |op: &Operation<Kv>| matches!(op.op, MapOp::Get { .. });
    let stale = (8_000..).find(|at| reads(&wrong[*at])).expect("half of them are reads");
    if let Some((_, output)) = &mut wrong[stale].returned {
        *output = MapOutput::Value(Some(17));
    }
    measure("one key, 10 clients, one stale read", &wrong);
}
