//! Names of transactions, votes, and where a participant stands.

use core::fmt;

use quorate_transport::{Incarnation, NodeId};
use serde::{Deserialize, Serialize};

/// A transaction: unique for ever, because an incarnation never comes again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TxnId {
    /// Its coordinator.
    pub node: NodeId,
    /// The life of the coordinator that began it.
    pub incarnation: Incarnation,
    /// Counts the transactions of that life, from 1.
    pub counter: u64,
}

impl fmt::Display for TxnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.node, self.incarnation, self.counter)
    }
}

impl fmt::Debug for TxnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a participant says when it is asked to prepare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Vote {
    /// It can commit and can abort, whatever happens to it.
    Yes,
    /// It cannot commit, and has already let go.
    No,
    /// It changed nothing: the outcome is no concern of its own, and it has already let go.
    ReadOnly,
}

/// Where a participant stands in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Asked to prepare; the application has not voted (INIT).
    Voting,
    /// Voted yes and bound by it: in doubt until it hears the outcome (READY).
    Prepared,
    /// Committed; the application has not said that it is done.
    Committed,
    /// Aborted; the application has not said that it is done.
    Aborted,
}
