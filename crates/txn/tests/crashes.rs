//! The crash matrix: each node dies once before each step of a transaction, with and without the
//! loss of what it had just sent, and comes back; the outcome is one, and every lock is free.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_sim::script::{Crash, Script};
use quorate_transport::{Machine, NodeId, Ticket};
use quorate_txn::{Config, Event, Record, Request, TwoPhaseCommit, TxnId, Vote};

type Stage = Script<'static, TwoPhaseCommit>;

struct Play {
    stage: Stage,
    votes: [Option<Vote>; 3],
    /// Events of each node that its application has handled.
    handled: BTreeMap<NodeId, usize>,
    synced: BTreeMap<NodeId, Ticket>,
    locks: BTreeSet<(NodeId, TxnId)>,
    outcomes: BTreeMap<(NodeId, TxnId), bool>,
    cast: BTreeMap<(NodeId, TxnId), Vote>,
}

impl Play {
    fn new(votes: [Option<Vote>; 3]) -> Self {
        let stage = Script::new(3, |start| {
            let config = Config::new([1, 2, 3].map(NodeId));
            TwoPhaseCommit::new(start, config).expect("a valid configuration")
        });
        let (handled, synced) = (BTreeMap::new(), BTreeMap::new());
        let (locks, outcomes) = (BTreeSet::new(), BTreeMap::new());
        let mut play =
            Self { stage, votes, handled, synced, locks, outcomes, cast: BTreeMap::new() };
        let parts = [1, 2, 3].map(|id| (NodeId(id), Bytes::from_static(b"p"))).to_vec();
        play.stage.request(NodeId(1), Request::Begin { parts });
        play
    }

    /// One event for an application, one sync, or one message; false when nothing is left.
    fn step(&mut self) -> bool {
        for node in [1, 2, 3].map(NodeId) {
            let at = self.handled.entry(node).or_default();
            if let Some(event) = self.stage.events(node).get(*at).cloned() {
                *at += 1;
                self.on_event(node, event);
                return true;
            }
        }
        for node in [1, 2, 3].map(NodeId) {
            let last = self.stage.journal(node).last().map_or(Ticket::ZERO, |(ticket, _)| *ticket);
            if self.synced.insert(node, last).unwrap_or_default() < last {
                self.stage.sync(node);
                return true;
            }
        }
        let Some(flight) = self.stage.wire().first() else { return false };
        let (from, to) = (flight.from.node, flight.to);
        self.stage.deliver(from, to)
    }

    fn on_event(&mut self, node: NodeId, event: Event) {
        match event {
            Event::Prepare { txn, .. } => {
                if let Some(vote) = self.votes[node.0 as usize - 1] {
                    self.cast.insert((node, txn), vote);
                    if vote == Vote::Yes {
                        self.locks.insert((node, txn));
                    }
                    self.stage.request(node, Request::Vote { txn, vote });
                }
            }
            Event::Recovered { txn, .. } => {
                assert!(self.locks.insert((node, txn)), "taken again once");
            }
            Event::Commit { txn } => self.on_outcome(node, txn, true),
            Event::Abort { txn } => self.on_outcome(node, txn, false),
            Event::Blocked { .. } => {}
        }
    }

    fn on_outcome(&mut self, node: NodeId, txn: TxnId, committed: bool) {
        let held = self.locks.remove(&(node, txn));
        assert!(held || !committed, "T11: {node} commits what it holds");
        let known = *self.outcomes.entry((node, txn)).or_insert(committed);
        assert_eq!(known, committed, "AC2: {node} changes its mind");
        self.stage.request(node, Request::Done { txn });
    }

    fn crash(&mut self, node: NodeId, how: Crash, lose: &[u64]) {
        self.stage.crash(node, how);
        self.stage.lose(|flight| flight.from.node == node && lose.contains(&flight.to.0));
        self.locks.retain(|(held, _)| *held != node);
        self.handled.insert(node, self.stage.events(node).len());
        let last = self.stage.journal(node).last().map_or(Ticket::ZERO, |(ticket, _)| *ticket);
        self.synced.insert(node, last);
        self.stage.start(node);
    }

