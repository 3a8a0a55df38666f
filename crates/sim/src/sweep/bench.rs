//! How fast a simulation is: one core, groups of five, so many operations a second.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::{Run, caught};
use crate::limits::{self, Limits};

/// Only seeds with as many nodes are counted.
const NODES: u64 = 5;
/// Operations that clients ask for in a simulated second, at most.
const PACE: u64 = 50;
/// Each seed is run so often, and its fastest run is counted: the machine has other work too.
const ROUNDS: u32 = 3;

/// What was measured.
#[derive(Default)]
struct Sum {
    seeds: u64,
    events: u64,
    nanos: u64,
    asked: u64,
    faults: u64,
    wall: Duration,
}

/// Runs seeds one after the other until `seeds` of them were groups of five; prints how fast.
pub(super) fn main(protocol: &str, seeds: u64, run: impl Fn(u64, bool) -> Run + Sync) -> ExitCode {
    limits::limit(Limits { pace: Some(PACE), ..Limits::default() });
    let mut sum = Sum::default();
    let mut seed = 0;
    while sum.seeds < seeds && seed < 100 * seeds {
        let (once, wall) = timed(seed, &run);
        if let Some(violation) = once.violation {
            println!("{protocol}: seed {seed} FAILED: {violation}");
            return ExitCode::FAILURE;
        }
        if once.nodes == NODES {
            let again = (1..ROUNDS).map(|_| timed(seed, &run).1);
            sum.wall += again.fold(wall, Duration::min);
            sum.seeds += 1;
            sum.events += once.events;
            sum.nanos += once.nanos;
            sum.asked += once.asked;
            sum.faults += once.faults;
        }
        seed += 1;
    }
    if sum.seeds == 0 {
        println!("{protocol}: no group of {NODES} nodes");
        return ExitCode::FAILURE;
    }
    println!("{}", sum.line(protocol));
    ExitCode::SUCCESS
}

#[allow(clippy::disallowed_methods, reason = "a tool's own stopwatch, not a protocol's")]
fn timed(seed: u64, run: &(impl Fn(u64, bool) -> Run + Sync)) -> (Run, Duration) {
    let begun = Instant::now();
    let run = caught(seed, false, run);
    (run, begun.elapsed())
}

impl Sum {
    fn line(&self, protocol: &str) -> String {
        let (wall, simulated) = (self.wall.as_secs_f64(), self.nanos as f64 / 1e9);
        format!(
            "{protocol}: one core, {} seeds of {NODES} nodes, {:.0} operations and {:.1} faults a \
             simulated s, all invariants on, fastest of {ROUNDS} \
             runs: {:.0} events/s, {:.0} simulated s/s, {:.0} events a \
             simulated s",
            self.seeds,
            self.asked as f64 / simulated,
            self.faults as f64 / simulated,
            self.events as f64 / wall,
            simulated / wall,
            self.events as f64 / simulated,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_sum() {
        let sum = Sum {
            seeds: 2,
            events: 3_000,
            nanos: 60_000_000_000,
            asked: 2_400,
            faults: 90,
            wall: Duration::from_millis(500),
        };
        let line = sum.line("raft");
        assert!(line.contains("2 seeds of 5 nodes, 40 operations and 1.5 faults"), "{line}");
        assert!(line.ends_with("6000 events/s, 120 simulated s/s, 50 events a simulated s"));
    }
}
