//! Leading: proposals, replication, commit, reads, hand-over. [Raft §5.3, §5.4.2, §8]

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use quorate_transport::{LinkState, NodeId, Outbox, RequestId, Ticket, Time};

use crate::batch::{BATCH_COUNT_MAX, Batch, Kind, Proposals, View, Views};
use crate::handover::{Transfer, Watch};
use crate::members::Members;
use crate::membership::Waiting;
use crate::message::Message;
use crate::progress::{Pace, Part, Peers, Progress};
use crate::quorum;
use crate::raft::{Pending, Raft, Role};
use crate::read::{Lease, Reads, Whose};
use crate::record::Record;
use crate::request::{Rejection, Reply};
use crate::types::{Index, Term};

type Out<'a> = &'a mut Outbox<Raft>;

/// What only a leader knows.
#[derive(Clone, Debug)]
pub(crate) struct Leader {
    pub(crate) peers: Peers,
    /// What this node itself is in the newest configuration.
    pub(crate) own: Part,
    /// How many voters that has, and how many outgoing ones.
    sides: (usize, usize),
    /// It may ask for another step, or somebody who has left is still told so.
    pub(crate) members_open: bool,
    /// Disks of members were heard of that no configuration may name yet.
    pub(crate) births_open: bool,
    pub(crate) waiting: Waiting,
    /// The empty entry of this term: reads wait until it is committed.
    pub(crate) first: Index,
    pub(crate) heartbeat_at: Time,
    /// When to see whether a majority still answers.
    pub(crate) quorum_at: Time,
    /// The last round of heartbeats that reads wait for.
    pub(crate) round: u64,
    pub(crate) reads: VecDeque<Reads>,
    /// Reads have come since the last round began.
    pub(crate) round_due: bool,
    pub(crate) lease: Lease,
    pub(crate) transfer: Option<Transfer>,
    pub(crate) watch: Watch,
}

impl Leader {
    pub(crate) fn deadline(&self) -> Time {
        let transfer = self.transfer.as_ref().map_or(Time::MAX, |transfer| transfer.until);
        self.heartbeat_at.min(self.quorum_at).min(transfer)
    }

    /// Whether a configuration may ask for something, or should name somebody's disk.
    pub(crate) fn is_changing(&self) -> bool {
        self.members_open | self.births_open
    }

    /// The greatest value that a majority has reached, while joint of either side.
    pub(crate) fn reached(&self, own: u64, of: impl Fn(&Progress) -> u64) -> u64 {
        let peers = self.peers.values().filter(|progress| progress.part.voter).map(&of);
        let voters = quorum::reached(peers.chain(self.own.voter.then_some(own)), self.sides.0);
        if self.sides.1 == 0 {
            return voters;
        }
        let peers = self.peers.values().filter(|progress| progress.part.outgoing).map(&of);
        let own = self.own.outgoing.then_some(own);
        voters.min(quorum::reached(peers.chain(own), self.sides.1))
    }

    /// Takes over a configuration: who is to be sent what, and whose word counts.
    pub(crate) fn adopt(&mut self, node: NodeId, members: &Members, next: Index, times: [Time; 2]) {
        self.peers.adopt(node, members, next, times);
        self.own = Part::of(node, members);
        self.sides = (members.voters().len(), members.outgoing().len());
        self.members_open = true;
    }
}

impl Raft {
    pub(crate) fn become_leader(&mut self, now: Time, out: Out<'_>) {
        self.stats.elections_won += 1;
        let first = self.log.last().next();
        self.role = Role::Leader(Box::new(Leader {
            peers: Peers::default(),
            own: Part::default(),
            sides: (0, 0),
            members_open: true,
            births_open: false,
            waiting: Waiting::default(),
            first,
            heartbeat_at: now,
            quorum_at: self.config.leader_due(now, self.config.election_timeout_min),
            round: 0,
            reads: VecDeque::new(),
            round_due: false,
            lease: Lease::default(),
            transfer: None,
            watch: Watch { at: now, durable: self.durable, applied: self.applied },
        }));
        self.leader = Some(self.node);
        (self.lonely, self.fetching) = (0, None);
        self.role_changed = true;
        self.contact = None;
        self.adopt_members(now, first);
        self.append_own(Batch::noop(first, self.term), out);
        // The heartbeat is due at once, and the timer will find it so.
    }

