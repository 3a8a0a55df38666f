//! Runs seeds of the simulated group: `sim [FIRST [COUNT]]`, or `sim SEED trace`.

#[path = "../tests/support/mod.rs"]
mod support;

use std::process::ExitCode;

use quorate_sim::marks;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
    let trace = words.get(1).is_some_and(|word| word == "trace");
    let first = number(0).unwrap_or(0);
    let count = if trace { 1 } else { number(1).unwrap_or(200).max(1) };
    let (mut committed, mut faults, mut restarts, mut events) = (0, 0, 0, 0);
    for seed in first..first + count {
        let outcome = support::run(seed, trace);
        if trace {
            outcome.trace.iter().for_each(|line| println!("{line}"));
        }
        if let Some(violation) = outcome.violation {
            println!("seed {seed} FAILED: {violation}");
            return ExitCode::FAILURE;
        }
        committed += outcome.committed;
        faults += outcome.faults;
        restarts += outcome.restarts;
        events += outcome.events;
    }
    println!(
        "{count} seeds passed; a seed on average: {} committed, {} faults, {} restarts, {} events",
        committed / count,
        faults / count,
        restarts / count,
        events / count
    );
    for (name, times) in marks::take() {
        println!("seen {times} times: {name}");
    }
    ExitCode::SUCCESS
}
