//! The machine: its state, and the dispatcher that hands each input to a role's own file.

use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

use quorate_transport::{
    Digest, Incarnation, Input, LinkState, Machine, NodeId, Outbox, Rename, RequestId,
    RequestRange, Rng, SnapshotId, Start, Ticket, Time,
};

use crate::batch::Proposals;
use crate::config::Config;
use crate::error::Error;
use crate::leader::Leader;
use crate::log::Log;
use crate::members::Members;
use crate::message::Message;
use crate::read_here::ReadsHere;
use crate::record::Record;
use crate::request::{Event, Rejection, Reply, Request, RoleName};
use crate::snapshot::Snapshots;
use crate::stats::{PeerStatus, Stats, Status};
use crate::types::{Index, Term};

/// One node of one Raft group.
#[derive(Clone, Debug)]
pub struct Raft {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) config: Config,
    pub(crate) rng: Rng,

    /// Durable: the term, the vote in it, and the record that holds both.
    pub(crate) term: Term,
    pub(crate) vote: Option<NodeId>,
    pub(crate) vote_ticket: Ticket,
    /// Durable but for what has not been synced yet.
    pub(crate) log: Log,
    /// Everything up to here is durable.
    pub(crate) durable: Ticket,

    pub(crate) role: Role,
    pub(crate) leader: Option<NodeId>,
    /// When the leader was last heard.
    pub(crate) contact: Option<Time>,
    /// Until when it gives no vote, where leases are on.
    pub(crate) bound_until: Time,
    pub(crate) reads_here: ReadsHere,
    /// Reads have come since its leader was last asked.
    pub(crate) reads_here_due: bool,
    /// Campaigns in a row without a leader heard.
    pub(crate) lonely: u32,
    /// From whom it gets what it lacks.
    pub(crate) fetching: Option<NodeId>,
    /// When to campaign, unless leading.
    pub(crate) election_at: Time,
    /// The timeout drawn for the present role, in nanoseconds.
    pub(crate) election_span: u64,
    /// Everything up to here is as the leader of this term has it.
    pub(crate) matched: Index,
    /// `matched` is to be acknowledged, as soon as it is durable.
    pub(crate) ack_due: bool,
    /// Something has happened since the last burst ended.
    stirred: bool,

    pub(crate) commit: Index,
    /// Everything up to here was emitted, the last of it behind the gate `emit_gate`.
    pub(crate) emitted: Index,
    pub(crate) emit_gate: Ticket,
    /// Bytes up to `emitted`, as [`Log::bytes_upto`] counts it.
    pub(crate) emitted_bytes: u64,
    pub(crate) applied: Index,
    /// Bytes up to `applied`.
    pub(crate) applied_bytes: u64,

    /// Proposals that wait for their outcome, in log order.
    pub(crate) pending: VecDeque<Pending>,
    /// Proposals not yet in the log; only on a leader.
    pub(crate) intake: Option<Proposals>,

    pub(crate) snapshots: Snapshots,
    /// The committed entry as of which it is no member, as one has told it.
    pub(crate) removed_at: Option<(Term, Index)>,
    /// The journal was replayed from the middle and no snapshot covers what is missing.
    pub(crate) unanchored: bool,
    told: Option<(RoleName, Term, Option<NodeId>)>,
    /// The entry of the configuration last told, and whether it was committed.
    pub(crate) told_members: Option<(Index, bool)>,
    /// Role, term or leader may be others than those told.
    pub(crate) role_changed: bool,
    pub(crate) stats: Stats,
}

/// A node's role, with what only that role knows.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    Follower,
    PreCandidate { votes: BTreeSet<NodeId> },
    Candidate { votes: BTreeSet<NodeId>, own: Ticket },
    Leader(Box<Leader>),
}

/// Requests whose entries stand next to each other in the log.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) ids: RequestRange,
    pub(crate) first: Index,
    pub(crate) last: Index,
    pub(crate) term: Term,
}

type Out<'a> = &'a mut Outbox<Raft>;

impl Machine for Raft {
    type Config = Config;
    type Error = Error;
    type Message = Message;
    type Record = Record;
    type Request = Request;
    type Reply = Reply;
    type Event = Event;

