//! What the tasks of one transport share: the address book, the inbox, and how all of it stops.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::ids::NodeId;
use crate::shell::Inbox;
use crate::shell::sync::Mutex;
use crate::tcp::TcpConfig;
use crate::tcp::peer::PeerState;
use crate::tcp::stats::{PeerStats, RefusalCounts, TcpStats};
use crate::tcp::wire::Refusal;

/// How far closing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Open,
    /// Nothing is accepted, dialed or read any more; what is queued is written.
    Flushing,
    /// Every task ends where it stands.
    Closed,
}

pub(super) struct Shared {
    pub(super) config: TcpConfig,
    pub(super) inbox: Inbox,
    peers: RwLock<BTreeMap<NodeId, Arc<PeerState>>>,
    phase: watch::Sender<Phase>,
    /// How many tasks run.
    tasks: watch::Sender<usize>,
    /// Accepted connections in their handshake, the oldest first, and how to end each.
    pending: Mutex<Pending>,
    refused_strangers: Mutex<RefusalCounts>,
    handshakes_garbage: AtomicU64,
    handshakes_unfinished: AtomicU64,
    accept_errors: AtomicU64,
}

#[derive(Default)]
struct Pending {
    next_id: u64,
    dropped: u64,
    handshakes: BTreeMap<u64, Arc<Notify>>,
}

/// Counts its task out, however it ends.
struct TaskGuard(Arc<Shared>);

impl Drop for TaskGuard {
    fn drop(&mut self) {
        self.0.tasks.send_modify(|tasks| *tasks -= 1);
    }
}

/// A place among the pending handshakes; given back when dropped.
pub(super) struct Handshake {
    shared: Arc<Shared>,
    id: u64,
    /// A permit in it ends the handshake.
    pub(super) end: Arc<Notify>,
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.shared.pending.lock().handshakes.remove(&self.id);
    }
}

impl Shared {
    pub(super) fn new(config: TcpConfig) -> Self {
        Self {
            inbox: Inbox::new(config.queues),
            config,
            peers: RwLock::default(),
            phase: watch::Sender::new(Phase::Open),
            tasks: watch::Sender::new(0),
            pending: Mutex::new(Pending::default()),
            refused_strangers: Mutex::new(RefusalCounts::default()),
            handshakes_garbage: AtomicU64::new(0),
            handshakes_unfinished: AtomicU64::new(0),
            accept_errors: AtomicU64::new(0),
        }
    }

    /// Runs a task that `close` waits for.
    pub(super) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.send_modify(|tasks| *tasks += 1);
        let guard = TaskGuard(Arc::clone(self));
        tokio::spawn(async move {
            let _guard = guard;
            task.await;
        });
    }

    pub(super) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|present| {
            let further = *present < phase;
            *present = phase.max(*present);
            further
        });
    }

    /// Waits until closing has come so far.
    pub(super) async fn reached(&self, phase: Phase) {
        // The sender is a field beside this call: it cannot be gone.
        let _ = self.phase.subscribe().wait_for(|present| *present >= phase).await;
    }

    /// Waits until closing has come so far, or the peer is forgotten.
    pub(super) async fn stopped(&self, peer: &PeerState, phase: Phase) {
        let mut removed = peer.removed.subscribe();
        tokio::select! {
            () = self.reached(phase) => {}
            _ = removed.wait_for(|removed| *removed) => {}
        }
    }

    pub(super) async fn close(&self) {
        // Closed queues first: whoever sees the phase then also sees what is left to write.
        self.peers().iter().for_each(|peer| peer.close());
        self.enter(Phase::Flushing);
        self.inbox.close();
        let mut tasks = self.tasks.subscribe();
        let flushed = timeout(self.config.flush_timeout, tasks.wait_for(|tasks| *tasks == 0));
        let _ = flushed.await;
        self.enter(Phase::Closed);
        let _ = tasks.wait_for(|tasks| *tasks == 0).await;
    }

    pub(super) fn peers(&self) -> Vec<Arc<PeerState>> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.values().cloned().collect()
    }

    pub(super) fn peer(&self, node: NodeId) -> Option<Arc<PeerState>> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.get(&node).cloned()
    }

    /// Returns the peer where it is new.
    pub(super) fn set_peer(&self, node: NodeId, address: String) -> Option<Arc<PeerState>> {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = peers.get(&node) {
            known.set_address(address);
            return None;
        }
        let peer = Arc::new(PeerState::new(node, address, &self.config.queues));
        peers.insert(node, Arc::clone(&peer));
        drop(peers);
        if self.phase() != Phase::Open {
            peer.close();
        }
        Some(peer)
    }

    pub(super) fn remove_peer(&self, node: NodeId) {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peers.remove(&node) {
            peer.removed.send_replace(true);
        }
    }

    /// A place for a handshake; the oldest gives way where there are too many, for an honest one
    /// takes a round trip and a dishonest one as long as it may.
    pub(super) fn handshake(self: &Arc<Self>) -> Handshake {
        let end = Arc::new(Notify::new());
        let mut pending = self.pending.lock();
        while pending.handshakes.len() >= self.config.handshakes_max {
            if let Some((_, oldest)) = pending.handshakes.pop_first() {
                oldest.notify_one();
                pending.dropped += 1;
            }
        }
        pending.next_id += 1;
        let id = pending.next_id;
        pending.handshakes.insert(id, Arc::clone(&end));
        let shared = Arc::clone(self);
        Handshake { shared, id, end }
    }

    pub(super) fn refused_stranger(&self, refusal: Refusal) {
        self.refused_strangers.lock().count(refusal);
    }

    pub(super) fn count_garbage(&self) {
        self.handshakes_garbage.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_unfinished(&self) {
        self.handshakes_unfinished.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_accept_error(&self) {
        self.accept_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn stats(&self, peers: BTreeMap<NodeId, PeerStats>) -> TcpStats {
        let pending = self.pending.lock();
        TcpStats {
            peers,
            refused_strangers: *self.refused_strangers.lock(),
            handshakes_garbage: self.handshakes_garbage.load(Ordering::Relaxed),
            handshakes_unfinished: self.handshakes_unfinished.load(Ordering::Relaxed),
            handshakes_dropped: pending.dropped,
            handshakes_pending: pending.handshakes.len() as u64,
            accept_errors: self.accept_errors.load(Ordering::Relaxed),
        }
    }
}
