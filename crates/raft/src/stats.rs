//! What a node has seen and where it stands.

use alloc::sync::Arc;
use alloc::vec::Vec;

use quorate_transport::NodeId;

use crate::members::Members;
use crate::request::RoleName;
use crate::types::{Index, Term};

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Campaigns that asked for real votes.
    pub campaigns: u64,
    /// Elections won.
    pub elections_won: u64,
    /// Entries got from a peer while there was no leader.
    pub fetched: u64,
    /// Leaderships given up because no majority was heard.
    pub quorum_lost: u64,
    /// Leaderships given up because the own disk or state machine made no progress.
    pub progress_lost: u64,
    /// Entries taken in from the local application.
    pub proposed: u64,
    /// Requests whose proposals were committed.
    pub committed: u64,
    /// Requests whose place another entry took.
    pub replaced: u64,
    /// Requests whose outcome could not be told.
    pub unknown: u64,
    /// Proposals refused as busy.
    pub busy: u64,
    /// Reads answered from a lease.
    pub lease_reads: u64,
    /// Appends sent.
    pub appends_sent: u64,
    /// Appends that did not fit.
    pub conflicts: u64,
    /// Appends sent again for want of an answer.
    pub resends: u64,
    /// Snapshots sent whole.
    pub snapshots_sent: u64,
    /// Configurations put into the log as a leader.
    pub configurations: u64,
    /// Snapshots taken over from a leader.
    pub snapshots_installed: u64,
    /// Messages not believed: their sender has another disk than the group knows, or has lost what
    /// it had acknowledged.
    pub strangers: u64,
    /// Messages ignored: from strangers, implausible, or at odds with what is known to be true.
    pub refused: u64,
}

/// A follower, as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The follower.
    pub node: NodeId,
    /// The last entry known to be durable there.
    pub matched: Index,
    /// Entries of the leader's log that are not known to be there.
    pub lag: u64,
    /// Bytes sent and not yet acknowledged.
    pub in_flight_bytes: usize,
    /// How many may be.
    pub window_bytes: usize,
    /// True while it gets a snapshot.
    pub snapshot: bool,
    /// True where its word counts.
    pub voter: bool,
    /// Rounds of catching up that it has been through as a learner of this leader.
    pub rounds: u32,
}

/// Where a node stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its role.
    pub role: RoleName,
    /// Its term.
    pub term: Term,
    /// Whom it follows; itself when it leads.
    pub leader: Option<NodeId>,
    /// The last entry of its log.
    pub last: Index,
    /// The last entry known to be committed.
    pub commit: Index,
    /// The last entry reported as applied.
    pub applied: Index,
    /// The last entry its newest snapshot covers.
    pub snapshot: Index,
    /// Bytes of memory of the log beyond that snapshot, as the limits of the configuration count.
    pub log_bytes: u64,
    /// The newest configuration of its log.
    pub members: Arc<Members>,
    /// The entry that it came with.
    pub members_index: Index,
    /// It has left the group: by its own log, or by a member's word where that ends before.
    pub is_removed: bool,
    /// Requests that wait for their outcome, or to be put into the log.
    pub pending: usize,
    /// Bytes taken in and not committed, counted likewise.
    pub uncommitted_bytes: u64,
    /// Bytes committed and not reported as applied, counted likewise.
    pub unapplied_bytes: u64,
    /// Reads that wait for a majority, or for the leader.
    pub reads: usize,
    /// Followers; empty unless it leads.
    pub peers: Vec<PeerStatus>,
    /// Counters.
    pub stats: Stats,
}
