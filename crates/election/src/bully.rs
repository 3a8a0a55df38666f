//! The bully algorithm: the highest node that answers leads. [Garcia-Molina 1982, §IV]
//!
//! Correct only where every message arrives in time and every timeout means a death. Elsewhere two
//! nodes may lead at once, so all that comes out of it is an [`Advisory`]. The names are those of
//! the article: ELECTION, ANSWER, COORDINATOR.

use quorate_transport::{
    Digest, Input, Machine, NodeId, Outbox, Peer, Rename, RequestId, Start, Ticket, Time,
};

use crate::types::{Error, Term};
use crate::wire::TERM_MAX;

mod config;
mod types;

pub use config::{Config, NODES_MAX};
pub use types::{Advisory, Body, Event, Message, Record, Reply, Request, Stats};

type Out<'a> = &'a mut Outbox<Bully>;

/// Elects the highest node that answers. See the crate's documentation for what that is worth.
#[derive(Clone, Debug)]
pub struct Bully {
    config: Config,
    me: NodeId,
    /// The greatest term heard of or announced.
    term: Term,
    /// The record of it.
    ticket: Ticket,
    belief: Option<Advisory>,
    role: Role,
    /// When the present wait ends, whatever it is for.
    wake_at: Option<Time>,
    stats: Stats,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Follows a leader, or has not begun.
    Follower,
    /// Has sent ELECTION and waits for an ANSWER.
    Asking,
    /// Was answered and waits for a COORDINATOR.
    Waiting,
    /// Has announced itself.
    Leader,
}

impl Bully {
    /// Whom this node believes to lead; an opinion that other nodes need not share.
    #[must_use]
    pub fn advisory(&self) -> Option<Advisory> {
        self.belief
    }

