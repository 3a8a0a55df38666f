//! One node with all its machines, over one transport and one journal.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quorate_detector::Heartbeats;
use quorate_dmutex::RicartAgrawala;
use quorate_driver::{
    Driver, DriverError, Gone, Handle, Identity, IdentityError, Probe, Setup, StartError, boot_time,
};
use quorate_election::{Bully, QuorumLease, bully};
use quorate_smr::{Smr, StateMachine};
use quorate_transport::tcp::{TcpConfig, TcpError, TcpStats, TcpTransport};
use quorate_transport::{Incarnation, Key, NodeId, Peer};
use quorate_txn::TwoPhaseCommit;
use quorate_wal::{Disk, RealDisk, SnapshotStore, Wal};
use thiserror::Error;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

use crate::chronicle::{self, Chronicle};
use crate::cluster::Cluster;
use crate::group::track;
use crate::lifecycle::{Lifecycle, Standing};
use crate::resource::{Resource, participate};

/// Under which protocol numbers the machines of a node talk and write their journal.
pub mod keys {
    use quorate_transport::Key;

    /// The replicated state machine.
    pub const REPLICA: Key = Key::new(2, 0);
    /// The failure detector.
    pub const DETECTOR: Key = Key::new(3, 0);
    /// The leader by quorum lease.
    pub const LEASE: Key = Key::new(4, 0);
    /// The leader by the bully algorithm.
    pub const BULLY: Key = Key::new(5, 0);
    /// The mutual exclusion.
    pub const MUTEX: Key = Key::new(6, 0);
    /// The transactions.
    pub const TRANSACTIONS: Key = Key::new(7, 0);
    /// What happened before what.
    pub const CHRONICLE: Key = Key::new(8, 0);
}

/// Why a node does not start. Nothing runs; its directory is unchanged but for a new life and a
/// repaired tail of the journal.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The cluster has no such member: the caller's fault.
    #[error("the cluster has no member {0}")]
    Stranger(NodeId),
    /// An address cannot be parsed: the caller's fault.
    #[error("member {0}: `{1}` is no address to listen on")]
    Address(NodeId, String),
    /// The directory is another node's, or damaged.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A directory cannot be made or opened.
    #[error("cannot open {}: {source}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The journal, the snapshots or a machine's configuration.
    #[error("data directory {}: {source}", path.display())]
    Start {
        /// Which directory.
        path: PathBuf,
        /// Why.
        source: StartError,
    },
    /// The socket for the other nodes.
    #[error(transparent)]
    Transport(#[from] TcpError),
}

/// A node being described. Every field may be changed before it starts.
pub struct Builder<S: StateMachine> {
    /// Who belongs to it, and where.
    pub cluster: Cluster,
    /// Which member this is.
    pub node: NodeId,
    /// Where its journal, snapshots and identity are; made if missing.
    pub data_dir: PathBuf,
    /// Where it listens for the others; the member's own address where `None`.
    pub listen: Option<SocketAddr>,
    /// The replicated state machine.
    pub replica: quorate_smr::Config<S>,
    /// The failure detector.
    pub detector: quorate_detector::Config,
    /// The leader by quorum lease.
    pub lease: quorate_election::Config,
    /// The leader by the bully algorithm.
    pub bully: bully::Config,
    /// The mutual exclusion.
    pub mutex: quorate_dmutex::Config,
    /// The transactions.
    pub transactions: quorate_txn::Config,
    /// What happened before what.
    pub chronicle: chronicle::Config,
    /// Journal, mailboxes and bursts.
    pub driver: quorate_driver::Options,
}

impl<S: StateMachine> fmt::Debug for Builder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Builder");
        out.field("cluster", &self.cluster).field("node", &self.node);
        out.field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

