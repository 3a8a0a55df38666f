//! The end of a leadership: handed over when asked, or given up when nothing moves. [Raft thesis
//! §3.10]

use quorate_transport::{NodeId, Outbox, RequestId, Ticket, Time};

use crate::message::Message;
use crate::raft::{Raft, Role};
use crate::request::{Rejection, Reply};
use crate::types::Index;

type Out<'a> = &'a mut Outbox<Raft>;

#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    pub(crate) id: RequestId,
    pub(crate) to: NodeId,
    pub(crate) told: bool,
    pub(crate) until: Time,
}

/// What this node itself had done when it was last seen to make progress, or had nothing to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    pub(crate) at: Time,
    pub(crate) durable: Ticket,
    pub(crate) applied: Index,
}

impl Raft {
    /// Whether the own disk, or state machine, has had work for `progress_timeout` and done none.
    pub(crate) fn is_stuck(&mut self, now: Time) -> bool {
        let (durable, applied) = (self.durable, self.applied);
        let writing = self.durable_index() < self.log.last();
        let applying = self.unapplied_bytes() >= self.config.unapplied_bytes_max as u64;
        let Role::Leader(leader) = &mut self.role else {
            return false;
        };
        let watch = leader.watch;
        let disk = writing && watch.durable == durable;
        let machine = applying && watch.applied == applied;
        if disk || machine {
            return now.since(watch.at) >= self.config.progress_timeout;
        }
        leader.watch = Watch { at: now, durable, applied };
        false
    }

    /// The voter to come that has most; nobody where there is no other.
    pub(crate) fn heir(&self) -> Option<NodeId> {
        let Role::Leader(leader) = &self.role else {
            return None;
        };
        let voters = leader.peers.iter().filter(|(_, progress)| progress.part.voter);
        let best = voters.max_by_key(|(_, progress)| progress.matched);
        best.map(|(peer, _)| peer)
    }

    /// Lets another take over, and leads no longer.
    pub(crate) fn abdicate(&mut self, now: Time, heir: NodeId, out: Out<'_>) {
        self.stats.progress_lost += 1;
        out.send_eager(heir, Message::TimeoutNow { term: self.term }); // asks, promises nothing
        self.become_follower(now, self.term, out);
    }

    pub(crate) fn on_transfer(
        &mut self,
        now: Time,
        id: RequestId,
        to: Option<NodeId>,
        out: Out<'_>,
    ) {
        let until = now + self.config.election_timeout_min;
        let to = to.or_else(|| self.heir());
        let refusal = match &mut self.role {
            Role::Leader(leader) => {
                let is_voter = |to: &NodeId| leader.peers.get(*to).is_some_and(|p| p.part.voter);
                match to.filter(is_voter) {
                    Some(_) if leader.transfer.is_some() => Rejection::Transferring,
                    Some(to) => {
                        leader.transfer = Some(Transfer { id, to, told: false, until });
                        self.freeze(out);
                        return self.continue_transfer(out);
                    }
                    None => Rejection::TransferFailed,
                }
            }
            _ => Rejection::NotLeader { leader: self.leader },
        };
        out.answer_eager(id, Reply::Rejected(refusal)); // nothing was done
    }

    /// Tells the target to campaign as soon as it has everything.
    pub(crate) fn continue_transfer(&mut self, out: Out<'_>) {
        let (last, term) = (self.log.last(), self.term);
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let Some(transfer) = &mut leader.transfer else {
            return;
        };
        let ready = leader.peers.get(transfer.to).is_some_and(|progress| progress.matched == last);
        if ready && !transfer.told {
            transfer.told = true;
            leader.lease.void = true;
            out.send_eager(transfer.to, Message::TimeoutNow { term }); // asks, promises nothing
        }
    }
}
