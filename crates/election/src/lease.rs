//! The machine: votes of a majority, and a lease that it keeps acknowledging.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use quorate_transport::{
    Digest, Incarnation, Input, Machine, NodeId, Outbox, Peer, Rename, RequestId, Rng, Start,
    Ticket, Time,
};

use crate::config::Config;
use crate::types::{Error, Event, LeaseGuard, Lost, Reply, Request, Stats, Term, Token};
use crate::wire::{Body, Message, Record, TERM_MAX};

type Out<'a> = &'a mut Outbox<QuorumLease>;

/// Elects a leader by majority and keeps it by leases. See the crate's documentation.
#[derive(Clone, Debug)]
pub struct QuorumLease {
    config: Config,
    me: Peer,
    rng: Rng,
    term: Term,
    vote: Option<Peer>,
    /// The record of term and vote.
    ticket: Ticket,
    /// Nothing is granted before: a promise of a former life may hold until then.
    grace_until: Option<Time>,
    /// To whom nobody else is preferred, and until when.
    promise: Option<(Peer, Time)>,
    leader: Option<NodeId>,
    role: Role,
    /// The next campaign, or renewal.
    wake_at: Option<Time>,
    stats: Stats,
}

#[derive(Clone, Debug)]
enum Role {
    Follower,
    Asking { votes: BTreeSet<NodeId> },
    Candidate { sent: Time, votes: BTreeSet<NodeId> },
    Leader(Leader),
}

#[derive(Clone, Debug)]
struct Leader {
    round: u64,
    sent: Time,
    /// For each voter, when that was sent which it has acknowledged last.
    acked: BTreeMap<NodeId, Time>,
    until: Time,
}

impl QuorumLease {
    /// This node's lease, if it has one at `now`.
    #[must_use]
    pub fn guard(&self, now: Time) -> Option<LeaseGuard> {
        let Role::Leader(leader) = &self.role else { return None };
        let guard = LeaseGuard { token: self.token(), valid_until: leader.until };
        (now < leader.until).then_some(guard)
    }

    /// The present term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// The vote in it.
    #[must_use]
    pub fn vote(&self) -> Option<Peer> {
        self.vote
    }