impl<S: StateMachine> Builder<S> {
    /// A member of `cluster` with its data in `data_dir` and this state machine, all else as by
    /// default.
    pub fn new(cluster: &Cluster, node: NodeId, data_dir: impl Into<PathBuf>, state: S) -> Self {
        let replica = quorate_smr::Config::new(cluster.nodes(), state);
        let journal = quorate_wal::Options {
            owner: cluster.id().0.rotate_left(32) ^ node.0,
            ..quorate_wal::Options::default()
        };
        // A snapshot frees the journal before the journal has to free itself.
        let journal_bytes_max = 2 * replica.snapshot_bytes_max;
        Self {
            cluster: cluster.clone(),
            node,
            data_dir: data_dir.into(),
            listen: None,
            replica,
            detector: quorate_detector::Config::new(cluster.others(node)),
            lease: quorate_election::Config::new(cluster.nodes()),
            bully: bully::Config::new(cluster.nodes()),
            mutex: quorate_dmutex::Config::new(cluster.nodes()),
            transactions: quorate_txn::Config::new(cluster.nodes()),
            chronicle: chronicle::Config::new(cluster.others(node)),
            driver: quorate_driver::Options {
                journal,
                journal_bytes_max,
                ..quorate_driver::Options::default()
            },
        }
    }

    /// Begins a new life of the node, which votes no on every transaction. Must be called within a
    /// tokio runtime.
    ///
    /// # Errors
    /// [`NodeError`].
    pub fn start(self) -> Result<Node<S>, NodeError> {
        self.start_with(NoResource)
    }

    /// As [`start`](Self::start), with what takes part in transactions on this node.
    ///
    /// # Errors
    /// [`NodeError`].
    pub fn start_with(self, resource: impl Resource) -> Result<Node<S>, NodeError> {
        self.start_on(RealDisk::open, resource)
    }

    /// As [`start_with`](Self::start_with), on what `open` makes of the directories of the journal
    /// and of the snapshots.
    ///
    /// # Errors
    /// [`NodeError`].
    pub fn start_on<D>(
        self,
        open: impl Fn(PathBuf) -> io::Result<D>,
        resource: impl Resource,
    ) -> Result<Node<S>, NodeError>
    where
        D: Disk + Send + 'static,
        Wal<D>: Send,
        SnapshotStore<D>: Send,
    {
        let address = self.cluster.members().get(&self.node);
        let address = address.ok_or(NodeError::Stranger(self.node))?;
        let parsed = address.parse().map_err(|_| NodeError::Address(self.node, address.clone()));
        let listen = self.listen.map_or(parsed, Ok)?;
        let identity = Identity::begin(&self.data_dir, self.cluster.id(), self.node)?;
        let me = Peer { node: self.node, incarnation: identity.incarnation };
        let seed = self.node.0 << 32 ^ identity.incarnation.0;

        let start = |source| NodeError::Start { path: self.data_dir.clone(), source };
        let disk = |name: &str| {
            let path = self.data_dir.join(name);
            let opened = std::fs::create_dir_all(&path).and_then(|()| open(path.clone()));
            opened.map_err(|source| NodeError::Directory { path, source })
        };
        let (journal, snapshots) = (disk("journal")?, disk("snapshots")?);
        let mut setup = Setup::open(me, seed, journal, snapshots, self.driver).map_err(start)?;
        let replica = setup.add::<Smr<S>>(keys::REPLICA, self.replica).map_err(start)?;
        let detector = setup.add::<Heartbeats>(keys::DETECTOR, self.detector).map_err(start)?;
        let lease = setup.add::<QuorumLease>(keys::LEASE, self.lease).map_err(start)?;
        let bully = setup.add::<Bully>(keys::BULLY, self.bully).map_err(start)?;
        let mutex = setup.add::<RicartAgrawala>(keys::MUTEX, self.mutex).map_err(start)?;
        let transactions =
            setup.add::<TwoPhaseCommit>(keys::TRANSACTIONS, self.transactions).map_err(start)?;
        let chronicle = setup.add::<Chronicle>(keys::CHRONICLE, self.chronicle).map_err(start)?;

        let mut tcp = TcpConfig::new(self.cluster.id(), me);
        (tcp.listen, tcp.seed) = (listen, seed);
        let members = self.cluster.members().iter();
        tcp.peers = members.map(|(node, address)| (*node, address.clone())).collect();
        tcp.peers.remove(&self.node);
        let transport = Arc::new(TcpTransport::bind(tcp)?);
        // Before it runs: what is recovered is told at once.
        let events = transactions.events();
        let members = replica.events();
        let driver = setup.run(Arc::<TcpTransport>::clone(&transport)).map_err(start)?;
        let part = tokio::spawn(participate(transactions.clone(), events, resource));
        let (dialer, founders) = (Arc::downgrade(&transport), self.cluster.clone());
        let group = tokio::spawn(track(replica.clone(), members, dialer, founders));
        Ok(Node {
            identity,
            cluster: self.cluster,
            transport,
            probe: driver.probe(),
            driver: Some(driver),
            lifecycle: watch::channel(Lifecycle::Active).0,
            part,
            group,
            replica,
            detector,
            lease,
            bully,
            mutex,
            transactions,
            chronicle,
        })
    }
}

