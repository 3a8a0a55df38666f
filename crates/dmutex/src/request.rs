//! What the local application asks, is answered, and is told.

use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use quorate_transport::{NodeId, RequestId};

use crate::name::Name;

/// What the local application asks; each is answered exactly once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Let me enter. Answered when it is held, refused or given up.
    Acquire {
        /// What.
        name: Name,
        /// Give up after so long; never where `None`.
        patience: Option<Duration>,
    },
    /// I have left.
    Release {
        /// The request that acquired it.
        acquired: RequestId,
    },
    /// I no longer want to enter.
    Cancel {
        /// The request that still waits.
        waiting: RequestId,
    },
}

/// What a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is held until it is released; show the fence to whatever it protects.
    Held {
        /// Greater than that of every earlier holder.
        fence: Fence,
    },
    /// It was released.
    Released,
    /// It waits no more.
    Cancelled,
    /// Not done.
    Rejected(Rejection),
}

/// Why a request was not done. Nothing of it will happen later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Its patience ended before its turn came.
    TimedOut,
    /// The local application cancelled it.
    Cancelled,
    /// Too many resources or waiters: ask again later.
    Busy,
    /// No such request holds anything: it was never granted, or is released already.
    NotHeld,
    /// No such request waits: it is held already, or was answered otherwise.
    NotWaiting,
    /// The logical clock has come to its end: a broken peer drove it there.
    ClockExhausted,
}

/// Grows with every holder of one resource, over all nodes and restarts. A resource that refuses
/// every fence below one it has seen is safe from holders that are late or dead.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence {
    /// The stamp of the holder's request.
    pub stamp: u64,
    /// The holder's node: fences of one stamp are ordered by it.
    pub node: NodeId,
}

impl Fence {
    /// As one number, in the same order.
    #[must_use]
    pub fn to_u128(self) -> u128 {
        u128::from(self.stamp) << 64 | u128::from(self.node.0)
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.stamp, self.node)
    }
}

/// What happens without being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Every peer has answered this life's first question: it takes part from now on.
    Joined,
    /// Nothing can be entered while these peers say nothing; told again when they change, and
    /// empty once all are heard again. Whether they are dead cannot be known here.
    Silent {
        /// Those that were asked and say nothing.
        peers: Vec<NodeId>,
    },
}
