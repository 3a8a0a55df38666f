//! Terms, tokens and guards; requests, answers and events; errors.

use core::fmt;

use quorate_transport::{NodeId, Ticket, Time};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The number of an election; at most one node ever leads in a term.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Term(pub u64);

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "T{}", self.0)
    }
}

/// What a resource compares, to refuse a leader that has been succeeded. Rises with every leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// The configuration.
    pub config: u64,
    /// The term in it.
    pub term: Term,
}

impl Token {
    /// As one number of the same order.
    #[must_use]
    pub fn to_u128(self) -> u128 {
        u128::from(self.config) << 64 | u128::from(self.term.0)
    }
}

/// A lease that a majority has acknowledged. Only [`QuorumLease`](crate::QuorumLease) makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseGuard {
    pub(crate) token: Token,
    pub(crate) valid_until: Time,
}

impl LeaseGuard {
    /// What to show to every resource.
    #[must_use]
    pub fn token(self) -> Token {
        self.token
    }

    /// The end, by this node's clock; the lease no longer holds then.
    #[must_use]
    pub fn valid_until(self) -> Time {
        self.valid_until
    }
}

/// What the local application asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Who leads, and this node's lease if it has one.
    Status,
    /// Gives leadership up at once, and lets the others know.
    Resign,
}

/// What it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Where this node stands.
    Status {
        /// Its term.
        term: Term,
        /// Whom it last heard lead in that term.
        leader: Option<NodeId>,
        /// Its own lease.
        guard: Option<LeaseGuard>,
    },
    /// It leads no more.
    Resigned,
    /// It did not lead.
    NotLeader,
}

/// Why a leadership ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// No majority acknowledged a renewal in time.
    Expired,
    /// It was given up.
    Resigned,
    /// A later term was heard of.
    Superseded,
    /// This node's own timer came late by more than a quarter of the lease: it stood still.
    Stalled,
}

/// What happens without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// This node leads.
    Acquired(LeaseGuard),
    /// Its lease lasts longer.
    Renewed(LeaseGuard),
    /// It leads no more. It may have ceased to before: the guard's end decides.
    Lost {
        /// Under which token it led.
        token: Token,
        /// Why.
        why: Lost,
    },
    /// Another node leads.
    Observed {
        /// Which.
        leader: NodeId,
        /// Under which token.
        token: Token,
    },
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Times that this node asked whether it would be elected.
    pub campaigns: u64,
    /// Elections won.
    pub won: u64,
    /// Messages ignored: from strangers, other configurations, or implausible.
    pub refused: u64,
}

/// Why a node cannot start. No state was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// The configuration breaks a rule: the caller's fault.
    #[error("{field}: {rule}")]
    Config {
        /// The field.
        field: &'static str,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// The journal's records contradict each other.
    #[error("record {at}: terms fall, or a vote of one term changes")]
    Journal {
        /// The record.
        at: Ticket,
    },
}
