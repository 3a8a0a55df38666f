//! Three `quorate-raft` nodes in one thread: elections, gates and answers included.
//!
//! Every record counts as durable at the end of the burst that made it, as the peers' in-memory
//! storage does.

use bytes::BytesMut;
use quorate_raft::{Config, Event, Message, Proposals, Raft, Reply, Request};
use quorate_transport::tcp::wire::{Piece, put_prefix, split};
use quorate_transport::{
    Cell, FRAME_BYTES_MAX, Halt, Incarnation, Input, Key, Machine, NodeId, Peer, RequestRange,
    Sink, Start, StoreOp, Ticket, Time, decode_message, encode_message,
};

/// What leaves a node.
#[derive(Default)]
struct Hands {
    wire: Vec<(Message, NodeId)>,
    persisted: Ticket,
    applied: u64,
    bytes: u64,
    last: u64,
    answered: u64,
}

impl Sink<Raft> for Hands {
    fn persist(&mut self, ticket: Ticket, _: <Raft as Machine>::Record) {
        self.persisted = ticket;
    }
    fn send(&mut self, to: NodeId, message: Message) {
        self.wire.push((message, to));
    }
    fn emit(&mut self, event: Event) {
        if let Event::Committed(view) = event {
            // Apply: look at every command.
            for entry in view.entries() {
                self.bytes += entry.len() as u64 + u64::from(entry.first().copied().unwrap_or(0));
            }
            self.applied += view.count() as u64;
            self.last = view.last().0;
        }
    }
    fn answer(&mut self, ids: RequestRange, reply: Reply) {
        if let Reply::Committed { .. } = reply {
            self.answered += ids.count();
        }
    }
    fn release(&mut self, _: Ticket) {}
    fn store(&mut self, _: StoreOp) {}
    fn halt(&mut self, halt: &Halt) {
        panic!("{halt}");
    }
}

/// A group of nodes in one thread.
pub struct Trio {
    cells: Vec<(Cell<Raft>, Hands)>,
    now: Time,
    leader: usize,
    codec: Option<Codec>,
    /// What is on its way from one node; kept for its memory.
    wire: Vec<(Message, NodeId)>,
}

impl Trio {
    /// Elects a leader; every message goes through the codec of the TCP transport, checksums
    /// verified on arrival.
    #[must_use]
    pub fn with_codec(nodes: u64) -> Self {
        Self { codec: Some(Codec::default()), ..Self::new(nodes) }
    }

    /// Elects a leader; messages are handed over as they are.
    #[must_use]
    pub fn new(nodes: u64) -> Self {
        let cell = |node| {
            let mut config = Config::new((1..=nodes).map(NodeId));
            config.keep_bytes_max = 0; // as the peer, which trims all that is decided
            let start = Start {
                node: NodeId(node),
                incarnation: Incarnation(1),
                seed: node,
                now: Time::ZERO,
            };
            let raft = Raft::new(start, config).expect("a valid configuration");
            (Cell::new(raft), Hands::default())
        };
        let cells = (1..=nodes).map(cell).collect();
        let mut trio = Self { cells, now: Time::ZERO, leader: 0, codec: None, wire: Vec::new() };
        for (cell, hands) in &mut trio.cells {
            cell.handle(Time::ZERO, Input::Started, hands);
        }
        while !trio.cells.iter().any(|(cell, _)| cell.machine().is_leader()) {
            trio.now = trio.now + core::time::Duration::from_millis(10);
            let now = trio.now;
            for (cell, hands) in &mut trio.cells {
                cell.handle(now, Input::Timer, hands);
            }
            trio.run(u64::MAX);
        }
        let leads = |(cell, _): &(Cell<Raft>, Hands)| cell.machine().is_leader();
        trio.leader = trio.cells.iter().position(leads).expect("there is one");
        trio
    }

    /// Proposes `proposals` and runs until all nodes have applied them.
    pub fn propose(&mut self, proposals: Proposals) {
        let (now, leader) = (self.now, self.leader);
        let (cell, hands) = &mut self.cells[leader];
        cell.feed_request(now, Request::Propose(proposals), hands);
        self.run(1 << leader);
    }

    /// How many commands each node has applied; the least of them.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.cells.iter().map(|(_, hands)| hands.applied).min().unwrap_or(0)
    }

    /// How many proposals were answered as committed.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.cells.iter().map(|(_, hands)| hands.answered).sum()
    }

    /// Reports what was applied, so that logs can be compacted: a snapshot of nothing.
    pub fn compact(&mut self) {
        let now = self.now;
        for (cell, hands) in &mut self.cells {
            let index = quorate_raft::Index(hands.last);
            cell.request(now, Request::Applied { index }, hands);
            cell.request(now, Request::Compact { index, contents: Default::default() }, hands);
            let id =
                quorate_transport::SnapshotId { index: index.0, term: cell.machine().term().0 };
            cell.handle(now, Input::Stored(quorate_transport::Stored::Finished { id }), hands);
        }
        self.run(u64::MAX);
    }

    /// Until nothing is under way. Each node ends its burst, and then its records are durable, as
    /// a host does it; that is an input of its next burst.
    fn run(&mut self, mut touched: u64) {
        let now = self.now;
        // By bit, as those who have been told something: whose burst may end later.
        let mut owed = 0;
        while touched | owed != 0 {
            let settling = if touched != 0 { touched } else { owed };
            touched = 0;
            for at in 0..self.cells.len() {
                if settling & 1 << at == 0 {
                    continue;
                }
                owed &= !(1 << at);
                let (cell, hands) = &mut self.cells[at];
                cell.settle(now, hands);
                if hands.persisted > cell.durable_upto() {
                    cell.durable(now, hands.persisted, hands);
                    owed |= 1 << at;
                }
            }
            for at in 0..self.cells.len() {
                if settling & 1 << at != 0 {
                    touched |= self.deliver(at);
                }
            }
        }
    }

    /// Hands over what a node has sent; says to whom.
    fn deliver(&mut self, at: usize) -> u64 {
        let mut to = 0;
        core::mem::swap(&mut self.wire, &mut self.cells[at].1.wire);
        let from = Peer { node: NodeId(at as u64 + 1), incarnation: Incarnation(1) };
        if let Some(codec) = &mut self.codec {
            self.wire.iter_mut().for_each(|(message, _)| *message = codec.carry(message));
        }
        for (message, peer) in self.wire.drain(..) {
            let at = peer.0 as usize - 1;
            to |= 1 << at;
            let (cell, hands) = &mut self.cells[at];
            cell.feed(self.now, Input::Message { from, message }, hands);
        }
        to
    }
}

/// What lies between two sockets, but for the sockets.
#[derive(Default)]
struct Codec {
    scratch: BytesMut,
    buffer: BytesMut,
}

impl Codec {
    /// Encodes as a sender does, copies once as a socket does, and decodes as a receiver does.
    fn carry(&mut self, message: &Message) -> Message {
        let frame = encode_message(Key::new(1, 1), message, &mut self.scratch);
        self.buffer.reserve(frame.flat_len() + 4);
        put_prefix(&frame, &mut self.buffer);
        for attachment in frame.attachments.as_slice() {
            self.buffer.extend_from_slice(attachment.bytes());
        }
        let arrived = split(&mut self.buffer, FRAME_BYTES_MAX);
        let Ok(Some(Piece::Frame(frame))) = arrived else { panic!("a frame of our own") };
        decode_message(&frame).expect("a message of our own")
    }
}
