//! What the local application asks, is answered, and is told.

use alloc::vec::Vec;

use bytes::Bytes;
use quorate_transport::NodeId;
use thiserror::Error;

use crate::types::{TxnId, Vote};

/// What the application asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// As coordinator: commit this everywhere or nowhere.
    Begin {
        /// Who takes part, and what each is to prepare. This node may be among them.
        parts: Vec<(NodeId, Bytes)>,
    },
    /// As participant: the answer to [`Event::Prepare`].
    Vote {
        /// The transaction.
        txn: TxnId,
        /// After yes it must be able to commit and to abort, in this life and in later ones.
        vote: Vote,
    },
    /// As participant: what [`Event::Commit`] or [`Event::Abort`] asked for has been done, and is
    /// durable where it must be.
    Done {
        /// The transaction.
        txn: TxnId,
    },
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The transaction is committed, for ever.
    Committed {
        /// The transaction.
        txn: TxnId,
    },
    /// The transaction is aborted, for ever.
    Aborted {
        /// The transaction.
        txn: TxnId,
        /// Why.
        reason: AbortReason,
    },
    /// The vote or the report is taken.
    Taken,
    /// Nothing was done.
    Rejected(Rejection),
}

/// Why a transaction was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortReason {
    /// This node voted no.
    No(NodeId),
    /// A vote did not come in time.
    Timeout,
}

/// Why nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Rejection {
    /// Too many transactions are open here: try again later.
    #[error("open_max: {0} transactions are open")]
    Open(usize),
    /// An old undecided transaction holds up newer ones: try again later.
    #[error("window_max: {0} transactions since the oldest undecided one")]
    Window(usize),
    /// A transaction without participants: the caller's fault.
    #[error("parts: hold a participant")]
    Empty,
    /// A participant is named twice: the caller's fault.
    #[error("parts: {0} is named twice")]
    Twice(NodeId),
    /// A participant is no node of the group: the caller's fault.
    #[error("parts: {0} is no node of the group")]
    Stranger(NodeId),
    /// A payload is too large: the caller's fault.
    #[error("payload_bytes_max: a payload of {0} bytes")]
    Payload(usize),
    /// No vote on this transaction is awaited: it was decided meanwhile, or voted on before.
    #[error("no vote on {0} is awaited")]
    NotVoting(TxnId),
    /// No outcome of this transaction is being carried out here.
    #[error("no outcome of {0} is being carried out")]
    NotDecided(TxnId),
}

/// What it is told unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Prepare this, and ask for [`Request::Vote`].
    Prepare {
        /// The transaction.
        txn: TxnId,
        /// What to prepare.
        payload: Bytes,
    },
    /// After a restart: this was voted yes on in a former life; take its locks again before
    /// anything else. The outcome follows.
    Recovered {
        /// The transaction.
        txn: TxnId,
        /// What was prepared.
        payload: Bytes,
    },
    /// Carry it out, let go, and ask for [`Request::Done`]. Comes again after a restart until then.
    Commit {
        /// The transaction.
        txn: TxnId,
    },
    /// Undo it, let go, and ask for [`Request::Done`]. May come again after a restart until then.
    Abort {
        /// The transaction.
        txn: TxnId,
    },
    /// In doubt, and all who could know were asked in vain: its locks stay held until one of them
    /// is back. Nothing is guessed.
    Blocked {
        /// The transaction.
        txn: TxnId,
        /// All who take part, besides the coordinator.
        peers: Vec<NodeId>,
    },
}
