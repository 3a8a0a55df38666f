//! Every order of events within bounds: breadth-first over the real machines, by digest.
//!
//! A state is all nodes with their journals, and the messages under way. From each state every
//! message may be delivered, dropped or doubled, every timer may fire, every journal may be synced,
//! every node may crash and come back with what it had synced, and clients may ask. States of one
//! digest are one; what is found first is found by a shortest trace.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::rc::Rc;

use quorate_transport::{
    Cell, Digest, Halt, Incarnation, Input, Machine, NodeId, Peer, Rename, RequestRange, Sink,
    Start, StoreOp, Ticket, Time,
};

/// How far to go. Each number is for a whole run of events, not for one node.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Timers that fire.
    pub timers: u8,
    /// Messages dropped or doubled.
    pub losses: u8,
    /// Crashes.
    pub crashes: u8,
    /// Requests of clients.
    pub requests: u8,
    /// Messages under way at a time; states with more are not followed.
    pub messages_max: usize,
    /// States to visit at the most; reaching it means that the search is not complete.
    pub states_max: usize,
}

/// What is explored.
pub struct Model<'a, M: Machine> {
    /// How many nodes, numbered from 1.
    pub nodes: u64,
    /// Makes a node that remembers nothing.
    pub make: &'a dyn Fn(Start) -> M,
    /// What a client might ask a node in this state.
    pub request: &'a dyn Fn(&M) -> Option<M::Request>,
    /// False for states that need not be followed further.
    pub within: &'a dyn Fn(&M) -> bool,
    /// Which records survive a crash: all, unless a bug is planted.
    pub keeps: &'a dyn Fn(&M::Record) -> bool,
    /// What has happened before the search begins; nothing where `None`.
    pub prelude: Option<Prelude<'a, M>>,
}

/// A calm beginning: one timer fires, and what follows is delivered and synced in order.
pub struct Prelude<'a, M: Machine> {
    /// Whose timer.
    pub timer_of: NodeId,
    /// Nothing reaches this node.
    pub cut_off: Option<NodeId>,
    /// It ends when a machine is so, or when nothing is left to do.
    pub until: &'a dyn Fn(&M) -> bool,
}

/// What a search came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Different states seen.
    pub states: usize,
    /// Events tried.
    pub events: u64,
    /// The longest shortest way to a state.
    pub depth: u32,
    /// True when every state within the bounds was seen.
    pub complete: bool,
    /// What is wrong, and the shortest way there.
    pub violation: Option<(String, Vec<String>)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, events, depth, complete, violation } = self;
        let how = if *complete { "complete" } else { "NOT complete" };
        write!(f, "{states} states, {events} events, depth {depth}, {how}")?;
        if let Some((what, trace)) = violation {
            write!(f, "\n{what}")?;
            trace.iter().try_for_each(|line| write!(f, "\n  {line}"))?;
        }
        Ok(())
    }
}

struct Node<M: Machine> {
    cell: Cell<M>,
    journal: Vec<(Ticket, M::Record)>,
    durable: usize,
    incarnation: u64,
    now: Time,
    /// Of what a crash would leave.
    remains: u128,
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
    digest: u128,
}

/// One state of the whole group.
pub struct State<M: Machine> {
    nodes: Vec<Rc<Node<M>>>,
    letters: Vec<Rc<Letter<M>>>,
    left: Bounds,
    /// What the checker remembers of the way here; part of the state.
    pub ghost: Vec<(u64, u64)>,
}

impl<M: Machine> Clone for State<M> {
    fn clone(&self) -> Self {
        let (nodes, letters) = (self.nodes.clone(), self.letters.clone());
        Self { nodes, letters, left: self.left, ghost: self.ghost.clone() }
    }
}

impl<M: Machine> State<M> {
    /// Each node's machine.
    pub fn machines(&self) -> impl Iterator<Item = &M> {
        self.nodes.iter().map(|node| node.cell.machine())
    }
}

