//! What a command costs in memory: the batch it stands in, made once on the leader and shared by
//! all nodes, and nothing an entry beyond that.

use allocation_counter::measure;
use quorate_raft::{Config, Event, Index, Message, Proposals, Raft, Reply, Request};
use quorate_transport::{
    Cell, Halt, Incarnation, Input, Machine, NodeId, Peer, RequestRange, Sink, SnapshotId, Start,
    StoreOp, Stored, Ticket, Time,
};

/// What leaves a node; its memory is kept.
#[derive(Default)]
struct Hands {
    wire: Vec<(NodeId, Message)>,
    persisted: Ticket,
    last: Index,
    committed: u64,
}

impl Sink<Raft> for Hands {
    fn persist(&mut self, ticket: Ticket, _: <Raft as Machine>::Record) {
        self.persisted = ticket;
    }
    fn send(&mut self, to: NodeId, message: Message) {
        self.wire.push((to, message));
    }
    fn emit(&mut self, event: Event) {
        if let Event::Committed(view) = event {
            self.last = view.last();
        }
    }
    fn answer(&mut self, ids: RequestRange, reply: Reply) {
        if matches!(reply, Reply::Committed { .. }) {
            self.committed += ids.count();
        }
    }
    fn release(&mut self, _: Ticket) {}
    fn store(&mut self, _: StoreOp) {}
    fn halt(&mut self, halt: &Halt) {
        panic!("{halt}");
    }
}

/// Three nodes in one thread, of which the first leads.
struct Trio {
    cells: Vec<(Cell<Raft>, Hands)>,
    wire: Vec<(NodeId, Message)>,
    now: Time,
}

impl Trio {
    fn new() -> Self {
        let cell = |node| {
            let mut config = Config::new((1..=3).map(NodeId));
            config.keep_bytes_max = 0;
            let incarnation = Incarnation(1);
            let start = Start { node: NodeId(node), incarnation, seed: node, now: Time::ZERO };
            (Cell::new(Raft::new(start, config).expect("valid")), Hands::default())
        };
        let cells = (1..=3).map(cell).collect();
        let mut trio = Self { cells, wire: Vec::new(), now: Time::ZERO };
        for (cell, hands) in &mut trio.cells {
            cell.handle(Time::ZERO, Input::Started, hands);
        }
        trio.now = Time::ZERO + core::time::Duration::from_secs(1);
        let (cell, hands) = &mut trio.cells[0];
        cell.handle(trio.now, Input::Timer, hands);
        trio.run();
        assert!(trio.cells[0].0.machine().is_leader());
        trio
    }

    /// Until nothing is under way.
    fn run(&mut self) {
        let mut idle = 0;
        while idle < 2 {
            idle += 1;
            for at in 0..self.cells.len() {
                let (cell, hands) = &mut self.cells[at];
                cell.settle(self.now, hands);
                if hands.persisted > cell.durable_upto() {
                    cell.durable(self.now, hands.persisted, hands);
                    idle = 0;
                }
                std::mem::swap(&mut self.wire, &mut hands.wire);
                let from = Peer { node: NodeId(at as u64 + 1), incarnation: Incarnation(1) };
                for (to, message) in self.wire.drain(..) {
                    idle = 0;
                    let (cell, hands) = &mut self.cells[to.0 as usize - 1];
                    cell.feed(self.now, Input::Message { from, message }, hands);
                }
            }
        }
    }

    fn propose(&mut self, proposals: Proposals) {
        let (cell, hands) = &mut self.cells[0];
        cell.feed_request(self.now, Request::Propose(proposals), hands);
        self.run();
    }

    /// All is applied, and the log gives its entries up.
    fn compact(&mut self) {
        for (cell, hands) in &mut self.cells {
            let index = hands.last;
            cell.request(self.now, Request::Applied { index }, hands);
            cell.request(self.now, Request::Compact { index, contents: Default::default() }, hands);
            let id = SnapshotId { index: index.0, term: cell.machine().term().0 };
            cell.handle(self.now, Input::Stored(Stored::Finished { id }), hands);
        }
        self.run();
    }
}

/// Allocations of one request of `count` commands, from proposal to applied on all three nodes,
/// once queues have grown to what they need.
fn a_request(trio: &mut Trio, count: usize) -> f64 {
    let rounds = 64;
    let round = |trio: &mut Trio| {
        let mut proposals = Proposals::with_capacity(count * 64, count);
        (0..count).for_each(|_| proposals.push(&[7; 64]));
        trio.propose(proposals);
    };
    (0..2 * rounds).for_each(|_| round(trio));
    trio.compact();
    let info = measure(|| (0..rounds).for_each(|_| round(trio)));
    trio.compact();
    info.count_total as f64 / rounds as f64
}

#[test]
fn a_request_allocates_its_batch_and_nothing_an_entry() {
    let mut trio = Trio::new();
    let costs: Vec<f64> = [1, 64, 1024].map(|count| a_request(&mut trio, count)).to_vec();
    // The caller's arena and its list of ends, the shared bytes, and the batch around them.
    assert!(costs.iter().all(|cost| *cost <= 3.0), "{costs:?}");
    let spread = costs.iter().fold(0.0f64, |most, cost| most.max((cost - costs[1]).abs()));
    assert!(spread <= 1.5, "as many whatever the number of entries: {costs:?}");
    assert!(trio.cells[0].1.committed >= 3 * 192, "and all are committed");
}
