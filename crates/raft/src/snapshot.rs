//! Snapshots: made here, sent in pieces, taken over, restored from. [Raft §7]
//!
//! A snapshot is durable in the store before a record names it; the record alone makes it count,
//! so that a crash finds either the old log or the new snapshot, never half of both.

use alloc::boxed::Box;

use bytes::Bytes;
use quorate_transport::{
    NodeId, Outbox, RequestId, SnapshotId, StoreError, StoreOp, Stored, Ticket, Time,
};

use crate::message::{Message, Piece};
use crate::progress::{Pace, Progress};
use crate::raft::{Raft, Role};
use crate::record::{Record, Snapshot};
use crate::request::{Contents, Event, Rejection, Reply};
use crate::types::{Index, Term};

type Out<'a> = &'a mut Outbox<Raft>;

/// The tag of reads for the local state machine; others carry the peer they are for.
const RESTORE_TAG: u64 = u64::MAX;

/// All snapshots that this node has to do with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshots {
    /// The one the log begins after, and the record that names it.
    pub(crate) current: Option<(Snapshot, Ticket)>,
    /// One being made here.
    making: Option<(Snapshot, RequestId)>,
    /// One arriving from a leader.
    arriving: Option<Arriving>,
    /// The piece that the local state machine is restored from next.
    restoring: Option<u64>,
    /// Older ones can go once this record is durable.
    clean: Option<(Ticket, SnapshotId)>,
}

#[derive(Clone, Debug)]
struct Arriving {
    snapshot: Snapshot,
    from: NodeId,
    next: u64,
    /// All of it is written: the store is making it durable.
    finishing: bool,
}

impl Snapshots {
    pub(crate) fn index(&self) -> Index {
        self.current.as_ref().map_or(Index::ZERO, |(snapshot, _)| Index(snapshot.id.index))
    }

    pub(crate) fn is_restoring(&self) -> bool {
        self.restoring.is_some()
    }

    pub(crate) fn digest(&self, into: &mut quorate_transport::Digest) {
        into.option(self.current.as_ref().map(|(snapshot, _)| snapshot.id.index));
        into.option(self.making.as_ref().map(|(snapshot, _)| snapshot.id.index));
        into.option(self.arriving.as_ref().map(|arriving| arriving.snapshot.id.index));
        into.option(self.arriving.as_ref().map(|arriving| arriving.next));
        into.option(self.restoring);
        into.bool(self.clean.is_some());
    }
}

impl Raft {
    pub(crate) fn on_compact(
        &mut self,
        id: RequestId,
        index: Index,
        contents: Contents,
        out: Out<'_>,
    ) {
        let busy = self.snapshots.making.is_some()
            || self.snapshots.arriving.is_some()
            || self.snapshots.is_restoring();
        // Who has joined may have applied entries from before any configuration that it knows.
        let busy = busy || self.log.members_at(index).voters().is_empty();
        let term = self.log.term_at(index);
        let possible = index <= self.applied && index > self.snapshots.index();
        let term = match term {
            _ if busy => return out.answer_eager(id, Reply::Rejected(Rejection::Busy)),
            Some(term) if possible => term,
            _ => return out.answer_eager(id, Reply::Rejected(Rejection::BadIndex)),
        };
        let name = SnapshotId { index: index.0, term: term.0 };
        let Contents { chunks, len, checksum } = contents;
        let mut offset = 0;
        for bytes in chunks {
            let next = offset + bytes.len() as u64;
            out.store(StoreOp::Write { id: name, offset, bytes });
            offset = next;
        }
        if len == 0 {
            out.store(StoreOp::Write { id: name, offset: 0, bytes: Bytes::new() });
        }
        let members = self.log.members_at(index).clone();
        let snapshot = Snapshot { id: name, len, checksum, members };
        self.snapshots.making = Some((snapshot, id));
        out.store(StoreOp::Finish { id: name, len, checksum });
    }

