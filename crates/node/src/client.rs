//! A client: it follows the leader, and retries only what is safe.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quorate_smr::Retry;
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::kv;
use crate::wire::{Answer, Ask, Body, GroupChange, GroupInfo, NodeStatus, Said, fill, put, take};

mod session;
mod watcher;

pub use session::{Pending, Session};
pub use watcher::{Change, Watcher};

/// Why an operation has no result. [`retry`](Self::retry) says whether asking again is safe.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No leader with a majority answered in time: a command may have been done or not.
    #[error("no leader with a majority answered within {0:.1?}")]
    NoQuorum(Duration),
    /// No node answered a watcher in time.
    #[error("no node answered within {0:.1?}")]
    NoAnswer(Duration),
    /// What a watcher is to be told next is no longer kept by any node that answers: read the state
    /// and go on from there.
    #[error(
        "changes before index {first} are no longer kept: read the state, and watch from there"
    )]
    Compacted {
        /// The first index that is still kept.
        first: u64,
    },
    /// The session has expired, for it was not used for long. The command was not done now and
    /// never will be; if it was sent before, it may have been done then. Other commands need a new
    /// session.
    #[error("the session has expired: the command may have been done before it did, or not at all")]
    SessionExpired,
    /// It may have been done or not.
    #[error("the outcome is unknown: it may have been done or not")]
    Unknown,
    /// It was not done, and never will be; why.
    #[error("refused: {0}")]
    Refused(String),
    /// It was not done: the caller's fault.
    #[error("the key is {0} bytes long, the limit is {max}", max = kv::KEY_BYTES_MAX)]
    KeyTooLong(usize),
    /// It was not done: the caller's fault.
    #[error("the value is {0} bytes long, the limit is {max}", max = kv::VALUE_BYTES_MAX)]
    ValueTooLong(usize),
}

impl ClientError {
    /// Whether asking again is safe, of a command; a question changes nothing, and is always safe
    /// to ask again. A command is safe to ask for again by its [`Pending`], whatever this says.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::NoAnswer(_) => Retry::Safe,
            Self::NoQuorum(_) | Self::Unknown | Self::SessionExpired => Retry::Unsafe,
            Self::Compacted { .. }
            | Self::Refused(_)
            | Self::KeyTooLong(_)
            | Self::ValueTooLong(_) => Retry::Never,
        }
    }
}

/// Why the replicas are not shown to be equal.
#[derive(Debug, Error)]
pub enum Apart {
    /// They differ: a bug, or a disk that lies.
    #[error("replicas differ at index {index}: {digests:x?}")]
    Differ {
        /// Where.
        index: u64,
        /// The digest of each node.
        digests: BTreeMap<u64, u128>,
    },
    /// No one index was seen on all of them: some are down, or the cluster does not rest.
    #[error("the replicas did not reach one index within {0:.0?}")]
    Late(Duration),
}

/// One connection, with many questions under way.
struct Connection {
    asks: mpsc::Sender<Ask>,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    by_id: BTreeMap<u64, oneshot::Sender<Answer>>,
    closed: bool,
}

/// What became of one question on one connection.
enum Told {
    Answer(Answer),
    /// It was not sent.
    Unsent,
    /// It was sent, and no answer came.
    Lost,
}

