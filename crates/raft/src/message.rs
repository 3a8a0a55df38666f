//! What the nodes of a group tell each other.

use alloc::boxed::Box;

use bytes::Bytes;
use quorate_transport::{Attachment, Class, Decoder, Encoder, SnapshotId, Wire, WireError};
use serde::{Deserialize, Serialize};

use crate::batch::Views;
use crate::record::{Snapshot, SnapshotHead};
use crate::types::{Index, NUMBER_MAX, Term};

/// A message; `term` is the sender's unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Would you vote for me? Changes nothing at either end. [Raft thesis §9.6] Who is no voter
    /// asks as well when it hears no leader, to hear whether it has left.
    PreVote {
        /// The term that the sender would campaign in.
        term: Term,
        /// Its last entry.
        last: Index,
        /// The term of that.
        last_term: Term,
    },
    /// The answer to a pre-vote.
    PreVoteReply {
        /// The term asked about when granted, else the voter's own.
        term: Term,
        /// Whether the sender would have the vote.
        granted: bool,
        /// It is refused for its log alone: the voter's has more.
        ahead: bool,
    },
    /// Vote for me. [Raft §5.2]
    Vote {
        /// The campaign's term.
        term: Term,
        /// The candidate's last entry.
        last: Index,
        /// The term of that.
        last_term: Term,
        /// The leader asked for this campaign: voters need not be true to it.
        transfer: bool,
    },
    /// The answer to a vote request.
    VoteReply {
        /// The voter's term.
        term: Term,
        /// Whether the candidate has its vote.
        granted: bool,
    },
    /// Entries, after the one at `prev`. [Raft §5.3]
    Append {
        /// The leader's term.
        term: Term,
        /// The entry before the first.
        prev: Index,
        /// Its term.
        prev_term: Term,
        /// The leader's commit index.
        commit: Index,
        /// The entries.
        views: Views,
    },
    /// Everything up to `matched` is durable here and as the leader of `term` has it.
    Appended {
        /// The term of that leader.
        term: Term,
        /// The last such entry.
        matched: Index,
    },
    /// The entry before the first is not here.
    Conflict {
        /// The follower's term.
        term: Term,
        /// The `prev` that was refused.
        prev: Index,
        /// An earlier place at which the logs may agree.
        hint: Index,
        /// The term of the follower's entry there.
        hint_term: Term,
    },
    /// The leader lives.
    Heartbeat {
        /// The leader's term.
        term: Term,
        /// The leader's commit index.
        commit: Index,
        /// The round of reads that an answer confirms; each leader's own sequence.
        round: u64,
    },
    /// The answer to a heartbeat.
    HeartbeatReply {
        /// The follower's term: another than the heartbeat's ends that leadership.
        term: Term,
        /// The heartbeat's round.
        round: u64,
    },
    /// The commit index, where no append is due that would tell it; needs no answer.
    Commit {
        /// The leader's term.
        term: Term,
        /// Its commit index.
        commit: Index,
    },
    /// A piece of the leader's snapshot. [Raft §7]
    Snapshot {
        /// The leader's term.
        term: Term,
        /// In a box, so that what is sent for every entry stays small.
        piece: Box<Piece>,
    },
    /// How far a snapshot has arrived.
    SnapshotReply {
        /// The follower's term.
        term: Term,
        /// Which snapshot.
        id: SnapshotId,
        /// The piece that is wanted next.
        next: u64,
    },
    /// Campaign now: the leader hands over. [Raft thesis §3.10]
    TimeoutNow {
        /// The leader's term.
        term: Term,
    },
    /// A follower's reads: from which index on are they linearizable? [Raft thesis §6.4]
    Read {
        /// The follower's term.
        term: Term,
        /// The follower's own sequence: an answer is one to all questions up to it.
        number: u64,
    },
    /// The answer to a follower's reads.
    ReadReply {
        /// The leader's term.
        term: Term,
        /// The question's number.
        number: u64,
        /// The index; `None` where the leader cannot say now.
        index: Option<Index>,
    },
    /// The group knows the receiver by another data directory, or it has lost what it had
    /// acknowledged: nothing that it says is believed.
    Disowned {
        /// The sender's term.
        term: Term,
        /// The data directory that the receiver was seen to have.
        birth: u32,
        /// An entry that it had acknowledged and does not have.
        lost: Option<Index>,
    },
    /// The receiver asks for votes and is no member, which it has not heard: nobody sends it the
    /// entry by which it left.
    Removed {
        /// The sender's term.
        term: Term,
        /// The sender's last committed entry: as of it the receiver is no member.
        commit: Index,
        /// The term of that.
        commit_term: Term,
    },
    /// While there is no leader: what does your log have after the place where ours agree? Changes
    /// nothing where it arrives.
    Fetch {
        /// The sender's term.
        term: Term,
        /// A place at which the logs may agree.
        at: Index,
        /// The term of the sender's entry there.
        at_term: Term,
    },
    /// The answer.
    Fetched {
        /// The sender's term.
        term: Term,
        /// In a box, so that what is sent for every entry stays small.
        offer: Box<Offer>,
    },
}