    /// The greatest term heard of.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    fn message(&self, body: Body) -> Message {
        Message { term: self.term, body }
    }

    fn send(&mut self, to: NodeId, body: Body, out: Out<'_>) {
        match body {
            Body::Election => self.stats.elections_sent += 1,
            Body::Answer => self.stats.answers_sent += 1,
            Body::Coordinator => self.stats.coordinators_sent += 1,
        }
        out.send(to, self.message(body));
    }

    /// Takes a later term over; durable before it is told on.
    fn remember(&mut self, term: Term, out: Out<'_>) {
        self.term = term;
        self.persist(out);
    }

    fn persist(&mut self, out: Out<'_>) {
        let before = self.ticket;
        self.ticket = out.persist(Record { term: self.term });
        if before > Ticket::ZERO {
            out.release(before); // gated: once the new record is durable
        }
    }

    fn forget_leader(&mut self, out: Out<'_>) {
        if let Some(last) = self.belief.take() {
            out.emit(Event::Doubted(last));
        }
    }

    /// Believes in a leader in the present term; tells so unless it did before.
    fn believe(&mut self, leader: NodeId, out: Out<'_>) {
        let belief = Advisory { by: self.me, leader, term: self.term };
        if self.belief.replace(belief) != Some(belief) {
            out.emit(Event::Believed(belief));
        }
    }

    /// ELECTION to every higher node; with none, this node leads at once.
    fn elect(&mut self, now: Time, out: Out<'_>) {
        self.stats.elections += 1;
        self.forget_leader(out);
        self.role = Role::Asking;
        self.wake_at = Some(now + self.config.answer_timeout);
        let mut alone = true;
        for at in 0..self.config.nodes.len() {
            let node = self.config.nodes[at];
            if node > self.me {
                alone = false;
                self.send(node, Body::Election, out);
            }
        }
        if alone {
            self.win(now, out);
        }
    }

    fn win(&mut self, now: Time, out: Out<'_>) {
        if self.term.0 >= TERM_MAX {
            return out.halt("terms end at 2^62", "no later term can be announced");
        }
        self.remember(Term(self.term.0 + 1), out);
        self.role = Role::Leader;
        self.stats.won += 1;
        self.believe(self.me, out);
        self.announce(now, out);
    }

    fn announce(&mut self, now: Time, out: Out<'_>) {
        for at in 0..self.config.nodes.len() {
            let node = self.config.nodes[at];
            if node != self.me {
                self.send(node, Body::Coordinator, out);
            }
        }
        self.wake_at = self.config.announce_interval.map(|interval| now + interval);
    }

    fn on_timer(&mut self, now: Time, out: Out<'_>) {
        if self.wake_at.is_none_or(|at| now < at) {
            return;
        }
        match self.role {
            Role::Asking => self.win(now, out),
            Role::Waiting | Role::Follower => self.elect(now, out),
            Role::Leader => self.announce(now, out),
        }
    }

    fn on_message(&mut self, now: Time, from: Peer, message: Message, out: Out<'_>) {
        let (from, term) = (from.node, message.term);
        let stranger = from == self.me || !self.config.nodes.contains(&from);
        if stranger || term.0 > TERM_MAX {
            self.stats.refused += 1;
            return;
        }
        match message.body {
            Body::Election => self.on_election(now, from, term, out),
            Body::Answer => self.on_answer(now, from, term, out),
            Body::Coordinator => self.on_coordinator(now, from, term, out),
        }
    }

    fn on_election(&mut self, now: Time, from: NodeId, term: Term, out: Out<'_>) {
        if from > self.me {
            self.stats.refused += 1; // it bullies, it does not ask
            return;
        }
        let later = term > self.term;
        if later {
            self.remember(term, out);
        }
        self.send(from, Body::Answer, out);
        match self.role {
            Role::Leader if !later => self.send(from, Body::Coordinator, out),
            Role::Leader | Role::Follower => self.elect(now, out),
            Role::Asking | Role::Waiting => {}
        }
    }

    fn on_answer(&mut self, now: Time, from: NodeId, term: Term, out: Out<'_>) {
        if from < self.me || self.role != Role::Asking {
            self.stats.refused += 1; // too late: this node has announced itself, or follows
            return;
        }
        if term > self.term {
            self.remember(term, out);
        }
        self.role = Role::Waiting;
        self.wake_at = Some(now + self.config.coordinator_timeout);
    }

    fn on_coordinator(&mut self, now: Time, from: NodeId, term: Term, out: Out<'_>) {
        let higher = self.belief.is_some_and(|belief| belief.leader > from);
        if term < self.term || (term == self.term && from > self.me && higher) {
            self.stats.refused += 1; // overtaken, or of the lesser of one term's two
            return;
        }
        if term > self.term {
            self.remember(term, out);
        }
        if from < self.me {
            if matches!(self.role, Role::Follower | Role::Leader) {
                self.elect(now, out);
            }
            return;
        }
        self.role = Role::Follower;
        self.wake_at = self.config.announce_interval.map(|_| now + self.config.leader_timeout);
        self.believe(from, out);
    }

    fn on_request(&mut self, now: Time, id: RequestId, request: Request, out: Out<'_>) {
        match request {
            Request::Status => out.answer(id, Reply::Status(self.advisory())),
            Request::Elect => {
                if matches!(self.role, Role::Follower | Role::Leader) {
                    self.elect(now, out);
                }
                out.answer(id, Reply::Begun);
            }
        }
    }
}

impl Machine for Bully {
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
            config,
            me: start.node,
            term: Term(0),
            ticket: Ticket::ZERO,
            belief: None,
            role: Role::Follower,
            wake_at: None,
            stats: Stats::default(),
        })
    }

    fn replay(&mut self, at: Ticket, record: Record) -> Result<(), Error> {
        if record.term < self.term {
            return Err(Error::Journal { at });
        }
        (self.term, self.ticket) = (record.term, at);
        Ok(())
    }

    fn handle(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::Started => self.elect(now, out),
            Input::Timer => self.on_timer(now, out),
            Input::Message { from, message } => self.on_message(now, from, message, out),
            Input::Request { id, request } => self.on_request(now, id, request, out),
            Input::Checkpoint { before } => {
                if self.ticket > Ticket::ZERO && self.ticket < before {
                    self.persist(out);
                }
            }
            Input::Durable { .. } | Input::Link { .. } | Input::Stored(_) | Input::Worked(_) => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.wake_at
    }

    fn digest(&self, now: Time, rename: &Rename, into: &mut Digest) {
        into.u64(rename.node(self.me).0);
        into.u64(self.term.0);
        into.u64(self.ticket.0);
        into.option(self.belief.map(|belief| rename.node(belief.leader).0));
        into.option(self.belief.map(|belief| belief.term.0));
        into.u64(self.role as u64);
        into.option(self.wake_at.map(|at| at.as_nanos().wrapping_sub(now.as_nanos())));
    }
}
