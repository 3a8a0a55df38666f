//! Followers and candidates: timers, pre-votes, votes. [Raft §5.2, thesis §9.6]

use alloc::collections::BTreeSet;

use quorate_transport::{NodeId, Outbox, Time};

use crate::message::Message;
use crate::raft::{Raft, Role};
use crate::record::Record;
use crate::types::{Index, Term};

type Out<'a> = &'a mut Outbox<Raft>;

impl Raft {
    /// Enters `term`, or goes back to following in the present one.
    pub(crate) fn become_follower(&mut self, now: Time, term: Term, out: Out<'_>) {
        let newer = term > self.term;
        self.step_down(now, term, out);
        if newer {
            self.persist_vote(out);
        }
    }

    pub(crate) fn persist_vote(&mut self, out: Out<'_>) {
        self.vote_ticket = out.persist(Record::Vote { term: self.term, vote: self.vote });
    }

    /// Follows in `term`; a new one is still to be persisted, with the vote in it.
    fn step_down(&mut self, now: Time, term: Term, out: Out<'_>) {
        if self.is_leader() {
            self.give_up_leadership(out);
        }
        if term > self.term {
            (self.term, self.vote) = (term, None);
            self.matched = Index::ZERO;
        }
        // What is committed is in every later leader's log [Raft §5.4]; what was as the leader of
        // this term has it, is so still, and it may have nothing more to send.
        self.matched = self.matched.max(self.commit);
        self.give_up_reads(out);
        self.role = Role::Follower;
        self.role_changed = true;
        self.leader = None;
        self.contact = None;
        self.ack_due = false;
        self.reset_election(now);
    }

    /// The election timer fired, or might as well have.
    pub(crate) fn campaign(&mut self, now: Time, out: Out<'_>) {
        if self.decides_alone() {
            return self.become_candidate(now, false, out);
        }
        self.give_up_reads(out);
        self.leader = None;
        self.contact = None;
        self.ack_due = false;
        self.fetching = None;
        self.role = Role::Follower;
        if self.may_campaign() {
            self.lonely = self.lonely.saturating_add(1);
            self.role = Role::PreCandidate { votes: BTreeSet::from([self.node]) };
        }
        self.role_changed = true;
        self.reset_election(now);
        if self.is_removed() {
            return self.give_up_pending(out);
        }
        // Who may not campaign asks as well: it may have left, and not have heard of it.
        let (last, last_term) = (self.log.last(), self.log.last_term());
        let message = Message::PreVote { term: self.term.next(), last, last_term };
        for peer in self.other_voters() {
            // A pre-vote promises nothing at either end.
            out.send_eager(peer, message.clone());
        }
    }

    /// Asks for votes in a new term; its own counts once it is durable.
    pub(crate) fn become_candidate(&mut self, now: Time, transfer: bool, out: Out<'_>) {
        self.stats.campaigns += 1;
        self.term = self.term.next();
        self.vote = Some(self.node);
        self.persist_vote(out);
        self.give_up_reads(out);
        self.leader = None;
        self.contact = None;
        self.matched = self.commit;
        self.ack_due = false;
        self.role = Role::Candidate { votes: BTreeSet::new(), own: self.vote_ticket };
        self.role_changed = true;
        self.reset_election(now);
        let (last, last_term) = (self.log.last(), self.log.last_term());
        let message = Message::Vote { term: self.term, last, last_term, transfer };
        for peer in self.other_voters() {
            // After its own vote and its whole log: else a crash could let it campaign in the
            // same term again with a shorter log.
            out.send(peer, message.clone());
        }
    }

    pub(crate) fn on_pre_vote(
        &mut self,
        now: Time,
        from: NodeId,
        term: Term,
        last: (Index, Term),
        out: Out<'_>,
    ) {
        let free = term > self.term && !self.is_loyal(now) && !self.is_bound(now);
        let granted = free && self.log.is_up_to_date(last.0, last.1);
        let term = if granted { term } else { self.term };
        let reply = Message::PreVoteReply { term, granted, ahead: free && !granted };
        out.send_after(self.vote_ticket, from, reply);
        self.tell_removed(from, out);
    }