    /// A follower needs what is compacted: it gets the snapshot, piece by piece.
    pub(crate) fn begin_snapshot(
        &mut self,
        now: Time,
        peer: NodeId,
        progress: &mut Progress,
        out: Out<'_>,
    ) {
        let Some((snapshot, _)) = &self.snapshots.current else {
            out.halt("what is compacted is in a snapshot", "there is none");
            return;
        };
        progress.become_snapshot(snapshot.clone());
        progress.sent = now;
        self.read_chunk(peer, snapshot.id, 0, out);
    }

    pub(crate) fn read_chunk(&self, peer: NodeId, id: SnapshotId, offset: u64, out: Out<'_>) {
        let len_max = self.config.snapshot_chunk_bytes as u32;
        out.store(StoreOp::Read { id, offset, len_max, tag: peer.0 });
    }

    pub(crate) fn on_snapshot(&mut self, from: NodeId, piece: Piece, out: Out<'_>) {
        let Piece { snapshot, offset, bytes } = piece;
        let (id, len) = (snapshot.id, snapshot.len);
        if id.index <= self.commit.0 {
            // Older than what is here: it is acknowledged, and changes nothing.
            self.matched = self.matched.max(Index(id.index));
            self.ack_due = true;
            return;
        }
        if self.snapshots.making.is_some() || self.snapshots.is_restoring() {
            return; // one thing at a time; the leader asks again
        }
        let known = self.snapshots.arriving.as_ref().filter(|a| a.snapshot == snapshot);
        if known.is_some_and(|arriving| arriving.finishing) {
            return;
        }
        let mut next = known.map_or(0, |arriving| arriving.next);
        let end = offset.saturating_add(bytes.len() as u64);
        if offset == next && end <= len {
            next = end;
            out.store(StoreOp::Write { id, offset, bytes });
            let finishing = next == len;
            if finishing {
                let checksum = snapshot.checksum;
                out.store(StoreOp::Finish { id, len, checksum });
            }
            self.snapshots.arriving = Some(Arriving { snapshot, from, next, finishing });
        }
        if next < len {
            let reply = Message::SnapshotReply { term: self.term, id, next };
            out.send_after(self.vote_ticket, from, reply);
        }
    }

    pub(crate) fn on_snapshot_reply(
        &mut self,
        now: Time,
        from: NodeId,
        id: SnapshotId,
        next: u64,
        out: Out<'_>,
    ) {
        let Some(progress) = self.progress(from) else {
            return;
        };
        progress.contact = now;
        if let Pace::Snapshot { snapshot, offset } = &mut progress.pace
            && snapshot.id == id
            && *offset != next
        {
            *offset = next;
            progress.sent = now;
            self.read_chunk(from, id, next, out);
        }
    }

    pub(crate) fn on_stored(&mut self, now: Time, stored: Stored, out: Out<'_>) {
        match stored {
            Stored::Finished { id } => self.on_finished(now, id, out),
            Stored::Chunk { id, offset, bytes, len, tag } if tag == RESTORE_TAG => {
                self.on_restore_chunk(id, offset, bytes, len, out);
            }
            Stored::Chunk { id, offset, bytes, tag, .. } => {
                self.send_chunk(now, NodeId(tag), id, offset, bytes, out);
            }
            Stored::Failed { id, error, tag } => self.on_store_failed(now, id, error, tag, out),
        }
    }

    fn on_finished(&mut self, now: Time, id: SnapshotId, out: Out<'_>) {
        if let Some((snapshot, request)) = self.snapshots.making.take_if(|(s, _)| s.id == id) {
            self.adopt(snapshot, out);
            out.answer(request, Reply::Compacted { index: Index(id.index) });
            return;
        }
        let Some(arrived) = self.snapshots.arriving.take_if(|a| a.snapshot.id == id) else {
            return;
        };
        if id.index <= self.commit.0 {
            return; // the log has caught up in the meantime
        }
        self.stats.snapshots_installed += 1;
        let keeps = self.log.term_at(Index(id.index)) == Some(Term(id.term));
        if !keeps {
            self.log.reset(Index(id.index), Term(id.term));
        }
        // What an earlier configuration of this log said, committed or not, counts no more.
        self.log.anchor_members(Index(id.index), arrived.snapshot.members.clone());
        self.adopt(arrived.snapshot, out);
        let index = Index(id.index);
        self.commit = index;
        self.matched = self.matched.max(index);
        // What these proposals became can be told only from a log that is gone.
        self.pending.retain(|pending| {
            let gone = pending.first <= index;
            if gone {
                out.answer_eager(pending.ids, Reply::Unknown);
            }
            !gone
        });
        // Those beyond it may be of an earlier term than it is, and overtaken by that.
        self.resolve_pending(out);
        self.begin_restore(out);
        if self.leader == Some(arrived.from) {
            let ack = Message::Appended { term: self.term, matched: index };
            out.send(arrived.from, ack);
        }
        let campaigns = matches!(self.role, Role::PreCandidate { .. } | Role::Candidate { .. });
        if campaigns && !self.may_campaign() {
            self.become_follower(now, self.term, out);
        }
    }

