//! What the local application asks, is answered, and is told.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use bytes::Bytes;
use quorate_transport::{NodeId, SnapshotId, crc32c_append};

use crate::batch::{Proposals, View};
use crate::members::{Change, Members};
use crate::types::{Index, Term};

/// What the local application asks; each is answered exactly once.
#[derive(Debug)]
pub enum Request {
    /// Put these commands into the log, next to each other and in order.
    Propose(Proposals),
    /// From which index on is a local read linearizable? Only a leader answers.
    Read,
    /// The same, on any node: a follower asks its leader. What was answered no longer ago than
    /// `within` serves again, so that the read sees at least everything that was acknowledged
    /// anywhere so long ago; zero is linearizable.
    ReadHere {
        /// How stale it may be, by this node's own clock.
        within: Duration,
    },
    /// Everything up to `index` is applied; bounds what is emitted ahead.
    Applied {
        /// The last applied entry.
        index: Index,
    },
    /// This is the state after applying everything up to `index`: keep it in place of the log.
    Compact {
        /// The last entry it covers, which must be applied.
        index: Index,
        /// The state.
        contents: Contents,
    },
    /// Forget the leader: an operator knows that it is gone. This node grants its vote at once to
    /// whoever asks, instead of being true to that leader for an election timeout. Does nothing on
    /// a leader, nothing where `clock_drift_ppm` is declared, and nothing for safety.
    ForgetLeader,
    /// Hand leadership over.
    Transfer {
        /// To whom; the most caught-up voter where `None`.
        to: Option<NodeId>,
    },
    /// Change the members. The leader takes all steps that follow, and so does any leader after
    /// it; the answer comes with the last one.
    Change(Change),
}

/// A state on its way into a snapshot, in chunks. Its checksum is computed as they come, so that
/// a large one costs no more in one step than its last chunk.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Contents {
    pub(crate) chunks: Vec<Bytes>,
    pub(crate) len: u64,
    pub(crate) checksum: u32,
}

impl Contents {
    /// Adds what follows.
    pub fn push(&mut self, chunk: Bytes) {
        self.checksum = crc32c_append(self.checksum, &chunk);
        self.len += chunk.len() as u64;
        self.chunks.push(chunk);
    }

    /// Its length so far, in bytes.
    #[must_use]
    pub fn byte_len(&self) -> u64 {
        self.len
    }

    /// What was added, in order.
    #[must_use]
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes in {} chunks]", self.len, self.chunks.len())
    }
}

impl FromIterator<Bytes> for Contents {
    fn from_iter<I: IntoIterator<Item = Bytes>>(chunks: I) -> Self {
        let mut contents = Self::default();
        chunks.into_iter().for_each(|chunk| contents.push(chunk));
        contents
    }
}

/// What a request is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The proposals are committed. In an answer to a range of requests, `first` is the first
    /// entry of the first request; the others follow without a gap.
    Committed {
        /// The first entry.
        first: Index,
        /// The term of all of them.
        term: Term,
    },
    /// A read is linearizable once everything up to `index` is applied.
    ReadAt {
        /// That index.
        index: Index,
    },
    /// Noted.
    Noted,
    /// The snapshot is durable and the log compacted.
    Compacted {
        /// The last entry it covers.
        index: Index,
    },
    /// This node no longer leads, as was asked.
    Transferred,
    /// The change is complete and committed.
    Changed {
        /// The entry that holds the group's configuration now.
        index: Index,
    },
    /// Not done, and never will be: asking again is safe.
    Rejected(Rejection),
    /// Done, in part or not at all: it can no longer be told here, for a snapshot took the log's
    /// place, or only some of the commands were committed, or a change of members was under way
    /// when the leader lost its place. Such a change can be asked for again: what is done is not
    /// done twice.
    Unknown,
}

/// Why a request was not done. Nothing of it will happen later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// This node does not lead: ask `leader`, where one is known.
    NotLeader {
        /// The leader it follows.
        leader: Option<NodeId>,
    },
    /// Too much is under way: ask again later.
    Busy,
    /// The leader has committed nothing in its term yet: ask again soon. [Raft §8]
    NotReady,
    /// A proposal is empty: the caller's fault.
    Empty,
    /// A proposal is over `batch_bytes_max` or 2^20 commands: the caller's fault.
    TooLarge,
    /// What is applied here lies too far behind for a read: ask elsewhere.
    Lagging {
        /// How many entries.
        entries: u64,
    },
    /// Leadership is being handed over: ask again soon, or elsewhere.
    Transferring,
    /// The hand-over did not succeed in time, or its target is no other voter.
    TransferFailed,
    /// Another change of members is under way: ask again when it is complete.
    Changing,
    /// The change was cancelled.
    Cancelled,
    /// The change breaks a rule: the caller's fault.
    BadChange {
        /// The rule.
        rule: &'static str,
    },
    /// Another entry was committed in its place.
    Replaced,
    /// A snapshot of that index is not possible: not yet applied, or not newer than the last.
    BadIndex,
    /// The snapshot store could not keep it.
    Store,
}

/// What happens without being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// These entries are committed and durable here: apply them. They come in order, without a
    /// gap, each once in a life; no-op views too, so that indices can be followed.
    Committed(View),
    /// A piece of a snapshot to restore from: the state machine begins anew at offset 0 and goes
    /// on with the entry after `id.index`.
    Restore {
        /// Which snapshot.
        id: SnapshotId,
        /// Where the piece belongs.
        offset: u64,
        /// The piece.
        bytes: Bytes,
        /// True for the last piece.
        last: bool,
    },
    /// The members have changed, here and now: from the moment a configuration is in the log, it
    /// counts. It is told at the start too, and again once it is committed; it may be taken back
    /// until then.
    Members {
        /// The entry that it came with, or the snapshot.
        index: Index,
        /// The configuration.
        members: Arc<Members>,
        /// Whether it is known to be committed.
        committed: bool,
    },
    /// The role, term or leader has changed.
    Role {
        /// The role.
        role: RoleName,
        /// The term.
        term: Term,
        /// Whom this node follows; itself when it leads.
        leader: Option<NodeId>,
    },
}

/// What a node is to its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RoleName {
    /// Follows, or waits for a leader.
    Follower,
    /// Asks whether it would be elected.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

#[cfg(test)]
mod tests {
    use quorate_transport::crc32c;

    use super::*;

    #[test]
    fn contents_know_their_length_and_checksum_however_they_are_cut() {
        let all: Vec<u8> = (0..=255).collect();
        for cut in [1, 7, 100, 256] {
            let contents: Contents = all.chunks(cut).map(Bytes::copy_from_slice).collect();
            assert_eq!((contents.len, contents.checksum), (256, crc32c(&all)), "cut at {cut}");
            assert_eq!(contents.chunks().concat(), all);
        }
        assert_eq!((Contents::default().len, Contents::default().checksum), (0, crc32c(&[])));
    }
}