    fn new(start: Start, config: Config) -> Result<Self, Error> {
        config.validate(start.node)?;
        Ok(Self {
            node: start.node,
            incarnation: start.incarnation,
            rng: Rng::new(start.seed),
            term: Term::ZERO,
            vote: None,
            vote_ticket: Ticket::ZERO,
            log: Log::founded(Members::new(&config.voters)),
            durable: Ticket::ZERO,
            role: Role::Follower,
            leader: None,
            contact: None,
            bound_until: Time::ZERO,
            reads_here: ReadsHere::new(start.incarnation),
            reads_here_due: false,
            lonely: 0,
            fetching: None,
            election_at: start.now + config.election_timeout_max,
            election_span: 0,
            matched: Index::ZERO,
            ack_due: false,
            stirred: false,
            commit: Index::ZERO,
            emitted: Index::ZERO,
            emit_gate: Ticket::ZERO,
            emitted_bytes: 0,
            applied: Index::ZERO,
            applied_bytes: 0,
            pending: VecDeque::new(),
            intake: None,
            snapshots: Snapshots::default(),
            removed_at: None,
            unanchored: false,
            told: None,
            told_members: None,
            role_changed: true,
            stats: Stats::default(),
            config,
        })
    }

    fn replay(&mut self, at: Ticket, record: Record) -> Result<(), Error> {
        self.durable = at;
        match record {
            Record::Vote { term, vote } => self.replay_vote(at, term, vote),
            Record::Append { prev_term, views } => {
                for view in views.as_slice() {
                    self.replay_view(at, prev_term, view);
                }
                Ok(())
            }
            Record::Snapshot { term, vote, snapshot } => {
                self.replay_vote(at, term, vote)?;
                self.replay_snapshot(at, snapshot);
                Ok(())
            }
        }
    }

    fn handle(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        self.stirred = true;
        // Those that come for every entry go straight on.
        match input {
            Input::Message { from, message } => self.on_message(now, from, message, out),
            Input::Durable { upto } => self.on_durable(now, upto, out),
            Input::Request { id, request: Request::Propose(proposals) } => {
                self.on_propose(id, proposals, out);
            }
            other => self.handle_rarely(now, other, out),
        }
        if core::mem::take(&mut self.role_changed) {
            self.tell_role(out);
        }
    }

    fn settle(&mut self, now: Time, out: &mut Outbox<Self>) {
        if !core::mem::take(&mut self.stirred) {
            return;
        }
        if self.is_leader() {
            self.settle_leader(now, out);
        } else if self.is_ack_ready() {
            self.acknowledge(out);
        }
        if self.role_changed | self.reads_here_due | self.log.members_to_tell {
            self.settle_rarely(out);
        }
        self.clean_snapshots(out);
    }

    fn deadline(&self) -> Option<Time> {
        match &self.role {
            Role::Leader(leader) => Some(leader.deadline()),
            _ => {
                let reads = self.reads_here.until(self.config.election_timeout_min);
                Some(reads.map_or(self.election_at, |until| until.min(self.election_at)))
            }
        }
    }

    fn digest(&self, now: Time, rename: &Rename, into: &mut Digest) {
        self.write_digest(now, rename, into);
    }
}

impl Raft {
    /// Apart, so that what comes for every entry needs no room for all that these do.
    #[inline(never)]
    fn handle_rarely(&mut self, now: Time, input: Input<Self>, out: Out<'_>) {
        match input {
            Input::Started => self.on_started(now, out),
            Input::Timer => self.on_timer(now, out),
            Input::Message { .. } | Input::Durable { .. } => {} // they went straight on
            Input::Link { peer, state } => self.on_link(now, peer, state, out),
            Input::Checkpoint { before } => self.on_checkpoint(before, out),
            Input::Stored(stored) => self.on_stored(now, stored, out),
            Input::Worked(_) => {} // it hands no work over
            Input::Request { id, request } => self.on_request(now, id, request, out),
        }
    }

    /// What few bursts end with.
    #[cold]
    fn settle_rarely(&mut self, out: Out<'_>) {
        if core::mem::take(&mut self.reads_here_due) {
            self.ask_leader(out);
        }
        self.tell_members(out);
        if core::mem::take(&mut self.role_changed) {
            self.tell_role(out);
        }
    }

    /// Where this node stands.
    #[must_use]
    pub fn status(&self) -> Status {
        let (peers, reads) = match &self.role {
            Role::Leader(leader) => {
                let peers = leader.peer_status(self.log.last(), self.config.window_bytes_max);
                (peers, leader.reads.len())
            }
            _ => (Vec::new(), self.reads_here.len()),
        };
        let open = self.intake.as_ref().map_or(0, Proposals::weight) as u64;
        Status {
            role: self.role_name(),
            term: self.term,
            leader: self.leader,
            last: self.log.last(),
            commit: self.commit,
            applied: self.applied,
            snapshot: self.snapshots.index(),
            log_bytes: self.log.bytes_after(self.snapshots.index()),
            members: self.log.newest_members().1.clone(),
            members_index: self.log.newest_members().0,
            is_removed: self.is_removed(),
            pending: self.pending.iter().map(|pending| pending.ids.count() as usize).sum(),
            uncommitted_bytes: self.log.bytes_after(self.commit) + open,
            unapplied_bytes: self.unapplied_bytes(),
            reads,
            peers,
            stats: self.stats,
        }
    }

