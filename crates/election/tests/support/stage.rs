//! Groups moved by hand, of either election.
#![allow(dead_code, reason = "each test uses some of it")]

use std::time::Duration;

use quorate_election::{Bully, Config, LeaseGuard, QuorumLease, bully};
use quorate_sim::script::Script;
use quorate_transport::{Machine, NodeId};

pub(crate) type Bullies = Script<'static, Bully>;
pub(crate) type Leases = Script<'static, QuorumLease>;

pub(crate) const N1: NodeId = NodeId(1);
pub(crate) const N2: NodeId = NodeId(2);
pub(crate) const N3: NodeId = NodeId(3);
pub(crate) const N4: NodeId = NodeId(4);
pub(crate) const N5: NodeId = NodeId(5);
pub(crate) const N6: NodeId = NodeId(6);
pub(crate) const MS: Duration = Duration::from_millis(1);

/// The article's: a leader announces itself once. All have started, ELECTIONs are under way.
pub(crate) fn bullies(count: u64) -> Bullies {
    Script::new(count, move |start| {
        let mut config = bully::Config::new((1..=count).map(NodeId));
        config.announce_interval = None;
        Bully::new(start, config).expect("a valid configuration")
    })
}

/// Leaders that announce themselves every 200 ms.
pub(crate) fn announcing(count: u64) -> Bullies {
    Script::new(count, move |start| {
        let config = bully::Config::new((1..=count).map(NodeId));
        Bully::new(start, config).expect("a valid configuration")
    })
}

/// Bullies of which the highest leads.
pub(crate) fn led_bullies(count: u64) -> Bullies {
    let mut stage = bullies(count);
    stage.run();
    assert_eq!(coordinators(&stage), [NodeId(count)]);
    stage.take_story();
    stage
}

/// Everyone up who believes that it leads itself.
pub(crate) fn coordinators(stage: &Bullies) -> Vec<NodeId> {
    let up = stage.nodes().filter(|node| stage.is_up(*node));
    up.filter(|node| stage.node(*node).advisory().is_some_and(|a| a.leader == *node)).collect()
}

/// All nodes vote; none has asked yet.
pub(crate) fn leases(count: u64) -> Leases {
    Script::new(count, move |start| {
        QuorumLease::new(start, Config::new((1..=count).map(NodeId))).expect("a valid one")
    })
}

/// Voters of which this one holds the lease.
pub(crate) fn led_leases(count: u64, leader: NodeId) -> Leases {
    let mut stage = leases(count);
    stage.timer(leader);
    stage.run();
    assert_eq!(holders(&stage), [leader]);
    stage.take_story();
    stage
}

/// Everyone up who holds a lease now.
pub(crate) fn holders(stage: &Leases) -> Vec<NodeId> {
    stage.nodes().filter(|node| guard(stage, *node).is_some()).collect()
}

pub(crate) fn guard(stage: &Leases, node: NodeId) -> Option<LeaseGuard> {
    if stage.is_up(node) { stage.node(node).guard(stage.now()) } else { None }
}

/// Fires these nodes' timers in their order of time, up to this much later; messages arrive at
/// once. `look` sees every state.
pub(crate) fn live<M: Machine>(
    stage: &mut Script<'static, M>,
    nodes: &[NodeId],
    span: Duration,
    mut look: impl FnMut(&Script<'static, M>),
) {
    let until = stage.now() + span;
    loop {
        let up = nodes.iter().filter(|node| stage.is_up(**node));
        let due = up.filter_map(|node| Some((stage.node(*node).deadline()?, *node))).min();
        let Some((_, node)) = due.filter(|(at, _)| *at <= until) else { break };
        stage.timer(node);
        look(stage);
        stage.run();
        look(stage);
    }
    let now = stage.now();
    stage.advance(until.since(now));
    look(stage);
}
