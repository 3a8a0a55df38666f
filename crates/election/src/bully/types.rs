//! What bullies tell each other, remember, and tell the application.

use core::fmt;

use quorate_transport::{Decoder, Encoder, NodeId, Wire, WireError};
use serde::{Deserialize, Serialize};

use crate::types::Term;
use crate::wire::TERM_MAX;

/// An opinion: one node believes that another leads. Others may believe otherwise at the same time,
/// in the same term too, so it guards nothing; no [`LeaseGuard`](crate::LeaseGuard) comes of it.
///
/// ```compile_fail,E0308
/// fn write(_: quorate_election::LeaseGuard) {}
/// fn act(believed: quorate_election::Advisory) {
///     write(believed);
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Advisory {
    /// Whose opinion.
    pub by: NodeId,
    /// Who leads, in that opinion.
    pub leader: NodeId,
    /// In which term; not a fencing token.
    pub term: Term,
}

impl fmt::Debug for Advisory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} believes {} leads at {:?}", self.by, self.leader, self.term)
    }
}

/// What nodes tell each other. Who says it comes with the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The greatest term that the sender knows; of a COORDINATOR, the one it leads in.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// To a higher node: lead, if you live.
    Election,
    /// To a lower node: I live, and take it from here.
    Answer,
    /// To all: I lead.
    Coordinator,
}

/// One durable fact: the greatest term heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The term.
    pub term: Term,
}

/// What the local application asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Who is believed to lead.
    Status,
    /// Hold an election: a failure detector has given the leader up. One under way goes on.
    Elect,
}

/// What it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The present opinion; `None` during an election.
    Status(Option<Advisory>),
    /// An election is under way, or was over at once.
    Begun,
}

/// What happens without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Another leader, or another term, is believed in; the leader may be this node.
    Believed(Advisory),
    /// The last opinion was given up, and an election begins.
    Doubted(Advisory),
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Elections begun.
    pub elections: u64,
    /// Elections that ended in this node's announcement.
    pub won: u64,
    /// ELECTION messages sent.
    pub elections_sent: u64,
    /// ANSWER messages sent.
    pub answers_sent: u64,
    /// COORDINATOR messages sent.
    pub coordinators_sent: u64,
    /// Messages ignored: from strangers, implausible, or overtaken.
    pub refused: u64,
}

fn checked(term: Term) -> Result<(), WireError> {
    if term.0 > TERM_MAX {
        return Err(WireError::Rule { field: "term", rule: "is at most 2^62" });
    }
    Ok(())
}

impl Wire for Message {
    fn encode(&self, to: &mut Encoder<'_>) {
        to.value(self);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let message: Self = from.value("bully message")?;
        checked(message.term)?;
        Ok(message)
    }
}

impl Wire for Record {
    fn encode(&self, to: &mut Encoder<'_>) {
        to.value(self);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let record: Self = from.value("bully record")?;
        checked(record.term)?;
        Ok(record)
    }
}
