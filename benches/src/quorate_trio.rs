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

/// A message under way, and its route: who sent it in the upper half, to whom in the lower. One
/// word: two that are written one after the other and read at once would stall the processor.
type Sent = (Message, u64);

/// What a node has had done.
#[derive(Default)]
struct Done {
    persisted: Ticket,
    applied: u64,
    bytes: u64,
    last: u64,
    answered: u64,
}

fn route_from(at: usize) -> u64 {
    (at as u64 + 1) << 32
}

/// Where what leaves a node goes.
struct Hands<'a> {
    route: u64,
    wire: &'a mut Vec<Sent>,
    done: &'a mut Done,
}

impl Sink<Raft> for Hands<'_> {
    fn persist(&mut self, ticket: Ticket, _: <Raft as Machine>::Record) {
        self.done.persisted = ticket;
    }
    fn send(&mut self, to: NodeId, message: Message) {
        self.wire.push((message, self.route | to.0));
    }
    fn emit(&mut self, event: Event) {
        if let Event::Committed(view) = event {
            // Apply: look at every command.
            for entry in view.entries() {
                self.done.bytes +=
                    entry.len() as u64 + u64::from(entry.first().copied().unwrap_or(0));
            }
            self.done.applied += view.count() as u64;
            self.done.last = view.last().0;
        }
    }
    fn answer(&mut self, ids: RequestRange, reply: Reply) {
        if let Reply::Committed { .. } = reply {
            self.done.answered += ids.count();
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
    cells: Vec<(Cell<Raft>, Done)>,
    now: Time,
    leader: usize,
    codec: Option<Codec>,
    /// What is on its way.
    wire: Vec<Sent>,
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
            (Cell::new(raft), Done::default())
        };
        let cells = (1..=nodes).map(cell).collect();
        let mut trio = Self { cells, now: Time::ZERO, leader: 0, codec: None, wire: Vec::new() };
        trio.each(|cell, _, hands| cell.handle(Time::ZERO, Input::Started, hands));
        while !trio.cells.iter().any(|(cell, _)| cell.machine().is_leader()) {
            trio.now = trio.now + core::time::Duration::from_millis(10);
            let now = trio.now;
            trio.each(|cell, _, hands| cell.handle(now, Input::Timer, hands));
            trio.run(trio.all());
        }
        let leads = |(cell, _): &(Cell<Raft>, Done)| cell.machine().is_leader();
        trio.leader = trio.cells.iter().position(leads).expect("there is one");
        trio
    }

    /// Proposes `proposals` and runs until all nodes have applied them.
    pub fn propose(&mut self, proposals: Proposals) {
        let (now, leader) = (self.now, self.leader);
        let (cell, done) = &mut self.cells[leader];
        let hands = &mut Hands { route: route_from(leader), wire: &mut self.wire, done };
        cell.feed_request(now, Request::Propose(proposals), hands);
        self.run(1 << leader);
    }

    /// How many commands each node has applied; the least of them.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.cells.iter().map(|(_, done)| done.applied).min().unwrap_or(0)
    }

    /// How many proposals were answered as committed.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.cells.iter().map(|(_, done)| done.answered).sum()
    }

    /// Reports what was applied, so that logs can be compacted: a snapshot of nothing.
    pub fn compact(&mut self) {
        let now = self.now;
        self.each(|cell, last, hands| {
            let index = quorate_raft::Index(last);
            cell.request(now, Request::Applied { index }, hands);
            cell.request(now, Request::Compact { index, contents: Default::default() }, hands);
            let id =
                quorate_transport::SnapshotId { index: index.0, term: cell.machine().term().0 };
            cell.handle(now, Input::Stored(quorate_transport::Stored::Finished { id }), hands);
        });
        self.run(self.all());
    }

    fn each(&mut self, mut act: impl FnMut(&mut Cell<Raft>, u64, &mut Hands<'_>)) {
        for (node, (cell, done)) in self.cells.iter_mut().enumerate() {
            let last = done.last;
            act(cell, last, &mut Hands { route: route_from(node), wire: &mut self.wire, done });
        }
    }

    fn all(&self) -> u64 {
        (1 << self.cells.len()) - 1
    }

    /// Until nothing is under way. Each node ends its burst, and then its records are durable, as
    /// a host does it; that is an input of its next burst.
    fn run(&mut self, mut touched: u64) {
        let now = self.now;
        // By bit, as those who have been told something: whose burst may end later.
        let mut owed = 0_u64;
        while touched | owed != 0 {
            let mut settling = if touched != 0 { touched } else { owed };
            owed &= !settling;
            while settling != 0 {
                let at = settling.trailing_zeros();
                settling &= settling - 1;
                let (cell, done) = &mut self.cells[at as usize];
                let hands =
                    &mut Hands { route: route_from(at as usize), wire: &mut self.wire, done };
                cell.settle(now, hands);
                let persisted = hands.done.persisted;
                if persisted > cell.durable_upto() {
                    cell.durable(now, persisted, hands);
                    owed |= 1 << at;
                }
            }
            touched = self.deliver();
        }
    }

    /// Hands over what was sent; says to whom.
    fn deliver(&mut self) -> u64 {
        let mut to = 0;
        if let Some(codec) = &mut self.codec {
            self.wire.iter_mut().for_each(|(message, ..)| *message = codec.carry(message));
        }
        let mut wire = core::mem::take(&mut self.wire);
        for (message, route) in wire.drain(..) {
            let at = (route & u64::from(u32::MAX)) - 1;
            to |= 1 << at;
            let (cell, done) = &mut self.cells[at as usize];
            let hands = &mut Hands { route: route_from(at as usize), wire: &mut self.wire, done };
            let from = Peer { node: NodeId(route >> 32), incarnation: Incarnation(1) };
            cell.feed(self.now, Input::Message { from, message }, hands);
        }
        if self.wire.is_empty() {
            self.wire = wire; // for its memory
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