/// Entries after `prev`, of a log that ends in `last`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The entry before the first, and its term.
    pub prev: (Index, Term),
    /// The sender's last entry, and its term.
    pub last: (Index, Term),
    /// The entries.
    pub views: Views,
}

/// A piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Which snapshot, its length, the checksum of the whole, and the configuration as of it.
    pub snapshot: Snapshot,
    /// Where the piece belongs.
    pub offset: u64,
    /// Its bytes.
    pub bytes: Bytes,
}

/// A message without its attachments, as it travels.
#[derive(Serialize, Deserialize)]
enum Head {
    PreVote { term: Term, last: Index, last_term: Term },
    PreVoteReply { term: Term, granted: bool, ahead: bool },
    Vote { term: Term, last: Index, last_term: Term, transfer: bool },
    VoteReply { term: Term, granted: bool },
    Append { term: Term, prev: Index, prev_term: Term, commit: Index },
    Appended { term: Term, matched: Index },
    Conflict { term: Term, prev: Index, hint: Index, hint_term: Term },
    Heartbeat { term: Term, commit: Index, round: u64 },
    HeartbeatReply { term: Term, round: u64 },
    Commit { term: Term, commit: Index },
    Snapshot { term: Term, snapshot: SnapshotHead, offset: u64 },
    SnapshotReply { term: Term, index: u64, of: u64, next: u64 },
    TimeoutNow { term: Term },
    Read { term: Term, number: u64 },
    ReadReply { term: Term, number: u64, index: Option<Index> },
    Disowned { term: Term, birth: u32, lost: Option<Index> },
    Removed { term: Term, commit: Index, commit_term: Term },
    Fetch { term: Term, at: Index, at_term: Term },
    Fetched { term: Term, prev: Index, prev_term: Term, last: Index, last_term: Term },
}

impl Message {
    /// The sender's term; the campaign's in a pre-vote.
    #[must_use]
    pub fn term(&self) -> Term {
        match self {
            Self::PreVote { term, .. }
            | Self::PreVoteReply { term, .. }
            | Self::Vote { term, .. }
            | Self::VoteReply { term, .. }
            | Self::Append { term, .. }
            | Self::Appended { term, .. }
            | Self::Conflict { term, .. }
            | Self::Heartbeat { term, .. }
            | Self::HeartbeatReply { term, .. }
            | Self::Commit { term, .. }
            | Self::Snapshot { term, .. }
            | Self::SnapshotReply { term, .. }
            | Self::Read { term, .. }
            | Self::ReadReply { term, .. }
            | Self::Disowned { term, .. }
            | Self::Removed { term, .. }
            | Self::Fetch { term, .. }
            | Self::Fetched { term, .. }
            | Self::TimeoutNow { term } => *term,
        }
    }

    /// False for numbers that no honest cluster reaches.
    pub(crate) fn is_plausible(&self) -> bool {
        let index = match self {
            Self::PreVote { last, .. } | Self::Vote { last, .. } => last.0,
            Self::Append { prev, commit, .. } => prev.0.max(commit.0),
            Self::Appended { matched, .. } => matched.0,
            Self::Conflict { prev, hint, .. } => prev.0.max(hint.0),
            Self::Heartbeat { commit, .. } | Self::Commit { commit, .. } => commit.0,
            Self::Snapshot { piece, .. } => {
                let Snapshot { id, len, .. } = &piece.snapshot;
                id.index.max(id.term).max(piece.offset).max(*len)
            }
            Self::SnapshotReply { id, next, .. } => id.index.max(id.term).max(*next),
            Self::ReadReply { index: Some(index), .. } => index.0,
            Self::Removed { commit, commit_term, .. } => commit.0.max(commit_term.0),
            Self::Fetch { at, .. } => at.0,
            Self::Fetched { offer, .. } => offer.prev.0.0.max(offer.last.0.0),
            _ => 0,
        };
        self.term().0 <= NUMBER_MAX && index <= NUMBER_MAX
    }

