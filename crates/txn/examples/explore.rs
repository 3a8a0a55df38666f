//! Searches every order of events within bounds: `cargo xtask explore txn`.

#[path = "../tests/support/explore.rs"]
mod explore;

use std::process::ExitCode;

use quorate_sim::explorer::Bounds;

fn main() -> ExitCode {
    let mut bounds = Bounds {
        timers: 1,
        losses: 1,
        crashes: 1,
        requests: 3,
        messages_max: 6,
        states_max: 20_000_000,
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
    println!("a coordinator and two participants, {bounds:?}");
    let report = explore::run(bounds, false);
    println!("{report}");
    if report.violation.is_none() && report.complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