impl Connection {
    async fn open(address: &str) -> io::Result<Self> {
        let stream = timeout(Duration::from_secs(1), TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        let (mut reader, mut writer) = stream.into_split();
        let (asks, mut asked) = mpsc::channel::<Ask>(4096);
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let of_reader = Arc::clone(&waiting);
        tokio::spawn(async move {
            let read = async {
                let mut buffer = BytesMut::new();
                while fill(&mut reader, &mut buffer).await? {
                    while let Some(Said { id, answer }) = take(&mut buffer)? {
                        let sender = lock(&of_reader).by_id.remove(&id);
                        let _ = sender.map(|sender| sender.send(answer));
                    }
                }
                io::Result::Ok(())
            };
            let write = async {
                let (mut out, mut ready) = (BytesMut::new(), Vec::new());
                while asked.recv_many(&mut ready, 256).await > 0 {
                    ready.drain(..).for_each(|ask| put(&ask, &mut out));
                    writer.write_all(&out).await?;
                    out.clear();
                }
                io::Result::Ok(())
            };
            tokio::select! {
                _ = read => {}
                _ = write => {}
            }
            let mut waiting = lock(&of_reader);
            waiting.closed = true;
            waiting.by_id.clear(); // whoever waits learns that no answer comes
        });
        Ok(Self { asks, waiting })
    }

    async fn ask(&self, id: u64, body: Body, patience: Duration) -> Told {
        let (sender, answer) = oneshot::channel();
        {
            let mut waiting = lock(&self.waiting);
            if waiting.closed {
                return Told::Unsent;
            }
            waiting.by_id.insert(id, sender);
        }
        if self.asks.send(Ask { id, body }).await.is_err() {
            return Told::Unsent;
        }
        match timeout(patience, answer).await {
            Ok(Ok(answer)) => Told::Answer(answer),
            _ => {
                lock(&self.waiting).by_id.remove(&id);
                Told::Lost
            }
        }
    }

    fn is_closed(&self) -> bool {
        lock(&self.waiting).closed
    }
}

/// A client of a cluster. Clones share connections.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    /// Every node's address for clients.
    nodes: BTreeMap<u64, String>,
    connections: tokio::sync::Mutex<BTreeMap<u64, Arc<Connection>>>,
    leader: Mutex<Option<u64>>,
    next: AtomicU64,
    patience: Duration,
}

