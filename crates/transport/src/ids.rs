//! Identities: nodes and their lives, protocols and groups, tickets and requests.

use core::fmt;

use serde::{Deserialize, Serialize};

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

identity! {
    /// One member of a cluster, for as long as its data lives.
    NodeId(u64), "n"
}
identity! {
    /// Which cluster a node belongs to; nodes of different clusters refuse each other.
    ClusterId(u64), "cluster-"
}
identity! {
    /// One life of a node: greater at every start, so that words of a former life are recognised.
    /// The upper half says when its data directory was made, so that an empty directory under an
    /// old name is recognised too; the lower half counts the lives that began in it.
    Incarnation(u64), "i"
}
identity! {
    /// Which protocol a frame or a record belongs to.
    ProtocolId(u16), "p"
}
identity! {
    /// Which instance of a protocol, where one node runs many.
    GroupId(u64), "g"
}
identity! {
    /// The place of one record in its machine's own sequence; 0 stands before the first.
    ///
    /// Tickets are increasing within one machine and survive a restart.
    Ticket(u64), "t"
}
identity! {
    /// One request of the local application to one machine, numbered consecutively by the host.
    RequestId(u64), "r"
}

impl Incarnation {
    /// A life by the number `life`, in a data directory of this birth.
    #[must_use]
    pub const fn of(birth: u32, life: u32) -> Self {
        Self((birth as u64) << 32 | life as u64)
    }

    /// Which data directory it lives in; 0 where that is not known.
    #[must_use]
    pub const fn birth(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// How many lives have begun there, with this one.
    #[must_use]
    pub const fn life(self) -> u32 {
        self.0 as u32
    }
}

impl Ticket {
    /// Before every record: what waits for this waits for nothing.
    pub const ZERO: Self = Self(0);

    /// The ticket after this one.
    ///
    /// # Panics
    /// After 2^64 records.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// One life of one node: who a message is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Peer {
    /// The node.
    pub node: NodeId,
    /// Which of its lives.
    pub incarnation: Incarnation,
}

/// Which machine of a node a frame or a record is for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Key {
    /// The protocol.
    pub protocol: ProtocolId,
    /// The instance of it.
    pub group: GroupId,
}

impl Key {
    /// The machine of `protocol` in `group`.
    #[must_use]
    pub const fn new(protocol: u16, group: u64) -> Self {
        Self { protocol: ProtocolId(protocol), group: GroupId(group) }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.protocol, self.group)
    }
}

/// Consecutive requests that share one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestRange {
    /// The first of them.
    pub first: RequestId,
    /// The last of them, not before `first`.
    pub last: RequestId,
}

impl RequestRange {
    /// All ids from `first` to `last`, both included.
    #[must_use]
    pub fn new(first: RequestId, last: RequestId) -> Self {
        assert!(first <= last, "a range of requests runs forwards");
        Self { first, last }
    }

    /// How many requests it holds: at least one.
    #[must_use]
    pub fn count(self) -> u64 {
        self.last.0 - self.first.0 + 1
    }

    /// Each id in order.
    pub fn iter(self) -> impl Iterator<Item = RequestId> {
        (self.first.0..=self.last.0).map(RequestId)
    }
}

impl From<RequestId> for RequestRange {
    fn from(id: RequestId) -> Self {
        Self { first: id, last: id }
    }
}
