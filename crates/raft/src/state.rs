//! The digest of a whole node, for the explorer.

use alloc::vec::Vec;
use core::time::Duration;

use quorate_transport::{Digest, Rename, Time};

use crate::handover::Watch;
use crate::leader::Leader;
use crate::progress::Pace;
use crate::raft::{Raft, Role};
use crate::read::Whose;

impl Raft {
    pub(crate) fn write_digest(&self, now: Time, rename: &Rename, into: &mut Digest) {
        let node = |node| rename.node(node).0;
        into.u64(node(self.node));
        if self.incarnation.birth() > 0 {
            into.u64(self.incarnation.0);
        }
        into.u64(self.rng.state());
        into.u64(self.term.0);
        into.option(self.vote.map(node));
        into.bool(self.vote_ticket <= self.durable);
        self.log.digest(rename, into);
        into.u64(self.durable_index().0);
        into.option(self.leader.map(node));
        let stale = self.config.election_timeout_min;
        into.option(self.contact.map(|at| now.since(at).min(stale).as_nanos() as u64));
        into.u64(self.bound_until.since(now).as_nanos() as u64);
        into.bool(self.reads_here_due);
        self.reads_here.digest(now, into);
        into.u64(u64::from(self.lonely.min(2)));
        into.option(self.fetching.map(node));
        into.u64(self.matched.0);
        into.bool(self.ack_due);
        into.u64(self.commit.0);
        into.u64(self.emitted.0);
        into.u64(self.applied.0);
        into.option(self.removed_at.map(|(term, index)| term.0.rotate_left(32) ^ index.0));
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

    fn write_leader_digest(&self, leader: &Leader, now: Time, rename: &Rename, into: &mut Digest) {
        let rest = |at: Time| at.since(now).as_nanos() as u64;
        into.u64(leader.first.0);
        into.u64(rest(leader.heartbeat_at));
        into.u64(rest(leader.quorum_at));
        into.u64(leader.round);
        into.bool(leader.round_due);
        let Watch { at, durable, applied } = leader.watch;
        into.u64(now.since(at).min(self.config.progress_timeout).as_nanos() as u64);
        into.bool(durable == self.durable);
        into.bool(applied == self.applied);
        for reads in &leader.reads {
            match reads.whose {
                Whose::Own(ids) => into.u64(ids.count()),
                Whose::Peer(peer, number) => {
                    into.u64(rename.node(peer).0);
                    into.u64(number);
                }
            }
            into.u64(reads.index.0);
            into.u64(reads.round);
        }
        into.option(leader.transfer.as_ref().map(|transfer| rename.node(transfer.to).0));
        leader.lease.digest(now, into);
        into.bool(leader.members_open);
        into.bool(leader.births_open);
        into.u64(leader.waiting.ids().count() as u64);
        let mut peers: Vec<_> = leader.peers.iter().collect();
        peers.sort_by_key(|(peer, _)| rename.node(*peer));
        for (_, progress) in peers {
            into.bool(progress.leaves.is_some());
            if progress.life.birth() > 0 {
                // Else it makes no difference.
                into.u64(progress.life.0);
                into.u64(progress.acked_in.0);
            }
            into.u64(progress.matched.0);
            into.u64(progress.next.0);
            into.u64(progress.round);
            into.u64(progress.commit_sent.0);
            // What is overdue is so, however long.
            let since = |at: Time, most| now.since(at).min(most).as_nanos() as u64;
            let just_over = Duration::from_nanos(1);
            into.u64(since(progress.contact, self.config.election_timeout_min + just_over));
            into.u64(since(progress.sent, self.config.resend_after));
            into.option(progress.oldest_flight().map(|at| since(at, self.config.resend_after)));
            match &progress.pace {
                Pace::Probe { waits } => into.bool(*waits),
                Pace::Replicate => into.u64(3),
                Pace::Snapshot { snapshot, offset } => {
                    into.u64(4);
                    into.u64(snapshot.id.index);
                    into.u64(*offset);
                }
            }
            into.u64(progress.in_flight().1 as u64);
            into.u64(progress.window(self.config.window_bytes_max) as u64);
        }
    }
}