    pub(crate) fn on_pre_vote_reply(
        &mut self,
        now: Time,
        from: NodeId,
        (term, granted, ahead): (Term, bool, bool),
        out: Out<'_>,
    ) {
        if !granted {
            if term > self.term {
                self.become_follower(now, term, out);
            } else if ahead {
                self.on_ahead(from, out);
            }
            return;
        }
        let (members, current) = (self.log.newest_members().1, self.term.next());
        if let Role::PreCandidate { votes } = &mut self.role
            && term == current
        {
            votes.insert(from);
            if members.is_quorum(|node| votes.contains(&node)) {
                self.become_candidate(now, false, out);
            }
        }
    }

    pub(crate) fn on_vote(
        &mut self,
        now: Time,
        from: NodeId,
        term: Term,
        last: (Index, Term),
        transfer: bool,
        out: Out<'_>,
    ) {
        if self.is_bound(now) && !transfer {
            return; // some leader counts on it that nobody else is elected yet
        }
        let newer = term > self.term;
        if newer {
            if self.is_loyal(now) && !transfer {
                return; // a leader is near: whoever asks has been away [Raft §6]
            }
            self.step_down(now, term, out);
        }
        let free = self.vote.is_none_or(|vote| vote == from);
        let granted = term == self.term && free && self.log.is_up_to_date(last.0, last.1);
        let votes = granted && self.vote.is_none();
        if votes {
            self.vote = Some(from);
        }
        if newer || votes {
            self.persist_vote(out); // term and vote in one record
        }
        if granted {
            self.reset_election(now);
        }
        out.send_after(self.vote_ticket, from, Message::VoteReply { term: self.term, granted });
    }

    pub(crate) fn on_vote_reply(&mut self, now: Time, from: NodeId, granted: bool, out: Out<'_>) {
        if let Role::Candidate { votes, .. } = &mut self.role
            && granted
        {
            votes.insert(from);
            self.count_votes(now, out);
        }
    }

    pub(crate) fn count_votes(&mut self, now: Time, out: Out<'_>) {
        if let Role::Candidate { votes, .. } = &self.role
            && self.members().is_quorum(|node| votes.contains(&node))
        {
            self.become_leader(now, out);
        }
    }

    /// An operator says that the leader is gone: this node owes it nothing any more.
    pub(crate) fn forget_leader(&mut self, out: Out<'_>) {
        if !self.is_leader() && self.config.clock_drift_ppm.is_none() {
            self.give_up_reads(out);
            self.role_changed |= self.leader.is_some();
            self.leader = None;
            self.contact = None;
        }
    }

    /// The connection to the leader was closed: it has likely died. Others notice as well, so the
    /// one whose turn is first finds them willing.
    pub(crate) fn on_leader_link_down(&mut self, now: Time) {
        if self.config.clock_drift_ppm.is_some() {
            return; // it may hold a lease yet
        }
        self.contact = None;
        let others = self.members().voters().iter().filter(|voter| Some(**voter) != self.leader);
        let turn = others.take_while(|voter| **voter != self.node).count() as u32;
        let stagger = self.config.link_down_stagger;
        let jitter = self.rng.duration(core::time::Duration::ZERO, stagger / 4);
        let turn = now + stagger * turn + jitter + self.config.campaign_delay;
        self.election_at = self.election_at.min(turn);
    }

    /// True while this node stays true to a leader it has heard of late; a leader itself is until
    /// it has lost its majority.
    pub(crate) fn is_loyal(&self, now: Time) -> bool {
        let fresh = |contact: Time| now.since(contact) < self.config.election_timeout_min;
        self.is_leader() || (self.leader.is_some() && self.contact.is_some_and(fresh))
    }

    /// Draws a new timeout: at every change of role, so that nodes do not stay in step.
    pub(crate) fn reset_election(&mut self, now: Time) {
        let (min, max) = (self.config.election_timeout_min, self.config.election_timeout_max);
        let span = (self.rng.duration(min, max) + self.config.campaign_delay).as_nanos();
        self.election_span = u64::try_from(span).unwrap_or(u64::MAX);
        self.postpone_election(now);
    }

    /// The present timeout begins anew.
    pub(crate) fn postpone_election(&mut self, now: Time) {
        self.election_at = Time::from_nanos(now.as_nanos().saturating_add(self.election_span));
    }
}
