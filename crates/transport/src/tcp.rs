//! TCP: one connection a class from each node to each other, frames length-delimited.
//!
//! A node dials its peers and only writes to what it dialed; what it accepts it only reads. So a
//! snapshot under way shares no queue, no socket and no lock with a heartbeat. TLS, when it comes,
//! wraps the stream between connect or accept and the handshake; nothing else would change.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::string::String;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::vec::Vec;

use alloc::boxed::Box;

use async_trait::async_trait;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::frame::{FRAME_BYTES_MAX, Frame};
use crate::ids::{ClusterId, Incarnation, NodeId, Peer};
use crate::link::{Closed, Incoming, SendError, Transport};
use crate::machine::LinkState;
use crate::wire::Class;

mod accept;
mod dial;
mod hello;
mod outgoing;

pub use hello::Refusal;
use outgoing::Outgoing;

/// How a node takes part in the network.
#[derive(Clone, Debug)]
pub struct TcpConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Nodes of other clusters are refused.
    pub cluster: ClusterId,
    /// This node in this life.
    pub me: Peer,
    /// Where each peer listens, as `host:port`.
    pub peers: BTreeMap<NodeId, String>,
    /// The longest frame, in bytes; a longer one closes its connection. Default 64 MiB.
    pub frame_bytes_max: usize,
    /// Bytes that may wait for one peer and class; past it the newest frame is refused.
    /// Default 32 MiB.
    pub queue_bytes_max: usize,
    /// Bytes of bulk and snapshot frames that may wait to be received; past it sockets are not
    /// read. Default 64 MiB.
    pub inbox_bytes_max: usize,
    /// Connections that may be in their handshake at a time. Default 64.
    pub handshakes_max: usize,
    /// The longest a handshake may take. Default 2 s.
    pub handshake_timeout: Duration,
    /// The longest a peer may read nothing while something is written to it. Default 10 s.
    pub write_timeout: Duration,
    /// The first wait before dialing again; it doubles, and each is jittered. Default 20 ms.
    pub backoff_min: Duration,
    /// The longest such wait. Default 1 s.
    pub backoff_max: Duration,
    /// Of the jitter.
    pub seed: u64,
}

impl TcpConfig {
    /// The defaults.
    #[must_use]
    pub fn new(listen: SocketAddr, cluster: ClusterId, me: Peer) -> Self {
        Self {
            listen,
            cluster,
            me,
            peers: BTreeMap::new(),
            frame_bytes_max: FRAME_BYTES_MAX,
            queue_bytes_max: 32 << 20,
            inbox_bytes_max: 64 << 20,
            handshakes_max: 64,
            handshake_timeout: Duration::from_secs(2),
            write_timeout: Duration::from_secs(10),
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_secs(1),
            seed: 0,
        }
    }

    fn validate(&self) -> Result<(), TcpError> {
        let rules = [
            ("peers", "does not hold this node", !self.peers.contains_key(&self.me.node)),
            (
                "frame_bytes_max",
                "is between 1 KiB and 1 GiB",
                (1 << 10..=1 << 30).contains(&self.frame_bytes_max),
            ),
            (
                "queue_bytes_max",
                "holds a frame",
                self.queue_bytes_max >= self.frame_bytes_max.min(1 << 20),
            ),
            (
                "inbox_bytes_max",
                "holds a KiB, and at most 1 TiB",
                (1 << 10..=1 << 40).contains(&self.inbox_bytes_max),
            ),
            ("handshakes_max", "is at least 1", self.handshakes_max >= 1),
            ("backoff_max", "is not below backoff_min", self.backoff_max >= self.backoff_min),
            ("backoff_min", "is at least 1 ms", self.backoff_min >= Duration::from_millis(1)),
        ];
        match rules.into_iter().find(|(_, _, kept)| !kept) {
            Some((field, rule, _)) => Err(TcpError::Config { field, rule }),
            None => Ok(()),
        }
    }
}

/// Why a node cannot take part. Nothing was started.
#[derive(Debug, Error)]
pub enum TcpError {
    /// The configuration breaks a rule: the caller's fault.
    #[error("{field}: {rule}")]
    Config {
        /// The field.
        field: &'static str,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// The address cannot be listened on: taken, most likely.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
}

/// What a transport has seen since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpStats {
    /// Frames handed to a socket.
    pub sent: u64,
    /// Frames received.
    pub received: u64,
    /// Frames refused because a queue was full.
    pub refused_full: u64,
    /// Connections closed for a frame over the cap, for garbage or a wrong checksum.
    pub malformed: u64,
    /// Connections closed because the other side did not read.
    pub too_slow: u64,
    /// Connections turned away because too many were in their handshake.
    pub crowded: u64,
    /// Handshakes that this node refused, by reason.
    pub refused: BTreeMap<Refusal, u64>,
    /// Handshakes in which this node was refused, by peer and reason.
    pub refused_by: BTreeMap<(NodeId, Refusal), u64>,
}

