//! A few machines of one kind in one thread, for counting and timing: messages are handed over at
//! once, and every record is durable at the end of the burst that made it.

use std::collections::VecDeque;

use quorate_transport::{
    Cell, Halt, Incarnation, Input, Machine, NodeId, Peer, RequestId, RequestRange, Sink, Start,
    StoreOp, Ticket, Time,
};

/// What leaves a machine.
pub struct Hands<M: Machine> {
    wire: Vec<(NodeId, M::Message)>,
    persisted: Ticket,
    /// Messages sent.
    pub messages: u64,
    /// Bursts whose records something waited for: each is one forced write.
    pub forced: u64,
    /// Events that nobody has taken yet.
    pub events: VecDeque<M::Event>,
    /// Answers that nobody has taken yet.
    pub answers: VecDeque<(RequestRange, M::Reply)>,
}

impl<M: Machine> Sink<M> for Hands<M> {
    fn persist(&mut self, ticket: Ticket, _: M::Record) {
        self.persisted = ticket;
    }
    fn send(&mut self, to: NodeId, message: M::Message) {
        self.messages += 1;
        self.wire.push((to, message));
    }
    fn emit(&mut self, event: M::Event) {
        self.events.push_back(event);
    }
    fn answer(&mut self, ids: RequestRange, reply: M::Reply) {
        self.answers.push_back((ids, reply));
    }
    fn release(&mut self, _: Ticket) {}
    fn store(&mut self, _: StoreOp) {}
    fn halt(&mut self, halt: &Halt) {
        panic!("{halt}");
    }
}

/// Nodes 1 to n.
pub struct Group<M: Machine> {
    cells: Vec<(Cell<M>, Hands<M>)>,
    wire: Vec<(NodeId, M::Message)>,
}

impl<M: Machine> std::fmt::Debug for Group<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("nodes", &self.cells.len()).finish_non_exhaustive()
    }
}

impl<M: Machine> Group<M> {
    /// Starts them, and runs until nothing is under way.
    pub fn new(nodes: u64, make: impl Fn(Start) -> M) -> Self {
        let cell = |node| {
            let (node, incarnation) = (NodeId(node), Incarnation(1));
            let start = Start { node, incarnation, seed: node.0, now: Time::ZERO };
            let hands = Hands {
                wire: Vec::new(),
                persisted: Ticket::ZERO,
                messages: 0,
                forced: 0,
                events: VecDeque::new(),
                answers: VecDeque::new(),
            };
            (Cell::new(make(start)), hands)
        };
        let mut group = Self { cells: (1..=nodes).map(cell).collect(), wire: Vec::new() };
        for (cell, hands) in &mut group.cells {
            cell.handle(Time::ZERO, Input::Started, hands);
        }
        group.run();
        group
    }

    /// What has left a node.
    pub fn hands(&mut self, node: u64) -> &mut Hands<M> {
        &mut self.cells[node as usize - 1].1
    }

    /// Messages and forced writes of all nodes together.
    #[must_use]
    pub fn cost(&self) -> (u64, u64) {
        let hands = || self.cells.iter().map(|(_, hands)| hands);
        (hands().map(|hands| hands.messages).sum(), hands().map(|hands| hands.forced).sum())
    }

    /// Asks a node; call [`run`](Self::run) afterwards.
    pub fn request(&mut self, node: u64, request: M::Request) -> RequestId {
        let (cell, hands) = &mut self.cells[node as usize - 1];
        cell.request(Time::ZERO, request, hands)
    }

    /// Until nothing is under way.
    pub fn run(&mut self) {
        let mut moved = true;
        while moved {
            moved = false;
            for at in 0..self.cells.len() {
                let (cell, hands) = &mut self.cells[at];
                cell.settle(Time::ZERO, hands);
                if hands.persisted > cell.durable_upto() {
                    hands.forced += u64::from(cell.gated_len() > 0);
                    cell.durable(Time::ZERO, hands.persisted, hands);
                    moved = true;
                }
                moved |= !hands.wire.is_empty();
                std::mem::swap(&mut self.wire, &mut hands.wire);
                let from = Peer { node: NodeId(at as u64 + 1), incarnation: Incarnation(1) };
                for (to, message) in self.wire.drain(..) {
                    let (cell, hands) = &mut self.cells[to.0 as usize - 1];
                    cell.handle(Time::ZERO, Input::Message { from, message }, hands);
                }
            }
        }
    }
}
