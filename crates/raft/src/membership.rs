//! Changes of the members: what each node makes of the configurations in its log. [Raft §6,
//! thesis §4]

use alloc::vec::Vec;

use quorate_transport::{NodeId, Outbox, RequestId, Time};

use crate::batch::Batch;
use crate::members::{Change, Members};
use crate::message::Message;
use crate::raft::{Raft, Role};
use crate::request::{Event, Rejection, Reply};
use crate::types::{Index, Term};

type Out<'a> = &'a mut Outbox<Raft>;

/// How many election timeouts a node that has left is still told so.
const FAREWELL: u32 = 4;

/// Requests that wait for the end of a change.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting {
    change: Option<RequestId>,
    cancel: Option<RequestId>,
}

impl Waiting {
    pub(crate) fn ids(&self) -> impl Iterator<Item = RequestId> {
        self.change.into_iter().chain(self.cancel)
    }
}

impl Raft {
    /// True where this node needs nobody else.
    pub(crate) fn decides_alone(&self) -> bool {
        self.members().is_quorum(|node| node == self.node)
    }

    /// Those whose votes a candidate needs.
    pub(crate) fn other_voters(&self) -> Vec<NodeId> {
        let mut nodes = self.members().nodes();
        nodes.retain(|node| *node != self.node && self.members().is_voter(*node));
        nodes
    }

    /// A node that is out of the newest configuration must campaign all the same while an earlier
    /// one may be the committed one: nobody else may have that entry. [Raft thesis §4.2.2]
    pub(crate) fn may_campaign(&self) -> bool {
        !self.is_removed() && self.members_in_force().any(|members| members.is_voter(self.node))
    }

    /// Who asks for votes after it has left, and was not there to hear of it, hears of it now. It
    /// may know a later configuration that has it again: so it gets its vote all the same.
    pub(crate) fn tell_removed(&self, node: NodeId, out: Out<'_>) {
        let (members, term, commit) = (self.members(), self.term, self.commit);
        let settled = self.members_index() <= commit && !members.is_changing();
        if settled
            && !members.contains(node)
            && let Some(commit_term) = self.log.term_at(commit)
        {
            let message = Message::Removed { term, commit, commit_term };
            out.send_after(self.vote_ticket, node, message);
        }
    }

    /// A member says that as of this committed entry this node has left.
    pub(crate) fn on_removed(&mut self, now: Time, as_of: (Term, Index), out: Out<'_>) {
        if self.is_loyal(now) {
            return; // it belongs to a group, which will see to it
        }
        self.removed_at = self.removed_at.max(Some(as_of));
        if self.is_removed() {
            self.become_follower(now, self.term, out);
            self.give_up_pending(out);
        }
    }

