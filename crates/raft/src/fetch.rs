//! While no leader can be elected: a node that reaches a majority, and lacks entries that others
//! have, gets them from a peer. Raft alone waits for ever when the only node that everybody reaches
//! has not the newest log.
//!
//! It is safe to take over the log of any peer, even in part, as long as that log is more up to
//! date in the sense of Raft §5.4.1. What is given up are entries that are not in it. Had one of
//! them been committed, in a term `t`, then every later leader would have it, and so would every
//! log that ends in a later term; and a log that ends in `t` too and is longer begins with the same
//! entries. What is kept is all that the two logs share.
//!
//! A leader of the present term may count on entries that this node has acknowledged to it, though
//! they be of earlier terms. Before it gives any up it enters a new term, as if it had voted.

use alloc::boxed::Box;

use quorate_transport::{NodeId, Outbox, Time};

use crate::batch::View;
use crate::log::Fit;
use crate::message::{Message, Offer};
use crate::raft::{Raft, Role};
use crate::types::{Index, Term};

type Out<'a> = &'a mut Outbox<Raft>;

/// From its second campaign in a row on a node asks for what it lacks: the first one nearly always
/// ends with a leader.
const LONELY: u32 = 2;

impl Raft {
    /// A voter refuses, for it has more.
    pub(crate) fn on_ahead(&mut self, from: NodeId, out: Out<'_>) {
        let waits = matches!(self.role, Role::PreCandidate { .. });
        if waits && self.lonely >= LONELY && self.fetching.is_none() {
            self.fetching = Some(from);
            self.fetch((self.log.last(), self.log.last_term()), out);
        }
    }

    fn fetch(&self, (at, at_term): (Index, Term), out: Out<'_>) {
        if let Some(from) = self.fetching {
            out.send_after(self.vote_ticket, from, Message::Fetch { term: self.term, at, at_term });
        }
    }

    pub(crate) fn on_fetch(
        &mut self,
        now: Time,
        from: NodeId,
        at: Index,
        at_term: Term,
        out: Out<'_>,
    ) {
        if self.is_loyal(now) {
            return; // the leader will see to it
        }
        let prev = self.log.last_at_most(at, at_term);
        let Some(prev_term) = self.log.term_at(prev) else {
            return; // compacted: it takes a leader to send a snapshot
        };
        let views = self.log.run(prev.next(), self.config.append_bytes_max);
        let (term, last, last_term) = (self.term, self.log.last(), self.log.last_term());
        let (prev, last) = ((prev, prev_term), (last, last_term));
        let offer = Box::new(Offer { prev, last, views });
        let reply = Message::Fetched { term, offer };
        out.send_after(self.vote_ticket, from, reply);
    }

    pub(crate) fn on_fetched(&mut self, now: Time, from: NodeId, offer: Offer, out: Out<'_>) {
        let waits = matches!(self.role, Role::PreCandidate { .. });
        if !waits || self.fetching != Some(from) {
            return;
        }
        let Offer { prev: (prev, prev_term), last: (last, last_term), views } = offer;
        let ahead = (last_term, last) > (self.log.last_term(), self.log.last());
        let within = views.last().is_none_or(|end| end <= last);
        let fits = prev <= self.commit || self.log.term_at(prev) == Some(prev_term);
        if !ahead || !within || last_term > self.term {
            self.fetching = None; // another may have more; a later term is learnt by voting
            return;
        }
        if !fits {
            let at = self.log.last_at_most(prev.previous(), prev_term);
            let at_term = self.log.term_at(at).unwrap_or(Term::ZERO);
            return self.fetch((at, at_term), out);
        }
        let new = match self.log.fit(&views, self.commit) {
            Fit::All => views,
            Fit::New(new) => new,
            Fit::Known | Fit::Contradiction(_) => {
                self.fetching = None;
                return;
            }
        };
        let replaces = new.as_slice().first().is_some_and(|view| view.first() <= self.log.last());
        if replaces {
            (self.term, self.vote) = (self.term.next(), None);
            self.persist_vote(out);
            // It is as the leader of the former term had it.
            self.matched = self.commit;
        }
        self.stats.fetched += new.as_slice().iter().map(View::count).sum::<usize>() as u64;
        self.append_views(new, out);
        // What was given up may have been what made it a voter: then others are to campaign.
        if self.log.last() < last && self.may_campaign() {
            return self.fetch((self.log.last(), self.log.last_term()), out);
        }
        self.campaign(now, out);
    }
}
