//! The coordinator: asks for votes, decides, and tells all who voted yes until they have it.
//!
//! Presumed abort [Mohan, Lindsay, Obermarck 1986]: an abort is neither recorded nor
//! acknowledged; a transaction of which nothing is known is aborted.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use quorate_transport::{Digest, Incarnation, NodeId, Outbox, Rename, RequestId, Ticket, Time};

use crate::message::Message;
use crate::record::Record;
use crate::request::{AbortReason, Rejection, Reply};
use crate::timers::Role;
use crate::two_phase::TwoPhaseCommit;
use crate::types::{TxnId, Vote};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    None,
    Yes,
    ReadOnly,
    Acked,
}

#[derive(Clone, Debug)]
struct Part {
    node: NodeId,
    /// The latest of its lives that was heard when the transaction began.
    heard: Incarnation,
    payload: Bytes,
    answer: Answer,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Collecting votes until then (WAIT).
    Preparing { until: Time, id: RequestId },
    /// The decision is the record of this ticket.
    Committed(Ticket),
}

/// One transaction, as its coordinator sees it.
#[derive(Clone, Debug)]
pub(crate) struct Drive {
    parts: Vec<Part>,
    phase: Phase,
    due: Time,
    wait: Duration,
}

impl Drive {
    pub(crate) fn is_committed(&self) -> bool {
        matches!(self.phase, Phase::Committed(_))
    }

    pub(crate) fn awaited(&self) -> Vec<NodeId> {
        self.waiting(if self.is_committed() { Answer::Yes } else { Answer::None })
    }

    fn voters(&self) -> Vec<NodeId> {
        let voted = |part: &&Part| matches!(part.answer, Answer::Yes | Answer::Acked);
        self.parts.iter().filter(voted).map(|part| part.node).collect()
    }

    fn waiting(&self, answer: Answer) -> Vec<NodeId> {
        self.parts.iter().filter(|part| part.answer == answer).map(|part| part.node).collect()
    }

    pub(crate) fn persist_again(&self, txn: TxnId, out: &mut Outbox<TwoPhaseCommit>) {
        if self.is_committed() {
            out.persist(Record::Decided { txn, voters: self.voters() });
        }
    }

    pub(crate) fn digest(&self, now: Time, rename: &Rename, into: &mut Digest) {
        match self.phase {
            Phase::Preparing { until, id } => {
                into.u64(until.since(now).as_nanos() as u64);
                into.u64(id.0);
            }
            Phase::Committed(ticket) => into.option(Some(ticket.0)),
        }
        into.u64(self.due.since(now).as_nanos() as u64);
        into.u64(self.wait.as_nanos() as u64);
        for part in &self.parts {
            into.u64(rename.node(part.node).0);
            into.u64(part.heard.0);
            into.u64(part.answer as u64);
            into.bytes(&part.payload);
        }
    }
}

impl TwoPhaseCommit {
    pub(crate) fn on_begin(
        &mut self,
        now: Time,
        id: RequestId,
        parts: Vec<(NodeId, Bytes)>,
        out: &mut Outbox<Self>,
    ) {
        self.move_cut();
        if let Err(rejection) = self.admit(&parts) {
            self.stats.rejected += 1;
            // Eager, as nothing was done.
            return out.answer_eager(id, Reply::Rejected(rejection));
        }
        let txn =
            TxnId { node: self.me.node, incarnation: self.me.incarnation, counter: self.next };
        self.next += 1;
        self.stats.begun += 1;
        let part = |(node, payload)| {
            let heard = self.heard.get(&node).copied().unwrap_or_default();
            Part { node, heard, payload, answer: Answer::None }
        };
        let parts: Vec<_> = parts.into_iter().map(part).collect();
        let until = now + self.config.prepare_timeout;
        let wait = self.config.resend_after;
        let due = until.min(now + wait);
        let phase = Phase::Preparing { until, id };
        self.drives.insert(txn, Drive { parts, phase, due, wait });
        self.timers.set(due, Role::Coordinator, txn);
        self.send_prepares(txn, out);
    }