    /// Whom this node last heard lead in the present term; itself when it leads.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    fn token(&self) -> Token {
        Token { config: self.config.config, term: self.term }
    }

    fn is_voter(&self) -> bool {
        self.config.voters.contains(&self.me.node)
    }

    fn majority(&self) -> usize {
        self.config.voters.len() / 2 + 1
    }

    fn message(&self, body: Body) -> Message {
        Message { config: self.config.config, term: self.term, body }
    }

    fn tell_voters(&self, message: Message, out: Out<'_>) {
        for voter in self.config.voters.iter().filter(|voter| **voter != self.me.node) {
            out.send(*voter, message);
        }
    }

    fn tell_all(&self, message: Message, out: Out<'_>) {
        self.tell_voters(message, out);
        for observer in &self.config.observers {
            out.send(*observer, message);
        }
    }

    /// True when `peer` may be preferred: no promise to another holds, of this life or a former.
    fn is_free(&self, now: Time, peer: Peer) -> bool {
        self.grace_until.is_none_or(|until| now >= until)
            && self.promise.is_none_or(|(to, until)| to == peer || now >= until)
    }

    fn promise(&mut self, now: Time, to: Peer) {
        self.promise = Some((to, now + self.config.lease_of_voter()));
    }

    /// Becomes a follower of nobody yet.
    fn step_down(&mut self, now: Time, why: Lost, out: Out<'_>) {
        if let Role::Leader(_) = self.role {
            out.emit(Event::Lost { token: self.token(), why });
        }
        // What it promised itself binds nobody once it can no longer win, or has given up.
        let gives_up = matches!(why, Lost::Resigned | Lost::Stalled);
        let void = matches!(self.role, Role::Candidate { .. }) || gives_up;
        if void && self.promise.is_some_and(|(to, _)| to == self.me) {
            self.promise = None;
        }
        self.role = Role::Follower;
        self.leader = None;
        self.wait(now);
    }

    /// Enters a later term, or this one again, as a follower.
    fn follow(&mut self, now: Time, term: Term, why: Lost, out: Out<'_>) {
        self.step_down(now, why, out);
        if term > self.term {
            self.remember(term, None, out);
        }
    }

    /// Leads no more, and frees the promises that it was given. Stops before it says so: they may
    /// be given to another at once.
    fn give_up(&mut self, now: Time, why: Lost, out: Out<'_>) {
        self.step_down(now, why, out);
        self.tell_all(self.message(Body::Resign), out);
    }

    /// A leader whose timer is late stood still: whatever it was doing, it has not looked at its
    /// lease since.
    fn guard_against_stall(&mut self, now: Time, out: Out<'_>) {
        let late = self.deadline().map_or(Duration::ZERO, |due| now.since(due));
        if matches!(self.role, Role::Leader(_)) && late > self.config.lease / 4 {
            self.give_up(now, Lost::Stalled, out);
        }
    }

    fn remember(&mut self, term: Term, vote: Option<Peer>, out: Out<'_>) {
        (self.term, self.vote) = (term, vote);
        let before = self.ticket;
        self.ticket = out.persist(Record { term, vote });
        if before > Ticket::ZERO {
            out.release(before); // gated: once the new record is durable
        }
    }

    /// Draws when to campaign: after every promise of this node has ended.
    fn wait(&mut self, now: Time) {
        let promised = self.promise.map_or(now, |(_, until)| until);
        let from = self.grace_until.unwrap_or(now).max(promised).max(now);
        let (min, max) = (self.config.campaign_wait_min, self.config.campaign_wait_max);
        self.wake_at = self.is_voter().then(|| from + self.rng.duration(min, max));
    }

    fn on_timer(&mut self, now: Time, out: Out<'_>) {
        if self.deadline().is_none_or(|at| now < at) {
            return;
        }
        match &self.role {
            Role::Leader(leader) if now >= leader.until => {
                self.follow(now, self.term, Lost::Expired, out);
            }
            Role::Leader(_) => self.renew(now, out),
            _ if !self.is_free(now, self.me) => self.wait(now),
            _ => self.ask(now, out),
        }
    }

    /// Asks whether a campaign would succeed.
    fn ask(&mut self, now: Time, out: Out<'_>) {
        if self.term.0 >= TERM_MAX {
            return out.halt("terms end at 2^62", "no later term can be campaigned for");
        }
        self.stats.campaigns += 1;
        self.leader = None;
        self.role = Role::Asking { votes: BTreeSet::from([self.me.node]) };
        self.wait(now);
        let term = Term(self.term.0 + 1);
        self.tell_voters(Message { term, ..self.message(Body::PreVote) }, out);
        self.count_asked(now, out);
    }

    fn count_asked(&mut self, now: Time, out: Out<'_>) {
        let Role::Asking { votes } = &self.role else { return };
        if votes.len() < self.majority() || !self.is_free(now, self.me) {
            return;
        }
        self.remember(Term(self.term.0 + 1), Some(self.me), out);
        self.promise(now, self.me);
        self.role = Role::Candidate { sent: now, votes: BTreeSet::new() };
        // A campaign that fails must not be held up by this node's promise to itself.
        let (min, max) = (self.config.campaign_wait_min, self.config.campaign_wait_max);
        self.wake_at = Some(now + self.rng.duration(min, max));
        self.tell_voters(self.message(Body::Vote), out);
    }

    fn count_votes(&mut self, now: Time, out: Out<'_>) {
        let Role::Candidate { sent, votes } = &self.role else { return };
        if votes.len() < self.majority() {
            return;
        }
        let (sent, acked) = (*sent, votes.iter().map(|voter| (*voter, *sent)).collect());
        let until = sent + self.config.lease_of_leader();
        if now >= until {
            return; // too late to be of use: the timer campaigns again
        }
        self.role = Role::Leader(Leader { round: 0, sent, acked, until });
        self.leader = Some(self.me.node);
        self.stats.won += 1;
        out.emit(Event::Acquired(LeaseGuard { token: self.token(), valid_until: until }));
        self.renew(now, out);
    }

    fn renew(&mut self, now: Time, out: Out<'_>) {
        let me = self.me;
        let Role::Leader(leader) = &mut self.role else { return };
        leader.round += 1;
        leader.sent = now;
        leader.acked.insert(me.node, now);
        let message = self.message(Body::Renew { round: self.round() });
        self.promise(now, me);
        self.wake_at = Some(now + self.config.renew_interval);
        self.tell_all(message, out);
        self.extend(now, out);
    }

    fn round(&self) -> u64 {
        if let Role::Leader(leader) = &self.role { leader.round } else { 0 }
    }

    /// The lease lasts from the latest sending that a majority has acknowledged.
    fn extend(&mut self, now: Time, out: Out<'_>) {
        let (majority, span, token) =
            (self.majority(), self.config.lease_of_leader(), self.token());
        let Role::Leader(leader) = &mut self.role else { return };
        let mut sent: Vec<Time> = leader.acked.values().copied().collect();
        sent.sort_unstable();
        let Some(at) = sent.len().checked_sub(majority) else { return };
        let until = sent[at] + span;
        if until > leader.until && now < until {
            leader.until = until;
            out.emit(Event::Renewed(LeaseGuard { token, valid_until: until }));
        }
    }

    fn on_message(&mut self, now: Time, from: Peer, message: Message, out: Out<'_>) {
        let voter = self.config.voters.contains(&from.node) && from.node != self.me.node;
        if !voter || message.config != self.config.config || message.term.0 > TERM_MAX {
            self.stats.refused += 1;
            return;
        }
        let term = message.term;
        match message.body {
            Body::PreVote => {
                if term > self.term && self.is_voter() && self.is_free(now, from) {
                    out.send(from.node, Message { term, ..self.message(Body::PreVoted) });
                }
            }
            Body::PreVoted => self.on_pre_voted(now, from, term, out),
            Body::Vote => self.on_vote(now, from, term, out),
            Body::Voted { to } if to == self.me.incarnation => self.on_voted(now, from, term, out),
            Body::Voted { .. } => self.stats.refused += 1,
            Body::Renew { round } => self.on_renew(now, from, term, round, out),
            Body::Renewed { round } => self.on_renewed(now, from, term, round, out),
            Body::Resign => self.on_resign(now, from, term),
            Body::Stale => {
                if term > self.term {
                    self.follow(now, term, Lost::Superseded, out);
                }
            }
        }
    }

    fn on_pre_voted(&mut self, now: Time, from: Peer, term: Term, out: Out<'_>) {
        if let Role::Asking { votes } = &mut self.role
            && term.0 == self.term.0 + 1
        {
            votes.insert(from.node);
            self.count_asked(now, out);
        }
    }

    fn on_vote(&mut self, now: Time, from: Peer, term: Term, out: Out<'_>) {
        if !self.is_voter() || !self.is_free(now, from) || term < self.term {
            return; // not even the term is taken over: a leader may be near
        }
        if term > self.term {
            self.step_down(now, Lost::Superseded, out);
        } else if self.vote.is_some_and(|vote| vote != from) || self.leader.is_some() {
            return;
        }
        if term > self.term || self.vote.is_none() {
            self.remember(term, Some(from), out); // term and vote in one record
        }
        self.promise(now, from);
        self.wait(now);
        out.send(from.node, self.message(Body::Voted { to: from.incarnation }));
    }

    fn on_voted(&mut self, now: Time, from: Peer, term: Term, out: Out<'_>) {
        if let Role::Candidate { votes, .. } = &mut self.role
            && term == self.term
        {
            votes.insert(from.node);
            self.count_votes(now, out);
        }
    }

    fn on_renew(&mut self, now: Time, from: Peer, term: Term, round: u64, out: Out<'_>) {
        if term < self.term {
            out.send(from.node, self.message(Body::Stale));
            return;
        }
        let leads = matches!(self.role, Role::Leader(_));
        if term == self.term && (leads || self.leader.is_some_and(|known| known != from.node)) {
            self.stats.refused += 1; // a second leader of one term: no honest voter made it
            return;
        }
        if term > self.term || !matches!(self.role, Role::Follower) {
            self.follow(now, term, Lost::Superseded, out);
        }
        if self.leader != Some(from.node) {
            self.leader = Some(from.node);
            out.emit(Event::Observed { leader: from.node, token: self.token() });
        }
        if self.is_voter() && self.is_free(now, from) {
            self.promise(now, from);
            self.wait(now);
            out.send(from.node, self.message(Body::Renewed { round }));
        }
    }

    fn on_renewed(&mut self, now: Time, from: Peer, term: Term, round: u64, out: Out<'_>) {
        if let Role::Leader(leader) = &mut self.role
            && term == self.term
            && round == leader.round
        {
            leader.acked.insert(from.node, leader.sent);
            self.extend(now, out);
        }
    }

    fn on_resign(&mut self, now: Time, from: Peer, term: Term) {
        if term != self.term {
            return;
        }
        if self.leader == Some(from.node) {
            self.leader = None;
        }
        if self.promise.is_some_and(|(to, _)| to == from) {
            self.promise = None;
            self.wait(now);
        }
    }

    fn on_request(&mut self, now: Time, id: RequestId, request: Request, out: Out<'_>) {
        match request {
            Request::Status => {
                let (term, leader, guard) = (self.term, self.leader, self.guard(now));
                out.answer(id, Reply::Status { term, leader, guard });
            }
            Request::Resign if matches!(self.role, Role::Leader(_)) => {
                self.give_up(now, Lost::Resigned, out);
                out.answer(id, Reply::Resigned);
            }
            Request::Resign => out.answer_eager(id, Reply::NotLeader),
        }
    }

    fn on_durable(&mut self, now: Time, upto: Ticket, out: Out<'_>) {
        let me = self.me.node;
        if let Role::Candidate { votes, .. } = &mut self.role
            && upto >= self.ticket
        {
            votes.insert(me);
            self.count_votes(now, out);
        }
    }
}