    /// What it has counted since its start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// The role it plays.
    #[must_use]
    pub fn role_name(&self) -> RoleName {
        match self.role {
            Role::Follower => RoleName::Follower,
            Role::PreCandidate { .. } => RoleName::PreCandidate,
            Role::Candidate { .. } => RoleName::Candidate,
            Role::Leader(_) => RoleName::Leader,
        }
    }

    /// True while it leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Its term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// Its vote in that term.
    #[must_use]
    pub fn vote(&self) -> Option<NodeId> {
        self.vote
    }

    /// The last entry it knows to be committed.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.commit
    }

    /// The last entry of its log, and the entry before the first that is still in memory.
    #[must_use]
    pub fn log_bounds(&self) -> (Index, Index) {
        (self.log.base(), self.log.last())
    }

    /// The term and bytes of an entry that is still in memory: for checkers.
    #[must_use]
    pub fn entry(&self, index: Index) -> Option<(Term, bytes::Bytes)> {
        let (view, ..) = self.log.view(index, index)?;
        Some((view.term(), view.entry(index)?))
    }

    /// The last entry whose record is durable here.
    #[must_use]
    pub fn durable_index(&self) -> Index {
        self.log.durable_index(self.durable)
    }

    /// The snapshot that stands for the beginning of the log, where there is one.
    #[must_use]
    pub fn snapshot(&self) -> Option<SnapshotId> {
        self.snapshots.current.as_ref().map(|(snapshot, _)| snapshot.id)
    }

    /// The newest configuration of its log, which is the one that counts here.
    #[must_use]
    pub fn members(&self) -> &Members {
        self.log.newest_members().1
    }

    /// The configurations of its log that may be in force: the last that it knows to be committed,
    /// and all after it.
    pub fn members_in_force(&self) -> impl Iterator<Item = &Members> {
        self.log.members_since(self.commit)
    }

    /// The entry that it came with, or the snapshot.
    #[must_use]
    pub fn members_index(&self) -> Index {
        self.log.newest_members().0
    }

    fn on_started(&mut self, now: Time, out: Out<'_>) {
        if self.unanchored {
            out.halt(
                "the journal is whole",
                "it begins in the middle, and no snapshot covers the rest",
            );
            return;
        }
        self.begin_restore(out);
        self.reset_election(now);
        if self.term > Term::ZERO {
            self.bind(now); // in its former life it may have promised
        }
        if self.decides_alone() && !self.is_bound(now) {
            self.become_candidate(now, false, out);
        }
    }

    fn on_timer(&mut self, now: Time, out: Out<'_>) {
        if self.is_leader() {
            self.on_leader_timer(now, out);
            return;
        }
        self.expire_reads(now, out);
        if now >= self.election_at {
            self.campaign(now, out);
        }
    }

    fn on_link(&mut self, now: Time, peer: NodeId, state: LinkState, out: Out<'_>) {
        if self.is_leader() {
            self.on_follower_link(now, peer, state);
        } else if state == LinkState::Down && self.leader == Some(peer) {
            self.on_leader_link_down(now);
        }
        let _ = out;
    }

    fn on_durable(&mut self, now: Time, upto: Ticket, out: Out<'_>) {
        self.durable = upto;
        match &mut self.role {
            Role::Candidate { votes, own } if *own <= upto => {
                votes.insert(self.node);
                self.count_votes(now, out);
            }
            Role::Leader(_) => self.maybe_commit(out),
            _ if self.ack_due => self.acknowledge(out),
            _ => {}
        }
    }

    fn on_request(&mut self, now: Time, id: RequestId, request: Request, out: Out<'_>) {
        match request {
            Request::Propose(proposals) => self.on_propose(id, proposals, out),
            Request::Read => self.on_read(now, id, out),
            Request::ReadHere { within } => self.on_read_here(now, id, within, out),
            Request::Applied { index } => {
                self.applied = self.applied.max(index.min(self.emitted));
                self.applied_bytes = self.log.bytes_upto(self.applied);
                out.answer_eager(id, Reply::Noted); // promises nothing
                self.emit_committed(out);
            }
            Request::Compact { index, contents } => self.on_compact(id, index, contents, out),
            Request::ForgetLeader => {
                self.forget_leader(out);
                out.answer_eager(id, Reply::Noted); // promises nothing
            }
            Request::Transfer { to } => self.on_transfer(now, id, to, out),
            Request::Change(change) => self.on_change(now, id, &change, out),
        }
    }

    /// Answers every pending proposal whose fate is decided, one way or the other: its place is
    /// committed, or an entry of a later term is. Terms never fall along a log, so nothing of its
    /// own term will follow that.
    pub(crate) fn resolve_pending(&mut self, out: Out<'_>) {
        let commit = self.commit;
        while let Some(done) = self.pending.pop_front_if(|pending| pending.last <= commit) {
            self.resolve(&done, out);
        }
        // Proposals of an earlier leadership stand in front and may wait for higher places.
        if self.pending.front().is_some_and(|pending| pending.term < self.term) {
            let term = self.log.term_at(commit).unwrap_or(Term::ZERO);
            let (done, open) = core::mem::take(&mut self.pending)
                .into_iter()
                .partition::<VecDeque<_>, _>(|own| own.last <= commit || own.term < term);
            self.pending = open;
            done.iter().for_each(|pending| self.resolve(pending, out));
        }
    }

    fn resolve(&mut self, pending: &Pending, out: Out<'_>) {
        // What is beyond the commit index, where anything decided is, will be another's.
        let is_other = |index: Index| {
            let term = self.log.term_at(index);
            index > self.commit || term.is_some_and(|term| term != pending.term)
        };
        let is_own =
            |index: Index| index <= self.commit && self.log.term_at(index) == Some(pending.term);
        // A majority has it durably: what this node has not synced yet does not matter.
        let after = Ticket::ZERO;
        if is_own(pending.last) {
            self.stats.committed += pending.ids.count();
            let (first, term) = (pending.first, pending.term);
            return out.answer_after_with(after, pending.ids, || Reply::Committed { first, term });
        }
        let reply = if is_other(pending.last) && is_other(pending.first) {
            self.stats.replaced += pending.ids.count();
            Reply::Rejected(Rejection::Replaced)
        } else {
            self.stats.unknown += pending.ids.count();
            Reply::Unknown
        };
        out.answer_after(after, pending.ids, reply);
    }

    /// Raises the commit index and does what follows from it.
    pub(crate) fn advance_commit(&mut self, to: Index, out: Out<'_>) {
        if to > self.commit {
            self.commit = to;
            self.resolve_pending(out);
            self.emit_committed(out);
        }
    }

    /// Emits what is committed, in order, each view once its own record is durable.
    pub(crate) fn emit_committed(&mut self, out: Out<'_>) {
        while self.emitted < self.commit && !self.snapshots.is_restoring() {
            let ahead = self.emitted_bytes.saturating_sub(self.applied_bytes);
            if ahead >= self.config.unapplied_bytes_max as u64 {
                break;
            }
            let next = self.emitted.next();
            let Some((view, ticket, bytes)) = self.log.view(next, self.commit) else {
                out.halt("committed entries are in the log", "an entry to be applied is gone");
                return;
            };
            self.emitted = view.last();
            self.emitted_bytes = bytes;
            self.emit_gate = self.emit_gate.max(ticket);
            out.emit_after_with(self.emit_gate, || Event::Committed(view));
        }
    }

    fn tell_role(&mut self, out: Out<'_>) {
        let state = (self.role_name(), self.term, self.leader);
        if self.told != Some(state) {
            self.told = Some(state);
            let (role, term, leader) = state;
            out.emit(Event::Role { role, term, leader });
        }
    }

    fn replay_vote(&mut self, at: Ticket, term: Term, vote: Option<NodeId>) -> Result<(), Error> {
        if term < self.term {
            return Err(Error::Journal { at, rule: "the term never falls" });
        }
        let changed = self.vote.is_some() && vote != self.vote;
        if term == self.term && changed {
            return Err(Error::Journal { at, rule: "there is one vote in a term" });
        }
        (self.term, self.vote, self.vote_ticket) = (term, vote, at);
        Ok(())
    }
}

impl Leader {
    fn peer_status(&self, last: Index, window_max: usize) -> Vec<PeerStatus> {
        let status = |(node, progress): (NodeId, &crate::progress::Progress)| PeerStatus {
            node,
            matched: progress.matched,
            lag: progress.matched.distance(last),
            in_flight_bytes: progress.in_flight().0,
            window_bytes: progress.window(window_max),
            snapshot: matches!(progress.pace, crate::progress::Pace::Snapshot { .. }),
            voter: progress.part.counts(),
            rounds: progress.rounds(),
        };
        self.peers.iter().map(status).collect()
    }
}