/// A member, as one node sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The member.
    pub node: NodeId,
    /// Where it listens for the others.
    pub address: String,
    /// What is thought of it; this node thinks well of itself.
    pub standing: Standing,
    /// How strongly its silence speaks against it: phi of the accrual detector.
    pub phi: f64,
    /// How long ago its last heartbeat came; `None` before the first, and for this node.
    pub last_heartbeat: Option<Duration>,
    /// Its newest life that was heard of (its generation); 0 before the first word.
    pub incarnation: Incarnation,
}

/// A running node: `(cluster, node, generation)`, and a handle to each of its machines.
///
/// A machine that stops itself answers [`Gone`] from then on and is told of by
/// [`halts`](Self::halts); the others run on. Only a failed journal or snapshot store stops the
/// node.
pub struct Node<S: StateMachine> {
    identity: Identity,
    cluster: Cluster,
    transport: Arc<TcpTransport>,
    probe: Probe,
    /// None once it has stopped.
    driver: Option<Driver>,
    lifecycle: watch::Sender<Lifecycle>,
    part: JoinHandle<()>,
    /// Tells the transport who belongs to the group.
    group: JoinHandle<()>,
    /// The replicated state machine.
    pub replica: Handle<Smr<S>>,
    /// The failure detector.
    pub detector: Handle<Heartbeats>,
    /// The leader by quorum lease.
    pub lease: Handle<QuorumLease>,
    /// The leader by the bully algorithm: an opinion, and no more.
    pub bully: Handle<Bully>,
    /// The mutual exclusion.
    pub mutex: Handle<RicartAgrawala>,
    /// The transactions.
    pub transactions: Handle<TwoPhaseCommit>,
    /// What happened before what.
    pub chronicle: Handle<Chronicle>,
}

impl<S: StateMachine> fmt::Debug for Node<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Node");
        out.field("identity", &self.identity).field("address", &self.address());
        out.field("lifecycle", &*self.lifecycle.borrow()).finish_non_exhaustive()
    }
}