    /// Timers until nothing is open anywhere.
    fn finish(&mut self) -> Result<(), String> {
        for _ in 0..40 {
            while self.step() {}
            let nodes = [1, 2, 3].map(NodeId);
            let open = |node| {
                let machine: &TwoPhaseCommit = self.stage.node(node);
                machine.held().count() + machine.driven().count()
            };
            if nodes.into_iter().map(open).sum::<usize>() == 0 {
                return self.verdict();
            }
            nodes.into_iter().for_each(|node| self.stage.timer(node));
        }
        Err(format!("AC5: still open, locks {:?}", self.locks))
    }

    fn verdict(&self) -> Result<(), String> {
        let all: BTreeSet<bool> = self.outcomes.values().copied().collect();
        if all.len() > 1 {
            return Err(format!("AC1: {:?}", self.outcomes));
        }
        if !self.locks.is_empty() {
            return Err(format!("T11: locks are left: {:?}", self.locks));
        }
        if all.contains(&true) {
            let agreed =
                self.votes.iter().all(|vote| matches!(vote, Some(Vote::Yes | Vote::ReadOnly)));
            let yes = self.cast.values().filter(|vote| **vote == Vote::Yes).count();
            if !agreed || self.outcomes.len() != yes {
                return Err(format!("AC3: {:?} of {:?}", self.outcomes, self.votes));
            }
        }
        Ok(())
    }
}

const YES: Option<Vote> = Some(Vote::Yes);
const CASES: [[Option<Vote>; 3]; 5] = [
    [YES, YES, YES],
    [YES, YES, Some(Vote::No)],
    [YES, Some(Vote::ReadOnly), YES],
    [YES, YES, None],
    [Some(Vote::No), YES, YES],
];

/// How many crashes were tried, and what the worst of them came to.
fn matrix() -> (usize, Result<(), String>) {
    let mut tried = 0;
    for votes in CASES {
        for node in [1, 2, 3].map(NodeId) {
            for how in [Crash::Kill, Crash::Power] {
                for lose in [&[][..], &[3], &[2, 3], &[1, 2, 3]] {
                    for at in 0.. {
                        let mut play = Play::new(votes);
                        if !(0..at).all(|_| play.step()) {
                            break;
                        }
                        tried += 1;
                        play.crash(node, how, lose);
                        if let Err(what) = play.finish() {
                            let case = format!("{votes:?}, {node} by {how:?} before step {at}");
                            return (tried, Err(format!("{case}, losing to {lose:?}: {what}")));
                        }
                    }
                }
            }
        }
    }
    (tried, Ok(()))
}

#[test]
fn one_crash_anywhere_leaves_one_outcome_and_no_lock() {
    let (tried, worst) = matrix();
    assert_eq!(worst, Ok(()));
    println!("{tried} crashes");
    assert!(tried > 1000, "{tried}");
}

#[test]
fn without_a_crash_all_yes_commits_and_a_no_aborts() {
    for votes in CASES {
        let mut play = Play::new(votes);
        play.finish().expect("all is well");
        let committed = !votes.contains(&Some(Vote::No)) && !votes.contains(&None);
        assert!(play.outcomes.values().all(|outcome| *outcome == committed), "AC4 {votes:?}");
    }
}

#[test]
fn a_decision_is_durable_before_anybody_hears_it() {
    let mut play = Play::new([YES; 3]);
    while play.step() {
        let told = play
            .stage
            .wire()
            .iter()
            .any(|flight| matches!(flight.message, quorate_txn::Message::Commit { .. }));
        let decided = |(ticket, record): &(Ticket, Record)| {
            matches!(record, Record::Decided { .. }) && *ticket <= play.synced[&NodeId(1)]
        };
        assert!(!told || play.stage.journal(NodeId(1)).iter().any(decided), "T6");
    }
}
