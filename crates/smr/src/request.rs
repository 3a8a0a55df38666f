//! What the local application asks of a replica, is answered, and is told.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use quorate_raft::{Index, Members, RoleName, Term};
use quorate_transport::NodeId;

use crate::changes::{Change, Found};
use crate::command::Commands;
use crate::outcomes::Outcomes;
use crate::watch::Watch;

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
    /// From which index on does a watch see everything that is answered from now on? Every command
    /// answered before is at that index or before it. Needs the leader and a round trip to a
    /// majority.
    ReadIndex,
    /// Tell what has changed after an index: at once, or when it does. Any replica answers, with
    /// what it has applied.
    Watch(Watch),
    /// The digest of everything applied so far, and of what came of it.
    Digest,
    /// Have all replicas digest their state at one index and compare: a replica whose state cannot
    /// be that of a majority stops. Answered once this replica's own digest is known.
    Audit,
    /// Hand leadership over, to the most caught-up voter where `None`.
    Transfer {
        /// To whom.
        to: Option<NodeId>,
    },
    /// Change the members of the group; answered when all steps are committed.
    ChangeMembers(quorate_raft::Change),
}

/// How fresh the answer to a query must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// As if there were one copy: it reflects every command answered before the query came. Any
    /// replica answers; it costs its leader a round trip to a majority, or a lease.
    Linearizable,
    /// It reflects every command answered longer ago than this: a replica asks its leader only
    /// when the last answer is older, by its own clock.
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
        outcomes: Outcomes,
    },
    /// The state machine's answer.
    Answer {
        /// Everything up to here was applied.
        index: Index,
        /// What it said.
        answer: Bytes,
    },
    /// A watch from now on begins after this index.
    ReadIndex {
        /// The last entry that may have been answered.
        index: Index,
    },
    /// What has changed. The next question goes on after `upto`, at this replica or any other.
    Changes {
        /// As was asked.
        after: Index,
        /// Every wanted change of the entries after `after` and up to here is among them.
        upto: Index,
        /// The changes, in the order of the log; none when the question has waited for long
        /// enough.
        changes: Vec<Change>,
    },
    /// Some of the changes that were asked for are no longer kept here. Another replica may still
    /// have them; else read the state and go on from the index of that answer.
    Compacted {
        /// The first entry whose changes, and those of all after it, can still be had here: a
        /// watch may begin after the one before it.
        first: Index,
    },
    /// The digest of everything applied so far, and of what came of it: equal on all replicas at
    /// equal indices.
    Digest {
        /// Everything up to here was applied.
        index: Index,
        /// The digest.
        digest: u128,
    },
    /// This replica's state at an index that all replicas audit; [`Status::audited`] of the others
    /// has theirs.
    Audited {
        /// Everything up to here is in it.
        index: Index,
        /// The digest of state, sessions, log time, and of all that was ever applied.
        digest: u128,
    },
    /// This node no longer leads, as was asked.
    Transferred,
    /// The change of members is complete and committed.
    MembersChanged {
        /// The entry that holds the configuration now.
        index: Index,
    },
    /// Not done, and never will be: asking again is safe.
    Rejected(Rejection),
    /// Done or not: it can no longer be told here. Asking again is safe only within a session.
    Unknown,
}

impl Reply {
    pub(crate) fn changes(after: Index, found: Found) -> Self {
        Self::Changes { after, upto: found.upto, changes: found.changes }
    }
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
    /// What this replica has applied lies too far behind.
    NotFresh,
    /// The hand-over did not succeed.
    TransferFailed,
    /// Another change of members is under way.
    Changing,
    /// The change of members was cancelled.
    Cancelled,
    /// The change of members breaks a rule: the caller's fault.
    BadChange {
        /// The rule.
        rule: &'static str,
    },
    /// This replica keeps no changes (`history_bytes_max` is 0).
    NoHistory,
}

/// What happens without being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The members have changed, or what they have become is committed now: told at the start too,
    /// and taken back by a later one until it is committed.
    Members {
        /// The entry, or snapshot, that the configuration came with.
        index: Index,
        /// The configuration.
        members: Arc<Members>,
        /// Whether it is known to be committed.
        committed: bool,
    },
    /// The role, term or leader has changed.
    Role {
        /// The role.
        role: RoleName,
        /// The term.
        term: Term,
        /// Whom this node follows; itself when it leads.
        leader: Option<NodeId>,
    },
    /// Another replica has said that its state at an index is another than the state here. One of
    /// the two stops itself once a majority has spoken.
    Differs {
        /// Which.
        node: NodeId,
        /// Where.
        index: Index,
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
    /// Sessions that have expired for want of use, as this replica has seen since it started.
    pub sessions_expired: u64,
    /// Log time: how long leaders have served while there were sessions, by their own clocks and in
    /// steps of `tick_interval`. Equal on all replicas at equal indices.
    pub log_time: Duration,
    /// Commands that wait to be applied here.
    pub waiting: usize,
    /// The last audit that is over here: an index, and the digest of the state there. Equal on all
    /// replicas at equal indices.
    pub audited: Option<(Index, u128)>,
    /// How often another replica was found to have the same state.
    pub audits_agreed: u64,
    /// Watchers that wait for a change here.
    pub watching: usize,
    /// The first entry that a watcher can still be told of here.
    pub history_first: Index,
}
