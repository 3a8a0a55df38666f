//! A few replicas by hand, with journals and snapshot stores that lose nothing: what is told to
//! whom and when is the test's to say.
#![allow(dead_code, reason = "each test uses a part")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use quorate_raft::Record;
use quorate_smr::{Config, Event, Reply, Request, Smr, StateMachine};
use quorate_transport::{
    Cell, Halt, Incarnation, Input, Machine, NodeId, Peer, RequestId, RequestRange, Sink,
    SnapshotId, Start, StoreOp, Stored, Ticket, Time, Work,
};

type Message<S> = <Smr<S> as Machine>::Message;

/// What one node wrote, and what it has said.
pub(crate) struct Hands<S: StateMachine> {
    sent: VecDeque<(NodeId, Message<S>)>,
    pub(crate) answers: BTreeMap<RequestId, Reply>,
    pub(crate) events: Vec<Event>,
    pub(crate) halt: Option<Halt>,
    journal: Vec<(Ticket, Record)>,
    released: Ticket,
    ops: VecDeque<StoreOp>,
    work: VecDeque<Work>,
    pub(crate) snapshots: BTreeMap<SnapshotId, Vec<u8>>,
    making: Vec<u8>,
}

impl<S: StateMachine> Default for Hands<S> {
    fn default() -> Self {
        Self {
            sent: VecDeque::new(),
            answers: BTreeMap::new(),
            events: Vec::new(),
            halt: None,
            journal: Vec::new(),
            released: Ticket::ZERO,
            ops: VecDeque::new(),
            work: VecDeque::new(),
            snapshots: BTreeMap::new(),
            making: Vec::new(),
        }
    }
}

impl<S: StateMachine> Sink<Smr<S>> for Hands<S> {
    fn persist(&mut self, ticket: Ticket, record: Record) {
        self.journal.push((ticket, record));
    }
    fn send(&mut self, to: NodeId, message: Message<S>) {
        self.sent.push_back((to, message));
    }
    fn emit(&mut self, event: Event) {
        self.events.push(event);
    }
    fn answer(&mut self, ids: RequestRange, reply: Reply) {
        for id in ids.iter() {
            assert_eq!(self.answers.insert(id, reply.clone()), None, "{id} is answered twice");
        }
    }
    fn release(&mut self, upto: Ticket) {
        self.released = upto;
        self.journal.retain(|(ticket, _)| *ticket > upto);
    }
    fn store(&mut self, op: StoreOp) {
        self.ops.push_back(op);
    }
    fn work(&mut self, work: Work) {
        self.work.push_back(work);
    }
    fn halt(&mut self, halt: &Halt) {
        self.halt = Some(halt.clone());
    }
}

impl<S: StateMachine> Hands<S> {
    fn stored(&mut self, op: StoreOp) -> Option<Stored> {
        match op {
            StoreOp::Write { offset, bytes, .. } => {
                self.making.truncate(offset as usize);
                self.making.extend_from_slice(&bytes);
                None
            }
            StoreOp::Finish { id, .. } => {
                self.snapshots.insert(id, std::mem::take(&mut self.making));
                Some(Stored::Finished { id })
            }
            StoreOp::Read { id, offset, len_max, tag } => {
                let whole = &self.snapshots[&id];
                let rest = &whole[offset as usize..];
                let bytes = Bytes::copy_from_slice(&rest[..rest.len().min(len_max as usize)]);
                Some(Stored::Chunk { id, offset, bytes, len: whole.len() as u64, tag })
            }
            StoreOp::RemoveBefore { id } => {
                self.snapshots = self.snapshots.split_off(&id);
                None
            }
        }
    }
}

pub(crate) struct Node<S: StateMachine> {
    config: Config<S>,
    life: u64,
    /// Work that it hands over is done when the test says so.
    pub(crate) waits: bool,
    pub(crate) cell: Cell<Smr<S>>,
    pub(crate) hands: Hands<S>,
}

impl<S: StateMachine> Node<S> {
    /// The oldest work that was handed over is done; false where there is none.
    fn work(&mut self, now: Time) -> bool {
        let Some(work) = self.hands.work.pop_front() else { return false };
        self.cell.handle(now, Input::Worked(work.run()), &mut self.hands);
        true
    }

    fn settle(&mut self, now: Time) -> bool {
        let mut busy = false;
        for _ in 0..3 {
            self.cell.settle(now, &mut self.hands);
            let last = self.cell.last();
            self.cell.durable(now, last, &mut self.hands);
            while let Some(op) = self.hands.ops.pop_front() {
                busy = true;
                if let Some(stored) = self.hands.stored(op) {
                    self.cell.handle(now, Input::Stored(stored), &mut self.hands);
                }
            }
            busy |= !self.waits && self.work(now);
        }
        busy
    }
}

/// Nodes 1 and up.
pub(crate) struct Group<S: StateMachine> {
    pub(crate) nodes: BTreeMap<NodeId, Node<S>>,
    pub(crate) now: Time,
    /// Nobody hears them, and they hear nobody.
    pub(crate) cut: BTreeSet<NodeId>,
}

fn start<S: StateMachine>(node: NodeId, life: u64, now: Time, config: &Config<S>) -> Cell<Smr<S>> {
    let start = Start { node, incarnation: Incarnation(life), seed: node.0 * 7 + life, now };
    Cell::new(Smr::new(start, config.clone()).unwrap())
}

