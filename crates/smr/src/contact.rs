//! When this replica was last sure of its place in the group: what bounds stale reads.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use quorate_raft::{Message, Raft, Term};
use quorate_transport::{Digest, NodeId, Rename, Time};

/// Whom this replica has heard in the present term, and when.
///
/// A follower counts words of its leader. A leader counts words of a majority: one that is cut off
/// goes on leading, in its own eyes, for an election timeout, while another leads elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Contact {
    voters: BTreeSet<NodeId>,
    term: Term,
    heard: BTreeMap<NodeId, Time>,
}

impl Contact {
    pub(crate) fn new(voters: &[NodeId]) -> Self {
        let voters = voters.iter().copied().collect();
        Self { voters, term: Term::ZERO, heard: BTreeMap::new() }
    }

    /// A message of this term was handled; `counts` as [`counts`] says of it.
    pub(crate) fn heard(&mut self, now: Time, from: NodeId, term: Term, counts: bool, raft: &Raft) {
        if raft.term() != self.term {
            self.term = raft.term();
            self.heard.clear();
        }
        if counts && term == self.term && self.voters.contains(&from) {
            self.heard.insert(from, now);
        }
    }

    /// How long ago this replica heard its leader, or as leader a majority; `None` for never in
    /// this term.
    pub(crate) fn since(&self, now: Time, raft: &Raft) -> Option<Duration> {
        let others = self.voters.len() / 2; // with this node itself they are a majority
        if raft.is_leader() && others == 0 {
            return Some(Duration::ZERO);
        }
        if raft.term() != self.term {
            return None;
        }
        if !raft.is_leader() {
            let at = self.heard.get(&raft.status().leader?)?;
            return Some(now.since(*at));
        }
        let mut ago: Vec<_> = self.heard.values().map(|at| now.since(*at)).collect();
        ago.sort_unstable();
        ago.get(others - 1).copied()
    }

    pub(crate) fn digest(&self, now: Time, rename: &Rename, into: &mut Digest) {
        let ago = |at: &Time| now.since(*at).as_nanos() as u64;
        let mut heard: Vec<_> =
            self.heard.iter().map(|(node, at)| (rename.node(*node), ago(at))).collect();
        heard.sort_unstable();
        into.u64(self.term.0);
        into.u64(heard.len() as u64);
        for (node, ago) in heard {
            into.u64(node.0);
            into.u64(ago);
        }
    }
}

/// Whether it comes from a leader, or from one who follows a leader.
pub(crate) fn counts(message: &Message) -> bool {
    !matches!(
        message,
        Message::PreVote { .. }
            | Message::PreVoteReply { .. }
            | Message::Vote { .. }
            | Message::VoteReply { .. }
            | Message::TimeoutNow { .. }
    )
}