    /// Answers all that only a leader could do. Entries already in the log keep their requests
    /// waiting: their fate is not known yet.
    pub(crate) fn give_up_leadership(&mut self, out: Out<'_>) {
        let Role::Leader(leader) = core::mem::replace(&mut self.role, Role::Follower) else {
            return;
        };
        let gone = Reply::Rejected(Rejection::NotLeader { leader: None });
        for reads in &leader.reads {
            if let Whose::Own(ids) = reads.whose {
                out.answer_eager(ids, gone.clone());
            }
        }
        if let Some(transfer) = leader.transfer {
            out.answer_eager(transfer.id, Reply::Transferred);
        }
        // Whoever leads next goes on with it, if it has the entry.
        leader.waiting.ids().for_each(|id| out.answer_eager(id, Reply::Unknown));
        self.intake = None;
        // Those of an earlier term may have been cut off here, and be committed by others yet.
        let (last, term) = (self.log.last(), self.term);
        let is_unfrozen = |p: &mut Pending| p.term == term && p.first > last;
        while let Some(unfrozen) = self.pending.pop_back_if(is_unfrozen) {
            out.answer_eager(unfrozen.ids, gone.clone());
        }
    }

    pub(crate) fn on_propose(&mut self, id: RequestId, proposals: Proposals, out: Out<'_>) {
        if let Err(rejection) = self.admit(&proposals) {
            self.stats.busy += u64::from(rejection == Rejection::Busy);
            return out.answer_eager(id, Reply::Rejected(rejection)); // nothing was done
        }
        let (bytes, count) = (proposals.payload_len(), proposals.count());
        self.stats.proposed += count as u64;
        let fits = |open: &Proposals| {
            open.payload_len() + bytes <= self.config.batch_bytes_max
                && open.count() + count <= BATCH_COUNT_MAX
        };
        if self.intake.as_ref().is_some_and(|open| !fits(open)) {
            self.freeze(out);
        }
        let open = self.intake.as_ref().map_or(0, Proposals::count) as u64;
        let first = Index(self.log.last().0 + open + 1);
        let last = Index(first.0 + count as u64 - 1);
        match &mut self.intake {
            Some(open) => open.append(&proposals),
            None => self.intake = Some(proposals),
        }
        match self.pending.back_mut() {
            // Only requests of one batch are answered together: they commit together.
            Some(back)
                if back.term == self.term
                    && back.first > self.log.last()
                    && back.ids.last.0 + 1 == id.0 =>
            {
                back.ids.last = id;
                back.last = last;
            }
            _ => self.pending.push_back(Pending { ids: id.into(), first, last, term: self.term }),
        }
    }

    fn admit(&self, proposals: &Proposals) -> Result<(), Rejection> {
        let Role::Leader(leader) = &self.role else {
            return Err(Rejection::NotLeader { leader: self.leader });
        };
        let bytes = proposals.payload_len();
        if proposals.is_empty() {
            return Err(Rejection::Empty);
        }
        if bytes > self.config.batch_bytes_max || proposals.count() > BATCH_COUNT_MAX {
            return Err(Rejection::TooLarge);
        }
        if leader.transfer.is_some() {
            return Err(Rejection::Transferring);
        }
        let open = self.intake.as_ref().map_or(0, Proposals::weight);
        let uncommitted = self.log.bytes_after(self.commit) + open as u64;
        let room = (self.config.uncommitted_bytes_max as u64).saturating_sub(uncommitted);
        // Where nothing waits one batch always fits.
        let busy = uncommitted > 0 && proposals.weight() as u64 > room
            || self.unapplied_bytes() > self.config.unapplied_bytes_max as u64;
        if busy { Err(Rejection::Busy) } else { Ok(()) }
    }

    /// Bytes of memory of what is committed and not reported as applied.
    pub(crate) fn unapplied_bytes(&self) -> u64 {
        self.log.bytes_upto(self.commit).saturating_sub(self.applied_bytes)
    }

    /// Turns the open arena into a batch of the log.
    pub(crate) fn freeze(&mut self, out: Out<'_>) {
        if let Some(open) = self.intake.take() {
            let batch = open.freeze(self.log.last().next(), self.term, Kind::Normal);
            self.append_own(batch, out);
        }
    }

    pub(crate) fn append_own(&mut self, batch: Batch, out: Out<'_>) {
        let view = View::from(batch);
        let prev_term = self.log.last_term();
        let ticket = out.persist_with(|| Record::append(prev_term, view.clone()));
        self.log.append(view, ticket);
    }

