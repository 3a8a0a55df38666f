//! Who belongs to a cluster, and where.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;

use quorate_transport::{ClusterId, NodeId};

/// A cluster as all of its nodes know it: a number and its members' addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    id: ClusterId,
    members: BTreeMap<NodeId, String>,
}

impl Cluster {
    /// A cluster without members. Nodes of another number are refused at the first handshake.
    #[must_use]
    pub fn new(id: ClusterId) -> Self {
        Self { id, members: BTreeMap::new() }
    }

    /// Adds a member, or moves it: `address` is where it listens for the others, as `host:port`.
    #[must_use]
    pub fn with(mut self, node: NodeId, address: impl Into<String>) -> Self {
        self.members.insert(node, address.into());
        self
    }

    /// Nodes 1 to `count` on free ports of this computer, for tests, examples and demonstrations.
    ///
    /// # Errors
    /// No more ports are free.
    pub fn on_loopback(id: ClusterId, count: u64) -> io::Result<Self> {
        // All are held at once, so that none is found twice.
        let free = |node| Ok((NodeId(node), TcpListener::bind("127.0.0.1:0")?));
        let listeners: Vec<_> = (1..=count).map(free).collect::<io::Result<_>>()?;
        let address = |(node, listener): &(NodeId, TcpListener)| {
            Ok((*node, listener.local_addr()?.to_string()))
        };
        Ok(Self { id, members: listeners.iter().map(address).collect::<io::Result<_>>()? })
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> ClusterId {
        self.id
    }

    /// Every member and its address.
    #[must_use]
    pub fn members(&self) -> &BTreeMap<NodeId, String> {
        &self.members
    }

    /// The members in order of their ids.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members.keys().copied()
    }

    /// All members but one.
    pub fn others(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes().filter(move |other| *other != node)
    }
}
