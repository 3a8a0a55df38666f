//! The participant: asks its application, binds itself by a yes, and finds out what became of it.

use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use quorate_transport::{Digest, Incarnation, NodeId, Outbox, Rename, RequestId, Ticket, Time};

use crate::config::NODES_MAX;
use crate::message::Message;
use crate::record::Record;
use crate::request::{Event, Rejection, Reply};
use crate::seen::Past;
use crate::timers::Role;
use crate::two_phase::TwoPhaseCommit;
use crate::types::{Standing, TxnId, Vote};

/// After so many rounds of questions in vain a transaction is reported as blocked: the first asks
/// the coordinator alone, the second asks everybody.
const BLOCKED_ROUNDS: u8 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Voting,
    Prepared(Ticket),
    /// Of two outcomes, that of the lower ticket came first.
    Committed(Ticket),
    /// `bound` where a yes vote is in the journal; `past` is what will be remembered.
    Aborted {
        bound: bool,
        past: Past,
        order: Ticket,
    },
}

/// One transaction, as a participant sees it.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    cut: u64,
    /// A former life may have voted as well, and read-only, of which nothing is left.
    again: bool,
    peers: Vec<NodeId>,
    payload: Bytes,
    phase: Phase,
    due: Time,
    wait: Duration,
    rounds: u8,
}

impl Held {
    pub(crate) fn standing(&self) -> Standing {
        match self.phase {
            Phase::Voting => Standing::Voting,
            Phase::Prepared(_) => Standing::Prepared,
            Phase::Committed(_) => Standing::Committed,
            Phase::Aborted { .. } => Standing::Aborted,
        }
    }

    pub(crate) fn is_in_doubt(&self) -> bool {
        matches!(self.phase, Phase::Prepared(_))
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.is_in_doubt() && self.rounds >= BLOCKED_ROUNDS
    }

    /// What a checkpoint writes anew.
    pub(crate) fn persist_again(&self, txn: TxnId, out: &mut Outbox<TwoPhaseCommit>) {
        let (bound, more) = match self.phase {
            Phase::Voting => (false, None),
            Phase::Prepared(_) => (true, None),
            Phase::Committed(order) => (true, Some(Record::Committed { txn, order })),
            Phase::Aborted { past: Past::Refused, .. } => (false, Some(Record::Refused { txn })),
            Phase::Aborted { bound: true, order, .. } => {
                (true, Some(Record::Aborted { txn, order }))
            }
            Phase::Aborted { bound: false, .. } => (false, None),
        };
        if bound {
            let (peers, payload) = (self.peers.clone(), self.payload.clone());
            out.persist(Record::Prepared { txn, cut: self.cut, again: self.again, peers, payload });
        }
        if let Some(record) = more {
            out.persist(record);
        }
    }

    pub(crate) fn digest(&self, now: Time, rename: &Rename, into: &mut Digest) {
        into.u64(self.cut);
        into.bool(self.again);
        for peer in &self.peers {
            into.u64(rename.node(*peer).0);
        }
        into.bytes(&self.payload);
        let (number, more) = match self.phase {
            Phase::Voting => (0, 0),
            Phase::Prepared(ticket) => (1, ticket.0),
            Phase::Committed(ticket) => (2, ticket.0),
            Phase::Aborted { bound, past, .. } => (3 + u64::from(bound), past as u64),
        };
        into.u64(number);
        into.u64(more);
        into.u64(self.due.since(now).as_nanos() as u64);
        into.u64(self.wait.as_nanos() as u64);
        into.u64(u64::from(self.rounds));
    }
}