impl<S: StateMachine> Node<S> {
    /// Cluster, node and generation.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Who belongs to the cluster.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Where it listens for the others.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.transport.local_addr()
    }

    /// Where it stands, now and from now on.
    #[must_use]
    pub fn lifecycle(&self) -> watch::Receiver<Lifecycle> {
        self.lifecycle.subscribe()
    }

    /// What host, journal and snapshot store have counted.
    #[must_use]
    pub fn probe(&self) -> Probe {
        self.probe.clone()
    }

    /// What the transport has counted.
    #[must_use]
    pub fn transport_stats(&self) -> TcpStats {
        self.transport.stats()
    }

    /// The transport's counters, for as long as they are wanted.
    #[must_use]
    pub fn transport(&self) -> Arc<TcpTransport> {
        Arc::clone(&self.transport)
    }

    /// Machines that stop themselves from now on, and why.
    #[must_use]
    pub fn halts(&self) -> broadcast::Receiver<(Key, quorate_transport::Halt)> {
        self.probe.halts()
    }

    /// Changes of membership from now on: suspected, trusted, failed, restarted.
    #[must_use]
    pub fn membership(&self) -> broadcast::Receiver<quorate_detector::Event> {
        self.detector.events()
    }

    /// Every member, as this node sees it now.
    ///
    /// # Errors
    /// [`Gone`]: the node or its detector has stopped.
    ///
    /// # Cancel safety
    /// Safe: a question changes nothing.
    pub async fn members(&self) -> Result<Vec<Member>, Gone> {
        members_of(&self.cluster, self.identity, &self.detector).await
    }

    /// Waits until the node stops by itself.
    ///
    /// # Errors
    /// [`DriverError`] says why it did; it is told once.
    ///
    /// # Cancel safety
    /// Safe: the node runs on.
    pub async fn stopped(&mut self) -> Result<(), DriverError> {
        let Some(driver) = &mut self.driver else { return Ok(()) };
        let ended = driver.stopped().await;
        self.lifecycle.send_replace(match &ended {
            Ok(()) => Lifecycle::Stopped,
            Err(error) => Lifecycle::Failed(error.to_string()),
        });
        ended
    }

    /// Hands leadership over, takes no more requests, lets what was appended reach the disk, and
    /// closes everything.
    ///
    /// # Errors
    /// [`DriverError`] when the node had already failed, or fails on the way.
    pub async fn stop(mut self) -> Result<(), DriverError> {
        self.lifecycle.send_replace(Lifecycle::Stopping);
        // Others need not wait for a timeout to find new leaders.
        let resign = self.lease.request(quorate_election::Request::Resign);
        let transfer = self.replica.request(quorate_smr::Request::Transfer { to: None });
        let handed = async { tokio::join!(resign, transfer).1 };
        let handed = tokio::time::timeout(HAND_OVER_MAX, handed).await;
        if matches!(handed, Ok(Ok(quorate_smr::Reply::Transferred))) {
            tracing::info!("leadership handed over");
        }
        let Some(driver) = self.driver.take() else { return Ok(()) };
        let ended = driver.stop().await;
        self.part.abort();
        self.group.abort();
        self.lifecycle.send_replace(match &ended {
            Ok(()) => Lifecycle::Stopped,
            Err(error) => Lifecycle::Failed(error.to_string()),
        });
        ended
    }
}

/// How long an orderly end waits for others to lead.
const HAND_OVER_MAX: Duration = Duration::from_millis(500);

/// Every member, as a node's detector sees it now; as [`Node::members`], from its parts.
///
/// # Errors
/// [`Gone`]: the detector has stopped.
///
/// # Cancel safety
/// Safe: a question changes nothing.
pub async fn members_of(
    cluster: &Cluster,
    identity: Identity,
    detector: &Handle<Heartbeats>,
) -> Result<Vec<Member>, Gone> {
    let reply = detector.request(quorate_detector::Request::Members).await?;
    let quorate_detector::Reply::Members(peers) = reply else { return Err(Gone) };
    let now = boot_time();
    let member = |(node, address): (&NodeId, &String)| {
        let own = Member {
            node: *node,
            address: address.clone(),
            standing: Standing::Active,
            phi: 0.0,
            last_heartbeat: None,
            incarnation: identity.incarnation,
        };
        match peers.iter().find(|peer| peer.node == *node) {
            Some(peer) => Member {
                standing: peer.status.into(),
                phi: peer.level,
                last_heartbeat: peer.last_heartbeat.map(|at| now.since(at)),
                incarnation: peer.incarnation,
                ..own
            },
            None => own,
        }
    };
    Ok(cluster.members().iter().map(member).collect())
}

/// Where nothing takes part in transactions, all are refused.
#[derive(Clone, Copy, Debug)]
pub struct NoResource;

impl Resource for NoResource {
    fn prepare(&mut self, _: quorate_txn::TxnId, _: &bytes::Bytes) -> Option<quorate_txn::Vote> {
        Some(quorate_txn::Vote::No)
    }
    fn recover(&mut self, _: quorate_txn::TxnId, _: &bytes::Bytes) {}
    fn commit(&mut self, _: quorate_txn::TxnId) {}
    fn abort(&mut self, _: quorate_txn::TxnId) {}
}
