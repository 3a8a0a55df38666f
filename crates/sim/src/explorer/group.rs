//! The nodes and messages of a search, interned, and what can happen to them.

use std::collections::BTreeMap;
use std::rc::Rc;

use quorate_transport::{
    Cell, Digest, Halt, Incarnation, Input, Machine, NodeId, Peer, Rename, RequestRange, Sink,
    Start, StoreOp, Ticket, Time,
};

use super::table::Numbers;
use super::{Bounds, Model, Prelude, State};

/// One node with its journal.
pub(super) struct Node<M: Machine> {
    cell: Cell<M>,
    journal: Vec<(Ticket, M::Record)>,
    durable: usize,
    incarnation: u64,
    now: Time,
    /// Of what a crash would leave.
    remains: u128,
}

impl<M: Machine> Node<M> {
    pub(super) fn machine(&self) -> &M {
        self.cell.machine()
    }

    fn is_unsynced(&self) -> bool {
        self.durable < self.journal.len()
    }

    /// Nodes at one place with one digest behave alike.
    fn digest(&self, at: usize) -> u128 {
        let mut digest = Digest::default();
        digest.u64(at as u64);
        self.cell.machine().digest(self.now, &Rename::identity(), &mut digest);
        for effect in self.cell.gated() {
            digest.bytes(format!("{effect:?}").as_bytes());
        }
        digest.u64((self.journal.len() - self.durable) as u64);
        digest.u64(self.remains as u64);
        digest.u64((self.remains >> 64) as u64);
        digest.value()
    }
}

impl<M: Machine> Clone for Node<M> {
    fn clone(&self) -> Self {
        let (cell, journal) = (self.cell.clone(), self.journal.clone());
        let Self { durable, incarnation, now, remains, .. } = *self;
        Self { cell, journal, durable, incarnation, now, remains }
    }
}

struct Letter<M: Machine> {
    from: Peer,
    to: NodeId,
    message: M::Message,
}

/// One thing that can happen: what, and to which letter or node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event(What, u8);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Start,
    Deliver,
    Lose,
    Double,
    Timer,
    Sync,
    Crash,
    Ask,
}

impl Event {
    pub(super) const START: Self = Self(What::Start, 0);
}

/// A state, by numbers: what is left of the bounds, the ghost, the nodes, and the letters in rising
/// order, for the order in which they were sent means nothing.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    left: Left,
    ghost: u32,
    nodes: u8,
    numbers: Box<[u32]>,
}

#[derive(Clone, Copy, Debug)]
struct Left {
    timers: u8,
    losses: u8,
    crashes: u8,
    requests: u8,
}

impl Packed {
    fn nodes(&self) -> &[u32] {
        &self.numbers[..usize::from(self.nodes)]
    }

    fn letters(&self) -> &[u32] {
        &self.numbers[usize::from(self.nodes)..]
    }

    pub(super) fn digest(&self) -> u128 {
        let Left { timers, losses, crashes, requests } = self.left;
        let mut digest = Digest::default();
        digest.u64(u64::from(u32::from_le_bytes([timers, losses, crashes, requests])));
        digest.u64(u64::from(self.ghost));
        self.numbers.iter().for_each(|number| digest.u64(u64::from(*number)));
        digest.value()
    }
}

/// What an input did to a node: the node it became, what it sent, and what is wrong.
#[derive(Clone)]
struct Step {
    node: u32,
    sent: Box<[u32]>,
    broken: Option<String>,
}

/// Everything that was seen so far, once.
pub(super) struct Group<'a, 'b, M: Machine> {
    model: &'a Model<'b, M>,
    nodes: Vec<Rc<Node<M>>>,
    node_numbers: Numbers,
    letters: Vec<Letter<M>>,
    letter_numbers: Numbers,
    ghosts: Vec<Vec<(u64, u64)>>,
    ghost_numbers: BTreeMap<Vec<(u64, u64)>, u32>,
    steps: Vec<Option<Step>>,
    step_numbers: Numbers,
}

/// What broke, if something did, and the state after; `None` where it cannot happen.
type Next = Option<(Option<String>, Packed)>;

impl<'a, 'b, M: Machine> Group<'a, 'b, M> {
    pub(super) fn new(model: &'a Model<'b, M>) -> Self {
        Self {
            model,
            nodes: Vec::new(),
            node_numbers: Numbers::new(),
            letters: Vec::new(),
            letter_numbers: Numbers::new(),
            ghosts: vec![Vec::new()],
            ghost_numbers: BTreeMap::from([(Vec::new(), 0)]),
            steps: Vec::new(),
            step_numbers: Numbers::new(),
        }
    }

