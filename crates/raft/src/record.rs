//! What a node must remember.

use quorate_transport::{Decoder, Encoder, NodeId, SnapshotId, Wire, WireError};
use serde::{Deserialize, Serialize};

use crate::batch::{View, Views};
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name: the last entry it covers.
    pub id: SnapshotId,
    /// Its length in bytes.
    pub len: u64,
    /// The CRC-32C of its bytes.
    pub checksum: u32,
}

#[derive(Serialize, Deserialize)]
enum Head {
    Vote { term: Term, vote: Option<NodeId> },
    Append { prev_term: Term },
    Snapshot { term: Term, vote: Option<NodeId>, index: u64, of: u64, len: u64, checksum: u32 },
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
            Self::Snapshot { term, vote, snapshot } => to.value(&Head::Snapshot {
                term: *term,
                vote: *vote,
                index: snapshot.id.index,
                of: snapshot.id.term,
                len: snapshot.len,
                checksum: snapshot.checksum,
            }),
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
            Head::Snapshot { term, vote, index, of, len, checksum } => {
                if index == 0 || index > NUMBER_MAX || of > NUMBER_MAX {
                    return rule("snapshot", "covers an entry up to 2^62");
                }
                let id = SnapshotId { index, term: of };
                Ok(Self::Snapshot { term, vote, snapshot: Snapshot { id, len, checksum } })
            }
        }
    }
}
