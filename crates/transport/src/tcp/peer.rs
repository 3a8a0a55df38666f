//! What is known of one peer: its queues, its connections, its newest life, and whether the
//! machines believe it to be there.
//!
//! Frames are taken while the outgoing urgent connection stands. The machines are told `Up` when
//! it does, and `Down` when it or the *incoming* urgent connection ends, whichever is first: both
//! end at once when the process dies. After an incoming one alone has ended, the next incoming
//! one says `Up` again.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use crate::ids::{Incarnation, NodeId};
use crate::machine::LinkState;
use crate::shell::sync::Mutex;
use crate::shell::{Inbox, QueueCaps};
use crate::tcp::outbound::Outbound;
use crate::tcp::stats::{Counters, PeerStats, RefusalCounts};
use crate::tcp::wire::Refusal;
use crate::wire::Class;

/// The lock of `links` is taken before those of the queues and of the inbox, never after.
#[derive(Debug)]
pub(super) struct PeerState {
    pub(super) node: NodeId,
    pub(super) counters: Counters,
    /// True once the peer is forgotten.
    pub(super) removed: watch::Sender<bool>,
    address: Mutex<String>,
    outbound: [Outbound; 3],
    nudges: [Notify; 3],
    links: Mutex<Links>,
}

#[derive(Debug, Default)]
struct Links {
    newest: Option<Incarnation>,
    is_up: bool,
    next_id: u64,
    outgoing: [Option<Connection>; 3],
    incoming: [Option<Connection>; 3],
    refused: RefusalCounts,
    refused_by_peer: RefusalCounts,
    last_refusal: Option<Refusal>,
}

/// A connection that stands, and how to end it.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) incarnation: Incarnation,
    /// A permit in it ends the connection.
    pub(super) end: Arc<Notify>,
}

/// A newer life of the peer is known.
#[derive(Debug)]
pub(super) struct Older {
    pub(super) newest: Incarnation,
}

impl PeerState {
    pub(super) fn new(node: NodeId, address: String, caps: &QueueCaps) -> Self {
        Self {
            node,
            counters: Counters::default(),
            removed: watch::Sender::new(false),
            address: Mutex::new(address),
            outbound: Class::ALL.map(|class| Outbound::new(caps.of(class))),
            nudges: Default::default(),
            links: Mutex::new(Links::default()),
        }
    }

    /// A connection to it was accepted by this life of it.
    pub(super) fn dialed(
        &self,
        inbox: &Inbox,
        class: Class,
        incarnation: Incarnation,
    ) -> Result<Connection, Older> {
        let mut links = self.links.lock();
        let connection = links.admit(incarnation)?;
        links.last_refusal = None;
        links.outgoing[class as usize] = Some(connection.clone());
        if class == Class::Urgent {
            self.outbound.iter().for_each(Outbound::open);
            links.is_up = true;
            inbox.link(self.node, LinkState::Up);
        }
        self.counters.dialed();
        Ok(connection)
    }

    /// The connection to it ended.
    pub(super) fn dialed_ended(&self, inbox: &Inbox, class: Class) {
        let mut links = self.links.lock();
        links.outgoing[class as usize] = None;
        if class == Class::Urgent {
            let lost = self.outbound.iter().map(Outbound::shut).sum();
            self.counters.lost(lost);
            links.down(inbox, self.node);
        }
    }

    /// It dialed us; its former connection of this class, and those of a former life, are ended.
    pub(super) fn accepted(
        &self,
        inbox: &Inbox,
        class: Class,
        incarnation: Incarnation,
    ) -> Result<Connection, Older> {
        let mut links = self.links.lock();
        let connection = links.admit(incarnation)?;
        let replaced = links.incoming[class as usize].replace(connection.clone());
        if let Some(replaced) = replaced {
            replaced.end.notify_one();
        }
        let outgoing = &links.outgoing[Class::Urgent as usize];
        let connected = outgoing.as_ref().map(|outgoing| outgoing.incarnation) == Some(incarnation);
        if class == Class::Urgent && connected && !links.is_up {
            links.is_up = true;
            inbox.link(self.node, LinkState::Up);
        }
        self.counters.accepted();
        if links.outgoing[class as usize].is_none() {
            self.nudge(class);
        }
        Ok(connection)
    }

    /// The connection from it ended; of no meaning for the link if another has replaced it.
    pub(super) fn accepted_ended(&self, inbox: &Inbox, class: Class, id: u64) {
        let mut links = self.links.lock();
        let present = &mut links.incoming[class as usize];
        if present.take_if(|present| present.id == id).is_some() && class == Class::Urgent {
            links.down(inbox, self.node);
        }
    }

    pub(super) fn refused(&self, refusal: Refusal) {
        self.links.lock().refused.count(refusal);
    }

    pub(super) fn refused_by_peer(&self, refusal: Refusal) {
        let mut links = self.links.lock();
        links.refused_by_peer.count(refusal);
        links.last_refusal = Some(refusal);
    }

    pub(super) fn set_address(&self, address: String) {
        *self.address.lock() = address;
        Class::ALL.into_iter().for_each(|class| self.nudge(class));
    }

    /// Dial now rather than later.
    fn nudge(&self, class: Class) {
        self.nudges[class as usize].notify_one();
    }

    pub(super) async fn nudged(&self, class: Class) {
        self.nudges[class as usize].notified().await;
    }

    pub(super) fn address(&self) -> String {
        self.address.lock().clone()
    }

    pub(super) fn outbound(&self, class: Class) -> &Outbound {
        &self.outbound[class as usize]
    }

    pub(super) fn close(&self) {
        self.outbound.iter().for_each(Outbound::close);
    }

    pub(super) fn stats(&self) -> PeerStats {
        let links = self.links.lock();
        PeerStats {
            is_up: links.outgoing[Class::Urgent as usize].is_some(),
            incarnation: links.newest,
            refused: links.refused,
            refused_by_peer: links.refused_by_peer,
            last_refusal: links.last_refusal,
            ..self.counters.stats()
        }
    }
}

impl Links {
    /// A new connection with this life; every connection with a former one is ended.
    fn admit(&mut self, incarnation: Incarnation) -> Result<Connection, Older> {
        if let Some(newest) = self.newest.filter(|newest| *newest > incarnation) {
            return Err(Older { newest });
        }
        self.newest = Some(incarnation);
        let all = self.outgoing.iter().chain(&self.incoming).flatten();
        for older in all.filter(|one| one.incarnation < incarnation) {
            older.end.notify_one();
        }
        self.next_id += 1;
        Ok(Connection { id: self.next_id, incarnation, end: Arc::default() })
    }

    fn down(&mut self, inbox: &Inbox, node: NodeId) {
        if std::mem::take(&mut self.is_up) {
            inbox.link(node, LinkState::Down);
        }
    }
}