struct Hands<M: Machine> {
    persisted: Vec<(Ticket, M::Record)>,
    sent: Vec<(NodeId, M::Message)>,
    halted: Option<String>,
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

/// Searches all states within the bounds. `check` may note what it must remember in the ghost.
pub fn explore<M: Machine>(
    model: &Model<'_, M>,
    bounds: Bounds,
    check: &dyn Fn(&mut State<M>) -> Result<(), String>,
) -> Report {
    let mut seen = BTreeSet::new();
    let mut ways: Vec<(u32, u32, String)> = Vec::new();
    let mut queue = VecDeque::new();
    let mut report = Report { states: 0, events: 0, depth: 0, complete: true, violation: None };
    let first = model.first(bounds);
    seen.insert(first.digest());
    ways.push((0, 0, "start".into()));
    queue.push_back((0u32, first));
    while let Some((number, state)) = queue.pop_front() {
        for (event, next) in model.successors(&state) {
            report.events += 1;
            let Some(mut next) = next else { continue };
            let wrong = next.0.take().or_else(|| check(&mut next.1).err());
            let state = next.1;
            if wrong.is_none() && !seen.insert(state.digest()) {
                continue;
            }
            let depth = ways[number as usize].1 + 1;
            report.depth = report.depth.max(depth);
            ways.push((number, depth, event));
            if let Some(what) = wrong {
                report.violation = Some((what, story(&ways)));
                report.states = seen.len();
                report.complete = false;
                return report;
            }
            if seen.len() >= bounds.states_max {
                report.states = seen.len();
                report.complete = false;
                return report;
            }
            let followed = state.letters.len() <= bounds.messages_max
                && state.machines().all(|machine| (model.within)(machine));
            if followed {
                queue.push_back((ways.len() as u32 - 1, state));
            }
        }
    }
    report.states = seen.len();
    report
}

/// The way to the last state.
fn story(ways: &[(u32, u32, String)]) -> Vec<String> {
    let mut at = ways.len() - 1;
    let mut lines = Vec::new();
    while at != 0 {
        lines.push(ways[at].2.clone());
        at = ways[at].0 as usize;
    }
    lines.reverse();
    lines
}

/// What broke, if something did, and the state after.
type Next<M> = Option<(Option<String>, State<M>)>;

impl<M: Machine> Model<'_, M> {
    fn first(&self, bounds: Bounds) -> State<M> {
        let mut state =
            State { nodes: Vec::new(), letters: Vec::new(), left: bounds, ghost: Vec::new() };
        for id in 1..=self.nodes {
            state.nodes.push(Rc::new(self.born(id, 1, Time::ZERO, Vec::new())));
        }
        for at in 0..state.nodes.len() {
            let _ = self.input(&mut state, at, |cell, now, hands| {
                cell.handle(now, Input::Started, hands);
            });
        }
        if let Some(prelude) = &self.prelude {
            state = self.play(prelude, state);
            state.left = bounds;
        }
        state
    }

    fn play(&self, prelude: &Prelude<'_, M>, state: State<M>) -> State<M> {
        let timer = self.timer(&state, prelude.timer_of.0 as usize - 1);
        let mut state = timer.map_or(state, |(_, next)| next);
        loop {
            state.letters.retain(|letter| Some(letter.to) != prelude.cut_off);
            let over = state.machines().any(|machine| (prelude.until)(machine));
            let synced = (0..state.nodes.len()).find_map(|at| self.sync(&state, at));
            state = match synced {
                _ if over => return state,
                Some((_, next)) => next,
                None if state.letters.is_empty() => return state,
                None => match self.deliver(&state, 0, true) {
                    Some((_, next)) => next,
                    None => return state,
                },
            };
        }
    }

    fn start(id: u64, incarnation: u64, now: Time) -> Start {
        Start { node: NodeId(id), incarnation: Incarnation(incarnation), seed: id, now }
    }

    fn born(
        &self,
        id: u64,
        incarnation: u64,
        now: Time,
        journal: Vec<(Ticket, M::Record)>,
    ) -> Node<M> {
        let mut cell = Cell::new((self.make)(Self::start(id, incarnation, now)));
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
        let mut cell = Cell::new((self.make)(Self::start(id, 0, Time::ZERO)));
        let kept = node.journal[..node.durable].iter().filter(|(_, record)| (self.keeps)(record));
        for (ticket, record) in kept {
            let _ = cell.replay(*ticket, record.clone());
        }
        let mut digest = Digest::default();
        cell.machine().digest(Time::ZERO, &Rename::identity(), &mut digest);
        digest.value()
    }

    /// Everything that can happen next, in words, and what comes of it.
    fn successors(&self, state: &State<M>) -> Vec<(String, Next<M>)> {
        let mut all = Vec::new();
        for at in 0..state.letters.len() {
            let letter = &state.letters[at];
            let name = format!("{} -> {}: {:?}", letter.from.node, letter.to, letter.message);
            all.push((name.clone(), self.deliver(state, at, true)));
            if state.left.losses > 0 {
                all.push((format!("lost: {name}"), self.lose(state, at)));
                let mut doubled = self.deliver(state, at, false);
                doubled.iter_mut().for_each(|(_, state)| state.left.losses -= 1);
                all.push((format!("doubled: {name}"), doubled));
            }
        }
        for at in 0..state.nodes.len() {
            let id = at + 1;
            all.push((format!("n{id} timer"), self.timer(state, at)));
            all.push((format!("n{id} synced"), self.sync(state, at)));
            all.push((format!("n{id} crashes"), self.crash(state, at)));
            all.push((format!("n{id} is asked"), self.ask(state, at)));
        }
        all
    }

