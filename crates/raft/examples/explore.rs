//! Searches every order of events of three nodes within bounds: `cargo xtask explore raft`.

#[path = "../tests/support/explore.rs"]
mod explore;

use std::process::ExitCode;

use quorate_sim::explorer::{Bounds, Prelude, Report};
use quorate_transport::NodeId;

fn main() -> ExitCode {
    let mut bounds = Bounds {
        timers: 2,
        losses: 0,
        crashes: 0,
        requests: 0,
        messages_max: 4,
        states_max: 200_000_000,
    };
    let words: Vec<_> = std::env::args().skip(1).collect();
    for pair in words.chunks(2) {
        let number = pair.get(1).and_then(|text| text.parse().ok());
        match (pair[0].as_str(), number) {
            ("--timers", Some(number)) => bounds.timers = number,
            ("--losses", Some(number)) => bounds.losses = number,
            ("--crashes", Some(number)) => bounds.crashes = number,
            ("--requests", Some(number)) => bounds.requests = number,
            ("--messages", Some(number)) => bounds.messages_max = usize::from(number),
            _ => {
                eprintln!(
                    "usage: explore [--timers N] [--losses N] [--crashes N] [--requests N] \
                     [--messages N]"
                );
                return ExitCode::from(2);
            }
        }
    }
    println!("three nodes, terms up to 2, {bounds:?}");
    if !is_clean(&explore::run(bounds, None, false)) {
        return ExitCode::FAILURE;
    }
    if !words.is_empty() {
        return ExitCode::SUCCESS;
    }
    // From a calm leader on: another election, commands, and what is lost or doubled.
    let bounds = Bounds { timers: 1, losses: 1, crashes: 1, requests: 2, ..bounds };
    println!("three nodes that n1 leads, {bounds:?}");
    let prelude = Prelude { timer_of: NodeId(1), cut_off: None, until: &|_| false };
    let clean = is_clean(&explore::run(bounds, Some(prelude), false));
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_clean(report: &Report) -> bool {
    println!("{report}");
    report.violation.is_none() && report.complete
}