    /// The end of a burst: freeze, send, begin a round of reads.
    pub(crate) fn settle_leader(&mut self, now: Time, out: Out<'_>) {
        self.freeze(out);
        let open = matches!(&self.role, Role::Leader(leader) if leader.is_changing());
        if open {
            self.continue_change(now, out);
        }
        self.begin_round(now, out);
        let Role::Leader(mut leader) = core::mem::replace(&mut self.role, Role::Follower) else {
            return;
        };
        for (peer, progress) in leader.peers.iter_mut() {
            self.replicate(now, peer, progress, out);
            let known = self.commit.min(progress.matched);
            if progress.commit_sent < known {
                progress.commit_sent = known;
                let (term, commit) = (self.term, self.commit);
                // A majority stands behind the commit index, not this node's disk.
                out.send_after_with(Ticket::ZERO, peer, || Message::Commit { term, commit });
            }
        }
        // What stood in its place owns nothing.
        core::mem::forget(core::mem::replace(&mut self.role, Role::Leader(leader)));
        if open {
            self.see_off(now, out);
        }
    }

    /// Sends a follower all that its window takes.
    fn replicate(&mut self, now: Time, peer: NodeId, progress: &mut Progress, out: Out<'_>) {
        let (count, bytes) = (self.config.window_count_max, self.config.window_bytes_max);
        while progress.next <= self.log.last() && progress.may_send(count, bytes) {
            let prev = progress.next.previous();
            let Some(prev_term) = self.log.term_at(prev) else {
                return self.begin_snapshot(now, peer, progress, out);
            };
            progress.commit_sent = self.commit;
            self.stats.appends_sent += 1;
            let (term, commit) = (self.term, self.commit);
            // Entries travel while this node's own disk works: its replica counts once durable.
            if let Some(view) = self.log.newest_at(progress.next) {
                // Nearly always all but the newest is sent; its clone is made where it is to lie.
                progress.on_sent(view.last(), view.encoded_len(), now);
                let message = || {
                    let views = Views::One(view.clone());
                    Message::Append { term, prev, prev_term, commit, views }
                };
                out.send_after_with(Ticket::ZERO, peer, message);
                continue;
            }
            let views = self.log.run(progress.next, self.config.append_bytes_max);
            let Some(last) = views.last() else { return };
            let bytes = views.as_slice().iter().map(View::encoded_len).sum();
            progress.on_sent(last, bytes, now);
            let message = || Message::Append { term, prev, prev_term, commit, views };
            out.send_after_with(Ticket::ZERO, peer, message);
        }
    }

    pub(crate) fn on_appended(&mut self, now: Time, from: NodeId, matched: Index, out: Out<'_>) {
        let (last, window_max) = (self.log.last(), self.config.window_bytes_max);
        let Some(progress) = self.progress(from) else {
            return;
        };
        progress.contact = now;
        if matched > last {
            self.stats.refused += 1;
            return;
        }
        let raised = progress.on_appended(now, matched, window_max);
        if progress.part.learner {
            progress.measure(now, last);
        }
        match &progress.pace {
            Pace::Probe { .. } if matched.next() >= progress.next => progress.become_replicate(),
            Pace::Snapshot { snapshot, .. } if snapshot.id.index <= matched.0 => {
                progress.become_probe(matched.next());
            }
            _ => {}
        }
        if raised {
            if matched > self.commit {
                self.maybe_commit(out);
            }
            self.continue_transfer(out);
        }
    }

