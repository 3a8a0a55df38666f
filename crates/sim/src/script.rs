//! A few machines moved by hand, step by step: for named tests, and for golden stories.
//!
//! Nothing happens by itself. A test, or a line of a story, fires a timer, delivers a message,
//! lets a disk catch up, kills a node; what the machines do is written down in the order in which
//! it leaves their gates. The same steps always tell the same story.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quorate_transport::{
    Cell, Halt, Incarnation, Input, LinkState, Machine, NodeId, Peer, RequestId, RequestRange,
    Sink, SnapshotId, Start, StoreError, StoreOp, Stored, Ticket, Time, Work, crc32c,
};

pub mod golden;

/// What a crash leaves of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process dies: all that was written is there again.
    Kill,
    /// The power fails: only what was synced is.
    Power,
    /// The disk is lost too: the node will remember nothing.
    Disk,
}

/// A message under way.
#[derive(Clone, Debug)]
pub struct Flight<M> {
    /// Which life of which node sent it.
    pub from: Peer,
    /// To whom.
    pub to: NodeId,
    /// What it says.
    pub message: M,
}

/// What one life has said.
struct Hands<M: Machine> {
    node: NodeId,
    journal: Vec<(Ticket, M::Record)>,
    released: Ticket,
    sent: Vec<(NodeId, M::Message)>,
    events: Vec<M::Event>,
    answers: Vec<(RequestRange, M::Reply)>,
    store: Vec<StoreOp>,
    work: VecDeque<Work>,
    halted: Option<Halt>,
    story: String,
}

impl<M: Machine> Hands<M> {
    fn note(&mut self, what: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.story, "{} {what}", self.node);
    }
}

impl<M: Machine> Sink<M> for Hands<M> {
    fn persist(&mut self, ticket: Ticket, record: M::Record) {
        self.note(format_args!("persists {ticket}: {record:?}"));
        self.journal.push((ticket, record));
    }
    fn send(&mut self, to: NodeId, message: M::Message) {
        self.note(format_args!("-> {to} {message:?}"));
        self.sent.push((to, message));
    }
    fn emit(&mut self, event: M::Event) {
        self.note(format_args!("emits {event:?}"));
        self.events.push(event);
    }
    fn answer(&mut self, ids: RequestRange, reply: M::Reply) {
        let (first, last) = (ids.first, ids.last);
        if first == last {
            self.note(format_args!("answers {first}: {reply:?}"));
        } else {
            self.note(format_args!("answers {first}..={last}: {reply:?}"));
        }
        self.answers.push((ids, reply));
    }
    fn release(&mut self, upto: Ticket) {
        self.note(format_args!("releases up to {upto}"));
        self.released = upto;
    }
    fn store(&mut self, op: StoreOp) {
        self.note(format_args!("asks its store: {}", in_words(&op)));
        self.store.push(op);
    }
    fn work(&mut self, work: Work) {
        self.note(format_args!("hands work over"));
        self.work.push_back(work);
    }
    fn halt(&mut self, halt: &Halt) {
        self.note(format_args!("halts: {halt}"));
        self.halted = Some(halt.clone());
    }
}

fn in_words(op: &StoreOp) -> String {
    let name = |id: &SnapshotId| format!("{}@{}", id.index, id.term);
    match op {
        StoreOp::Write { id, offset, bytes } => {
            format!("write {} at {offset}, {} bytes", name(id), bytes.len())
        }
        StoreOp::Finish { id, len, .. } => format!("finish {}, {len} bytes", name(id)),
        StoreOp::Read { id, offset, .. } => format!("read {} at {offset}", name(id)),
        StoreOp::RemoveBefore { id } => format!("remove all before {}", name(id)),
    }
}

/// A node: its disk, which outlives it, and its present life.
struct Player<M: Machine> {
    incarnation: Incarnation,
    /// `None` while it is down.
    cell: Option<Cell<M>>,
    hands: Hands<M>,
    snapshots: BTreeMap<SnapshotId, Bytes>,
    making: Option<(SnapshotId, BytesMut)>,
}

/// A group of machines and the network between them.
pub struct Script<'a, M: Machine> {
    make: Box<dyn Fn(Start) -> M + 'a>,
    players: BTreeMap<NodeId, Player<M>>,
    wire: Vec<Flight<M::Message>>,
    cut: BTreeSet<(NodeId, NodeId)>,
    now: Time,
    story: String,
}

