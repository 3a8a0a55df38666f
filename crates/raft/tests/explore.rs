//! Small searches that end, and one that finds a planted bug.

#[path = "support/explore.rs"]
mod explore;

use quorate_raft::Raft;
use quorate_sim::explorer::{Bounds, Prelude, Report};
use quorate_transport::NodeId;

const SMALL: Bounds = Bounds {
    timers: 1,
    losses: 1,
    crashes: 0,
    requests: 1,
    messages_max: 4,
    states_max: 2_000_000,
};

#[test]
fn every_order_of_a_second_election_and_a_command_is_safe() {
    let prelude = Prelude { timer_of: NodeId(1), cut_off: None, until: &|_| false };
    let report = explore::run(SMALL, Some(prelude), false);
    println!("{report}");
    assert!(report.complete && report.violation.is_none(), "{report}");
    assert!(report.states > 1000, "{report}");
}

/// Node 1 has just won with the vote of node 2; node 3 knows nothing of it.
fn forgetful(plant: bool) -> Report {
    let prelude =
        Prelude { timer_of: NodeId(1), cut_off: Some(NodeId(3)), until: &Raft::is_leader };
    let bounds = Bounds { losses: 0, crashes: 1, requests: 0, messages_max: 6, ..SMALL };
    explore::run(bounds, Some(prelude), plant)
}

#[test]
fn a_voter_that_forgets_its_vote_is_found_by_a_short_trace() {
    let report = forgetful(true);
    let Some((what, trace)) = &report.violation else { panic!("{report}") };
    assert!(what.contains("R1"), "{what}");
    assert!(trace.len() <= 12, "{report}");
    let honest = forgetful(false);
    assert!(honest.complete && honest.violation.is_none(), "{honest}");
}