    pub(crate) fn on_conflict(
        &mut self,
        now: Time,
        from: NodeId,
        prev: Index,
        hint: (Index, Term),
    ) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let Some(progress) = leader.peers.get_mut(from) else {
            return;
        };
        progress.contact = now;
        let stale = match &progress.pace {
            Pace::Probe { .. } => prev != progress.next.previous(),
            Pace::Replicate => false,
            Pace::Snapshot { .. } => true,
        };
        if prev <= progress.matched || stale {
            return; // late: the logs are known to agree beyond it
        }
        let gap = hint.0 >= progress.matched && self.log.term_at(hint.0) == Some(hint.1);
        if gap && progress.pace == Pace::Replicate && !progress.is_lost_after(hint.0, prev) {
            return; // what it lacks is under way, and was overtaken
        }
        let agree = self.log.last_at_most(hint.0.min(prev.previous()), hint.1);
        let next = agree.next().min(prev);
        if progress.pace == Pace::Replicate {
            progress.on_loss(next)
        } else {
            progress.become_probe(next)
        }
    }

    pub(crate) fn on_heartbeat_reply(&mut self, now: Time, from: NodeId, round: u64, out: Out<'_>) {
        let resend_after = self.config.resend_after;
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let latest = leader.round;
        let Some(progress) = leader.peers.get_mut(from) else {
            return;
        };
        progress.contact = now;
        let overdue = |sent: Time| now.since(sent) >= resend_after;
        let lost = match &progress.pace {
            Pace::Probe { waits } => *waits && overdue(progress.sent),
            Pace::Replicate => progress.oldest_flight().is_some_and(overdue),
            Pace::Snapshot { .. } => false,
        };
        if lost {
            self.stats.resends += 1;
            let next = match &progress.pace {
                Pace::Probe { .. } => progress.next,
                _ => progress.matched.next(),
            };
            progress.on_loss(next);
        }
        if let Pace::Snapshot { snapshot, offset } = &progress.pace
            && overdue(progress.sent)
        {
            let (id, offset) = (snapshot.id, *offset);
            progress.sent = now;
            self.read_chunk(from, id, offset, out);
        }
        let Some(progress) = self.progress(from) else {
            return;
        };
        if round > progress.round && round <= latest {
            progress.round = round;
            self.confirm_reads(out);
        }
    }

    /// An entry of this term that a majority has durably is committed, and all before it.
    /// [Raft §5.4.2]
    pub(crate) fn maybe_commit(&mut self, out: Out<'_>) {
        let own = self.log.durable_index(self.durable);
        let Role::Leader(leader) = &self.role else {
            return;
        };
        let reached = Index(leader.reached(own.0, |progress| progress.matched.0));
        if reached > self.commit && self.log.term_at(reached) == Some(self.term) {
            self.advance_commit(reached, out);
        }
    }

    /// Tells everybody that it lives; a `fresh` round confirms what came before it, and so does
    /// every round where leases are on.
    pub(crate) fn send_heartbeats(&mut self, now: Time, fresh: bool, out: Out<'_>) {
        let (term, commit) = (self.term, self.commit);
        let fresh = fresh || self.config.clock_drift_ppm.is_some();
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        leader.round += u64::from(fresh);
        leader.heartbeat_at = self.config.leader_due(now, self.config.heartbeat_interval);
        for (peer, progress) in leader.peers.iter_mut() {
            progress.commit_sent = progress.commit_sent.max(commit.min(progress.matched));
            let round = leader.round;
            // The term is durable since the election, and a heartbeat promises nothing else.
            out.send_eager(peer, Message::Heartbeat { term, commit, round });
        }
        if fresh {
            self.begin_lease(now);
        }
    }

    pub(crate) fn on_leader_timer(&mut self, now: Time, out: Out<'_>) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        if now.since(leader.deadline()) > self.config.election_timeout_min / 2 {
            leader.lease.clear(); // it has slept, who knows by which clock
        }
        if let Some(transfer) = leader.transfer.take_if(|transfer| transfer.until <= now) {
            out.answer_eager(transfer.id, Reply::Rejected(Rejection::TransferFailed));
        }
        if leader.quorum_at <= now {
            leader.quorum_at = self.config.leader_due(now, self.config.election_timeout_min);
            if !self.hears_majority(now) {
                self.stats.quorum_lost += 1;
                return self.become_follower(now, self.term, out);
            }
        }
        let Role::Leader(leader) = &self.role else {
            return;
        };
        if leader.heartbeat_at <= now {
            if self.is_stuck(now)
                && let Some(heir) = self.heir()
            {
                return self.abdicate(now, heir, out);
            }
            self.send_heartbeats(now, false, out);
            self.confirm_reads(out);
        }
    }

    fn hears_majority(&self, now: Time) -> bool {
        let Role::Leader(leader) = &self.role else {
            return false;
        };
        let within = self.config.election_timeout_min;
        leader.reached(1, |progress| u64::from(now.since(progress.contact) <= within)) == 1
    }

    pub(crate) fn on_follower_link(&mut self, now: Time, peer: NodeId, state: LinkState) {
        let Some(progress) = self.progress(peer) else {
            return;
        };
        let paused = matches!(progress.pace, Pace::Snapshot { .. });
        if paused {
            return; // its next piece is asked for again when a heartbeat is answered
        }
        match state {
            LinkState::Up => progress.become_probe(progress.matched.next()),
            LinkState::Down | LinkState::Full => {
                progress.on_loss(progress.matched.next());
                progress.pace = Pace::Probe { waits: true };
                progress.sent = now;
            }
        }
    }

    pub(crate) fn progress(&mut self, peer: NodeId) -> Option<&mut Progress> {
        match &mut self.role {
            Role::Leader(leader) => leader.peers.get_mut(peer),
            _ => None,
        }
    }
}
