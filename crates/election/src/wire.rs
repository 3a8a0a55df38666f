//! What nodes tell each other, and what they must remember.

use quorate_transport::{Decoder, Encoder, Incarnation, Peer, Wire, WireError};
use serde::{Deserialize, Serialize};

use crate::types::Term;

/// Terms at most: far from any overflow.
pub(crate) const TERM_MAX: u64 = 1 << 62;

/// What nodes tell each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The configuration it belongs to.
    pub config: u64,
    /// The term it speaks of.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Would you elect me in this term? Changes nothing.
    PreVote,
    /// I would.
    PreVoted,
    /// Elect me.
    Vote,
    /// You have my vote, and nobody else has it for a lease.
    Voted {
        /// Which life of the candidate has it: the answer may reach a process that did not ask.
        to: Incarnation,
    },
    /// I lead; promise me another lease.
    Renew {
        /// Rises with each.
        round: u64,
    },
    /// I promise.
    Renewed {
        /// Which renewal.
        round: u64,
    },
    /// I lead no more: your promise is void.
    Resign,
    /// I know a later term, this one.
    Stale,
}

impl Wire for Message {
    fn encode(&self, to: &mut Encoder<'_>) {
        to.value(self);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let message: Self = from.value("election message")?;
        if message.term.0 > TERM_MAX {
            return Err(WireError::Rule { field: "term", rule: "is at most 2^62" });
        }
        Ok(message)
    }
}

/// One durable fact: the term and the vote in it. A crash never parts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The term.
    pub term: Term,
    /// For whom this node voted in it: one life of one node, for another may be a second process.
    pub vote: Option<Peer>,
}

impl Wire for Record {
    fn encode(&self, to: &mut Encoder<'_>) {
        to.value(self);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let record: Self = from.value("election record")?;
        if record.term.0 > TERM_MAX {
            return Err(WireError::Rule { field: "term", rule: "is at most 2^62" });
        }
        Ok(record)
    }
}
