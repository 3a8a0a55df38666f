//! What a node must remember.

use alloc::sync::Arc;

use quorate_transport::{Decoder, Encoder, NodeId, SnapshotId, Wire, WireError};
use serde::{Deserialize, Serialize};

use crate::batch::{View, Views};
use crate::members::Members;
use crate::types::{NUMBER_MAX, Term};

/// One durable fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Term and vote, in one record: a crash never parts them.
    Vote {
        /// The term.
        term: Term,
        /// For whom this node voted in it.
        vote: Option<NodeId>,
    },
    /// Entries. Where they differ from what the journal said before, they replace it from the
    /// first difference on.
    Append {
        /// The term of the entry before the first.
        prev_term: Term,
        /// The entries.
        views: Views,
    },
    /// The snapshot store holds this; what it covers need not be replayed.
    Snapshot {
        /// Term and vote again, so that this record alone begins a journal.
        term: Term,
        /// The vote.
        vote: Option<NodeId>,
        /// What it covers.
        snapshot: Snapshot,
    },
}

/// A snapshot that is durable in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name: the last entry it covers.
    pub id: SnapshotId,
    /// Its length in bytes.
    pub len: u64,
    /// The CRC-32C of its bytes.
    pub checksum: u32,
    /// The group's configuration as of that entry.
    pub members: Arc<Members>,
}

/// A snapshot as it is written.
#[derive(Serialize, Deserialize)]
pub(crate) struct SnapshotHead {
    index: u64,
    term: u64,
    len: u64,
    checksum: u32,
    members: Members,
}

impl Snapshot {
    pub(crate) fn head(&self) -> SnapshotHead {
        let SnapshotId { index, term } = self.id;
        let (len, checksum, members) = (self.len, self.checksum, (*self.members).clone());
        SnapshotHead { index, term, len, checksum, members }
    }
}

impl SnapshotHead {
    /// Checks its rules.
    pub(crate) fn read(self) -> Result<Snapshot, WireError> {
        let Self { index, term, len, checksum, members } = self;
        let rule = |field, rule| WireError::Rule { field, rule };
        if index == 0 || index > NUMBER_MAX || term > NUMBER_MAX {
            return Err(rule("snapshot", "covers an entry up to 2^62"));
        }
        members.validate().map_err(|broken| rule("members", broken))?;
        let id = SnapshotId { index, term };
        Ok(Snapshot { id, len, checksum, members: Arc::new(members) })
    }
}

#[derive(Serialize, Deserialize)]
enum Head {
    Vote { term: Term, vote: Option<NodeId> },
    Append { prev_term: Term },
    Snapshot { term: Term, vote: Option<NodeId>, snapshot: SnapshotHead },
}

impl Record {
    /// The record of one view.
    pub(crate) fn append(prev_term: Term, view: View) -> Self {
        Self::Append { prev_term, views: Views::One(view) }
    }
}

impl Wire for Record {
    fn encode(&self, to: &mut Encoder<'_>) {
        match self {
            Self::Vote { term, vote } => to.value(&Head::Vote { term: *term, vote: *vote }),
            Self::Append { prev_term, views } => {
                to.value(&Head::Append { prev_term: *prev_term });
                views.encode(to);
            }
            Self::Snapshot { term, vote, snapshot } => {
                let (term, vote, snapshot) = (*term, *vote, snapshot.head());
                to.value(&Head::Snapshot { term, vote, snapshot });
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let rule = |field, rule| Err(WireError::Rule { field, rule });
        match from.value("raft record")? {
            Head::Vote { term, .. } | Head::Snapshot { term, .. } if term.0 > NUMBER_MAX => {
                rule("term", "is at most 2^62")
            }
            Head::Vote { term, vote } => Ok(Self::Vote { term, vote }),
            Head::Append { prev_term } => {
                let views = Views::decode(from)?;
                if views == Views::None {
                    return rule("views", "hold an entry");
                }
                Ok(Self::Append { prev_term, views })
            }
            Head::Snapshot { term, vote, snapshot } => {
                Ok(Self::Snapshot { term, vote, snapshot: snapshot.read()? })
            }
        }
    }
}