/// A node's end of a TCP network.
#[derive(Debug)]
pub struct TcpTransport {
    shared: Arc<Shared>,
    address: SocketAddr,
    inbox: tokio::sync::Mutex<Inbox>,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

#[derive(Debug)]
struct Inbox {
    urgent: mpsc::Receiver<Incoming>,
    bulk: mpsc::Receiver<(Incoming, tokio::sync::OwnedSemaphorePermit)>,
}

/// What all tasks of a transport share.
#[derive(Debug)]
struct Shared {
    config: TcpConfig,
    addresses: Mutex<BTreeMap<NodeId, String>>,
    outgoing: BTreeMap<(NodeId, Class), Outgoing>,
    peers: Mutex<BTreeMap<NodeId, PeerState>>,
    urgent: mpsc::Sender<Incoming>,
    bulk: mpsc::Sender<(Incoming, tokio::sync::OwnedSemaphorePermit)>,
    /// KiB of bulk that may still be taken in.
    budget: Arc<Semaphore>,
    stats: Mutex<TcpStats>,
    closed: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct PeerState {
    incarnation: Incarnation,
    up: bool,
    /// Makes the dialers try at once.
    nudge: Arc<Notify>,
    /// Ends the connections that the peer's earlier lives made, by class.
    incoming: BTreeMap<Class, Arc<Notify>>,
}

const INBOX_FRAMES_MAX: usize = 8192;

impl TcpTransport {
    /// Listens, and begins to dial the peers. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`TcpError`]: a field breaks a rule, or the address cannot be listened on.
    pub async fn bind(config: TcpConfig) -> Result<Self, TcpError> {
        config.validate()?;
        let address = config.listen;
        let failed = |source| TcpError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (urgent, urgent_in) = mpsc::channel(INBOX_FRAMES_MAX);
        let (bulk, bulk_in) = mpsc::channel(INBOX_FRAMES_MAX);
        let names = config.peers.keys().flat_map(|peer| Class::ALL.map(|class| (*peer, class)));
        let outgoing = names.map(|name| (name, Outgoing::new(config.queue_bytes_max)));
        let shared = Arc::new(Shared {
            addresses: Mutex::new(config.peers.clone()),
            outgoing: outgoing.collect(),
            peers: Mutex::new(config.peers.keys().map(|p| (*p, PeerState::default())).collect()),
            urgent,
            bulk,
            budget: Arc::new(Semaphore::new(config.inbox_bytes_max >> 10)),
            stats: Mutex::default(),
            closed: watch::Sender::new(false),
            config,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept::run(Arc::clone(&shared), listener));
        for (peer, class) in shared.outgoing.keys().copied() {
            tasks.spawn(dial::run(Arc::clone(&shared), peer, class));
        }
        let inbox = tokio::sync::Mutex::new(Inbox { urgent: urgent_in, bulk: bulk_in });
        Ok(Self { shared, address, inbox, tasks: tokio::sync::Mutex::new(tasks) })
    }

    /// Where it listens, the port found.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The peer listens elsewhere from now on; no effect for one that was not configured.
    pub fn set_peer(&self, peer: NodeId, address: String) {
        if let Some(known) = lock(&self.shared.addresses).get_mut(&peer) {
            *known = address;
        }
    }

    /// What it has seen.
    #[must_use]
    pub fn stats(&self) -> TcpStats {
        lock(&self.shared.stats).clone()
    }

    /// True while the urgent connection to the peer stands.
    #[must_use]
    pub fn is_up(&self, peer: NodeId) -> bool {
        lock(&self.shared.peers).get(&peer).is_some_and(|state| state.up)
    }
}

#[async_trait]
impl Transport for TcpTransport {
    fn try_send(&self, to: NodeId, class: Class, frame: Frame) -> Result<(), SendError> {
        if *self.shared.closed.borrow() {
            return Err(SendError::Closed);
        }
        let queue = self.shared.outgoing.get(&(to, class)).ok_or(SendError::Unknown)?;
        if frame.flat_len() > self.shared.config.frame_bytes_max {
            return Err(SendError::TooLarge);
        }
        match queue.push(frame) {
            Err(SendError::Full) => {
                lock(&self.shared.stats).refused_full += 1;
                if queue.begins_full() {
                    self.shared.link(to, LinkState::Full);
                }
                Err(SendError::Full)
            }
            result => result,
        }
    }

    async fn recv_many(&self, into: &mut Vec<Incoming>, max: usize) -> Result<usize, Closed> {
        let mut inbox = self.inbox.lock().await;
        let inbox = &mut *inbox;
        let mut closed = self.shared.closed.subscribe();
        let mut count = 0;
        let take = |inbox: &mut Inbox, into: &mut Vec<Incoming>, count: &mut usize| {
            while *count < max {
                let next = inbox.urgent.try_recv();
                let next = next.or_else(|_| inbox.bulk.try_recv().map(|(incoming, _)| incoming));
                let Ok(incoming) = next else { break };
                into.push(incoming);
                *count += 1;
            }
        };
        take(inbox, into, &mut count);
        if count > 0 {
            return Ok(count);
        }
        tokio::select! {
            biased;
            Some(incoming) = inbox.urgent.recv() => into.push(incoming),
            Some((incoming, _)) = inbox.bulk.recv() => into.push(incoming),
            _ = closed.wait_for(|closed| *closed) => return Err(Closed),
        }
        count = 1;
        take(inbox, into, &mut count);
        Ok(count)
    }

    async fn close(&self) {
        self.shared.closed.send_replace(true);
        self.shared.outgoing.values().for_each(Outgoing::close);
        let mut tasks = self.tasks.lock().await;
        let flushed = async { while tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_millis(500), flushed).await;
        tasks.shutdown().await;
    }
}

impl Shared {
    /// Tells the node of a link, each state once.
    fn link(&self, peer: NodeId, state: LinkState) {
        if state != LinkState::Full {
            let mut peers = lock(&self.peers);
            let Some(known) = peers.get_mut(&peer) else { return };
            if std::mem::replace(&mut known.up, state == LinkState::Up) == (state == LinkState::Up)
            {
                return;
            }
        }
        // A full inbox means a node that is far behind: hints can be missed.
        let _ = self.urgent.try_send(Incoming::Link { peer, state });
    }

    fn count(&self, change: impl FnOnce(&mut TcpStats)) {
        change(&mut lock(&self.stats));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