    fn admit(&self, parts: &[(NodeId, Bytes)]) -> Result<(), Rejection> {
        let mut named = BTreeSet::new();
        if parts.is_empty() {
            return Err(Rejection::Empty);
        }
        for (node, payload) in parts {
            if !self.config.nodes.contains(node) {
                return Err(Rejection::Stranger(*node));
            }
            if !named.insert(*node) {
                return Err(Rejection::Twice(*node));
            }
            if payload.len() > self.config.payload_bytes_max {
                return Err(Rejection::Payload(payload.len()));
            }
        }
        if self.drives.len() >= self.config.open_max {
            return Err(Rejection::Open(self.drives.len()));
        }
        let ahead = (self.next - self.cut) as usize;
        if ahead >= self.config.window_max {
            return Err(Rejection::Window(ahead));
        }
        Ok(())
    }

    /// Moves the cut past what is decided.
    fn move_cut(&mut self) {
        let (node, incarnation) = (self.me.node, self.me.incarnation);
        while self.cut < self.next {
            let oldest = TxnId { node, incarnation, counter: self.cut };
            if self.drives.get(&oldest).is_some_and(|drive| !drive.is_committed()) {
                return;
            }
            self.cut += 1;
        }
    }

    /// Asks those who have not voted.
    fn send_prepares(&mut self, txn: TxnId, out: &mut Outbox<Self>) {
        self.move_cut();
        let Some(drive) = self.drives.get(&txn) else { return };
        let peers: Vec<_> = drive.parts.iter().map(|part| part.node).collect();
        let asked = drive.parts.iter().filter(|part| part.answer == Answer::None);
        let asked: Vec<_> =
            asked.map(|part| (part.node, part.heard, part.payload.clone())).collect();
        for (node, heard, payload) in asked {
            let (cut, peers) = (self.cut, peers.clone());
            let prepare = Message::Prepare { txn, cut, heard, peers, payload };
            // Eager: before the decision there is nothing to remember, a crash aborts.
            self.tell(Ticket::ZERO, node, prepare, out);
        }
    }

    pub(crate) fn on_voted(
        &mut self,
        now: Time,
        from: NodeId,
        txn: TxnId,
        vote: Vote,
        out: &mut Outbox<Self>,
    ) {
        let Some(drive) = self.drives.get_mut(&txn) else {
            // Long decided, or of a former life: who still waits learns that it is aborted. One
            // who voted yes in a committed transaction has a drive here until it acknowledges.
            if vote == Vote::Yes {
                self.on_inquire(from, txn, out);
            }
            return;
        };
        let part = drive.parts.iter_mut().find(|part| part.node == from);
        let Some(part) = part.filter(|_| !matches!(drive.phase, Phase::Committed(_))) else {
            if vote == Vote::Yes {
                self.on_inquire(from, txn, out);
            }
            return;
        };
        match (part.answer, vote) {
            (Answer::None, Vote::Yes) => part.answer = Answer::Yes,
            (Answer::None, Vote::ReadOnly) => part.answer = Answer::ReadOnly,
            (Answer::None, Vote::No) => {
                return self.become_aborted(txn, AbortReason::No(from), out);
            }
            _ => self.stats.ignored += 1, // the first vote counts
        }
        if self.drives[&txn].parts.iter().all(|part| part.answer != Answer::None) {
            self.become_committed(now, txn, out);
        }
    }

    fn become_aborted(&mut self, txn: TxnId, reason: AbortReason, out: &mut Outbox<Self>) {
        let Some(drive) = self.drives.remove(&txn) else { return };
        self.timers.clear(drive.due, Role::Coordinator, txn);
        self.stats.aborted += 1;
        if let Phase::Preparing { id, .. } = drive.phase {
            // Eager, like the messages below: an abort needs no record.
            out.answer_eager(id, Reply::Aborted { txn, reason });
        }
        for part in drive.parts {
            let knows = reason == AbortReason::No(part.node) || part.answer == Answer::ReadOnly;
            if !knows {
                self.tell(Ticket::ZERO, part.node, Message::Abort { txn }, out);
            }
        }
    }

    fn become_committed(&mut self, now: Time, txn: TxnId, out: &mut Outbox<Self>) {
        let Some(drive) = self.drives.get_mut(&txn) else { return };
        let Phase::Preparing { id, .. } = drive.phase else { return };
        self.stats.committed += 1;
        self.timers.clear(drive.due, Role::Coordinator, txn);
        let voters = drive.voters();
        if voters.is_empty() {
            // Nobody has anything to commit, so nothing needs to be remembered.
            self.drives.remove(&txn);
            return out.answer_eager(id, Reply::Committed { txn });
        }
        let ticket = out.persist(Record::Decided { txn, voters });
        drive.phase = Phase::Committed(ticket);
        drive.parts.iter_mut().for_each(|part| part.payload = Bytes::new());
        drive.wait = self.config.resend_after;
        drive.due = now + drive.wait;
        self.timers.set(drive.due, Role::Coordinator, txn);
        out.answer_after(ticket, id, Reply::Committed { txn });
        self.send_commits(txn, out);
    }

