//! Following: appends, heartbeats, acknowledgements, replay. [Raft §5.3]

use quorate_transport::{NodeId, Outbox, Peer, Ticket, Time};

use crate::batch::{View, Views};
use crate::log::Fit;
use crate::message::Message;
use crate::raft::{Raft, Role};
use crate::record::Record;
use crate::types::{Index, Term};

type Out<'a> = &'a mut Outbox<Raft>;

impl Raft {
    /// Hears the leader of this term; false if that is impossible.
    pub(crate) fn follow(&mut self, now: Time, leader: NodeId, out: Out<'_>) -> bool {
        if self.is_leader() || self.leader.is_some_and(|known| known != leader) {
            // Two leaders of one term cannot be: someone's word is wrong, and it is not ours.
            self.stats.refused += 1;
            return false;
        }
        if !matches!(self.role, Role::Follower) {
            self.become_follower(now, self.term, out);
        }
        self.role_changed |= self.leader != Some(leader);
        self.leader = Some(leader);
        self.hear_leader(now);
        true
    }

    /// Whether `from` is the leader that this node follows in its term, as nearly always.
    #[inline]
    pub(crate) fn follows(&self, from: Peer, term: Term) -> bool {
        term == self.term && self.leader == Some(from.node) && matches!(self.role, Role::Follower)
    }

    /// The leader lives.
    #[inline]
    pub(crate) fn hear_leader(&mut self, now: Time) {
        self.contact = Some(now);
        self.bind(now);
        (self.lonely, self.fetching) = (0, None);
        self.postpone_election(now);
    }

    pub(crate) fn on_append(
        &mut self,
        from: NodeId,
        prev: (Index, Term),
        commit: Index,
        views: Views,
        out: Out<'_>,
    ) {
        let (prev, prev_term) = prev;
        // What is committed is known to agree, compacted or not.
        let fits = prev <= self.commit || self.log.term_at(prev) == Some(prev_term);
        if !fits {
            self.stats.conflicts += 1;
            let hint = self.log.last_at_most(prev.previous(), prev_term);
            let hint_term = self.log.term_at(hint).unwrap_or(Term::ZERO);
            let term = self.term;
            let reply = Message::Conflict { term, prev, hint, hint_term };
            return out.send_after(self.vote_ticket, from, reply);
        }
        let last = views.last().unwrap_or(prev);
        match self.log.fit(&views, self.commit) {
            Fit::Known => {}
            Fit::All => self.append_views(views, out),
            Fit::New(new) => self.append_views(new, out),
            Fit::Contradiction(_) => {
                self.stats.refused += 1;
                return;
            }
        }
        self.matched = self.matched.max(last);
        self.ack_due = true;
        self.learn_commit(commit, out);
    }

    pub(crate) fn on_heartbeat(&mut self, from: NodeId, commit: Index, round: u64, out: Out<'_>) {
        self.learn_commit(commit, out);
        let reply = Message::HeartbeatReply { term: self.term, round };
        out.send_after(self.vote_ticket, from, reply);
    }

    /// The leader's commit index counts here as far as the logs are known to agree.
    pub(crate) fn learn_commit(&mut self, commit: Index, out: Out<'_>) {
        self.advance_commit(commit.min(self.matched), out);
    }

    /// Says how far the log is durably as the leader has it; the rest once it is durable too.
    pub(crate) fn acknowledge(&mut self, out: Out<'_>) {
        let Some(leader) = self.leader.filter(|_| self.vote_ticket <= self.durable) else {
            return;
        };
        let (term, matched) = (self.term, self.matched.min(self.durable_index()));
        self.ack_due = matched < self.matched;
        // The journal has said that all of it is durable: there is nothing to wait for.
        out.send_after_with(Ticket::ZERO, leader, || Message::Appended { term, matched });
    }

    /// Whether all that is to be acknowledged is durable; else the journal will say more.
    pub(crate) fn is_ack_ready(&self) -> bool {
        self.ack_due && self.log.ticket_at(self.matched).max(self.vote_ticket) <= self.durable
    }

    pub(crate) fn append_views(&mut self, views: Views, out: Out<'_>) {
        let Some(first) = views.as_slice().first().map(View::first) else {
            return;
        };
        assert!(first > self.commit, "what is committed is never replaced");
        let prev_term = self.log.term_at(first.previous()).unwrap_or(Term::ZERO);
        let ticket = out.persist_with(|| Record::Append { prev_term, views: views.clone() });
        match views {
            Views::None => {}
            Views::One(view) => self.log.append(view, ticket),
            Views::Many(all) => all.into_iter().for_each(|view| self.log.append(view, ticket)),
        }
    }

    /// Puts a view of the journal back. What the log has already stays; a difference cuts it.
    pub(crate) fn replay_view(&mut self, at: Ticket, prev_term: Term, view: &View) {
        let first = view.first();
        let gap = first > self.log.last().next();
        let before = self.unanchored && first <= self.log.base();
        if gap || before {
            // The journal begins in the middle: a snapshot record to come covers what is missing.
            self.log.reset(first.previous(), prev_term);
            self.unanchored = first.previous() > self.commit;
        }
        match self.log.fit(&Views::One(view.clone()), self.log.base()) {
            Fit::All => self.log.append(view.clone(), at),
            Fit::New(new) => {
                new.as_slice().iter().for_each(|view| self.log.append(view.clone(), at));
            }
            Fit::Known | Fit::Contradiction(_) => {}
        }
    }
}