impl<S: StateMachine> Group<S> {
    /// Of so many nodes; each configuration may be changed. Node 1 leads.
    pub(crate) fn new(count: u64, state: S, change: impl Fn(NodeId, &mut Config<S>)) -> Self {
        let ids: Vec<NodeId> = (1..=count).map(NodeId).collect();
        let node = |id: &NodeId| {
            let mut config = Config::new(ids.clone(), state.clone());
            change(*id, &mut config);
            let cell = start(*id, 1, Time::ZERO, &config);
            (*id, Node { config, life: 1, waits: false, cell, hands: Hands::default() })
        };
        let nodes = ids.iter().map(node).collect();
        let mut group = Self { nodes, now: Time::ZERO, cut: BTreeSet::new() };
        ids.iter().for_each(|id| group.feed(*id, Input::Started));
        while group.leader().is_none() {
            group.pass(Duration::from_millis(20));
        }
        let leader = group.leader().unwrap();
        if leader != NodeId(1) {
            group.transfer(leader, NodeId(1));
        }
        group
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        let leads = |(id, node): (&NodeId, &Node<S>)| {
            let raft = node.cell.machine().raft();
            (node.hands.halt.is_none() && raft.is_leader()).then(|| (raft.term(), *id))
        };
        let all = self.nodes.iter().filter(|(id, _)| !self.cut.contains(id));
        all.filter_map(leads).max().map(|(_, id)| id)
    }

    pub(crate) fn transfer(&mut self, from: NodeId, to: NodeId) {
        self.ask(from, Request::Transfer { to: Some(to) });
        while self.leader() != Some(to) {
            self.pass(Duration::from_millis(20));
        }
    }

    pub(crate) fn feed(&mut self, id: NodeId, input: Input<Smr<S>>) {
        let node = self.nodes.get_mut(&id).unwrap();
        node.cell.handle(self.now, input, &mut node.hands);
        node.settle(self.now);
    }

    /// Asks a node; what it says at once has arrived everywhere when this returns.
    pub(crate) fn ask(&mut self, id: NodeId, request: Request) -> RequestId {
        let node = self.nodes.get_mut(&id).unwrap();
        let request = node.cell.request(self.now, request, &mut node.hands);
        node.settle(self.now);
        self.deliver();
        request
    }

    /// As [`ask`](Self::ask), and takes the answer.
    pub(crate) fn get(&mut self, id: NodeId, request: Request) -> Reply {
        let request = self.ask(id, request);
        for _ in 0..100 {
            if let Some(reply) = self.answer(id, request) {
                return reply;
            }
            self.pass(Duration::from_millis(20));
        }
        panic!("{request} is not answered")
    }

    pub(crate) fn answer(&mut self, id: NodeId, request: RequestId) -> Option<Reply> {
        self.nodes.get_mut(&id).unwrap().hands.answers.remove(&request)
    }

    /// Every message that is under way arrives, and those that come of it.
    pub(crate) fn deliver(&mut self) {
        loop {
            let mut all = Vec::new();
            let mut busy = false;
            for (id, node) in &mut self.nodes {
                busy |= node.settle(self.now);
                let from = Peer { node: *id, incarnation: Incarnation(node.life) };
                all.extend(node.hands.sent.drain(..).map(|(to, message)| (from, to, message)));
            }
            if all.is_empty() && !busy {
                return;
            }
            for (from, to, message) in all {
                if !self.cut.contains(&from.node) && !self.cut.contains(&to) {
                    self.feed(to, Input::Message { from, message });
                }
            }
        }
    }

    /// Time passes, and timers fire when they are due.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.deliver();
            let due = self.nodes.iter().filter_map(|(id, node)| Some((node.cell.deadline()?, *id)));
            match due.min().filter(|(at, _)| *at <= end) {
                Some((at, id)) => {
                    self.now = self.now.max(at);
                    self.feed(id, Input::Timer);
                }
                None => break,
            }
        }
        self.now = end;
    }

    /// The oldest work that a node has handed over is done; false where there is none.
    pub(crate) fn work(&mut self, id: NodeId) -> bool {
        let node = self.nodes.get_mut(&id).unwrap();
        let worked = node.work(self.now);
        node.settle(self.now);
        self.deliver();
        worked
    }

    /// Kills a node and starts it again from what it wrote.
    pub(crate) fn restart(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).unwrap();
        node.life += 1;
        let Hands { journal, released, snapshots, .. } = std::mem::take(&mut node.hands);
        node.cell = start(id, node.life, self.now, &node.config);
        for (ticket, record) in &journal {
            node.cell.replay(*ticket, record.clone()).unwrap();
        }
        node.cell.skip_to(released);
        node.hands = Hands { journal, released, snapshots, ..Hands::default() };
        self.feed(id, Input::Started);
        self.deliver();
    }

    pub(crate) fn replica(&self, id: u64) -> &Smr<S> {
        self.nodes[&NodeId(id)].cell.machine()
    }

    pub(crate) fn halt(&self, id: u64) -> Option<&Halt> {
        self.nodes[&NodeId(id)].hands.halt.as_ref()
    }
}