    /// Makes a snapshot that is durable in the store the beginning of the log.
    fn adopt(&mut self, snapshot: Snapshot, out: Out<'_>) {
        let (term, vote) = (self.term, self.vote);
        let ticket = out.persist(Record::Snapshot { term, vote, snapshot: snapshot.clone() });
        self.vote_ticket = ticket;
        self.snapshots.clean = Some((ticket, snapshot.id));
        self.snapshots.current = Some((snapshot, ticket));
        // Some of what it covers stays, for followers that are a little behind.
        self.log.compact_keeping(self.pinned(), self.config.keep_bytes_max as u64);
        self.release_journal(out);
    }

    /// Up to where the log may be compacted: a follower that is getting an older snapshot needs
    /// what follows that, or it would get one snapshot after the other. It is kept as long as it is
    /// less than another snapshot, within bounds.
    fn pinned(&self) -> Index {
        let index = self.snapshots.index();
        let Role::Leader(leader) = &self.role else { return index };
        let (keep, most) = (self.config.keep_bytes_max, self.config.uncommitted_bytes_max);
        let pin = |progress: &Progress| match &progress.pace {
            Pace::Snapshot { snapshot, .. } => {
                let pin = Index(snapshot.id.index);
                let bytes = self.log.bytes_upto(index).saturating_sub(self.log.bytes_upto(pin));
                let worth = snapshot.len.min(most as u64).max(4 * keep as u64);
                (bytes <= worth).then_some(pin)
            }
            _ => None,
        };
        leader.peers.values().filter_map(pin).min().map_or(index, |pin| pin.min(index))
    }

    fn release_journal(&mut self, out: Out<'_>) {
        let upto = self.snapshots.index();
        let mut oldest = self.vote_ticket;
        if let Some((_, ticket)) = &self.snapshots.current {
            oldest = oldest.min(*ticket);
        }
        if let Some(home) = self.log.oldest_home(upto) {
            oldest = oldest.min(home);
        }
        if oldest > Ticket(1) {
            out.release(Ticket(oldest.0 - 1));
        }
    }

    /// The journal is short of space: what still matters moves to its end.
    pub(crate) fn on_checkpoint(&mut self, before: Ticket, out: Out<'_>) {
        let (term, vote) = (self.term, self.vote);
        if let Some((snapshot, ticket)) = &mut self.snapshots.current
            && *ticket < before
        {
            *ticket = out.persist(Record::Snapshot { term, vote, snapshot: snapshot.clone() });
            self.vote_ticket = *ticket;
        }
        if self.vote_ticket < before {
            self.vote_ticket = out.persist(Record::Vote { term, vote });
        }
        let upto = self.snapshots.index();
        self.log
            .rehome(upto, before, |prev_term, view| out.persist(Record::append(prev_term, view)));
        self.release_journal(out);
    }

    /// Removes older snapshots, unless one of them is still being sent.
    pub(crate) fn clean_snapshots(&mut self, out: Out<'_>) {
        let Some((ticket, id)) = self.snapshots.clean else {
            return;
        };
        let is_older =
            |pace: &Pace| matches!(pace, Pace::Snapshot { snapshot, .. } if snapshot.id < id);
        let sends_older = match &self.role {
            Role::Leader(leader) => leader.peers.values().any(|peer| is_older(&peer.pace)),
            _ => false,
        };
        if ticket <= self.durable && !sends_older {
            self.snapshots.clean = None;
            out.store(StoreOp::RemoveBefore { id });
        }
    }

