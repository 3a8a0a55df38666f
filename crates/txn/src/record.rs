//! What a node must remember.

use alloc::vec::Vec;

use bytes::Bytes;
use quorate_transport::{
    Attachment, Decoder, Encoder, Incarnation, NodeId, Ticket, Wire, WireError,
};
use serde::{Deserialize, Serialize};

use crate::config::NODES_MAX;
use crate::types::TxnId;

/// One durable fact. `Prepared`, `Committed`, `Refused` and `Decided` are forced: messages wait for
/// them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Participant: the yes vote, durable before it is sent.
    Prepared {
        /// The transaction.
        txn: TxnId,
        /// Its coordinator's cut, as the prepare had it.
        cut: u64,
        /// A former life may have voted as well.
        again: bool,
        /// All who take part.
        peers: Vec<NodeId>,
        /// What the application prepared.
        payload: Bytes,
    },
    /// Participant: the outcome, durable before it is acknowledged.
    Committed {
        /// The transaction.
        txn: TxnId,
        /// The ticket of the first such record: outcomes are carried out again in this order.
        order: Ticket,
    },
    /// Participant: the outcome. Nothing waits for it, but later votes come after it.
    Aborted {
        /// The transaction.
        txn: TxnId,
        /// As for a commit.
        order: Ticket,
    },
    /// Participant: it will never vote yes, durable before another is told so.
    Refused {
        /// The transaction.
        txn: TxnId,
    },
    /// Participant: the application is done with it.
    Finished {
        /// The transaction.
        txn: TxnId,
    },
    /// Coordinator: it is committed, durable before anybody is told.
    Decided {
        /// The transaction.
        txn: TxnId,
        /// Who voted yes and must acknowledge.
        voters: Vec<NodeId>,
    },
    /// Coordinator: all have acknowledged.
    Forgotten {
        /// The transaction.
        txn: TxnId,
    },
    /// Participant, at a checkpoint: what is closed of one coordinator's transactions.
    Closed {
        /// The coordinator.
        node: NodeId,
        /// Its life; earlier ones are all decided.
        incarnation: Incarnation,
        /// Transactions of that life before this are decided.
        cut: u64,
        /// Committed ones from there on.
        committed: Vec<u64>,
        /// Refused ones from there on.
        refused: Vec<u64>,
    },
}

#[derive(Serialize, Deserialize)]
enum Head {
    Prepared {
        txn: TxnId,
        cut: u64,
        again: bool,
        peers: Vec<NodeId>,
    },
    Committed {
        txn: TxnId,
        order: Ticket,
    },
    Aborted {
        txn: TxnId,
        order: Ticket,
    },
    Refused {
        txn: TxnId,
    },
    Finished {
        txn: TxnId,
    },
    Decided {
        txn: TxnId,
        voters: Vec<NodeId>,
    },
    Forgotten {
        txn: TxnId,
    },
    Closed {
        node: NodeId,
        incarnation: Incarnation,
        cut: u64,
        committed: Vec<u64>,
        refused: Vec<u64>,
    },
}

impl Wire for Record {
    fn encode(&self, to: &mut Encoder<'_>) {
        match self.clone() {
            Self::Prepared { txn, cut, again, peers, payload } => {
                to.value(&Head::Prepared { txn, cut, again, peers });
                to.attach(Attachment::new(payload));
            }
            Self::Committed { txn, order } => to.value(&Head::Committed { txn, order }),
            Self::Aborted { txn, order } => to.value(&Head::Aborted { txn, order }),
            Self::Refused { txn } => to.value(&Head::Refused { txn }),
            Self::Finished { txn } => to.value(&Head::Finished { txn }),
            Self::Decided { txn, voters } => to.value(&Head::Decided { txn, voters }),
            Self::Forgotten { txn } => to.value(&Head::Forgotten { txn }),
            Self::Closed { node, incarnation, cut, committed, refused } => {
                to.value(&Head::Closed { node, incarnation, cut, committed, refused });
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        Ok(match from.value("txn record")? {
            Head::Prepared { peers: nodes, .. } | Head::Decided { voters: nodes, .. }
                if nodes.len() > NODES_MAX =>
            {
                return Err(WireError::Rule { field: "nodes", rule: "are at most 64" });
            }
            Head::Prepared { txn, cut, again, peers } => {
                let payload = from.attachment()?.bytes().clone();
                Self::Prepared { txn, cut, again, peers, payload }
            }
            Head::Committed { txn, order } => Self::Committed { txn, order },
            Head::Aborted { txn, order } => Self::Aborted { txn, order },
            Head::Refused { txn } => Self::Refused { txn },
            Head::Finished { txn } => Self::Finished { txn },
            Head::Decided { txn, voters } => Self::Decided { txn, voters },
            Head::Forgotten { txn } => Self::Forgotten { txn },
            Head::Closed { node, incarnation, cut, committed, refused } => {
                Self::Closed { node, incarnation, cut, committed, refused }
            }
        })
    }
}
