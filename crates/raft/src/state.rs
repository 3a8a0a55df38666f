//! The digest of a whole node, for the explorer.

use quorate_transport::{Digest, Rename, Time};

use crate::raft::{Raft, Role};

impl Raft {
    pub(crate) fn write_digest(&self, now: Time, rename: &Rename, into: &mut Digest) {
        let node = |node| rename.node(node).0;
        into.u64(node(self.node));
        into.u64(self.rng.state());
        into.u64(self.term.0);
        into.option(self.vote.map(node));
        into.bool(self.vote_ticket <= self.durable);
        self.log.digest(into);
        into.u64(self.durable_index().0);
        into.option(self.leader.map(node));
        let stale = self.config.election_timeout_min;
        into.option(self.contact.map(|at| now.since(at).min(stale).as_nanos() as u64));
        into.u64(self.matched.0);
        into.bool(self.ack_due);
        into.u64(self.commit.0);
        into.u64(self.emitted.0);
        into.u64(self.applied.0);
        for pending in &self.pending {
            into.u64(pending.first.0);
            into.u64(pending.last.0);
            into.u64(pending.term.0);
        }
        into.u64(self.intake.as_ref().map_or(0, |open| open.payload_len() as u64 + 1));
        self.snapshots.digest(into);
        let mut voters = |votes: &alloc::collections::BTreeSet<_>| {
            let mut named: alloc::vec::Vec<_> = votes.iter().map(|vote| node(*vote)).collect();
            named.sort_unstable();
            named.into_iter().for_each(|vote| into.u64(vote));
        };
        match &self.role {
            Role::Follower => {}
            Role::PreCandidate { votes } | Role::Candidate { votes, .. } => voters(votes),
            Role::Leader(leader) => self.write_leader_digest(leader, now, rename, into),
        }
        into.u64(self.role_name() as u64);
        if !self.is_leader() {
            into.u64(self.election_at.since(now).as_nanos() as u64);
            into.u64(self.election_span);
        }
    }
}
