//! Small searches that end, and one that finds a planted bug.

#[path = "support/explore.rs"]
mod explore;

use quorate_sim::explorer::Bounds;

const SMALL: Bounds = Bounds {
    timers: 2,
    losses: 0,
    crashes: 0,
    requests: 0,
    messages_max: 8,
    states_max: 2_000_000,
};

#[test]
fn every_order_of_two_elections_is_safe() {
    let report = explore::run(SMALL, false);
    println!("{report}");
    assert!(report.complete && report.violation.is_none(), "{report}");
    assert!(report.states > 1000, "{report}");
}

#[test]
fn a_voter_that_forgets_its_vote_is_found_by_a_short_trace() {
    let report = explore::run(Bounds { crashes: 1, ..SMALL }, true);
    let Some((what, trace)) = &report.violation else { panic!("{report}") };
    assert!(what.contains("R1"), "{what}");
    assert!(trace.len() < 40, "{report}");
}
