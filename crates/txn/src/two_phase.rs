//! The machine: a short dispatcher over both roles, what replays, and what a checkpoint keeps.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use quorate_transport::{
    Digest, Incarnation, Input, Machine, NodeId, Outbox, Peer, Rename, Start, Ticket, Time,
};

use crate::config::Config;
use crate::coordinator::Drive;
use crate::error::Error;
use crate::message::Message;
use crate::participant::Held;
use crate::record::Record;
use crate::request::{Event, Reply, Request};
use crate::seen::Seen;
use crate::stats::Stats;
use crate::timers::{Role, Timers};
use crate::types::{Standing, TxnId};

/// Two-phase commit with presumed abort: coordinator and participant in one machine.
#[derive(Clone, Debug)]
pub struct TwoPhaseCommit {
    pub(crate) me: Start,
    pub(crate) config: Config,
    /// The number of the next transaction.
    pub(crate) next: u64,
    /// Transactions of this life before this are decided.
    pub(crate) cut: u64,
    pub(crate) drives: BTreeMap<TxnId, Drive>,
    pub(crate) held: BTreeMap<TxnId, Held>,
    pub(crate) seen: BTreeMap<NodeId, Seen>,
    /// The latest life of each node that was heard; its own as well.
    pub(crate) heard: BTreeMap<NodeId, Incarnation>,
    pub(crate) timers: Timers,
    /// Messages of this node to itself, each with what must be durable first.
    loopback: BTreeMap<(Ticket, u64), Message>,
    told_itself: u64,
    durable: Ticket,
    pub(crate) stats: Stats,
}

impl TwoPhaseCommit {
    /// What it has seen.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let in_doubt = self.held.values().filter(|held| held.is_in_doubt());
        let blocked = in_doubt.clone().filter(|held| held.is_blocked()).count() as u64;
        Stats { in_doubt: in_doubt.count() as u64, blocked, ..self.stats }
    }

    /// Where this node stands as a participant, in each transaction that it holds open.
    pub fn held(&self) -> impl Iterator<Item = (TxnId, Standing)> + '_ {
        self.held.iter().map(|(txn, held)| (*txn, held.standing()))
    }

    /// The transactions that this node coordinates and has not forgotten, and whether each is
    /// committed.
    pub fn driven(&self) -> impl Iterator<Item = (TxnId, bool)> + '_ {
        self.drives.iter().map(|(txn, drive)| (*txn, drive.is_committed()))
    }

    /// Whom the transactions that this node coordinates wait for: each node whose vote has not
    /// come, or, after the decision to commit, whose acknowledgement has not.
    pub fn awaited(&self) -> impl Iterator<Item = (TxnId, Vec<NodeId>)> + '_ {
        self.drives.iter().map(|(txn, drive)| (*txn, drive.awaited()))
    }

    /// The node it runs on.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.me.node
    }

    /// Tells a node, itself included, once the record of `after` is durable.
    pub(crate) fn tell(
        &mut self,
        after: Ticket,
        to: NodeId,
        message: Message,
        out: &mut Outbox<Self>,
    ) {
        if to == self.me.node {
            self.told_itself += 1;
            self.loopback.insert((after, self.told_itself), message);
        } else {
            out.send_after(after, to, message);
        }
    }

    fn hear(&mut self, from: Peer) {
        if self.config.nodes.contains(&from.node) {
            let heard = self.heard.entry(from.node).or_default();
            *heard = from.incarnation.max(*heard);
        }
    }

    fn on_message(&mut self, now: Time, from: NodeId, message: Message, out: &mut Outbox<Self>) {
        if !self.config.nodes.contains(&from) {
            self.stats.ignored += 1;
            return;
        }
        let mine = message.txn().node == self.me.node;
        match message {
            Message::Prepare { txn, cut, heard, peers, payload } if txn.node == from => {
                self.on_prepare(now, txn, (cut, heard), peers, payload, out);
            }
            Message::Voted { txn, vote } if mine => self.on_voted(now, from, txn, vote, out),
            Message::Ack { txn } if mine => self.on_ack(from, txn, out),
            Message::Inquire { txn } if mine => self.on_inquire(from, txn, out),
            Message::Inquire { txn } => self.on_peer_inquire(from, txn, out),
            Message::Commit { txn } => self.on_commit(from, txn, out),
            Message::Abort { txn } => self.on_abort(from, txn, out),
            Message::Uncertain { .. } => {}
            Message::Prepare { .. } | Message::Voted { .. } | Message::Ack { .. } => {
                self.stats.ignored += 1;
            }
        }
    }

    /// What this node told itself and what it rests on being durable.
    fn hear_itself(&mut self, now: Time, out: &mut Outbox<Self>) {
        while let Some(first) = self.loopback.first_entry() {
            if first.key().0 > self.durable {
                return;
            }
            let message = first.remove();
            self.on_message(now, self.me.node, message, out);
        }
    }

    fn on_timer(&mut self, now: Time, out: &mut Outbox<Self>) {
        while let Some((role, txn)) = self.timers.pop_due(now) {
            match role {
                Role::Coordinator => self.on_drive_due(now, txn, out),
                Role::Participant => self.on_held_due(now, txn, out),
            }
        }
    }

    /// All that still matters, again; then everything before may go.
    fn checkpoint(&mut self, before: Ticket, out: &mut Outbox<Self>) {
        let upto = Ticket(before.0.saturating_sub(1)).min(out.last());
        for (node, seen) in &self.seen {
            out.persist(seen.record(*node));
        }
        for (txn, held) in &self.held {
            held.persist_again(*txn, out);
        }
        for (txn, drive) in &self.drives {
            drive.persist_again(*txn, out);
        }
        if upto > Ticket::ZERO {
            out.release(upto);
        }
    }
}