    /// Hands the local state machine the current snapshot, from its beginning.
    pub(crate) fn begin_restore(&mut self, out: Out<'_>) {
        let Some((id, ticket)) = self.snapshots.current.as_ref().map(|(s, ticket)| (s.id, *ticket))
        else {
            return;
        };
        let index = Index(id.index);
        self.commit = self.commit.max(index);
        self.matched = self.matched.max(self.commit);
        self.emitted = index;
        self.applied = index;
        self.emitted_bytes = self.log.bytes_upto(index);
        self.applied_bytes = self.emitted_bytes;
        self.emit_gate = self.emit_gate.max(ticket);
        self.read_restore(id, 0, out);
    }

    fn read_restore(&mut self, id: SnapshotId, offset: u64, out: Out<'_>) {
        self.snapshots.restoring = Some(offset);
        let len_max = self.config.snapshot_chunk_bytes as u32;
        out.store(StoreOp::Read { id, offset, len_max, tag: RESTORE_TAG });
    }

    fn on_restore_chunk(
        &mut self,
        id: SnapshotId,
        offset: u64,
        bytes: Bytes,
        len: u64,
        out: Out<'_>,
    ) {
        if self.snapshot() != Some(id) || self.snapshots.restoring != Some(offset) {
            return;
        }
        let next = offset + bytes.len() as u64;
        let last = next >= len;
        out.emit_after(self.emit_gate, Event::Restore { id, offset, bytes, last });
        if last {
            self.snapshots.restoring = None;
            self.emit_committed(out);
        } else {
            self.read_restore(id, next, out);
        }
    }

    fn send_chunk(
        &mut self,
        now: Time,
        to: NodeId,
        id: SnapshotId,
        offset: u64,
        bytes: Bytes,
        out: Out<'_>,
    ) {
        let term = self.term;
        let Some(progress) = self.progress(to) else { return };
        let Pace::Snapshot { snapshot, offset: wanted } = &progress.pace else { return };
        if snapshot.id != id || *wanted != offset {
            return; // read for a former transfer
        }
        let snapshot = snapshot.clone();
        progress.sent = now;
        self.stats.snapshots_sent += u64::from(offset + bytes.len() as u64 == snapshot.len);
        let piece = Box::new(Piece { snapshot, offset, bytes });
        // It was durable here before any record named it.
        out.send_eager(to, Message::Snapshot { term, piece });
    }

    fn on_store_failed(
        &mut self,
        now: Time,
        id: SnapshotId,
        error: StoreError,
        tag: u64,
        out: Out<'_>,
    ) {
        if let Some((_, request)) = self.snapshots.making.take_if(|(s, _)| s.id == id) {
            out.answer_eager(request, Reply::Rejected(Rejection::Store)); // nothing was done
            return;
        }
        if self.snapshots.arriving.take_if(|a| a.snapshot.id == id).is_some() {
            return; // the leader's next piece finds nothing begun, and it starts again
        }
        if tag == RESTORE_TAG && self.snapshot() == Some(id) {
            out.halt(
                "the snapshot that the journal names is in the store",
                alloc::format!("{error}"),
            );
        } else if let Some(progress) = self.progress(NodeId(tag)) {
            progress.become_probe(progress.matched.next());
            progress.pace = Pace::Probe { waits: true };
            progress.sent = now;
        }
    }

    pub(crate) fn replay_snapshot(&mut self, at: Ticket, snapshot: Snapshot) {
        let (index, term) = (Index(snapshot.id.index), Term(snapshot.id.term));
        if index < self.snapshots.index() {
            return;
        }
        let members = snapshot.members.clone();
        self.snapshots.current = Some((snapshot, at));
        if self.unanchored && index < self.log.base() {
            return; // a later snapshot, whose record is to come, covers the missing entries
        }
        if self.log.term_at(index) == Some(term) {
            self.log.compact(index);
        } else {
            self.log.reset(index, term);
        }
        self.log.anchor_members(index, members);
        self.commit = index;
        self.unanchored = false;
    }
}
