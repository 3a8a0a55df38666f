//! The transport: what carries frames between nodes.

use alloc::boxed::Box;
use alloc::vec::Vec;

use async_trait::async_trait;
use thiserror::Error;

use crate::frame::Frame;
use crate::ids::{NodeId, Peer};
use crate::machine::LinkState;
use crate::wire::Class;

/// Something that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A frame, whole and verified.
    Frame {
        /// Which life of which node sent it, as its handshake proved.
        from: Peer,
        /// On which channel.
        class: Class,
        /// The frame.
        frame: Frame,
    },
    /// A change of a connection.
    Link {
        /// To whom.
        peer: NodeId,
        /// What became of it.
        state: LinkState,
    },
}

/// Why a frame was not taken; the frame is gone and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SendError {
    /// The queue of that peer and class is full: the newest is refused. Later may succeed.
    #[error("the queue towards the peer is full")]
    Full,
    /// There is no connection to the peer now. Later may succeed.
    #[error("the peer is not connected")]
    Down,
    /// The peer is not in this transport's address book: the caller's fault.
    #[error("the peer is unknown")]
    Unknown,
    /// The frame is over the transport's cap: the caller's fault.
    #[error("the frame is over the cap")]
    TooLarge,
    /// The transport was closed.
    #[error("the transport is closed")]
    Closed,
}

/// The transport was closed, and all that had arrived before has been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the transport is closed")]
pub struct Closed;

/// Carries frames to peers, each class on a channel of its own. May lose, delay, repeat and
/// reorder; never alters a frame and never invents one.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Hands a frame over; never waits.
    ///
    /// # Errors
    /// [`SendError`]: the frame will not arrive. `Ok` promises nothing.
    fn try_send(&self, to: NodeId, class: Class, frame: Frame) -> Result<(), SendError>;

    /// Waits until something has arrived, then appends up to `max` of it to `into` and says how
    /// many. One task at a time may wait here.
    ///
    /// # Errors
    /// [`Closed`] once closed and drained.
    ///
    /// # Cancel safety
    /// A dropped future has taken nothing.
    async fn recv_many(&self, into: &mut Vec<Incoming>, max: usize) -> Result<usize, Closed>;

    /// Closes every connection, after a bounded attempt to send what is queued. Idempotent.
    async fn close(&self);
}