    /// Tells those who have not acknowledged.
    fn send_commits(&mut self, txn: TxnId, out: &mut Outbox<Self>) {
        let Some(drive) = self.drives.get(&txn) else { return };
        let Phase::Committed(ticket) = drive.phase else { return };
        for node in drive.waiting(Answer::Yes) {
            self.tell(ticket, node, Message::Commit { txn }, out);
        }
    }

    pub(crate) fn on_ack(&mut self, from: NodeId, txn: TxnId, out: &mut Outbox<Self>) {
        let Some(drive) = self.drives.get_mut(&txn).filter(|drive| drive.is_committed()) else {
            return;
        };
        if let Some(part) = drive.parts.iter_mut().find(|part| part.node == from)
            && part.answer == Answer::Yes
        {
            part.answer = Answer::Acked;
        }
        if drive.waiting(Answer::Yes).is_empty() {
            self.timers.clear(drive.due, Role::Coordinator, txn);
            self.drives.remove(&txn);
            out.persist(Record::Forgotten { txn });
        }
    }

    /// The rule of presumed abort: what is not known here is aborted.
    pub(crate) fn on_inquire(&mut self, from: NodeId, txn: TxnId, out: &mut Outbox<Self>) {
        let now = (self.me.incarnation, self.next);
        if (txn.incarnation, txn.counter) >= now {
            self.stats.ignored += 1; // never begun: nothing may be said about it
            return;
        }
        match self.drives.get(&txn).map(|drive| (drive.phase, drive.voters())) {
            Some((Phase::Preparing { .. }, _)) => {
                self.tell(Ticket::ZERO, from, Message::Uncertain { txn }, out);
            }
            Some((Phase::Committed(ticket), voters)) if voters.contains(&from) => {
                self.tell(ticket, from, Message::Commit { txn }, out);
            }
            // Unknown, or one whose first vote was read-only: it has no part in the outcome.
            Some(_) | None => {
                self.stats.presumed += 1;
                self.tell(Ticket::ZERO, from, Message::Abort { txn }, out);
            }
        }
    }

    pub(crate) fn on_drive_due(&mut self, now: Time, txn: TxnId, out: &mut Outbox<Self>) {
        let Some(drive) = self.drives.get_mut(&txn) else { return };
        drive.wait = (drive.wait * 2).min(self.config.resend_max);
        drive.due = now + drive.wait;
        if let Phase::Preparing { until, .. } = drive.phase {
            if now >= until {
                return self.become_aborted(txn, AbortReason::Timeout, out);
            }
            drive.due = drive.due.min(until);
        }
        let (due, committed) = (drive.due, drive.is_committed());
        let waiting = if committed { Answer::Yes } else { Answer::None };
        self.stats.resent += drive.waiting(waiting).len() as u64;
        self.timers.set(due, Role::Coordinator, txn);
        if committed { self.send_commits(txn, out) } else { self.send_prepares(txn, out) }
    }

    pub(crate) fn replay_decided(&mut self, at: Ticket, txn: TxnId, voters: Vec<NodeId>) {
        let heard = Incarnation::default(); // nobody is asked to prepare any more
        let part = |node| Part { node, heard, payload: Bytes::new(), answer: Answer::Yes };
        let parts = voters.into_iter().map(part).collect();
        let (phase, wait) = (Phase::Committed(at), self.config.resend_after);
        let drive = Drive { parts, phase, due: Time::ZERO, wait };
        self.drives.entry(txn).or_insert(drive);
    }

    /// Every decision whose end is not known is told again.
    pub(crate) fn recover_coordinator(&mut self, now: Time, out: &mut Outbox<Self>) {
        let all: Vec<_> = self.drives.keys().copied().collect();
        for txn in all {
            if let Some(drive) = self.drives.get_mut(&txn) {
                drive.due = now + drive.wait;
                self.timers.set(drive.due, Role::Coordinator, txn);
            }
            self.send_commits(txn, out);
        }
    }
}