impl Client {
    /// A client that gives each operation up after `patience`.
    pub fn new(nodes: BTreeMap<u64, String>, patience: Duration) -> Self {
        let shared = Shared {
            nodes,
            connections: tokio::sync::Mutex::default(),
            leader: Mutex::new(None),
            next: AtomicU64::new(1),
            patience,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The node that answered as leader last.
    pub fn leader(&self) -> Option<u64> {
        *lock(&self.shared.leader)
    }

    /// Asks one node, once; `None` when no answer came, and whatever was asked may be done or not.
    ///
    /// # Cancel safety
    /// What was sent may be carried out all the same.
    pub async fn ask_node(&self, node: u64, body: Body, patience: Duration) -> Option<Answer> {
        match self.tell(node, body, patience).await {
            Told::Answer(answer) => Some(answer),
            _ => None,
        }
    }

    /// Where a node stands, if it answers.
    ///
    /// # Cancel safety
    /// Safe: a question changes nothing.
    pub async fn status(&self, node: u64) -> Option<NodeStatus> {
        match self.ask_node(node, Body::Status, Duration::from_secs(1)).await? {
            Answer::Status(status) => Some(*status),
            _ => None,
        }
    }

    /// Opens a session, within which every command is applied once however often it is sent.
    ///
    /// # Errors
    /// [`ClientError::NoQuorum`].
    ///
    /// # Cancel safety
    /// Safe: at worst it leaves a session that nobody uses, and that expires.
    pub async fn session(&self) -> Result<Session, ClientError> {
        // A lost answer leaves a session that nobody uses: harmless.
        match self.until_done(&Body::Open, true).await? {
            Answer::Opened(id) => Ok(Session::new(self.clone(), id)),
            _ => Err(ClientError::Unknown),
        }
    }

    /// Reads a key, linearizably unless `stale`.
    ///
    /// # Errors
    /// [`ClientError::NoQuorum`].
    ///
    /// # Cancel safety
    /// Safe: a question changes nothing.
    pub async fn get(&self, key: &[u8], stale: bool) -> Result<Option<Bytes>, ClientError> {
        let answer = self.query(kv::get(key), stale).await?;
        Ok(kv::value(&answer))
    }

    /// All pairs whose key begins with `prefix`, page by page.
    ///
    /// # Errors
    /// [`ClientError::NoQuorum`].
    ///
    /// # Cancel safety
    /// Safe: a question changes nothing.
    pub async fn list(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, ClientError> {
        let mut all: Vec<(Bytes, Bytes)> = Vec::new();
        loop {
            let after = all.last().map(|(key, _)| key.clone());
            let page = self.query(kv::list(prefix, after.as_deref()), false).await?;
            let page = kv::pairs(page);
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    /// The node that leads, and that is not `gone`; `None` when there is none for this long.
    ///
    /// Of several that say so the one of the newest term is told.
    ///
    /// # Cancel safety
    /// Safe: a question changes nothing.
    pub async fn wait_for_leader(&self, gone: Option<u64>, patience: Duration) -> Option<u64> {
        let begun = Instant::now();
        while begun.elapsed() < patience {
            let mut best: Option<(u64, u64)> = None;
            for node in self.shared.nodes.keys().filter(|node| Some(**node) != gone) {
                if let Some(status) = self.status(*node).await
                    && status.role == "leader"
                    && best.is_none_or(|(term, _)| term < status.term)
                {
                    best = Some((status.term, *node));
                }
            }
            if let Some((_, leader)) = best {
                return Some(leader);
            }
            sleep(Duration::from_millis(10)).await;
        }
        None
    }

    /// Waits until every node was seen at one index, and compares their digests there; gives back
    /// index and digest. Only a cluster that rests gets there.
    ///
    /// # Errors
    /// [`Apart`].
    ///
    /// # Cancel safety
    /// Safe: a question changes nothing.
    pub async fn equal_digests(&self, patience: Duration) -> Result<(u64, u128), Apart> {
        let begun = Instant::now();
        let nodes = &self.shared.nodes;
        let mut seen: BTreeMap<u64, BTreeMap<u64, u128>> = BTreeMap::new();
        while begun.elapsed() < patience {
            for node in nodes.keys() {
                if let Some(status) = self.status(*node).await {
                    seen.entry(status.applied).or_default().insert(*node, status.digest);
                }
            }
            for (index, digests) in &seen {
                let first = digests.values().next().copied().unwrap_or_default();
                if digests.values().any(|digest| *digest != first) {
                    return Err(Apart::Differ { index: *index, digests: digests.clone() });
                }
                if digests.len() == nodes.len() {
                    return Ok((*index, first));
                }
            }
            sleep(Duration::from_millis(50)).await;
        }
        Err(Apart::Late(begun.elapsed()))
    }

    /// Has all replicas digest their state at one index, and waits until every node was seen to
    /// have done so; gives back index and digest. Commands may come meanwhile.
    ///
    /// # Errors
    /// [`Apart`].
    ///
    /// # Cancel safety
    /// Safe: an audit changes nothing.
    pub async fn audit(&self, patience: Duration) -> Result<(u64, u128), Apart> {
        let begun = Instant::now();
        let mut digests: BTreeMap<u64, u128> = BTreeMap::new();
        let mut under_way = None;
        while begun.elapsed() < patience {
            let Some((index, _)) = under_way else {
                if let Ok(Answer::Audited { index, digest }) =
                    self.until_done(&Body::Audit, true).await
                {
                    (under_way, digests) = (Some((index, digest)), BTreeMap::new());
                }
                continue;
            };
            for node in self.shared.nodes.keys() {
                match self.status(*node).await.and_then(|status| status.audited) {
                    Some((at, digest)) if at == index => drop(digests.insert(*node, digest)),
                    // It was too late to be seen, or is left out where another was under way.
                    Some((at, _)) if at > index && !digests.contains_key(node) => under_way = None,
                    _ => {}
                }
            }
            let first = digests.values().next().copied().unwrap_or_default();
            if digests.values().any(|digest| *digest != first) {
                return Err(Apart::Differ { index, digests });
            }
            if digests.len() == self.shared.nodes.len() {
                return Ok((index, first));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Err(Apart::Late(begun.elapsed()))
    }

    /// Changes who replicates the map, and waits until that is complete.
    ///
    /// # Errors
    /// [`ClientError::Refused`] for what breaks a rule or was cancelled; [`ClientError::NoQuorum`]
    /// where it is not complete in time, as when a new node does not catch up: it goes on all the
    /// same, until it is complete or cancelled.
    ///
    /// # Cancel safety
    /// The change may go on all the same. Asking for it again is safe.
    pub async fn change_group(&self, change: GroupChange) -> Result<u64, ClientError> {
        match self.until_done(&Body::Change(change), true).await? {
            Answer::Changed { index } => Ok(index),
            _ => Err(ClientError::Unknown),
        }
    }

    /// Who replicates the map, as a node has it, if it answers.
    ///
    /// # Cancel safety
    /// Safe: a question changes nothing.
    pub async fn group(&self, node: u64) -> Option<GroupInfo> {
        match self.ask_node(node, Body::Group, Duration::from_secs(1)).await? {
            Answer::Group(group) => Some(group),
            _ => None,
        }
    }

    async fn query(&self, query: Bytes, stale: bool) -> Result<Bytes, ClientError> {
        // A query changes nothing: asking again is always safe.
        match self.until_done(&Body::Query { query: query.to_vec(), stale }, true).await? {
            Answer::Value(value) => Ok(value.into()),
            _ => Err(ClientError::Unknown),
        }
    }

    /// Asks whoever leads until there is an answer. Once the question may have been carried out it
    /// is only repeated if `again` says that this is safe.
    async fn until_done(&self, body: &Body, again: bool) -> Result<Answer, ClientError> {
        let begun = Instant::now();
        let mut tries: u32 = 0;
        loop {
            let left = self.shared.patience.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(ClientError::NoQuorum(begun.elapsed()));
            }
            let node = self.pick(tries);
            let patience = left.min(Duration::from_secs(2));
            let told = self.tell(node, body.clone(), patience).await;
            tries += 1;
            match told {
                Told::Answer(Answer::NotLeader { leader }) => {
                    *lock(&self.shared.leader) = leader.filter(|leader| *leader != node);
                    if leader.is_none() {
                        sleep(Duration::from_millis(10)).await;
                    }
                }
                Told::Answer(Answer::Busy) => sleep(Duration::from_millis(5)).await,
                Told::Answer(Answer::Refused(why)) => return Err(ClientError::Refused(why)),
                Told::Answer(Answer::Unknown) | Told::Lost if !again => {
                    return Err(ClientError::Unknown);
                }
                Told::Answer(Answer::Unknown) | Told::Lost | Told::Unsent => {
                    self.forget_leader(node);
                    sleep(Duration::from_millis(10)).await;
                }
                Told::Answer(answer) => {
                    *lock(&self.shared.leader) = Some(node);
                    return Ok(answer);
                }
            }
        }
    }

    fn forget_leader(&self, node: u64) {
        let mut leader = lock(&self.shared.leader);
        *leader = leader.filter(|leader| *leader != node);
    }

    fn pick(&self, tries: u32) -> u64 {
        let nodes = &self.shared.nodes;
        let any = || *nodes.keys().nth(tries as usize % nodes.len()).expect("within the length");
        self.leader().filter(|leader| nodes.contains_key(leader)).unwrap_or_else(any)
    }

    async fn tell(&self, node: u64, body: Body, patience: Duration) -> Told {
        let Some(connection) = self.connection(node).await else { return Told::Unsent };
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        connection.ask(id, body, patience).await
    }

    async fn connection(&self, node: u64) -> Option<Arc<Connection>> {
        let address = self.shared.nodes.get(&node)?;
        let mut connections = self.shared.connections.lock().await;
        if let Some(known) = connections.get(&node).filter(|known| !known.is_closed()) {
            return Some(Arc::clone(known));
        }
        let fresh = Arc::new(Connection::open(address).await.ok()?);
        connections.insert(node, Arc::clone(&fresh));
        Some(fresh)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
