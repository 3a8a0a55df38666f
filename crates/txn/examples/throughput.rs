//! Two-phase commit in one process, the journal in memory: transactions a second on one core.

use std::collections::VecDeque;
use std::process::ExitCode;

use bytes::Bytes;
use quorate_transport::{
    Effect, Incarnation, Input, Machine, NodeId, Outbox, Peer, RequestId, Start, Time,
};
use quorate_txn::{Config, Event, Record, Reply, Request, TwoPhaseCommit, Vote};

const NODES: u64 = 3;
const ROUNDS: u64 = 4000;
const BATCH: u64 = 128;

struct Node {
    machine: TwoPhaseCommit,
    out: Outbox<TwoPhaseCommit>,
    /// The journal: the present burst, dropped when it is synced.
    journal: Vec<Record>,
    inbox: VecDeque<Input<TwoPhaseCommit>>,
}

/// Every node takes its inputs, then syncs its burst; gates open at the sync.
fn turn(nodes: &mut [Node], committed: &mut u64) -> bool {
    let mut moved = false;
    for at in 0..nodes.len() {
        let from = Peer { node: NodeId(at as u64 + 1), incarnation: Incarnation(1) };
        let mut next = Vec::new();
        let node = &mut nodes[at];
        while let Some(input) = node.inbox.pop_front() {
            moved = true;
            node.machine.handle(Time::ZERO, input, &mut node.out);
        }
        // All that follows happens after the burst is in the journal.
        let last = node.out.last();
        for effect in node.out.drain() {
            let id = RequestId(1);
            match effect {
                Effect::Persist { record, .. } => node.journal.push(record),
                Effect::Send { to, message, .. } => {
                    next.push((to, Input::Message { from, message }))
                }
                Effect::Emit { event: Event::Prepare { txn, .. }, .. } => {
                    let request = Request::Vote { txn, vote: Vote::Yes };
                    node.inbox.push_back(Input::Request { id, request });
                }
                Effect::Emit { event: Event::Commit { txn }, .. } => {
                    node.inbox.push_back(Input::Request { id, request: Request::Done { txn } });
                }
                Effect::Answer { reply: Reply::Committed { .. }, .. } => *committed += 1,
                _ => {}
            }
        }
        if !node.journal.is_empty() {
            node.journal.clear();
            node.inbox.push_back(Input::Durable { upto: last });
        }
        for (to, input) in next {
            nodes[to.0 as usize - 1].inbox.push_back(input);
        }
    }
    moved
}

#[allow(clippy::disallowed_methods, reason = "a benchmark's own stopwatch")]
fn main() -> ExitCode {
    let config = Config::new((1..=NODES).map(NodeId));
    let node = |id| {
        let node = NodeId(id);
        let start = Start { node, incarnation: Incarnation(1), seed: id, now: Time::ZERO };
        let machine = TwoPhaseCommit::new(start, config.clone()).expect("a valid configuration");
        let (out, inbox) = (Outbox::default(), VecDeque::new());
        Node { machine, out, journal: Vec::new(), inbox }
    };
    let mut nodes: Vec<_> = (1..=NODES).map(node).collect();
    let payload = Bytes::from_static(b"sixteen bytes...");
    let begun = std::time::Instant::now();
    let mut committed = 0;
    for round in 0..ROUNDS {
        for number in 0..BATCH {
            let parts = (2..=NODES).map(|id| (NodeId(id), payload.clone())).collect();
            let id = RequestId(round * BATCH + number);
            let begin = Input::Request { id, request: Request::Begin { parts } };
            nodes[0].inbox.push_back(begin);
        }
        while turn(&mut nodes, &mut committed) {}
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{committed} transactions of {} participants, {BATCH} at a time: {:.0} a second",
        NODES - 1,
        committed as f64 / seconds
    );
    if committed == ROUNDS * BATCH { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
