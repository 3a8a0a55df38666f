//! A search that ends, and one that finds the coordinator without a log.

#[path = "support/explore.rs"]
mod explore;

use quorate_sim::explorer::Bounds;

const BOUNDS: Bounds = Bounds {
    timers: 1,
    losses: 0,
    crashes: 1,
    requests: 3,
    messages_max: 6,
    states_max: 3_000_000,
};

#[test]
fn one_crash_in_any_order_of_events_is_safe() {
    let report = explore::run(BOUNDS, false);
    println!("{report}");
    assert!(report.complete && report.violation.is_none(), "{report}");
    assert!(report.states > 1000, "{report}");
}

#[test]
fn a_coordinator_without_a_log_is_found() {
    let report = explore::run(BOUNDS, true);
    let Some((what, trace)) = &report.violation else { panic!("{report}") };
    assert!(what.contains("AC1"), "{what}");
    assert!(trace.len() <= 20, "{report}");
}
