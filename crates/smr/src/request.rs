//! What the local application asks of a replica, is answered, and is told.

use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use quorate_raft::{Index, RoleName, Term};
use quorate_transport::NodeId;

use crate::applier::Outcome;
use crate::command::Commands;

/// What the local application asks; each is answered exactly once.
#[derive(Debug)]
pub enum Request {
    /// Replicate and apply these commands, next to each other and in order.
    Apply(Commands),
    /// Ask the state machine.
    Query {
        /// The question, as its `query` takes it.
        query: Bytes,
        /// How fresh the answer must be.
        freshness: Freshness,
    },
    /// The digest of everything applied so far, and of what came of it.
    Digest,
    /// Hand leadership over, to the most caught-up voter where `None`.
    Transfer {
        /// To whom.
        to: Option<NodeId>,
    },
}

/// How fresh the answer to a query must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// As if there were one copy: it reflects every command answered before the query came. Needs
    /// the leader and a round trip to a majority.
    Linearizable,
    /// Whatever this replica has applied, if it has heard its leader within this time; a leader
    /// must have heard a majority. It bounds the silence, not how far what is applied lags behind.
    Within(Duration),
    /// Whatever this replica has applied.
    Any,
}

/// What a request is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The commands are committed, durable on a majority, and applied here.
    Applied {
        /// The first command's index.
        first: Index,
        /// What became of each, in order.
        outcomes: Vec<Outcome>,
    },
    /// The state machine's answer.
    Answer {
        /// Everything up to here was applied.
        index: Index,
        /// What it said.
        answer: Bytes,
    },
    /// The digest of everything applied so far, and of what came of it: equal on all replicas at
    /// equal indices.
    Digest {
        /// Everything up to here was applied.
        index: Index,
        /// The digest.
        digest: u128,
    },
    /// This node no longer leads, as was asked.
    Transferred,
    /// Not done, and never will be: asking again is safe.
    Rejected(Rejection),
    /// Done or not: it can no longer be told here. Asking again is safe only within a session.
    Unknown,
}

/// Why a request was not done. Nothing of it will happen later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// This node does not lead: ask `leader`, where one is known.
    NotLeader {
        /// The leader it follows.
        leader: Option<NodeId>,
    },
    /// Too much is under way, or leadership is changing hands: ask again soon.
    Busy,
    /// The commands are none, or too many or too long together: the caller's fault.
    Size,
    /// This replica has not heard its leader, or as leader a majority, within the time asked for.
    NotFresh,
    /// The hand-over did not succeed.
    TransferFailed,
}

/// What happens without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The role, term or leader has changed.
    Role {
        /// The role.
        role: RoleName,
        /// The term.
        term: Term,
        /// Whom this node follows; itself when it leads.
        leader: Option<NodeId>,
    },
    /// The state was taken over from a snapshot.
    Restored {
        /// Everything up to here is in it.
        index: Index,
    },
}

/// Where a replica stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Of its Raft node.
    pub raft: quorate_raft::Status,
    /// Everything up to here is applied.
    pub applied: Index,
    /// The digest of all that.
    pub digest: u128,
    /// Sessions that are remembered.
    pub sessions: usize,
    /// Commands that wait to be applied here.
    pub waiting: usize,
}
