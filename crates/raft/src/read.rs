//! Linearizable reads. [Raft §8, thesis §6.4]

use quorate_transport::{Outbox, RequestId, RequestRange, Time};

use crate::raft::{Raft, Role};
use crate::request::{Rejection, Reply};
use crate::types::Index;

type Out<'a> = &'a mut Outbox<Raft>;

/// Reads that one round confirms.
#[derive(Clone, Debug)]
pub(crate) struct Reads {
    pub(crate) ids: RequestRange,
    pub(crate) index: Index,
    pub(crate) round: u64,
}

impl Raft {
    pub(crate) fn on_read(&mut self, id: RequestId, out: Out<'_>) {
        let refusal = match &self.role {
            Role::Leader(leader) if self.commit < leader.first => Rejection::NotReady,
            Role::Leader(leader) if leader.reads.len() >= self.config.reads_max => Rejection::Busy,
            Role::Leader(_) => return self.take_read(id),
            _ => Rejection::NotLeader { leader: self.leader },
        };
        out.answer_eager(id, Reply::Rejected(refusal)); // nothing was done
    }

    fn take_read(&mut self, id: RequestId) {
        let index = self.commit;
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        leader.round_due = true;
        let round = leader.round + 1;
        match leader.reads.back_mut() {
            Some(reads)
                if reads.round == round && reads.index == index && reads.ids.last.0 + 1 == id.0 =>
            {
                reads.ids.last = id;
            }
            _ => leader.reads.push_back(Reads { ids: id.into(), index, round }),
        }
    }

    /// One round of heartbeats confirms every read that came before it.
    pub(crate) fn begin_round(&mut self, now: Time, out: Out<'_>) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        if core::mem::take(&mut leader.round_due) {
            leader.round += 1;
            self.send_heartbeats(now, out);
            self.confirm_reads(out);
        }
    }

    pub(crate) fn confirm_reads(&mut self, out: Out<'_>) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let reached = leader.reached(leader.round, |progress| progress.round);
        while let Some(reads) = leader.reads.pop_front_if(|reads| reads.round <= reached) {
            // A majority still followed this leader after the read had come.
            out.answer_eager(reads.ids, Reply::ReadAt { index: reads.index });
        }
    }
}