impl<'a, M: Machine> Script<'a, M> {
    /// Nodes 1 to `count`, all started, their first words under way.
    pub fn new(count: u64, make: impl Fn(Start) -> M + 'a) -> Self {
        let mut script = Self {
            make: Box::new(make),
            players: BTreeMap::new(),
            wire: Vec::new(),
            cut: BTreeSet::new(),
            now: Time::ZERO,
            story: String::new(),
        };
        for node in (1..=count).map(NodeId) {
            let hands = Hands {
                node,
                journal: Vec::new(),
                released: Ticket::ZERO,
                sent: Vec::new(),
                events: Vec::new(),
                answers: Vec::new(),
                store: Vec::new(),
                work: VecDeque::new(),
                halted: None,
                story: String::new(),
            };
            let (cell, snapshots) = (None, BTreeMap::new());
            let incarnation = Incarnation(0);
            script
                .players
                .insert(node, Player { incarnation, cell, hands, snapshots, making: None });
            script.start(node);
        }
        script
    }

    /// The machine of a node.
    ///
    /// # Panics
    /// When the node is down.
    #[must_use]
    pub fn node(&self, node: NodeId) -> &M {
        self.players[&node].cell.as_ref().expect("the node is up").machine()
    }

    /// True while a node runs.
    #[must_use]
    pub fn is_up(&self, node: NodeId) -> bool {
        self.players[&node].cell.is_some()
    }

