//! What the local application asks, is answered and is told; and why a detector cannot start.

use alloc::vec::Vec;

use quorate_transport::{Incarnation, NodeId, Time};
use thiserror::Error;

/// What is thought of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// It speaks, or has not been silent for long.
    Alive,
    /// Silent for longer than expected.
    Suspect,
    /// Silent for so long that it counts as failed.
    Failed,
}

/// What the local application asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// What is thought of one peer.
    Status(NodeId),
    /// What is thought of all peers.
    Members,
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// One peer.
    Status(PeerStatus),
    /// All peers, in order of their ids.
    Members(Vec<PeerStatus>),
    /// No such peer is configured: the caller's fault.
    NoSuchPeer(NodeId),
}

/// One peer, as this node sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeerStatus {
    /// The peer.
    pub node: NodeId,
    /// The verdict.
    pub status: Status,
    /// How strongly silence speaks against it: phi, or elapsed time over the fixed timeout.
    pub level: f64,
    /// The last heartbeat; `None` before the first.
    pub last_heartbeat: Option<Time>,
    /// The greatest life heard of; 0 before the first word.
    pub incarnation: Incarnation,
}

/// What happens without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A peer is silent for longer than expected.
    Suspected {
        /// The peer.
        node: NodeId,
        /// Its last heartbeat.
        last_heartbeat: Option<Time>,
    },
    /// A peer that was suspected or failed speaks again.
    Trusted {
        /// The peer.
        node: NodeId,
        /// What was thought of it.
        was: Status,
    },
    /// The suspicion has not been disproved in time.
    Failed {
        /// The peer.
        node: NodeId,
        /// Its last heartbeat.
        last_heartbeat: Option<Time>,
    },
    /// A peer speaks in a later life: what it held in memory is gone.
    Restarted {
        /// The peer.
        node: NodeId,
        /// Its new life.
        incarnation: Incarnation,
    },
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Suspicions.
    pub suspicions: u64,
    /// Failures.
    pub failures: u64,
    /// Times that this node found its own timer late.
    pub stalls: u64,
    /// Messages ignored: from strangers, former lives, or not newer than what was heard.
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
}