impl TwoPhaseCommit {
    pub(crate) fn on_prepare(
        &mut self,
        now: Time,
        txn: TxnId,
        (cut, heard): (u64, Incarnation),
        peers: Vec<NodeId>,
        payload: Bytes,
        out: &mut Outbox<Self>,
    ) {
        let again = heard != self.me.incarnation;
        let sound = peers.contains(&self.me.node)
            && peers.len() <= NODES_MAX
            && payload.len() <= self.config.payload_bytes_max
            && txn.counter >= cut;
        if !sound {
            self.stats.ignored += 1;
            return;
        }
        let held = self.held.get(&txn).map(|held| held.phase);
        let seen = self.seen.entry(txn.node).or_default();
        let fresh = seen.advance(txn, cut);
        let vote = |vote| Message::Voted { txn, vote };
        let (past, closed) = (seen.past(txn), seen.len());
        match (held, past) {
            (Some(Phase::Prepared(ticket)), _) => {
                self.stats.resent += 1;
                self.tell(ticket, txn.node, vote(Vote::Yes), out);
            }
            (Some(Phase::Aborted { .. }), _) | (None, Some(Past::Refused | Past::Aborted)) => {
                // Waits for all before it, the refusal among it.
                self.tell(out.last(), txn.node, vote(Vote::No), out);
            }
            // Nothing durable stands behind these two votes.
            (None, Some(Past::No)) => self.tell(Ticket::ZERO, txn.node, vote(Vote::No), out),
            (None, Some(Past::ReadOnly)) => {
                self.tell(Ticket::ZERO, txn.node, vote(Vote::ReadOnly), out);
            }
            (Some(_), _) | (None, Some(Past::Committed)) => {}
            (None, None) if !fresh => self.stats.ignored += 1,
            (None, None)
                if self.held.len() >= self.config.held_max || closed >= self.config.window_max =>
            {
                self.stats.refused += 1;
                // Eager: a no vote binds nobody.
                self.tell(Ticket::ZERO, txn.node, vote(Vote::No), out);
            }
            (None, None) => {
                let wait = self.config.inquire_after;
                let due = now + wait;
                // Eager: nothing has been promised.
                out.emit_eager(Event::Prepare { txn, payload: payload.clone() });
                let phase = Phase::Voting;
                let held = Held { cut, again, peers, payload, phase, due, wait, rounds: 0 };
                self.held.insert(txn, held);
                self.timers.set(due, Role::Participant, txn);
            }
        }
    }

    pub(crate) fn on_vote(
        &mut self,
        now: Time,
        id: RequestId,
        txn: TxnId,
        vote: Vote,
        out: &mut Outbox<Self>,
    ) {
        let open = self.held.get_mut(&txn).filter(|held| held.phase == Phase::Voting);
        let Some(held) = open else {
            self.stats.rejected += 1;
            return out.answer_eager(id, Reply::Rejected(Rejection::NotVoting(txn)));
        };
        self.timers.clear(held.due, Role::Participant, txn);
        if vote == Vote::Yes {
            let Held { cut, again, .. } = *held;
            let (peers, payload) = (held.peers.clone(), held.payload.clone());
            let ticket = out.persist(Record::Prepared { txn, cut, again, peers, payload });
            held.phase = Phase::Prepared(ticket);
            (held.wait, held.rounds) = (self.config.inquire_after, 0);
            held.due = now + held.wait;
            self.timers.set(held.due, Role::Participant, txn);
            out.answer_after(ticket, id, Reply::Taken);
            self.tell(ticket, txn.node, Message::Voted { txn, vote }, out);
        } else {
            let past = if vote == Vote::No { Past::No } else { Past::ReadOnly };
            self.held.remove(&txn);
            self.close(txn, past);
            // Eager: such a vote binds nobody, and after a crash it may be asked for again.
            out.answer_eager(id, Reply::Taken);
            self.tell(Ticket::ZERO, txn.node, Message::Voted { txn, vote }, out);
        }
    }

    pub(crate) fn on_done(&mut self, id: RequestId, txn: TxnId, out: &mut Outbox<Self>) {
        let past = match self.held.get(&txn).map(|held| held.phase) {
            Some(Phase::Committed(_)) => Some((Past::Committed, true)),
            Some(Phase::Aborted { bound, past, .. }) => Some((past, bound)),
            _ => None,
        };
        let Some((past, bound)) = past else {
            self.stats.rejected += 1;
            return out.answer_eager(id, Reply::Rejected(Rejection::NotDecided(txn)));
        };
        if bound {
            out.persist(Record::Finished { txn });
        }
        self.held.remove(&txn);
        self.close(txn, past);
        // Eager: if it is forgotten over a crash, the outcome is told and reported again.
        out.answer_eager(id, Reply::Taken);
    }

    pub(crate) fn on_commit(&mut self, from: NodeId, txn: TxnId, out: &mut Outbox<Self>) {
        let Some(held) = self.held.get_mut(&txn) else {
            let past = self.seen.get(&txn.node).and_then(|seen| seen.past(txn));
            match past {
                // Done long ago; the acknowledgement was lost.
                None | Some(Past::Committed) if from == txn.node => {
                    self.tell(Ticket::ZERO, from, Message::Ack { txn }, out);
                }
                _ => self.stats.ignored += 1,
            }
            return;
        };
        let known = from == txn.node || held.peers.contains(&from);
        match held.phase {
            Phase::Prepared(_) if known => {
                self.timers.clear(held.due, Role::Participant, txn);
                let ticket = out.persist(Record::Committed { txn, order: out.last().next() });
                held.phase = Phase::Committed(ticket);
                out.emit_after(ticket, Event::Commit { txn });
                self.tell(ticket, txn.node, Message::Ack { txn }, out);
            }
            Phase::Committed(ticket) => self.tell(ticket, txn.node, Message::Ack { txn }, out),
            _ => self.stats.ignored += 1,
        }
    }