    /// Whether it has left, by its own log or by what it was told: then it asks for votes no more
    /// until somebody contacts it, for that comes before it counts again.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        let (members, index) = (self.members(), self.members_index());
        let settled = index <= self.commit && !members.is_changing();
        if settled && index > Index::ZERO && !members.contains(self.node) {
            return true;
        }
        // A configuration of an earlier term than a committed entry, or of its term and an earlier
        // place, has been followed by what is committed, or replaced.
        let of_log = |index| Some((self.log.term_at(index)?, index));
        let own = || of_log(index).or_else(|| of_log(self.log.base()));
        self.removed_at.is_some_and(|as_of| own().is_some_and(|own| own <= as_of))
    }

    /// Nobody will tell it what became of what it has proposed.
    pub(crate) fn give_up_pending(&mut self, out: Out<'_>) {
        for pending in core::mem::take(&mut self.pending) {
            self.stats.unknown += pending.ids.count();
            out.answer_eager(pending.ids, Reply::Unknown); // promises nothing
        }
    }

    pub(crate) fn on_change(&mut self, now: Time, id: RequestId, change: &Change, out: Out<'_>) {
        match self.begin_change(change) {
            Err(rejection) => out.answer_eager(id, Reply::Rejected(rejection)), // nothing was done
            Ok(None) => {
                // It is so already, and committed.
                out.answer_eager(id, Reply::Changed { index: self.members_index() });
            }
            Ok(Some(next)) => {
                let Role::Leader(leader) = &mut self.role else { return };
                match change {
                    Change::Cancel => leader.waiting.cancel = Some(id),
                    _ => leader.waiting.change = Some(id),
                }
                self.append_members(now, next, out);
            }
        }
    }

    fn begin_change(&self, change: &Change) -> Result<Option<Members>, Rejection> {
        let Role::Leader(leader) = &self.role else {
            return Err(Rejection::NotLeader { leader: self.leader });
        };
        // Without an entry of its own term it might not know of a change under way. [the erratum
        // of 2015 to thesis §4.1]
        if self.commit < leader.first {
            return Err(Rejection::NotReady);
        }
        if leader.transfer.is_some() {
            return Err(Rejection::Transferring);
        }
        let members = self.members();
        let waits = members.target().is_some() && *change == Change::Cancel;
        if self.members_index() > self.commit || (members.is_changing() && !waits) {
            return Err(Rejection::Changing);
        }
        members.begin(change).map_err(|rule| Rejection::BadChange { rule })
    }

    /// A configuration counts from here on, for this leader too.
    fn append_members(&mut self, now: Time, members: Members, out: Out<'_>) {
        self.freeze(out);
        self.stats.configurations += 1;
        let batch = Batch::members(self.log.last().next(), self.term, &members);
        self.append_own(batch, out);
        self.adopt_members(now, self.log.last());
    }

    /// The leader takes the newest configuration of its log over; whoever is new gets `next` first.
    pub(crate) fn adopt_members(&mut self, now: Time, next: Index) {
        let leave = now + self.config.election_timeout_max * FAREWELL;
        if let Role::Leader(leader) = &mut self.role {
            leader.adopt(self.node, self.log.newest_members().1, next, [now, leave]);
        }
    }

    /// What follows from a configuration that is committed: the next step, or the answer.
    #[cold]
    pub(crate) fn continue_change(&mut self, now: Time, out: Out<'_>) {
        let Role::Leader(leader) = &self.role else { return };
        if self.members_index() > self.commit || self.commit < leader.first {
            return;
        }
        if !self.members().is_changing()
            && let Some(next) = self.births_to_note()
        {
            return self.append_members(now, next, out);
        }
        let Role::Leader(leader) = &self.role else { return };
        let members = self.members();
        let (within, last) = (self.config.election_timeout_min, self.log.last());
        let is_ready = |node: &NodeId| {
            members.voters().contains(node)
                || *node == self.node
                || leader.peers.get(*node).is_some_and(|peer| peer.is_caught_up(now, within, last))
        };
        let ready = match members.target() {
            Some(target) => leader.transfer.is_none() && target.voters().iter().all(is_ready),
            None => members.is_joint(),
        };
        if !members.is_changing() {
            self.answer_change(out);
        } else if ready && let Some(next) = members.follow_up() {
            self.append_members(now, next, out);
        }
    }

    /// The last step is committed.
    fn answer_change(&mut self, out: Out<'_>) {
        let index = self.members_index();
        let Role::Leader(leader) = &mut self.role else { return };
        let Waiting { change, cancel } = core::mem::take(&mut leader.waiting);
        let changed = Reply::Changed { index };
        if let Some(id) = change {
            let cancelled = Reply::Rejected(Rejection::Cancelled);
            let reply = if cancel.is_some() { cancelled } else { changed.clone() };
            // A majority has the configuration durably.
            out.answer_eager(id, reply);
        }
        if let Some(id) = cancel {
            out.answer_eager(id, changed);
        }
    }

    /// Those who have left learn it; the leader itself leaves once its last configuration is
    /// committed, and lets another take over. [Raft §6]
    #[cold]
    pub(crate) fn see_off(&mut self, now: Time, out: Out<'_>) {
        let index = self.members_index();
        let done = index <= self.commit && !self.members().is_changing();
        let Role::Leader(leader) = &mut self.role else { return };
        if !leader.members_open || !done || self.commit < leader.first {
            return;
        }
        leader.peers.let_go(now, index);
        leader.members_open = leader.peers.values().any(|progress| progress.leaves.is_some());
        if !leader.own.counts() {
            if let Some(heir) = self.heir() {
                // It asks, and promises nothing.
                out.send_eager(heir, Message::TimeoutNow { term: self.term });
            }
            self.become_follower(now, self.term, out);
        }
    }

    /// Tells the application of a new configuration, and of its commit.
    pub(crate) fn tell_members(&mut self, out: Out<'_>) {
        let index = self.members_index();
        let committed = index <= self.commit;
        self.log.members_to_tell = !committed;
        if self.told_members != Some((index, committed)) {
            self.told_members = Some((index, committed));
            let members = self.log.newest_members().1.clone();
            out.emit(Event::Members { index, members, committed });
        }
    }
}