    /// All nodes, in order.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + use<'a, M> {
        self.players.keys().copied().collect::<Vec<_>>().into_iter()
    }

    /// The time all nodes share.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// What a node has emitted in all its lives.
    #[must_use]
    pub fn events(&self, node: NodeId) -> &[M::Event] {
        &self.players[&node].hands.events
    }

    /// The answer to a request of the present life, where there is one.
    #[must_use]
    pub fn answer(&self, node: NodeId, id: RequestId) -> Option<&M::Reply> {
        let answers = &self.players[&node].hands.answers;
        answers.iter().find(|(ids, _)| ids.iter().any(|held| held == id)).map(|(_, reply)| reply)
    }

    /// Why a machine stopped itself, if it did.
    #[must_use]
    pub fn halted(&self, node: NodeId) -> Option<&Halt> {
        self.players[&node].hands.halted.as_ref()
    }

    /// The records that a kill would leave, with their tickets.
    #[must_use]
    pub fn journal(&self, node: NodeId) -> &[(Ticket, M::Record)] {
        &self.players[&node].hands.journal
    }

    /// Messages under way, oldest first.
    #[must_use]
    pub fn wire(&self) -> &[Flight<M::Message>] {
        &self.wire
    }

    /// What has happened since the last call, a line each.
    pub fn take_story(&mut self) -> String {
        std::mem::take(&mut self.story)
    }

    /// Time goes on; no timer fires by itself.
    pub fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
    }

    /// Time goes on to the node's deadline, if that is later, and its timer fires.
    pub fn timer(&mut self, node: NodeId) {
        let deadline = self.players[&node].cell.as_ref().and_then(Cell::deadline);
        if let Some(deadline) = deadline {
            self.now = self.now.max(deadline);
            self.input(node, Input::Timer);
        }
    }

    /// The node's application asks; 0 while the node is down.
    pub fn request(&mut self, node: NodeId, request: M::Request) -> RequestId {
        let mut id = RequestId(0);
        self.with(node, |cell, now, hands| id = cell.request(now, request, hands));
        id
    }

    /// The node's burst ends.
    pub fn settle(&mut self, node: NodeId) {
        self.with(node, |cell, now, hands| cell.settle(now, hands));
    }

    /// The node's burst ends, and its disk catches up: all that it persisted is durable, and its
    /// snapshot store has done what was asked.
    pub fn sync(&mut self, node: NodeId) {
        loop {
            self.settle(node);
            self.with(node, |cell, now, hands| {
                let last = cell.last();
                cell.durable(now, last, hands);
            });
            self.settle(node);
            if let Some(op) = self.next_store_op(node) {
                if let Some(stored) = self.carry_out(node, op) {
                    self.input(node, Input::Stored(stored));
                }
            } else if !self.do_work(node) && self.is_durable(node) {
                return;
            }
        }
    }

    /// The node's disk has synced its records up to `upto`, and no more.
    pub fn sync_upto(&mut self, node: NodeId, upto: Ticket) {
        self.with(node, |cell, now, hands| cell.durable(now, upto, hands));
    }

    /// Work that the node has handed over is done, the oldest first; false where there is none.
    pub fn do_work(&mut self, node: NodeId) -> bool {
        let player = self.players.get_mut(&node).expect("a node of the group");
        let Some(work) = player.hands.work.pop_front() else { return false };
        self.input(node, Input::Worked(work.run()));
        true
    }

    /// The node's snapshot store does what was asked of it; its journal syncs nothing.
    pub fn serve_store(&mut self, node: NodeId) {
        while let Some(op) = self.next_store_op(node) {
            if let Some(stored) = self.carry_out(node, op) {
                self.input(node, Input::Stored(stored));
            }
        }
    }

    fn is_durable(&self, node: NodeId) -> bool {
        let cell = self.players.get(&node).and_then(|player| player.cell.as_ref());
        cell.is_none_or(|cell| cell.durable_upto() >= cell.last())
    }

    /// A message that no node sent reaches `to` as if from the present life of `from`.
    pub fn inject(&mut self, from: NodeId, to: NodeId, message: M::Message) {
        let incarnation = self.players.get(&from).map_or(Incarnation(1), |p| p.incarnation);
        self.input(to, Input::Message { from: Peer { node: from, incarnation }, message });
    }

    /// The oldest message from one node to another arrives; false where none is under way.
    pub fn deliver(&mut self, from: NodeId, to: NodeId) -> bool {
        let between = |flight: &Flight<_>| flight.from.node == from && flight.to == to;
        let Some(at) = self.wire.iter().position(between) else {
            return false;
        };
        let Flight { from, to, message } = self.wire.remove(at);
        self.input(to, Input::Message { from, message });
        true
    }

    /// Messages that match are lost; how many.
    pub fn lose(&mut self, mut lost: impl FnMut(&Flight<M::Message>) -> bool) -> usize {
        let before = self.wire.len();
        self.wire.retain(|flight| !lost(flight));
        before - self.wire.len()
    }

    /// Every message under way between two nodes comes twice; the second copies come last.
    pub fn duplicate(&mut self, from: NodeId, to: NodeId) {
        let between = |flight: &&Flight<_>| flight.from.node == from && flight.to == to;
        let copies: Vec<_> = self.wire.iter().filter(between).cloned().collect();
        self.wire.extend(copies);
    }

    /// A node hears that a connection changed.
    pub fn link(&mut self, node: NodeId, peer: NodeId, state: LinkState) {
        self.input(node, Input::Link { peer, state });
    }

    /// Nothing passes from or to this node until [`heal`](Self::heal).
    pub fn isolate(&mut self, node: NodeId) {
        for other in self.nodes() {
            self.cut(node, other);
            self.cut(other, node);
        }
    }

    /// Nothing passes in this direction until [`heal`](Self::heal).
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
        self.lose(|flight| flight.from.node == from && flight.to == to);
    }

    /// All messages pass again.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// The machine must do without the records before a ticket.
    pub fn checkpoint(&mut self, node: NodeId, before: Ticket) {
        self.input(node, Input::Checkpoint { before });
    }

    /// A node dies. Messages that have left it stay under way.
    pub fn crash(&mut self, node: NodeId, how: Crash) {
        let player = self.players.get_mut(&node).expect("a node of the group");
        let Some(cell) = player.cell.take() else { return };
        if how == Crash::Power {
            let durable = cell.durable_upto();
            player.hands.journal.retain(|(ticket, _)| *ticket <= durable);
        }
        if how == Crash::Disk {
            let birth = player.incarnation.birth() + 1;
            player.incarnation = Incarnation::of(birth, 0);
            player.hands.journal.clear();
            player.hands.released = Ticket::ZERO;
            player.snapshots.clear();
        }
        // As the journal does: released records may be gone.
        let released = player.hands.released;
        player.hands.journal.retain(|(ticket, _)| *ticket > released);
        player.hands.store.clear();
        player.hands.work.clear();
        player.hands.answers.clear();
        player.making = None;
        let _ = writeln!(self.story, "{node} is down");
    }

    /// A node that is down loses the records from a ticket on, as if an older copy of its disk had
    /// been put in its place.
    pub fn lose_records(&mut self, node: NodeId, from: Ticket) {
        let player = self.players.get_mut(&node).expect("a node of the group");
        player.hands.journal.retain(|(ticket, _)| *ticket < from);
    }

    /// A node that is down starts again from its journal.
    ///
    /// # Panics
    /// When the machine refuses its own records.
    pub fn start(&mut self, node: NodeId) {
        let player = self.players.get_mut(&node).expect("a node of the group");
        if player.cell.is_some() {
            return;
        }
        player.incarnation = Incarnation(player.incarnation.0 + 1);
        player.hands.halted = None;
        let seed = node.0 * 1000 + player.incarnation.0;
        let start = Start { node, incarnation: player.incarnation, seed, now: self.now };
        let mut cell = Cell::new((self.make)(start));
        for (ticket, record) in &player.hands.journal {
            let replayed = cell.replay(*ticket, record.clone());
            replayed.expect("a machine takes its own records back");
        }
        cell.skip_to(player.hands.released);
        player.cell = Some(cell);
        self.input(node, Input::Started);
    }

    /// Bursts end, disks catch up and messages arrive until nothing is left to do; no timer fires.
    ///
    /// # Panics
    /// When that takes over 10,000 rounds: the machines chase each other.
    pub fn run(&mut self) {
        for _ in 0..10_000 {
            self.nodes().for_each(|node| self.sync(node));
            if self.wire.is_empty() {
                return;
            }
            for flight in std::mem::take(&mut self.wire) {
                let Flight { from, to, message } = flight;
                self.input(to, Input::Message { from, message });
            }
        }
        panic!("the machines never come to rest");
    }

    fn input(&mut self, node: NodeId, input: Input<M>) {
        self.with(node, |cell, now, hands| cell.handle(now, input, hands));
    }

    fn with(&mut self, node: NodeId, run: impl FnOnce(&mut Cell<M>, Time, &mut Hands<M>)) {
        let Some(player) = self.players.get_mut(&node) else { return };
        let Some(cell) = &mut player.cell else { return };
        run(cell, self.now, &mut player.hands);
        self.story.push_str(&std::mem::take(&mut player.hands.story));
        let from = Peer { node, incarnation: player.incarnation };
        for (to, message) in player.hands.sent.drain(..) {
            if !self.cut.contains(&(node, to)) {
                self.wire.push(Flight { from, to, message });
            }
        }
    }

    fn next_store_op(&mut self, node: NodeId) -> Option<StoreOp> {
        let player = self.players.get_mut(&node)?;
        let asked = !player.hands.store.is_empty() && player.cell.is_some();
        asked.then(|| player.hands.store.remove(0))
    }

    fn carry_out(&mut self, node: NodeId, op: StoreOp) -> Option<Stored> {
        let player = self.players.get_mut(&node)?;
        match op {
            StoreOp::Write { id, offset, bytes } => {
                if offset == 0 {
                    player.making = Some((id, BytesMut::new()));
                }
                let making = player.making.as_mut().filter(|(made, all)| {
                    *made == id && all.len() as u64 == offset // in order, of one snapshot
                });
                if let Some((_, all)) = making {
                    all.extend_from_slice(&bytes);
                }
                None
            }
            StoreOp::Finish { id, len, checksum } => {
                let made = player.making.take().filter(|(made, _)| *made == id);
                let right =
                    made.filter(|(_, all)| all.len() as u64 == len && crc32c(all) == checksum);
                let Some((_, all)) = right else {
                    return Some(Stored::Failed { id, error: StoreError::Mismatch, tag: 0 });
                };
                player.snapshots.insert(id, all.freeze());
                Some(Stored::Finished { id })
            }
            StoreOp::Read { id, offset, len_max, tag } => {
                let Some(all) = player.snapshots.get(&id) else {
                    return Some(Stored::Failed { id, error: StoreError::Missing, tag });
                };
                let from = (offset as usize).min(all.len());
                let to = (from + len_max as usize).min(all.len());
                let (bytes, len) = (all.slice(from..to), all.len() as u64);
                Some(Stored::Chunk { id, offset, bytes, len, tag })
            }
            StoreOp::RemoveBefore { id } => {
                player.snapshots.retain(|held, _| *held >= id);
                None
            }
        }
    }
}