    /// All nodes started, and what the prelude says done.
    pub(super) fn first(&mut self, bounds: Bounds) -> Packed {
        let Bounds { timers, losses, crashes, requests, .. } = bounds;
        let left = Left { timers, losses, crashes, requests };
        let mut numbers = Vec::new();
        let mut sent = Vec::new();
        for at in 0..self.model.nodes as usize {
            let mut node = self.born(at as u64 + 1, 1, Time::ZERO, Vec::new());
            let hands = run(&mut node, |cell, now, hands| cell.handle(now, Input::Started, hands));
            let step = self.step(at, node, hands);
            numbers.push(step.node);
            sent.extend(step.sent);
        }
        sent.sort_unstable();
        numbers.extend(sent);
        let nodes = self.model.nodes as u8;
        let mut state = Packed { left, ghost: 0, nodes, numbers: numbers.into() };
        if let Some(prelude) = &self.model.prelude {
            state.left.timers = 1;
            state = self.play(prelude, state);
            state.left = left;
        }
        state
    }

    fn play(&mut self, prelude: &Prelude<'_, M>, mut state: Packed) -> Packed {
        let mut next = Event(What::Timer, prelude.timer_of.0 as u8 - 1);
        loop {
            if let Some((_, after)) = self.apply(&state, next) {
                state = after;
            }
            let keeps = |letter: &u32| Some(self.letters[*letter as usize].to) != prelude.cut_off;
            let kept = state.letters().iter().copied().filter(keeps);
            state.numbers = state.nodes().iter().copied().chain(kept).collect();
            let nodes = || state.nodes().iter().map(|node| &self.nodes[*node as usize]);
            let over = nodes().any(|node| (prelude.until)(node.machine()));
            next = match nodes().position(|node| node.is_unsynced()) {
                _ if over => return state,
                Some(at) => Event(What::Sync, at as u8),
                None if state.letters().is_empty() => return state,
                None => Event(What::Deliver, 0),
            };
        }
    }

    /// Everything that might happen next.
    pub(super) fn events(&self, state: &Packed) -> Vec<Event> {
        let mut events = Vec::with_capacity(3 * state.letters().len() + 4 * state.nodes().len());
        for at in 0..state.letters().len() as u8 {
            // Of equal letters one is enough.
            let at_once = usize::from(at);
            if at > 0 && state.letters()[at_once] == state.letters()[at_once - 1] {
                continue;
            }
            events.push(Event(What::Deliver, at));
            if state.left.losses > 0 {
                events.extend([Event(What::Lose, at), Event(What::Double, at)]);
            }
        }
        for at in 0..state.nodes {
            let whats = [What::Timer, What::Sync, What::Crash, What::Ask];
            events.extend(whats.map(|what| Event(what, at)));
        }
        events
    }

    /// An event in words.
    pub(super) fn name(&self, state: &Packed, event: Event) -> String {
        let Event(what, at) = event;
        let letter = || {
            let letter = &self.letters[state.letters()[usize::from(at)] as usize];
            format!("{} -> {}: {:?}", letter.from.node, letter.to, letter.message)
        };
        let node = NodeId(u64::from(at) + 1);
        match what {
            What::Start => "start".into(),
            What::Deliver => letter(),
            What::Lose => format!("lost: {}", letter()),
            What::Double => format!("doubled: {}", letter()),
            What::Timer => format!("{node} timer"),
            What::Sync => format!("{node} synced"),
            What::Crash => format!("{node} crashes"),
            What::Ask => format!("{node} is asked"),
        }
    }