    pub(crate) fn on_abort(&mut self, from: NodeId, txn: TxnId, out: &mut Outbox<Self>) {
        let Some(held) = self.held.get_mut(&txn) else {
            if from == txn.node {
                // It overtook its prepare, which will then be known as an echo.
                let seen = self.seen.entry(from).or_default();
                if seen.past(txn).is_none() && seen.len() < self.config.window_max {
                    seen.close(txn, Past::Aborted);
                }
            }
            return;
        };
        let known = from == txn.node || held.peers.contains(&from);
        let bound = held.is_in_doubt();
        if !known || !(bound || held.phase == Phase::Voting) {
            self.stats.ignored += 1;
            return;
        }
        self.timers.clear(held.due, Role::Participant, txn);
        let order = out.last().next();
        if bound {
            // No force, but before any later vote: two votes on one lock never stand side by side.
            out.persist(Record::Aborted { txn, order });
        }
        held.phase = Phase::Aborted { bound, past: Past::Aborted, order };
        // Eager: forgotten over a crash, it is asked about again, and is aborted again.
        out.emit_eager(Event::Abort { txn });
    }

    /// Cooperative termination [Skeen 1981]: another participant is in doubt. What was aborted here
    /// may have been committed all the same, without this node: where a former life has voted
    /// read-only, of which nothing is left. So nobody is freed by an abort here unless the
    /// transaction began when this life had been heard; of one that is closed and was not refused
    /// that is not remembered, and only a first life is sure.
    pub(crate) fn on_peer_inquire(&mut self, from: NodeId, txn: TxnId, out: &mut Outbox<Self>) {
        let uncertain = Message::Uncertain { txn };
        let first_life = self.me.incarnation.life() <= 1;
        let Some(held) = self.held.get_mut(&txn) else {
            // What is not known here may have been committed and forgotten, or be on its way.
            let past = self.seen.get(&txn.node).and_then(|seen| seen.past(txn));
            let (after, answer) = match past {
                Some(Past::Committed) => (Ticket::ZERO, Message::Commit { txn }),
                // Waits for all before it, the refusal among it.
                Some(Past::Refused) => (out.last(), Message::Abort { txn }),
                Some(Past::Aborted) if first_life => (out.last(), Message::Abort { txn }),
                Some(Past::Aborted | Past::No | Past::ReadOnly) | None => (Ticket::ZERO, uncertain),
            };
            return self.tell(after, from, answer, out);
        };
        let again = held.again && !first_life;
        match held.phase {
            Phase::Prepared(_) => self.tell(Ticket::ZERO, from, uncertain, out),
            Phase::Committed(ticket) => self.tell(ticket, from, Message::Commit { txn }, out),
            Phase::Aborted { past, .. } if !again || past == Past::Refused => {
                self.tell(out.last(), from, Message::Abort { txn }, out);
            }
            Phase::Aborted { .. } => self.tell(Ticket::ZERO, from, uncertain, out),
            Phase::Voting if again => self.tell(Ticket::ZERO, from, uncertain, out),
            Phase::Voting if held.peers.contains(&from) => {
                // Not bound yet: it can refuse for good, and so free the other.
                self.timers.clear(held.due, Role::Participant, txn);
                let ticket = out.persist(Record::Refused { txn });
                let past = Past::Refused;
                held.phase = Phase::Aborted { bound: false, past, order: ticket };
                out.emit_after(ticket, Event::Abort { txn });
                let vote = Vote::No;
                self.tell(ticket, txn.node, Message::Voted { txn, vote }, out);
                self.tell(ticket, from, Message::Abort { txn }, out);
            }
            Phase::Voting => self.stats.ignored += 1,
        }
    }