impl Machine for QuorumLease {
    type Config = Config;
    type Error = Error;
    type Message = Message;
    type Record = Record;
    type Request = Request;
    type Reply = Reply;
    type Event = Event;

    fn new(start: Start, config: Config) -> Result<Self, Error> {
        config.validate(start.node)?;
        let first = start.incarnation <= Incarnation(1);
        let grace_until = (!first).then(|| start.now + config.lease_of_voter());
        Ok(Self {
            me: Peer { node: start.node, incarnation: start.incarnation },
            rng: Rng::new(start.seed),
            term: Term(0),
            vote: None,
            ticket: Ticket::ZERO,
            grace_until,
            promise: None,
            leader: None,
            role: Role::Follower,
            wake_at: None,
            stats: Stats::default(),
            config,
        })
    }

    fn replay(&mut self, at: Ticket, record: Record) -> Result<(), Error> {
        let changed = self.vote.is_some() && record.vote != self.vote;
        if record.term < self.term || (record.term == self.term && changed) {
            return Err(Error::Journal { at });
        }
        (self.term, self.vote, self.ticket) = (record.term, record.vote, at);
        Ok(())
    }

    fn handle(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        self.guard_against_stall(now, out);
        match input {
            Input::Started => {
                if self.ticket > Ticket::ZERO {
                    self.grace_until = Some(now + self.config.lease_of_voter());
                }
                self.wait(now);
            }
            Input::Timer => self.on_timer(now, out),
            Input::Message { from, message } => self.on_message(now, from, message, out),
            Input::Request { id, request } => self.on_request(now, id, request, out),
            Input::Durable { upto } => self.on_durable(now, upto, out),
            Input::Checkpoint { before } => {
                if self.ticket > Ticket::ZERO && self.ticket < before {
                    self.remember(self.term, self.vote, out);
                }
            }
            Input::Link { .. } | Input::Stored(_) | Input::Worked(_) => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        match &self.role {
            Role::Leader(leader) => {
                Some(self.wake_at.map_or(leader.until, |at| at.min(leader.until)))
            }
            _ => self.wake_at,
        }
    }

    fn digest(&self, now: Time, rename: &Rename, into: &mut Digest) {
        let ahead = |at: Time| at.as_nanos().wrapping_sub(now.as_nanos());
        let name = |node: NodeId| rename.node(node).0;
        into.u64(name(self.me.node));
        into.u64(self.rng.state());
        into.u64(self.term.0);
        into.option(self.vote.map(|vote| name(vote.node)));
        into.option(self.vote.map(|vote| vote.incarnation.0));
        into.u64(self.ticket.0);
        into.option(self.grace_until.map(ahead));
        into.option(self.promise.map(|(to, _)| name(to.node)));
        into.option(self.promise.map(|(to, _)| to.incarnation.0));
        into.option(self.promise.map(|(_, until)| ahead(until)));
        into.option(self.leader.map(name));
        into.option(self.wake_at.map(ahead));
        match &self.role {
            Role::Follower => into.u64(0),
            Role::Asking { votes } | Role::Candidate { votes, .. } => {
                into.u64(1);
                votes.iter().for_each(|node| into.u64(name(*node)));
            }
            Role::Leader(leader) => {
                into.u64(leader.round);
                into.u64(ahead(leader.sent));
                into.u64(ahead(leader.until));
                for (node, sent) in &leader.acked {
                    into.u64(name(*node));
                    into.u64(ahead(*sent));
                }
            }
        }
        into.option(match &self.role {
            Role::Candidate { sent, .. } => Some(ahead(*sent)),
            _ => None,
        });
    }
}