    /// What comes of an event; `None` where it cannot happen.
    pub(super) fn apply(&mut self, state: &Packed, event: Event) -> Next {
        let Event(what, at) = event;
        let at = usize::from(at);
        let mut left = state.left;
        let spend = |left: &mut u8| -> Option<()> {
            *left = left.checked_sub(1)?;
            Some(())
        };
        let (place, removed) = match what {
            What::Deliver | What::Double => {
                let letter = state.letters()[at];
                if what == What::Double {
                    spend(&mut left.losses)?;
                }
                let to = self.letters[letter as usize].to.0 as usize - 1;
                (to, Some(at).filter(|_| what == What::Deliver))
            }
            What::Lose => {
                spend(&mut left.losses)?;
                let mut next = with(state, left, Some(at), None, &[]);
                next.ghost = state.ghost;
                return Some((None, next));
            }
            What::Timer => (at, spend(&mut left.timers).map(|()| None)?),
            What::Crash => (at, spend(&mut left.crashes).map(|()| None)?),
            What::Ask => (at, spend(&mut left.requests).map(|()| None)?),
            What::Sync => (at, None),
            What::Start => return None,
        };
        let letter = matches!(what, What::Deliver | What::Double).then(|| state.letters()[at]);
        let step = self.known_step(place, state.nodes()[place], what, letter)?;
        let next = with(state, left, removed, Some((place, step.node)), &step.sent);
        Some((step.broken.clone(), next))
    }

    /// Lets the checker look, and keeps what it remembers.
    pub(super) fn check(
        &mut self,
        packed: &mut Packed,
        check: &dyn Fn(&mut State<M>) -> Result<(), String>,
    ) -> Result<(), String> {
        let nodes = packed.nodes().iter().map(|node| Rc::clone(&self.nodes[*node as usize]));
        let ghost = self.ghosts[packed.ghost as usize].clone();
        let mut state = State { machines: nodes.collect(), ghost };
        check(&mut state)?;
        if state.ghost != self.ghosts[packed.ghost as usize] {
            packed.ghost = match self.ghost_numbers.get(&state.ghost) {
                Some(number) => *number,
                None => {
                    let number = self.ghosts.len() as u32;
                    self.ghosts.push(state.ghost.clone());
                    self.ghost_numbers.insert(state.ghost, number);
                    number
                }
            };
        }
        Ok(())
    }

    /// Whether the search goes on from here.
    pub(super) fn is_within(&self, state: &Packed, bounds: Bounds) -> bool {
        let nodes = || state.nodes().iter().map(|node| &self.nodes[*node as usize]);
        state.letters().len() <= bounds.messages_max
            && nodes().all(|node| (self.model.within)(node.machine()))
    }

    /// What an input does to a node, worked out once.
    fn known_step(
        &mut self,
        at: usize,
        node: u32,
        what: What,
        letter: Option<u32>,
    ) -> Option<&Step> {
        // A letter may be delivered once or twice; it is the same input.
        let kind = if letter.is_some() { What::Deliver } else { what };
        let key = u128::from(node) << 64 | u128::from(letter.unwrap_or(0)) << 8 | kind as u128;
        let number = match self.step_numbers.get(key) {
            Some(number) => number,
            None => {
                let step = self.new_step(at, node, what, letter);
                let number = self.steps.len() as u32;
                self.steps.push(step);
                self.step_numbers.insert(key, number);
                number
            }
        };
        self.steps[number as usize].as_ref()
    }

    fn new_step(&mut self, at: usize, node: u32, what: What, letter: Option<u32>) -> Option<Step> {
        let old = Rc::clone(&self.nodes[node as usize]);
        let mut node = Node::clone(&old);
        let id = at as u64 + 1;
        let hands = match what {
            What::Deliver | What::Double => {
                let Letter { from, message, .. } = &self.letters[letter? as usize];
                let input = Input::Message { from: *from, message: message.clone() };
                run(&mut node, |cell, now, hands| cell.handle(now, input, hands))
            }
            What::Timer => {
                node.now = node.now.max(old.cell.deadline()?);
                run(&mut node, |cell, now, hands| cell.handle(now, Input::Timer, hands))
            }
            What::Sync => {
                let (last, _) = node.journal.get(node.durable..)?.last()?;
                let last = *last;
                node.durable = node.journal.len();
                node.remains = self.remains(id, &node);
                run(&mut node, |cell, now, hands| cell.durable(now, last, hands))
            }
            What::Crash => {
                let durable = node.journal[..node.durable].iter();
                let kept = durable.filter(|(_, record)| (self.model.keeps)(record));
                let journal = kept.cloned().collect();
                node = self.born(id, node.incarnation + 1, node.now, journal);
                run(&mut node, |cell, now, hands| cell.handle(now, Input::Started, hands))
            }
            What::Ask => {
                let request = (self.model.request)(old.machine())?;
                run(&mut node, |cell, now, hands| {
                    cell.request(now, request, hands);
                })
            }
            What::Lose | What::Start => return None,
        };
        Some(self.step(at, node, hands))
    }

