//! Which disk a member has: a node that comes back with an empty or an older one under its old
//! name has forgotten votes and entries that the group counts on, and is not believed.

use quorate_transport::{NodeId, Outbox, Peer};

use crate::message::Message;
use crate::raft::{Raft, Role};
use crate::types::Index;

type Out<'a> = &'a mut Outbox<Raft>;

const RULE: &str = "a node remembers what it has told its group";

impl Raft {
    /// Whether a message of this kind from `from` means anything. Leaders may be of a configuration
    /// that is not here yet, and a majority has believed them; whoever answers must be known, and
    /// by the disk that it has. [Raft §6]
    pub(crate) fn admits(&mut self, from: Peer, message: &Message, out: Out<'_>) -> bool {
        let heard = match message {
            Message::Append { .. }
            | Message::Heartbeat { .. }
            | Message::Commit { .. }
            | Message::Snapshot { .. }
            | Message::TimeoutNow { .. }
            | Message::ReadReply { .. }
            | Message::Disowned { .. }
            | Message::Removed { .. }
            | Message::Fetch { .. } => from.node != self.node,
            Message::PreVote { .. } | Message::Vote { .. } => {
                from.node != self.node && self.believes(from, out)
            }
            Message::Fetched { .. } => from.node != self.node && self.knows(from),
            Message::PreVoteReply { .. }
            | Message::VoteReply { .. }
            | Message::Appended { .. }
            | Message::Conflict { .. }
            | Message::HeartbeatReply { .. }
            | Message::SnapshotReply { .. }
            | Message::Read { .. } => self.believes_answer(from, message, out),
        };
        let admitted = heard && message.is_plausible();
        self.stats.refused += u64::from(!admitted);
        admitted
    }

    fn knows(&self, from: Peer) -> bool {
        match &self.role {
            Role::Leader(leader) => leader.peers.get(from.node).is_some(),
            _ => self.members().contains(from.node),
        }
    }

    /// True of a follower that has acknowledged something in this very life, to this leader.
    #[inline]
    pub(crate) fn is_at_ease(&self, from: Peer) -> bool {
        match &self.role {
            Role::Leader(leader) => leader.peers.get(from.node).is_some_and(|progress| {
                progress.life == from.incarnation && progress.acked_in == from.incarnation
            }),
            _ => false,
        }
    }

    /// Who answers is known; a leader looks closer once a life, for that cannot change in one.
    #[inline]
    fn believes_answer(&mut self, from: Peer, message: &Message, out: Out<'_>) -> bool {
        if self.is_at_ease(from) {
            return true; // nearly always
        }
        from.node != self.node
            && self.knows(from)
            && self.believes(from, out)
            && self.note_life(from, message, out)
    }

    /// False for one that the group knows by another disk.
    #[cold]
    fn believes(&mut self, from: Peer, out: Out<'_>) -> bool {
        let known = self.members().birth(from.node);
        if known.is_none_or(|birth| birth == from.incarnation.birth()) {
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
    /// two lives, what it had acknowledged in this very term. Where disks are not told apart (their
    /// birth is 0) lives make no difference.
    fn note_life(&mut self, from: Peer, message: &Message, out: Out<'_>) -> bool {
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
                let later = from.incarnation > progress.acked_in && from.incarnation.birth() > 0;
                (later && *prev > Index::ZERO).then_some(*prev)
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
