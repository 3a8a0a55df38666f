//! Rules of the quorum lease by name.

use quorate_election::{Config, QuorumLease};
use quorate_sim::script::{Crash, Script};
use quorate_transport::{Machine, NodeId};

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);

#[test]
fn a_restarted_voter_grants_nothing_while_a_forgotten_promise_may_hold() {
    let mut stage: Script<'_, QuorumLease> = Script::new(3, |start| {
        let config = Config::new([N1, N2, N3]);
        QuorumLease::new(start, config).expect("a valid configuration")
    });
    stage.timer(N1);
    stage.run();
    assert!(stage.node(N1).guard(stage.now()).is_some());
    stage.isolate(N3); // its promise ends, N1's lease goes on with N2
    while stage.node(N1).deadline() < stage.node(N3).deadline() {
        stage.timer(N1);
        stage.run();
    }
    stage.crash(N2, Crash::Kill);
    stage.start(N2);
    stage.heal();
    stage.isolate(N1);
    stage.timer(N3);
    stage.run();
    let now = stage.now();
    assert!(stage.node(N1).guard(now).is_some(), "N2 had promised it");
    assert!(stage.node(N3).guard(now).is_none(), "two leases overlap");
}