    /// Interns what a node became and what it sent.
    fn step(&mut self, at: usize, node: Node<M>, hands: Hands<M>) -> Step {
        let from = Peer { node: NodeId(at as u64 + 1), incarnation: Incarnation(node.incarnation) };
        let sent = hands.sent.into_iter().map(|(to, message)| {
            let mut digest = Digest::default();
            digest.u64(from.node.0);
            digest.u64(to.0);
            digest.bytes(format!("{message:?}").as_bytes());
            let digest = digest.value();
            self.letter_numbers.get(digest).unwrap_or_else(|| {
                let number = self.letters.len() as u32;
                self.letters.push(Letter { from, to, message });
                self.letter_numbers.insert(digest, number);
                number
            })
        });
        let sent = sent.collect();
        let digest = node.digest(at);
        let number = self.node_numbers.get(digest).unwrap_or_else(|| {
            let number = self.nodes.len() as u32;
            self.nodes.push(Rc::new(node));
            self.node_numbers.insert(digest, number);
            number
        });
        Step { node: number, sent, broken: hands.halted }
    }

    fn born(
        &self,
        id: u64,
        incarnation: u64,
        now: Time,
        journal: Vec<(Ticket, M::Record)>,
    ) -> Node<M> {
        let mut cell = Cell::new((self.model.make)(start(id, incarnation, now)));
        for (ticket, record) in &journal {
            let replayed = cell.replay(*ticket, record.clone());
            assert!(replayed.is_ok(), "what a machine has persisted, it can replay");
        }
        let durable = journal.len();
        let mut node = Node { cell, journal, durable, incarnation, now, remains: 0 };
        node.remains = self.remains(id, &node);
        node
    }

    /// The digest of what a crash would leave.
    fn remains(&self, id: u64, node: &Node<M>) -> u128 {
        let mut cell = Cell::new((self.model.make)(start(id, 0, Time::ZERO)));
        let durable = node.journal[..node.durable].iter();
        for (ticket, record) in durable.filter(|(_, record)| (self.model.keeps)(record)) {
            let _ = cell.replay(*ticket, record.clone());
        }
        let mut digest = Digest::default();
        cell.machine().digest(Time::ZERO, &Rename::identity(), &mut digest);
        digest.value()
    }
}

/// The state after: one letter less, one node another, some letters more.
fn with(
    state: &Packed,
    left: Left,
    removed: Option<usize>,
    changed: Option<(usize, u32)>,
    sent: &[u32],
) -> Packed {
    let mut numbers = Vec::with_capacity(state.numbers.len() + sent.len());
    numbers.extend_from_slice(state.nodes());
    if let Some((at, node)) = changed {
        numbers[at] = node;
    }
    let kept = state.letters().iter().enumerate().filter(|(at, _)| Some(*at) != removed);
    numbers.extend(kept.map(|(_, letter)| *letter));
    numbers.extend_from_slice(sent);
    numbers[usize::from(state.nodes)..].sort_unstable();
    Packed { left, ghost: state.ghost, nodes: state.nodes, numbers: numbers.into() }
}

fn start(id: u64, incarnation: u64, now: Time) -> Start {
    Start { node: NodeId(id), incarnation: Incarnation(incarnation), seed: id, now }
}

struct Hands<M: Machine> {
    persisted: Vec<(Ticket, M::Record)>,
    sent: Vec<(NodeId, M::Message)>,
    halted: Option<String>,
}

/// One input and the end of its burst; what is sent is under way at once.
fn run<M: Machine>(
    node: &mut Node<M>,
    input: impl FnOnce(&mut Cell<M>, Time, &mut Hands<M>),
) -> Hands<M> {
    let mut hands = Hands { persisted: Vec::new(), sent: Vec::new(), halted: None };
    input(&mut node.cell, node.now, &mut hands);
    node.cell.settle(node.now, &mut hands);
    node.journal.append(&mut hands.persisted);
    hands
}

impl<M: Machine> Sink<M> for Hands<M> {
    fn persist(&mut self, ticket: Ticket, record: M::Record) {
        self.persisted.push((ticket, record));
    }
    fn send(&mut self, to: NodeId, message: M::Message) {
        self.sent.push((to, message));
    }
    fn emit(&mut self, _: M::Event) {}
    fn answer(&mut self, _: RequestRange, _: M::Reply) {}
    fn release(&mut self, _: Ticket) {}
    fn store(&mut self, _: StoreOp) {}
    fn halt(&mut self, halt: &Halt) {
        self.halted = Some(halt.to_string());
    }
}
