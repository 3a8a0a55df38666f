//! One resource as this node sees it.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_transport::{Incarnation, NodeId, RequestId, Time};

/// A resource that this node holds or wants. Of others it knows nothing: whoever asks for them is
/// answered at once.
#[derive(Clone, Debug)]
pub(crate) struct Lock {
    pub(crate) phase: Phase,
    /// Peers whose turn comes after this node's; of each its latest request.
    pub(crate) deferred: BTreeMap<NodeId, (Incarnation, u64)>,
    /// Further requests of this node, in order.
    pub(crate) waiters: VecDeque<Waiter>,
}

#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// This life has not joined yet: the waiters wait.
    Joining,
    Wanted(Wanted),
    Held {
        id: RequestId,
        stamp: u64,
    },
}

/// A request under way. [Ricart and Agrawala 1981, §2]
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) id: RequestId,
    /// Drawn when the request was made, and never changed: comparing with the running clock would
    /// let two nodes permit each other.
    pub(crate) stamp: u64,
    /// Peers that have not permitted it.
    pub(crate) missing: BTreeSet<NodeId>,
    pub(crate) since: Time,
    pub(crate) retry_at: Time,
    pub(crate) tries: u32,
    pub(crate) expires: Option<Time>,
}

#[derive(Clone, Debug)]
pub(crate) struct Waiter {
    pub(crate) id: RequestId,
    pub(crate) expires: Option<Time>,
}

impl Lock {
    pub(crate) fn joining() -> Self {
        Self { phase: Phase::Joining, deferred: BTreeMap::new(), waiters: VecDeque::new() }
    }

    /// True when this node's turn comes before a request of `(stamp, node)`: the holder's always
    /// does, a waiting one's by its frozen stamp.
    pub(crate) fn precedes(&self, own: NodeId, stamp: u64, node: NodeId) -> bool {
        match &self.phase {
            Phase::Held { .. } => true,
            Phase::Wanted(wanted) => (wanted.stamp, own) < (stamp, node),
            Phase::Joining => false,
        }
    }

    /// When something of it is due.
    pub(crate) fn deadline(&self) -> Time {
        let expiries = self.waiters.iter().filter_map(|waiter| waiter.expires);
        let soonest = expiries.min().unwrap_or(Time::MAX);
        match &self.phase {
            Phase::Wanted(wanted) => {
                soonest.min(wanted.retry_at).min(wanted.expires.unwrap_or(Time::MAX))
            }
            _ => soonest,
        }
    }
}
