//! What coordinators and participants tell each other.

use alloc::vec::Vec;

use bytes::Bytes;
use quorate_transport::{
    Attachment, Class, Decoder, Encoder, Incarnation, NodeId, Wire, WireError,
};
use serde::{Deserialize, Serialize};

use crate::config::NODES_MAX;
use crate::types::{TxnId, Vote};

/// A message about one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Prepare, and vote.
    Prepare {
        /// The transaction.
        txn: TxnId,
        /// Every transaction of this coordinator's life before this one is decided: a prepare for
        /// one of them is an echo.
        cut: u64,
        /// The latest life of the receiver that the coordinator had heard when the transaction
        /// began: if it is the present one, no former one can have voted.
        heard: Incarnation,
        /// All who take part, for those in doubt to ask.
        peers: Vec<NodeId>,
        /// What the application is to prepare.
        payload: Bytes,
    },
    /// The answer.
    Voted {
        /// The transaction.
        txn: TxnId,
        /// The vote.
        vote: Vote,
    },
    /// It is committed.
    Commit {
        /// The transaction.
        txn: TxnId,
    },
    /// It is aborted.
    Abort {
        /// The transaction.
        txn: TxnId,
    },
    /// The sender will never forget that it is committed before it has done its part.
    Ack {
        /// The transaction.
        txn: TxnId,
    },
    /// What became of it?
    Inquire {
        /// The transaction.
        txn: TxnId,
    },
    /// The sender cannot tell what became of it.
    Uncertain {
        /// The transaction.
        txn: TxnId,
    },
}

#[derive(Serialize, Deserialize)]
enum Head {
    Prepare { txn: TxnId, cut: u64, heard: Incarnation, peers: Vec<NodeId> },
    Voted { txn: TxnId, vote: Vote },
    Commit { txn: TxnId },
    Abort { txn: TxnId },
    Ack { txn: TxnId },
    Inquire { txn: TxnId },
    Uncertain { txn: TxnId },
}

impl Message {
    /// The transaction it is about.
    #[must_use]
    pub fn txn(&self) -> TxnId {
        match self {
            Self::Prepare { txn, .. }
            | Self::Voted { txn, .. }
            | Self::Commit { txn }
            | Self::Abort { txn }
            | Self::Ack { txn }
            | Self::Inquire { txn }
            | Self::Uncertain { txn } => *txn,
        }
    }
}

impl Wire for Message {
    fn class(&self) -> Class {
        if matches!(self, Self::Prepare { .. }) { Class::Bulk } else { Class::Urgent }
    }

    fn encode(&self, to: &mut Encoder<'_>) {
        match self {
            Self::Prepare { txn, cut, heard, peers, payload } => {
                let (txn, cut, heard, peers) = (*txn, *cut, *heard, peers.clone());
                to.value(&Head::Prepare { txn, cut, heard, peers });
                to.attach(Attachment::new(payload.clone()));
            }
            Self::Voted { txn, vote } => to.value(&Head::Voted { txn: *txn, vote: *vote }),
            Self::Commit { txn } => to.value(&Head::Commit { txn: *txn }),
            Self::Abort { txn } => to.value(&Head::Abort { txn: *txn }),
            Self::Ack { txn } => to.value(&Head::Ack { txn: *txn }),
            Self::Inquire { txn } => to.value(&Head::Inquire { txn: *txn }),
            Self::Uncertain { txn } => to.value(&Head::Uncertain { txn: *txn }),
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        Ok(match from.value("txn message")? {
            Head::Prepare { peers, .. } if peers.len() > NODES_MAX => {
                return Err(WireError::Rule { field: "peers", rule: "are at most 64" });
            }
            Head::Prepare { txn, cut, heard, peers } => {
                let payload = from.attachment()?.bytes().clone();
                Self::Prepare { txn, cut, heard, peers, payload }
            }
            Head::Voted { txn, vote } => Self::Voted { txn, vote },
            Head::Commit { txn } => Self::Commit { txn },
            Head::Abort { txn } => Self::Abort { txn },
            Head::Ack { txn } => Self::Ack { txn },
            Head::Inquire { txn } => Self::Inquire { txn },
            Head::Uncertain { txn } => Self::Uncertain { txn },
        })
    }
}
