//! An in-memory network for one process: what is sent lies in the receiver's inbox at once.
//!
//! It needs no runtime: a waiting receiver is a waker, whoever polls it.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use crate::frame::{FRAME_BYTES_MAX, Frame};
use crate::ids::{NodeId, Peer};
use crate::link::{Closed, Incoming, SendError, Transport};
use crate::machine::LinkState;
use crate::shell::sync::Mutex;
use crate::shell::{Inbox, QueueCaps, Refused, is_within};
use crate::wire::Class;

/// The caps of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkOptions {
    /// How much each member's inbox holds, for each sender and class.
    pub queues: QueueCaps,
    /// The longest flat frame, in bytes.
    pub frame_bytes_max: usize,
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self { queues: QueueCaps::default(), frame_bytes_max: FRAME_BYTES_MAX }
    }
}

/// A network within one process; its clones are the same network.
#[derive(Clone, Debug)]
pub struct Network {
    shared: Arc<Shared>,
}

/// The lock of `members` is taken before any inbox's, never after.
#[derive(Debug)]
struct Shared {
    options: NetworkOptions,
    /// The newest life of every node that ever joined.
    members: Mutex<BTreeMap<NodeId, Member>>,
}

#[derive(Debug)]
struct Member {
    peer: Peer,
    inbox: Arc<Inbox>,
    is_open: bool,
}

impl Network {
    /// A network without members.
    #[must_use]
    pub fn new(options: NetworkOptions) -> Self {
        let members = Mutex::new(BTreeMap::new());
        Self { shared: Arc::new(Shared { options, members }) }
    }

    /// Connects a node to all others that are open; they learn of each other by `Link`.
    ///
    /// A former life of it is closed. If a life as new or newer has joined before, this one is
    /// refused: its transport is closed from the start.
    #[must_use]
    pub fn join(&self, me: Peer) -> MemTransport {
        let inbox = Arc::new(Inbox::new(self.shared.options.queues));
        let transport =
            MemTransport { me, inbox: Arc::clone(&inbox), shared: Arc::clone(&self.shared) };
        let mut members = self.shared.members.lock();
        if let Some(known) = members.get(&me.node).map(|member| member.peer) {
            if known.incarnation >= me.incarnation {
                inbox.close();
                return transport;
            }
            leave(&mut members, known);
        }
        #[cfg(shuttle)]
        let mut members = self.shared.members.gap(members);
        for other in members.values().filter(|other| other.is_open) {
            other.inbox.link(me.node, LinkState::Up);
            inbox.link(other.peer.node, LinkState::Up);
        }
        let member = Member { peer: me, inbox, is_open: true };
        members.insert(me.node, member);
        drop(members);
        transport
    }
}

/// Closes this life, if it is the present one, and tells the others; does nothing twice.
fn leave(members: &mut BTreeMap<NodeId, Member>, who: Peer) {
    match members.get_mut(&who.node) {
        Some(member) if member.peer == who && member.is_open => {
            member.is_open = false;
            member.inbox.close();
        }
        _ => return,
    }
    for other in members.values().filter(|other| other.is_open) {
        other.inbox.link(who.node, LinkState::Down);
    }
}

/// Plants a race in [`Network::join`], for models on this thread that must find it, or takes it
/// out.
#[cfg(shuttle)]
pub fn plant_race(planted: bool) {
    crate::shell::sync::plant_gaps(planted);
}

/// One member of a [`Network`]; leaves it when dropped.
#[derive(Debug)]
pub struct MemTransport {
    me: Peer,
    inbox: Arc<Inbox>,
    shared: Arc<Shared>,
}

impl MemTransport {
    /// Who joined.
    #[must_use]
    pub fn me(&self) -> Peer {
        self.me
    }

    /// Hands frames over as the TCP reader does, waiting for room: for the models.
    ///
    /// # Errors
    /// [`Closed`]: the receiver is.
    #[cfg(loom)]
    pub async fn send_all(
        &self,
        to: NodeId,
        class: Class,
        frames: Vec<Frame>,
    ) -> Result<(), Closed> {
        let inbox = {
            let members = self.shared.members.lock();
            let member = members.get(&to).ok_or(Closed)?;
            Arc::clone(&member.inbox)
        };
        inbox.push_all(self.me, class, &mut frames.into()).await
    }

    fn leave(&self) {
        leave(&mut self.shared.members.lock(), self.me);
    }
}

impl Drop for MemTransport {
    fn drop(&mut self) {
        self.leave();
    }
}

#[async_trait]
impl Transport for MemTransport {
    fn try_send(&self, to: NodeId, class: Class, frame: Frame) -> Result<(), SendError> {
        let inbox = {
            let members = self.shared.members.lock();
            let me = members.get(&self.me.node);
            if me.is_none_or(|me| me.peer != self.me || !me.is_open) {
                return Err(SendError::Closed);
            }
            let member = members.get(&to).filter(|_| to != self.me.node);
            let member = member.ok_or(SendError::Unknown)?;
            if !is_within(&frame, self.shared.options.frame_bytes_max) {
                return Err(SendError::TooLarge);
            }
            if !member.is_open {
                return Err(SendError::Down);
            }
            Arc::clone(&member.inbox)
        };
        match inbox.try_push(self.me, class, frame) {
            Ok(()) => Ok(()),
            Err(Refused::Closed) => Err(SendError::Down),
            Err(Refused::Full { first }) => {
                if first {
                    self.inbox.link(to, LinkState::Full);
                }
                Err(SendError::Full)
            }
        }
    }

    async fn recv_many(&self, into: &mut Vec<Incoming>, max: usize) -> Result<usize, Closed> {
        self.inbox.recv_many(into, max).await
    }

    async fn close(&self) {
        self.leave();
    }
}
