//! Connections between processes: one TCP connection a class, from each node to each of its peers.
//!
//! Every node dials its peers for its own sending and reads on what it accepted; a dialer reads
//! nothing but the answer to its handshake and to its pings. So a connection has one writer and
//! one reader, and no two nodes ever argue about which of two connections stays. `wire` has the
//! bytes, `peer` what is known of a peer, `dial` the sending half, `accept` the receiving half.
//!
//! TLS belongs between `dial::connect` or `accept::serve` and what they hand on: the halves of
//! the stream that `dial::send` and `accept::receive` take are any `AsyncWrite` and `AsyncRead`.

mod accept;
mod config;
mod dial;
mod outbound;
mod peer;
mod shared;
mod stats;
pub mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use crate::frame::Frame;
use crate::ids::{NodeId, Peer};
use crate::link::{Closed, Incoming, SendError, Transport};
use crate::machine::LinkState;
use crate::shell::is_within;
use crate::wire::Class;

pub use config::TcpConfig;
pub use stats::{PeerStats, RefusalCounts, TcpStats};
pub use wire::Refusal;

use outbound::NotTaken;
use shared::{Phase, Shared};

/// Why a transport did not start: the operator's fault, or the machine's. Nothing was started.
#[derive(Debug, Error)]
pub enum TcpError {
    /// A field of the configuration breaks a rule.
    #[error("{field}: {rule}")]
    Config {
        /// The field.
        field: &'static str,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// The address cannot be listened on. Another attempt may succeed.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// It was not called from within a tokio runtime with I/O and time.
    #[error("there is no tokio runtime here")]
    NoRuntime,
}

/// One node's connections over TCP.
///
/// Its tasks run on the runtime it was made on, until [`close`](Transport::close) or drop.
pub struct TcpTransport {
    shared: Arc<Shared>,
    local_addr: SocketAddr,
}

impl TcpTransport {
    /// Listens, and begins to dial every peer.
    ///
    /// # Errors
    /// [`TcpError`]: a field breaks its rule, the address is taken, or there is no runtime.
    pub fn bind(config: TcpConfig) -> Result<Self, TcpError> {
        config.validate()?;
        Handle::try_current().map_err(|_| TcpError::NoRuntime)?;
        let address = config.listen;
        let listen = || {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let local = listener.local_addr()?;
            Ok((TcpListener::from_std(listener)?, local))
        };
        let (listener, local_addr) =
            listen().map_err(|source| TcpError::Listen { address, source })?;
        let peers = config.peers.clone();
        let shared = Arc::new(Shared::new(config));
        shared.spawn(accept::run(Arc::clone(&shared), listener));
        let transport = Self { shared, local_addr };
        for (node, address) in peers {
            transport.set_peer(node, address);
        }
        Ok(transport)
    }

    /// Where it listens: with the port that the system chose, where 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Who this transport is.
    #[must_use]
    pub fn me(&self) -> Peer {
        self.shared.config.me
    }

    /// Adds a peer, or changes where it is dialed next (`host:port`); a connection that stands
    /// is kept. Ignored once closed, and for this node itself.
    pub fn set_peer(&self, node: NodeId, address: impl Into<String>) {
        if node == self.me().node || self.shared.phase() != Phase::Open {
            return;
        }
        if let Some(peer) = self.shared.set_peer(node, address.into()) {
            for class in Class::ALL {
                let (shared, peer) = (Arc::clone(&self.shared), Arc::clone(&peer));
                self.shared.spawn(dial::run(shared, peer, class));
            }
        }
    }

    /// Forgets a peer: closes its connections, refuses it from now on.
    pub fn remove_peer(&self, node: NodeId) {
        self.shared.remove_peer(node);
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> TcpStats {
        let peers = self.shared.peers();
        let peers: BTreeMap<NodeId, PeerStats> =
            peers.iter().map(|peer| (peer.node, peer.stats())).collect();
        self.shared.stats(peers)
    }
}

impl fmt::Debug for TcpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpTransport")
            .field("me", &self.me())
            .field("local_addr", &self.local_addr)
            .finish_non_exhaustive()
    }
}

impl Drop for TcpTransport {
    fn drop(&mut self) {
        self.shared.enter(Phase::Closed);
        self.shared.inbox.close();
    }
}

#[async_trait]
impl Transport for TcpTransport {
    fn try_send(&self, to: NodeId, class: Class, frame: Frame) -> Result<(), SendError> {
        if self.shared.phase() != Phase::Open {
            return Err(SendError::Closed);
        }
        let peer = self.shared.peer(to).ok_or(SendError::Unknown)?;
        if !is_within(&frame, self.shared.config.frame_bytes_max) {
            return Err(SendError::TooLarge);
        }
        match peer.outbound(class).push(frame) {
            Ok(()) => Ok(()),
            Err(NotTaken::Down) => Err(SendError::Down),
            Err(NotTaken::Closed) => Err(SendError::Closed),
            Err(NotTaken::Full { first }) => {
                peer.counters.refused_full();
                if first {
                    self.shared.inbox.link(to, LinkState::Full);
                }
                Err(SendError::Full)
            }
        }
    }

    async fn recv_many(&self, into: &mut Vec<Incoming>, max: usize) -> Result<usize, Closed> {
        self.shared.inbox.recv_many(into, max).await
    }

    async fn close(&self) {
        self.shared.close().await;
    }
}
