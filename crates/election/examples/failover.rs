//! Three voters on one screen: the leader dies and another takes over; then the same with bullies,
//! whose leader only stood still. Prints who leads, and what a resource says to the tokens.

use std::time::Duration;

use quorate_election::{Bully, Config, LeaseGuard, QuorumLease, Token, bully};
use quorate_sim::script::{Crash, Script};
use quorate_transport::{Machine, NodeId};

/// Fires all timers that are due within `span`, each at its time.
fn live<M: Machine>(stage: &mut Script<'_, M>, nodes: &[NodeId], span: Duration) {
    let until = stage.now() + span;
    loop {
        let up = nodes.iter().filter(|node| stage.is_up(**node));
        let due = up.filter_map(|node| Some((stage.node(*node).deadline()?, *node))).min();
        let Some((_, node)) = due.filter(|(at, _)| *at <= until) else { break };
        stage.timer(node);
        stage.run();
    }
    let now = stage.now();
    stage.advance(until.since(now));
}

fn leader(stage: &Script<'_, QuorumLease>) -> Option<(NodeId, LeaseGuard)> {
    let mut up = stage.nodes().filter(|node| stage.is_up(*node));
    up.find_map(|node| Some((node, stage.node(node).guard(stage.now())?)))
}

fn leases(nodes: &[NodeId]) {
    let mut stage = Script::new(3, |start| {
        let config = Config::new(nodes.iter().copied());
        QuorumLease::new(start, config).expect("a valid configuration")
    });
    live(&mut stage, nodes, Duration::from_secs(1));
    let (first, guard) = leader(&stage).expect("somebody is elected");
    println!("{first} leads until {}, token {:?}", guard.valid_until(), guard.token());
    let old = guard.token();
    stage.crash(first, Crash::Kill);
    println!("{first} dies at {}", stage.now());
    while leader(&stage).is_none() {
        live(&mut stage, nodes, Duration::from_millis(10));
    }
    let (next, guard) = leader(&stage).expect("just seen");
    println!("{next} leads at {}, token {:?}", stage.now(), guard.token());
    let mut greatest: Option<Token> = None;
    for token in [guard.token(), old] {
        let accepted = greatest.is_none_or(|greatest| token >= greatest);
        println!("a resource {} {token:?}", if accepted { "takes" } else { "refuses" });
        greatest = greatest.max(Some(token));
    }
}

fn bullies(nodes: &[NodeId]) {
    let mut stage = Script::new(3, |start| {
        let config = bully::Config::new(nodes.iter().copied());
        Bully::new(start, config).expect("a valid configuration")
    });
    stage.run();
    let paused = nodes[2];
    stage.isolate(paused);
    live(&mut stage, &nodes[..2], Duration::from_secs(5));
    stage.heal();
    println!("\n{paused} wakes after five seconds; among bullies");
    for node in nodes {
        if let Some(advisory) = stage.node(*node).advisory() {
            println!("{advisory:?}");
        }
    }
    live(&mut stage, nodes, Duration::from_secs(1));
    println!("and a second later");
    for node in nodes {
        if let Some(advisory) = stage.node(*node).advisory() {
            println!("{advisory:?}");
        }
    }
}

fn main() {
    let nodes = [NodeId(1), NodeId(2), NodeId(3)];
    leases(&nodes);
    bullies(&nodes);
}
