//! Runs seeds of the simulated group on all cores: `cargo xtask sim --seeds 2000`.

#[path = "../tests/support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use quorate_sim::marks;

struct Arguments {
    seeds: u64,
    start: u64,
    minutes: Option<u64>,
    seed: Option<u64>,
    trace: bool,
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments { seeds: 200, start: 0, minutes: None, seed: None, trace: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let text = words.next().ok_or(format!("{word} takes a number"))?;
            text.parse().map_err(|_| format!("{word} takes a number, not {text}"))
        };
        match word.as_str() {
            "--seeds" => arguments.seeds = number()?,
            "--start" => arguments.start = number()?,
            "--minutes" => arguments.minutes = Some(number()?),
            "--seed" => arguments.seed = Some(number()?),
            "--trace" => arguments.trace = true,
            _ => return Err(format!("{word} is not known")),
        }
    }
    Ok(arguments)
}

#[derive(Default)]
struct Totals {
    seeds: u64,
    acknowledged: u64,
    faults: u64,
    leaders: u64,
    events: u64,
    seconds: f64,
    fewest: (u64, u64, u64),
    marks: std::collections::BTreeMap<&'static str, u64>,
}

fn one(seed: u64, trace: bool) -> ExitCode {
    let outcome = support::run(seed, true);
    if trace || outcome.violation.is_some() {
        let skip = if trace { 0 } else { outcome.trace.len().saturating_sub(60) };
        outcome.trace.iter().skip(skip).for_each(|line| println!("{line}"));
    }
    println!(
        "seed {seed}: {:.0} simulated s, {} events, {} operations, {} faults, {} leaders, \
         digest {:032x}",
        outcome.seconds,
        outcome.events,
        outcome.acknowledged,
        outcome.faults,
        outcome.leaders,
        outcome.digest
    );
    match outcome.violation {
        Some(violation) => {
            println!("seed {seed} FAILED: {violation}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

#[allow(clippy::disallowed_methods, reason = "a tool's own stopwatch, not a protocol's")]
fn sweep(arguments: &Arguments) -> ExitCode {
    let begun = std::time::Instant::now();
    let next = AtomicU64::new(arguments.start);
    let failed = AtomicBool::new(false);
    let totals = Mutex::new(Totals { fewest: (u64::MAX, u64::MAX, u64::MAX), ..Totals::default() });
    let done = || match arguments.minutes {
        Some(minutes) => begun.elapsed().as_secs() >= 60 * minutes,
        None => false,
    };
    let end = arguments.minutes.map_or(arguments.start + arguments.seeds, |_| u64::MAX);
    let work = || {
        while !failed.load(Ordering::Relaxed) && !done() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                break;
            }
            let outcome = support::run(seed, false);
            let mut totals = totals.lock().expect("no panic while it is held");
            totals.seeds += 1;
            totals.acknowledged += outcome.acknowledged;
            totals.faults += outcome.faults;
            totals.leaders += outcome.leaders;
            totals.events += outcome.events;
            totals.seconds += outcome.seconds;
            totals.fewest.0 = totals.fewest.0.min(outcome.acknowledged);
            totals.fewest.1 = totals.fewest.1.min(outcome.faults);
            totals.fewest.2 = totals.fewest.2.min(outcome.leaders);
            for (name, count) in marks::take() {
                *totals.marks.entry(name).or_default() += count;
            }
            if let Some(violation) = outcome.violation {
                failed.store(true, Ordering::Relaxed);
                println!("seed {seed} FAILED: {violation}");
                println!("replay: cargo xtask sim --seed {seed} --trace");
            } else if totals.seeds.is_multiple_of(100) {
                println!(
                    "{} seeds passed after {:.0} s",
                    totals.seeds,
                    begun.elapsed().as_secs_f64()
                );
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    let totals = totals.into_inner().expect("no panic while it was held");
    let seeds = totals.seeds.max(1);
    let wall = begun.elapsed().as_secs_f64();
    println!(
        "{seeds} seeds in {wall:.1} s; a seed on average: {:.1} simulated s, {} operations \
         acknowledged, {} faults, {} leaders (fewest {} / {} / {})",
        totals.seconds / seeds as f64,
        totals.acknowledged / seeds,
        totals.faults / seeds,
        totals.leaders / seeds,
        totals.fewest.0,
        totals.fewest.1,
        totals.fewest.2,
    );
    println!(
        "{:.0} events and {:.0} simulated seconds a second of wall time on {cores} cores",
        totals.events as f64 / wall,
        totals.seconds / wall
    );
    for (name, count) in &totals.marks {
        println!("seen {count} times: {name}");
    }
    if failed.into_inner() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn main() -> ExitCode {
    match arguments() {
        Ok(Arguments { seed: Some(seed), trace, .. }) => one(seed, trace),
        Ok(arguments) => sweep(&arguments),
        Err(what) => {
            eprintln!("{what}");
            eprintln!("usage: sim [--seeds N] [--start K] [--minutes M] [--seed S [--trace]]");
            ExitCode::from(2)
        }
    }
}
