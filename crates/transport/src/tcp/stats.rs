//! What a TCP transport counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ids::{Incarnation, NodeId};
use crate::tcp::wire::Refusal;

/// How often each refusal was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusalCounts([u64; Refusal::ALL.len()]);

impl RefusalCounts {
    /// How often `refusal` was seen.
    #[must_use]
    pub fn of(&self, refusal: Refusal) -> u64 {
        self.0[refusal as usize - 1]
    }

    /// How often any was seen.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(super) fn count(&mut self, refusal: Refusal) {
        self.0[refusal as usize - 1] += 1;
    }
}

/// What was counted since the start. Counters only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpStats {
    /// Peer by peer.
    pub peers: BTreeMap<NodeId, PeerStats>,
    /// Handshakes that we refused to nodes that are not in the address book.
    pub refused_strangers: RefusalCounts,
    /// Accepted connections that did not begin with a handshake of this protocol.
    pub handshakes_garbage: u64,
    /// Accepted connections that did not finish their handshake in time, or went away in it.
    pub handshakes_unfinished: u64,
    /// Accepted connections that gave way to newer ones, too many being in their handshake.
    pub handshakes_dropped: u64,
    /// Accepted connections that are in their handshake now.
    pub handshakes_pending: u64,
    /// Times that the system refused to accept a connection: out of descriptors, most likely.
    pub accept_errors: u64,
}

/// What was counted of one peer. Counters only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerStats {
    /// Whether frames for it are taken now.
    pub is_up: bool,
    /// The newest life of it that shook hands.
    pub incarnation: Option<Incarnation>,
    /// Handshakes of it that we refused.
    pub refused: RefusalCounts,
    /// Handshakes of ours that it refused.
    pub refused_by_peer: RefusalCounts,
    /// Its last refusal; nothing once it has accepted.
    pub last_refusal: Option<Refusal>,
    /// Connections to it that were accepted.
    pub dials: u64,
    /// Dials that found nobody, or no answer in time.
    pub dials_failed: u64,
    /// Connections from it that were accepted.
    pub accepts: u64,
    /// Frames that were written to a socket.
    pub frames_sent: u64,
    /// Their flat bytes.
    pub bytes_sent: u64,
    /// Frames that arrived, whole.
    pub frames_received: u64,
    /// Bytes that arrived, pings and lengths included.
    pub bytes_received: u64,
    /// Frames that were refused because a queue was full.
    pub frames_refused: u64,
    /// Frames that were taken and lost with their connection, unwritten.
    pub frames_lost: u64,
    /// Connections closed because what arrived was no frame, or was altered.
    pub closed_garbage: u64,
    /// Connections closed because a frame was over the cap.
    pub closed_over_cap: u64,
    /// Connections closed because nobody read them.
    pub closed_slow: u64,
    /// Connections closed because nothing was heard.
    pub closed_idle: u64,
    /// Connections closed for a newer one of the same peer and class, or a newer life.
    pub closed_replaced: u64,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By the other side, or by the network.
    Closed,
    /// By ourselves, as we stop or forget the peer.
    Stopped,
    Garbage,
    OverCap,
    Slow,
    Idle,
    Replaced,
}

/// The counters of one peer that need no lock.
#[derive(Debug, Default)]
pub(super) struct Counters {
    dials: AtomicU64,
    dials_failed: AtomicU64,
    accepts: AtomicU64,
    frames_sent: AtomicU64,
    bytes_sent: AtomicU64,
    frames_received: AtomicU64,
    bytes_received: AtomicU64,
    frames_refused: AtomicU64,
    frames_lost: AtomicU64,
    closed_garbage: AtomicU64,
    closed_over_cap: AtomicU64,
    closed_slow: AtomicU64,
    closed_idle: AtomicU64,
    closed_replaced: AtomicU64,
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn dialed(&self) {
        add(&self.dials, 1);
    }

    pub(super) fn dial_failed(&self) {
        add(&self.dials_failed, 1);
    }

    pub(super) fn accepted(&self) {
        add(&self.accepts, 1);
    }

    pub(super) fn sent(&self, frames: usize, bytes: usize) {
        add(&self.frames_sent, frames);
        add(&self.bytes_sent, bytes);
    }

    pub(super) fn received_bytes(&self, bytes: usize) {
        add(&self.bytes_received, bytes);
    }

    pub(super) fn received_frames(&self, frames: usize) {
        add(&self.frames_received, frames);
    }

    pub(super) fn refused_full(&self) {
        add(&self.frames_refused, 1);
    }

    pub(super) fn lost(&self, frames: usize) {
        add(&self.frames_lost, frames);
    }

    pub(super) fn ended(&self, end: End) {
        match end {
            End::Closed | End::Stopped => {}
            End::Garbage => add(&self.closed_garbage, 1),
            End::OverCap => add(&self.closed_over_cap, 1),
            End::Slow => add(&self.closed_slow, 1),
            End::Idle => add(&self.closed_idle, 1),
            End::Replaced => add(&self.closed_replaced, 1),
        }
    }

    pub(super) fn stats(&self) -> PeerStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PeerStats {
            dials: read(&self.dials),
            dials_failed: read(&self.dials_failed),
            accepts: read(&self.accepts),
            frames_sent: read(&self.frames_sent),
            bytes_sent: read(&self.bytes_sent),
            frames_received: read(&self.frames_received),
            bytes_received: read(&self.bytes_received),
            frames_refused: read(&self.frames_refused),
            frames_lost: read(&self.frames_lost),
            closed_garbage: read(&self.closed_garbage),
            closed_over_cap: read(&self.closed_over_cap),
            closed_slow: read(&self.closed_slow),
            closed_idle: read(&self.closed_idle),
            closed_replaced: read(&self.closed_replaced),
            ..PeerStats::default()
        }
    }
}