    fn deliver(&self, state: &State<M>, at: usize, remove: bool) -> Next<M> {
        let mut next = state.clone();
        let letter = Rc::clone(&next.letters[at]);
        if remove {
            next.letters.remove(at);
        }
        let to = letter.to.0 as usize - 1;
        let broken = self.input(&mut next, to, |cell, now, hands| {
            let message = letter.message.clone();
            cell.handle(now, Input::Message { from: letter.from, message }, hands);
        });
        Some((broken, next))
    }

    fn lose(&self, state: &State<M>, at: usize) -> Next<M> {
        let mut next = state.clone();
        next.letters.remove(at);
        next.left.losses -= 1;
        Some((None, next))
    }

    fn timer(&self, state: &State<M>, at: usize) -> Next<M> {
        let deadline = state.nodes[at].cell.deadline()?;
        let mut next = state.clone();
        next.left.timers = next.left.timers.checked_sub(1)?;
        let node = Rc::make_mut(&mut next.nodes[at]);
        node.now = node.now.max(deadline);
        let broken = self.input(&mut next, at, |cell, now, hands| {
            cell.handle(now, Input::Timer, hands);
        });
        Some((broken, next))
    }

    fn sync(&self, state: &State<M>, at: usize) -> Next<M> {
        let node = &state.nodes[at];
        let (last, _) = node.journal.get(node.durable..)?.last()?;
        let last = *last;
        let mut next = state.clone();
        let node = Rc::make_mut(&mut next.nodes[at]);
        node.durable = node.journal.len();
        node.remains = self.remains(at as u64 + 1, node);
        let broken = self.input(&mut next, at, |cell, now, hands| cell.durable(now, last, hands));
        Some((broken, next))
    }

    fn crash(&self, state: &State<M>, at: usize) -> Next<M> {
        let mut next = state.clone();
        next.left.crashes = next.left.crashes.checked_sub(1)?;
        let node = &state.nodes[at];
        let durable = node.journal[..node.durable].iter();
        let journal = durable.filter(|(_, record)| (self.keeps)(record)).cloned().collect();
        let id = at as u64 + 1;
        next.nodes[at] = Rc::new(self.born(id, node.incarnation + 1, node.now, journal));
        let broken = self.input(&mut next, at, |cell, now, hands| {
            cell.handle(now, Input::Started, hands);
        });
        Some((broken, next))
    }

    fn ask(&self, state: &State<M>, at: usize) -> Next<M> {
        let request = (self.request)(state.nodes[at].cell.machine())?;
        let mut next = state.clone();
        next.left.requests = next.left.requests.checked_sub(1)?;
        let broken = self.input(&mut next, at, |cell, now, hands| {
            cell.request(now, request, hands);
        });
        Some((broken, next))
    }

    /// One input and the end of its burst; what is sent is under way at once.
    fn input(
        &self,
        state: &mut State<M>,
        at: usize,
        run: impl FnOnce(&mut Cell<M>, Time, &mut Hands<M>),
    ) -> Option<String> {
        let node = Rc::make_mut(&mut state.nodes[at]);
        let mut hands = Hands { persisted: Vec::new(), sent: Vec::new(), halted: None };
        run(&mut node.cell, node.now, &mut hands);
        node.cell.settle(node.now, &mut hands);
        node.journal.append(&mut hands.persisted);
        let incarnation = Incarnation(node.incarnation);
        let from = Peer { node: NodeId(at as u64 + 1), incarnation };
        for (to, message) in hands.sent {
            let mut digest = Digest::default();
            digest.u64(from.node.0);
            digest.u64(to.0);
            digest.bytes(format!("{message:?}").as_bytes());
            let digest = digest.value();
            state.letters.push(Rc::new(Letter { from, to, message, digest }));
        }
        hands.halted
    }
}

impl<M: Machine> State<M> {
    fn digest(&self) -> u128 {
        let mut digest = Digest::default();
        for node in &self.nodes {
            node.cell.machine().digest(node.now, &Rename::identity(), &mut digest);
            for effect in node.cell.gated() {
                digest.bytes(format!("{effect:?}").as_bytes());
            }
            digest.u64((node.journal.len() - node.durable) as u64);
            digest.u64(node.remains as u64);
            digest.u64((node.remains >> 64) as u64);
        }
        // The order in which messages were sent means nothing.
        let letters = self.letters.iter().fold(0u128, |sum, next| sum.wrapping_add(next.digest));
        digest.u64(letters as u64);
        digest.u64((letters >> 64) as u64);
        let Bounds { timers, losses, crashes, requests, .. } = self.left;
        digest.bytes(&[timers, losses, crashes, requests]);
        for (name, value) in &self.ghost {
            digest.u64(*name);
            digest.u64(*value);
        }
        digest.value()
    }
}