    /// No outcome yet: asks the coordinator, then everybody, for ever.
    pub(crate) fn on_held_due(&mut self, now: Time, txn: TxnId, out: &mut Outbox<Self>) {
        let Some(held) = self.held.get_mut(&txn) else { return };
        held.wait = (held.wait * 2).min(self.config.resend_max);
        held.due = now + held.wait;
        held.rounds = (held.rounds + 1).min(BLOCKED_ROUNDS + 1);
        let (due, rounds, bound) = (held.due, held.rounds, held.is_in_doubt());
        let me = self.me.node;
        let others = held.peers.iter().copied().filter(|peer| *peer != me && *peer != txn.node);
        let others: Vec<_> = others.collect();
        self.timers.set(due, Role::Participant, txn);
        self.inquire(txn, txn.node, out);
        if bound && rounds >= 2 {
            others.iter().for_each(|peer| self.inquire(txn, *peer, out));
        }
        if bound && rounds == BLOCKED_ROUNDS {
            // Eager: a report of what is, which promises nothing.
            out.emit_eager(Event::Blocked { txn, peers: others });
        }
    }

    fn inquire(&mut self, txn: TxnId, to: NodeId, out: &mut Outbox<Self>) {
        self.stats.inquiries += 1;
        // Eager: a question promises nothing.
        self.tell(Ticket::ZERO, to, Message::Inquire { txn }, out);
    }

    fn close(&mut self, txn: TxnId, past: Past) {
        self.seen.entry(txn.node).or_default().close(txn, past);
    }

    pub(crate) fn replay_participant(&mut self, at: Ticket, record: Record) {
        match record {
            Record::Prepared { txn, cut, again, peers, payload } => {
                self.seen.entry(txn.node).or_default().advance(txn, cut);
                let (due, wait) = (Time::ZERO, self.config.inquire_after);
                let phase = Phase::Prepared(at);
                let held = Held { cut, again, peers, payload, phase, due, wait, rounds: 0 };
                // A checkpoint may repeat it: what is known of it since stands.
                self.held.entry(txn).or_insert(held);
            }
            Record::Committed { txn, order } => {
                if let Some(held) = self.held.get_mut(&txn) {
                    held.phase = Phase::Committed(order);
                }
            }
            Record::Aborted { txn, order } => {
                if let Some(held) = self.held.get_mut(&txn) {
                    held.phase = Phase::Aborted { bound: true, past: Past::Aborted, order };
                }
            }
            Record::Finished { txn } => {
                let committed = |held: &Held| matches!(held.phase, Phase::Committed(_));
                let past = match self.held.remove(&txn) {
                    Some(held) if !committed(&held) => Past::Aborted,
                    _ => Past::Committed,
                };
                self.close(txn, past);
            }
            Record::Refused { txn } => self.close(txn, Past::Refused),
            Record::Closed { node, incarnation, cut, committed, refused } => {
                let of = |counter| TxnId { node, incarnation, counter };
                self.seen.entry(node).or_default().advance(of(cut), cut);
                committed.into_iter().for_each(|n| self.close(of(n), Past::Committed));
                refused.into_iter().for_each(|n| self.close(of(n), Past::Refused));
            }
            Record::Decided { .. } | Record::Forgotten { .. } => {}
        }
    }

    /// Tells the application what it is bound by, and asks about what is in doubt.
    pub(crate) fn recover_participant(&mut self, now: Time, out: &mut Outbox<Self>) {
        let decided = self.held.iter().filter_map(|(txn, held)| match held.phase {
            Phase::Committed(order) => Some((order, *txn, Event::Commit { txn: *txn })),
            Phase::Aborted { order, .. } => Some((order, *txn, Event::Abort { txn: *txn })),
            Phase::Voting | Phase::Prepared(_) => None,
        });
        let mut decided: Vec<_> = decided.collect();
        decided.sort_unstable_by_key(|(order, txn, _)| (*order, *txn));
        // Decided ones first: a later one may be in doubt about what they held. Eager, all of
        // these: they repeat what the journal says.
        for (_, txn, outcome) in decided {
            let payload = self.held[&txn].payload.clone();
            out.emit_eager(Event::Recovered { txn, payload });
            out.emit_eager(outcome);
        }
        let in_doubt = self.held.iter().filter(|(_, held)| held.is_in_doubt());
        let in_doubt: Vec<_> = in_doubt.map(|(txn, _)| *txn).collect();
        for txn in in_doubt {
            let Some(held) = self.held.get_mut(&txn) else { continue };
            out.emit_eager(Event::Recovered { txn, payload: held.payload.clone() });
            held.due = now + held.wait;
            self.timers.set(held.due, Role::Participant, txn);
            self.inquire(txn, txn.node, out);
        }
    }
}