impl Machine for TwoPhaseCommit {
    type Config = Config;
    type Error = Error;
    type Message = Message;
    type Record = Record;
    type Request = Request;
    type Reply = Reply;
    type Event = Event;

    fn new(start: Start, config: Config) -> Result<Self, Error> {
        config.validate(start.node)?;
        Ok(Self {
            me: start,
            config,
            next: 1,
            cut: 1,
            drives: BTreeMap::new(),
            held: BTreeMap::new(),
            seen: BTreeMap::new(),
            heard: BTreeMap::from([(start.node, start.incarnation)]),
            timers: Timers::default(),
            loopback: BTreeMap::new(),
            told_itself: 0,
            durable: Ticket::ZERO,
            stats: Stats::default(),
        })
    }

    fn replay(&mut self, at: Ticket, record: Record) -> Result<(), Error> {
        match record {
            Record::Decided { txn, voters } => self.replay_decided(at, txn, voters),
            Record::Forgotten { txn } => {
                self.drives.remove(&txn);
            }
            other => self.replay_participant(at, other),
        }
        Ok(())
    }

    fn handle(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::Started => {
                self.durable = out.last();
                self.recover_participant(now, out);
                self.recover_coordinator(now, out);
            }
            Input::Timer => self.on_timer(now, out),
            // What this node tells itself never leaves it.
            Input::Message { from, .. } if from.node == self.me.node => self.stats.ignored += 1,
            Input::Message { from, message } => {
                self.hear(from);
                self.on_message(now, from.node, message, out);
            }
            Input::Durable { upto } => self.durable = upto,
            Input::Checkpoint { before } => self.checkpoint(before, out),
            Input::Request { id, request } => match request {
                Request::Begin { parts } => self.on_begin(now, id, parts, out),
                Request::Vote { txn, vote } => self.on_vote(now, id, txn, vote, out),
                Request::Done { txn } => self.on_done(id, txn, out),
            },
            Input::Link { .. } | Input::Stored(_) | Input::Worked(_) => {}
        }
        self.hear_itself(now, out);
    }

    fn deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    fn digest(&self, now: Time, rename: &Rename, into: &mut Digest) {
        into.u64(self.me.incarnation.0);
        into.u64(self.next);
        into.u64(self.cut);
        into.u64(self.drives.len() as u64);
        for (txn, drive) in &self.drives {
            digest_txn(*txn, rename, into);
            drive.digest(now, rename, into);
        }
        into.u64(self.held.len() as u64);
        for (txn, held) in &self.held {
            digest_txn(*txn, rename, into);
            held.digest(now, rename, into);
        }
        for (node, seen) in &self.seen {
            into.u64(rename.node(*node).0);
            seen.digest(into);
        }
        for (node, life) in &self.heard {
            into.u64(rename.node(*node).0);
            into.u64(life.0);
        }
        for ((after, _), message) in &self.loopback {
            into.u64(after.0);
            into.bytes(alloc::format!("{message:?}").as_bytes());
        }
    }
}

fn digest_txn(txn: TxnId, rename: &Rename, into: &mut Digest) {
    into.u64(rename.node(txn.node).0);
    into.u64(txn.incarnation.0);
    into.u64(txn.counter);
}