    fn head(&self) -> Head {
        match *self {
            Self::Snapshot { term, ref piece } => {
                Head::Snapshot { term, snapshot: piece.snapshot.head(), offset: piece.offset }
            }
            Self::PreVote { term, last, last_term } => Head::PreVote { term, last, last_term },
            Self::PreVoteReply { term, granted, ahead } => {
                Head::PreVoteReply { term, granted, ahead }
            }
            Self::Vote { term, last, last_term, transfer } => {
                Head::Vote { term, last, last_term, transfer }
            }
            Self::VoteReply { term, granted } => Head::VoteReply { term, granted },
            Self::Append { term, prev, prev_term, commit, .. } => {
                Head::Append { term, prev, prev_term, commit }
            }
            Self::Appended { term, matched } => Head::Appended { term, matched },
            Self::Conflict { term, prev, hint, hint_term } => {
                Head::Conflict { term, prev, hint, hint_term }
            }
            Self::Heartbeat { term, commit, round } => Head::Heartbeat { term, commit, round },
            Self::HeartbeatReply { term, round } => Head::HeartbeatReply { term, round },
            Self::Commit { term, commit } => Head::Commit { term, commit },
            Self::SnapshotReply { term, id, next } => {
                Head::SnapshotReply { term, index: id.index, of: id.term, next }
            }
            Self::TimeoutNow { term } => Head::TimeoutNow { term },
            Self::Read { term, number } => Head::Read { term, number },
            Self::ReadReply { term, number, index } => Head::ReadReply { term, number, index },
            Self::Disowned { term, birth, lost } => Head::Disowned { term, birth, lost },
            Self::Removed { term, commit, commit_term } => {
                Head::Removed { term, commit, commit_term }
            }
            Self::Fetch { term, at, at_term } => Head::Fetch { term, at, at_term },
            Self::Fetched { term, ref offer } => {
                let Offer { prev: (prev, prev_term), last: (last, last_term), .. } = **offer;
                Head::Fetched { term, prev, prev_term, last, last_term }
            }
        }
    }
}

impl Wire for Message {
    fn class(&self) -> Class {
        match self {
            Self::Append { .. } | Self::Fetched { .. } => Class::Bulk,
            Self::Snapshot { .. } => Class::Snapshot,
            _ => Class::Urgent,
        }
    }

    fn encode(&self, to: &mut Encoder<'_>) {
        to.value(&self.head());
        match self {
            Self::Append { views, .. } => views.encode(to),
            Self::Fetched { offer, .. } => offer.views.encode(to),
            Self::Snapshot { piece, .. } => to.attach(Attachment::new(piece.bytes.clone())),
            _ => {}
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        Ok(match from.value("raft message")? {
            Head::PreVote { term, last, last_term } => Self::PreVote { term, last, last_term },
            Head::PreVoteReply { term, granted, ahead } => {
                Self::PreVoteReply { term, granted, ahead }
            }
            Head::Vote { term, last, last_term, transfer } => {
                Self::Vote { term, last, last_term, transfer }
            }
            Head::VoteReply { term, granted } => Self::VoteReply { term, granted },
            Head::Append { term, prev, prev_term, commit } => {
                let views = views_after(prev, from)?;
                Self::Append { term, prev, prev_term, commit, views }
            }
            Head::Appended { term, matched } => Self::Appended { term, matched },
            Head::Conflict { term, prev, hint, hint_term } => {
                Self::Conflict { term, prev, hint, hint_term }
            }
            Head::Heartbeat { term, commit, round } => Self::Heartbeat { term, commit, round },
            Head::HeartbeatReply { term, round } => Self::HeartbeatReply { term, round },
            Head::Commit { term, commit } => Self::Commit { term, commit },
            Head::Snapshot { term, snapshot, offset } => {
                let bytes = from.attachment()?.bytes().clone();
                let snapshot = snapshot.read()?;
                Self::Snapshot { term, piece: Box::new(Piece { snapshot, offset, bytes }) }
            }
            Head::SnapshotReply { term, index, of, next } => {
                Self::SnapshotReply { term, id: SnapshotId { index, term: of }, next }
            }
            Head::TimeoutNow { term } => Self::TimeoutNow { term },
            Head::Read { term, number } => Self::Read { term, number },
            Head::ReadReply { term, number, index } => Self::ReadReply { term, number, index },
            Head::Disowned { term, birth, lost } => Self::Disowned { term, birth, lost },
            Head::Removed { term, commit, commit_term } => {
                Self::Removed { term, commit, commit_term }
            }
            Head::Fetch { term, at, at_term } => Self::Fetch { term, at, at_term },
            Head::Fetched { term, prev, prev_term, last, last_term } => {
                let views = views_after(prev, from)?;
                let (prev, last) = ((prev, prev_term), (last, last_term));
                Self::Fetched { term, offer: Box::new(Offer { prev, last, views }) }
            }
        })
    }
}

/// Entries that follow `prev`.
fn views_after(prev: Index, from: &mut Decoder<'_>) -> Result<Views, WireError> {
    let views = Views::decode(from)?;
    let first = views.as_slice().first();
    if first.is_some_and(|view| prev.0.checked_add(1) != Some(view.first().0)) {
        return Err(WireError::Rule { field: "prev", rule: "is before the first" });
    }
    Ok(views)
}
