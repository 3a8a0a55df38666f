//! Messages and forced writes, counted from the effects, against the formulas of presumed abort.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use quorate_transport::{
    Effect, Incarnation, Input, Machine, NodeId, Outbox, Peer, RequestId, Start, Ticket, Time,
};
use quorate_txn::{Config, Event, Message, Reply, Request, TwoPhaseCommit, Vote};

type Node = (TwoPhaseCommit, Outbox<TwoPhaseCommit>);

#[derive(Default)]
struct Counts {
    to_participants: u64,
    to_coordinator: u64,
    /// Records that an effect waited for, by node.
    forced: BTreeMap<NodeId, BTreeSet<Ticket>>,
    reply: Option<Reply>,
}

impl Counts {
    fn forced(&self, coordinator: bool) -> u64 {
        let those = self.forced.iter().filter(|(node, _)| (**node == NodeId(1)) == coordinator);
        those.map(|(_, tickets)| tickets.len() as u64).sum()
    }
}

/// One transaction of node 1 over the next nodes, which vote so in order; nothing is lost, and
/// messages are taken in the order in which they are sent.
fn run(votes: &[Vote]) -> Counts {
    let count = votes.len() as u64;
    let start = |node| Start { node, incarnation: Incarnation(1), seed: 0, now: Time::ZERO };
    let config = Config::new((1..=count + 1).map(NodeId));
    let node = |id| {
        let machine = TwoPhaseCommit::new(start(NodeId(id)), config.clone()).expect("valid");
        (NodeId(id), (machine, Outbox::default()))
    };
    let mut nodes: BTreeMap<NodeId, Node> = (1..=count + 1).map(node).collect();
    let parts = (0..count).map(|at| (NodeId(at + 2), Bytes::from_static(b"p"))).collect();
    let begin = Input::Request { id: RequestId(0), request: Request::Begin { parts } };
    let mut inputs = VecDeque::from([(NodeId(1), begin)]);
    let mut counts = Counts::default();
    while let Some((to, input)) = inputs.pop_front() {
        let (machine, out) = nodes.get_mut(&to).expect("a node");
        machine.handle(Time::ZERO, input, out);
        let (mut persisted, last) = (false, out.last());
        for effect in out.drain() {
            if let Some(gate) = effect.gate().filter(|gate| *gate > Ticket::ZERO) {
                counts.forced.entry(to).or_default().insert(gate);
            }
            let ask = |request| (to, Input::Request { id: RequestId(1), request });
            match effect {
                Effect::Persist { .. } => persisted = true,
                Effect::Send { to: peer, message, .. } => {
                    let into = if peer == NodeId(1) {
                        &mut counts.to_coordinator
                    } else {
                        &mut counts.to_participants
                    };
                    *into += 1;
                    let from = Peer { node: to, incarnation: Incarnation(1) };
                    inputs.push_back((peer, Input::Message { from, message }));
                }
                Effect::Emit { event: Event::Prepare { txn, .. }, .. } => {
                    let vote = votes[to.0 as usize - 2];
                    inputs.push_back(ask(Request::Vote { txn, vote }));
                }
                Effect::Emit { event: Event::Commit { txn } | Event::Abort { txn }, .. } => {
                    inputs.push_back(ask(Request::Done { txn }));
                }
                Effect::Answer { reply, .. } if to == NodeId(1) => counts.reply = Some(reply),
                _ => {}
            }
        }
        if persisted {
            inputs.push_back((to, Input::Durable { upto: last }));
        }
    }
    for (node, (machine, _)) in &nodes {
        assert_eq!(machine.held().count() + machine.driven().count(), 0, "{node} has forgotten");
    }
    counts
}

fn check(votes: &[Vote], messages: (u64, u64), forced: (u64, u64)) {
    let counts = run(votes);
    assert_eq!((counts.to_participants, counts.to_coordinator), messages, "messages: {votes:?}");
    assert_eq!((counts.forced(true), counts.forced(false)), forced, "forced: {votes:?}");
    let committed = matches!(counts.reply, Some(Reply::Committed { .. }));
    assert_eq!(committed, !votes.contains(&Vote::No), "{:?}", counts.reply);
}

#[test]
fn a_commit_takes_4n_messages_and_2n_plus_1_forced_writes() {
    for n in 1..=16 {
        check(&vec![Vote::Yes; n as usize], (2 * n, 2 * n), (1, 2 * n));
    }
}

#[test]
fn one_no_takes_3n_minus_1_messages_and_forces_the_yes_votes_alone() {
    for n in 1..=16 {
        let mut votes = vec![Vote::Yes; n as usize];
        *votes.last_mut().expect("one at least") = Vote::No;
        check(&votes, (n + (n - 1), n), (0, n - 1));
    }
}

#[test]
fn all_read_only_takes_2n_messages_and_nothing_forced() {
    for n in 1..=16 {
        check(&vec![Vote::ReadOnly; n as usize], (n, n), (0, 0));
    }
}

#[test]
fn r_read_only_take_4n_minus_2r_messages() {
    for n in 2..=16 {
        for r in 1..n {
            let mut votes = vec![Vote::ReadOnly; r as usize];
            votes.resize(n as usize, Vote::Yes);
            check(&votes, (n + (n - r), n + (n - r)), (1, 2 * (n - r)));
        }
    }
}

#[test]
fn a_prepare_names_all_who_take_part() {
    let start = Start { node: NodeId(1), incarnation: Incarnation(4), seed: 0, now: Time::ZERO };
    let mut machine =
        TwoPhaseCommit::new(start, Config::new([1, 2, 3].map(NodeId))).expect("valid");
    let mut out = Outbox::default();
    let parts = [2, 3].map(|id| (NodeId(id), Bytes::new())).to_vec();
    let begin = Input::Request { id: RequestId(0), request: Request::Begin { parts } };
    machine.handle(Time::ZERO, begin, &mut out);
    for effect in out.as_slice() {
        let Effect::Send { message: Message::Prepare { txn, peers, .. }, .. } = effect else {
            panic!("{effect:?}")
        };
        assert_eq!(*peers, [2, 3].map(NodeId));
        assert_eq!((txn.node, txn.incarnation, txn.counter), (NodeId(1), Incarnation(4), 1));
    }
}
