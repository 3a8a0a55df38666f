//! Linearizable reads on a leader: a round of heartbeats, or a lease. [Raft §8, thesis §6.4]

use alloc::collections::VecDeque;
use core::time::Duration;

use quorate_transport::{NodeId, Outbox, RequestId, RequestRange, Time};

use crate::message::Message;
use crate::raft::{Raft, Role};
use crate::request::{Rejection, Reply};
use crate::types::Index;

type Out<'a> = &'a mut Outbox<Raft>;

/// Reads that one round confirms.
#[derive(Clone, Debug)]
pub(crate) struct Reads {
    pub(crate) whose: Whose,
    pub(crate) index: Index,
    pub(crate) round: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Whose {
    /// The application's here.
    Own(RequestRange),
    /// A follower's, up to a number of its sequence.
    Peer(NodeId, u64),
}

/// What a majority has promised a leader: to elect nobody else for a while. [Raft thesis §6.4.1]
#[derive(Clone, Debug, Default)]
pub(crate) struct Lease {
    /// Rounds of heartbeats that are not confirmed, and when each was begun.
    begun: VecDeque<(u64, Time)>,
    /// When the last confirmed round was begun: the promise is not older.
    since: Option<Time>,
    /// It has asked another to campaign, which may still happen at any time: no lease holds in
    /// this term any more.
    pub(crate) void: bool,
}

impl Lease {
    fn begin(&mut self, round: u64, now: Time, span: Duration) {
        self.begun.push_back((round, now));
        // What is older is worth nothing, confirmed or not.
        while self.begun.pop_front_if(|(_, at)| now.since(*at) > span).is_some() {}
    }

    fn confirm(&mut self, round: u64) {
        while let Some((_, at)) = self.begun.pop_front_if(|(begun, _)| *begun <= round) {
            self.since = Some(at);
        }
    }

    /// Forgets all promises: only those to heartbeats yet to be sent count.
    pub(crate) fn clear(&mut self) {
        (self.begun, self.since) = (VecDeque::new(), None);
    }

    fn holds(&self, now: Time, span: Duration) -> bool {
        !self.void && self.since.is_some_and(|since| now.since(since) < span)
    }

    pub(crate) fn digest(&self, now: Time, into: &mut quorate_transport::Digest) {
        let age = |at: Time| now.since(at).as_nanos() as u64;
        into.bool(self.void);
        into.option(self.since.map(age));
        self.begun.iter().for_each(|(round, at)| {
            into.u64(*round);
            into.u64(age(*at));
        });
    }
}

impl Raft {
    pub(crate) fn on_read(&mut self, now: Time, id: RequestId, out: Out<'_>) {
        let refusal = match self.begin_read() {
            Ok(index) if self.has_lease(now) => {
                self.stats.lease_reads += 1;
                return out.answer_eager(id, Reply::ReadAt { index }); // a majority has promised
            }
            Ok(index) => return self.take_read(id, index),
            Err(refusal) => refusal,
        };
        out.answer_eager(id, Reply::Rejected(refusal)); // nothing was done
    }

    /// From which index on a read is linearizable, if this node still leads.
    fn begin_read(&self) -> Result<Index, Rejection> {
        match &self.role {
            Role::Leader(leader) if self.commit < leader.first => Err(Rejection::NotReady),
            Role::Leader(leader) if leader.reads.len() >= self.config.reads_max => {
                Err(Rejection::Busy)
            }
            Role::Leader(_) => Ok(self.commit),
            _ => Err(Rejection::NotLeader { leader: self.leader }),
        }
    }

    fn take_read(&mut self, id: RequestId, index: Index) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        leader.round_due = true;
        let round = leader.round + 1;
        if let Some(Reads { whose: Whose::Own(ids), index: same, round: due }) =
            leader.reads.back_mut()
            && (*due, *same, ids.last.0 + 1) == (round, index, id.0)
        {
            ids.last = id;
            return;
        }
        leader.reads.push_back(Reads { whose: Whose::Own(id.into()), index, round });
    }

    /// A follower asks for its reads.
    pub(crate) fn on_peer_read(&mut self, now: Time, from: NodeId, number: u64, out: Out<'_>) {
        let (term, index) = (self.term, self.begin_read());
        let Role::Leader(leader) = &mut self.role else {
            return; // no leader of this term
        };
        if let Some(progress) = leader.peers.get_mut(from) {
            progress.contact = now;
        }
        match index {
            Ok(index) if !self.has_lease(now) => {
                let Role::Leader(leader) = &mut self.role else { return };
                leader.round_due = true;
                let (whose, round) = (Whose::Peer(from, number), leader.round + 1);
                leader.reads.push_back(Reads { whose, index, round });
            }
            index => {
                // It rests on promises of a majority, or says nothing.
                out.send_eager(from, Message::ReadReply { term, number, index: index.ok() });
            }
        }
    }

    /// One round of heartbeats confirms every read that came before it.
    pub(crate) fn begin_round(&mut self, now: Time, out: Out<'_>) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        if core::mem::take(&mut leader.round_due) {
            self.send_heartbeats(now, true, out);
            self.confirm_reads(out);
        }
    }

    pub(crate) fn confirm_reads(&mut self, out: Out<'_>) {
        let term = self.term;
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let reached = leader.reached(leader.round, |progress| progress.round);
        leader.lease.confirm(reached);
        while let Some(reads) = leader.reads.pop_front_if(|reads| reads.round <= reached) {
            // A majority still followed this leader after the read had come.
            let index = reads.index;
            match reads.whose {
                Whose::Own(ids) => out.answer_eager(ids, Reply::ReadAt { index }),
                Whose::Peer(peer, number) => {
                    let index = Some(index);
                    out.send_eager(peer, Message::ReadReply { term, number, index });
                }
            }
        }
    }

    /// Notes when a round began, where leases are on.
    pub(crate) fn begin_lease(&mut self, now: Time) {
        if let Some(span) = self.lease_span()
            && let Role::Leader(leader) = &mut self.role
        {
            leader.lease.begin(leader.round, now, span);
        }
    }

    /// How long a promise of `election_timeout_min`, kept by another clock, is worth here.
    pub(crate) fn lease_span(&self) -> Option<Duration> {
        let ppm = u64::from(self.config.clock_drift_ppm?);
        let whole = self.config.election_timeout_min.as_nanos() as u64;
        Some(Duration::from_nanos(whole - whole / 1_000_000 * ppm))
    }

    fn has_lease(&self, now: Time) -> bool {
        match (&self.role, self.lease_span()) {
            (Role::Leader(leader), Some(span)) => leader.lease.holds(now, span),
            _ => false,
        }
    }

    /// Whether this node has promised a leader, of whatever term, to elect nobody else yet.
    pub(crate) fn is_bound(&self, now: Time) -> bool {
        now < self.bound_until
    }

    /// Promises the leader just heard not to elect another for a while, where leases are on.
    pub(crate) fn bind(&mut self, now: Time) {
        if self.config.clock_drift_ppm.is_some() {
            self.bound_until = self.bound_until.max(now + self.config.election_timeout_min);
        }
    }
}
