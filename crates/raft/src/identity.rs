//! Which disk a member has: a node that comes back with an empty or an older one under its old
//! name has forgotten votes and entries that the group counts on, and is not believed.

use quorate_transport::{NodeId, Outbox, Peer};

use crate::message::Message;
use crate::raft::{Raft, Role};
use crate::types::Index;

type Out<'a> = &'a mut Outbox<Raft>;

const RULE: &str = "a node remembers what it has told its group";

impl Raft {
    /// False for one that the group knows by another disk, unless it speaks as a leader: that may
    /// be of a configuration that is not here yet, and a majority has believed it.
    pub(crate) fn may_believe(&mut self, from: Peer, message: &Message, out: Out<'_>) -> bool {
        let rests_on_memory = matches!(
            message,
            Message::PreVote { .. }
                | Message::PreVoteReply { .. }
                | Message::Vote { .. }
                | Message::VoteReply { .. }
                | Message::Appended { .. }
                | Message::Conflict { .. }
                | Message::HeartbeatReply { .. }
                | Message::SnapshotReply { .. }
                | Message::Read { .. }
        );
        let known = self.members().birth(from.node);
        if !rests_on_memory || known.is_none_or(|birth| birth == from.incarnation.birth()) {
            return true;
        }
        self.stats.strangers += 1;
        if self.members_index() <= self.commit {
            self.disown(from, None, out);
        }
        false
    }

    fn disown(&self, peer: Peer, lost: Option<Index>, out: Out<'_>) {
        let (term, birth) = (self.term, peer.incarnation.birth());
        out.send_after(self.vote_ticket, peer.node, Message::Disowned { term, birth, lost });
    }

    /// A leader notes who answers, so that a configuration can say so; and who has lost, between
    /// two lives, what it had acknowledged in this very term.
    pub(crate) fn note_life(&mut self, from: Peer, message: &Message, out: Out<'_>) -> bool {
        let Role::Leader(leader) = &mut self.role else {
            return true;
        };
        let Some(progress) = leader.peers.get_mut(from.node) else {
            return true;
        };
        if progress.life.birth() != from.incarnation.birth() {
            leader.births_open = true;
        }
        let lost = match message {
            Message::Conflict { term, prev, .. }
                if *prev <= progress.matched && *term == self.term =>
            {
                (from.incarnation > progress.acked_in && *prev > Index::ZERO).then_some(*prev)
            }
            Message::Appended { .. } => {
                progress.acked_in = progress.acked_in.max(from.incarnation);
                None
            }
            _ => None,
        };
        progress.life = progress.life.max(from.incarnation);
        if lost.is_some() {
            self.stats.strangers += 1;
            self.disown(from, lost, out);
        }
        lost.is_none()
    }

    /// Somebody says that this node is not the one that the group knows.
    pub(crate) fn on_disowned(&mut self, birth: u32, lost: Option<Index>, out: Out<'_>) {
        let own = self.incarnation.birth();
        let known = self.members().birth(self.node) == Some(own);
        if birth != own || (lost.is_none() && known) {
            return; // it was about a former one, or comes from who does not know this one yet
        }
        let what = match lost {
            Some(index) => alloc::format!("entry {index}, which it had acknowledged, is gone"),
            None => "the group knows it by another data directory".into(),
        };
        let detail = alloc::format!(
            "{what}: remove {} from the group, and add it again with an empty directory",
            self.node
        );
        out.halt(RULE, detail);
    }

    /// Members whose disks a leader knows, and no configuration yet: one that says so, once all
    /// voters are known.
    pub(crate) fn births_to_note(&mut self) -> Option<crate::members::Members> {
        let (node, own) = (self.node, self.incarnation.birth());
        let members = self.log.newest_members().1;
        let Role::Leader(leader) = &mut self.role else {
            return None;
        };
        if !core::mem::take(&mut leader.births_open) {
            return None;
        }
        let peers = leader.peers.iter().map(|(peer, progress)| (peer, progress.life.birth()));
        let next = members.with_births(peers.chain([(node, own)]));
        let all = |next: &crate::members::Members| {
            next.voters().iter().all(|voter: &NodeId| next.birth(*voter).is_some())
        };
        (next != **members && all(&next)).then_some(next)
    }
}
