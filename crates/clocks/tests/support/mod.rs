//! A group of processes that exchange stamped messages, badly: what really happened before what is
//! written down beside the clocks, so that they can be judged by it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use quorate_clocks::{
    AtomicLamport, Error, Hlc, HlcTime, Lamport, LamportTime, Stamp, VectorClock, WallTime,
};
use quorate_sim::sweep::{Least, Run};
use quorate_sim::{Choice, Choices, Fault, Violation, sometimes};
use quorate_transport::{Digest, Incarnation, NodeId, Peer, Rng};

pub(crate) mod invariants;

/// How far the wall clocks of two nodes are apart at most.
pub(crate) const EPSILON_NANOS: u64 = 100_000_000;
pub(crate) const AHEAD_MAX: Duration = Duration::from_millis(500);
/// How much of hybrid time a node reserves at once.
pub(crate) const RESERVE: Duration = Duration::from_millis(20);
const LAMPORT_RESERVE: u64 = 16;
/// True time at the beginning.
const BEGIN: u64 = 1_700_000_000_000_000_000;
/// An event more or less each.
const STEPS: u64 = 240;

/// What a sweep must have seen.
pub(crate) const MARKS: &[&str] = &[
    "a clock resumed ahead of its wall clock",
    "a clock was led by a peer",
    "a counter counted",
    "a wall clock was set back",
];

/// A seed is a history of events, not a world in time.
pub(crate) const LEAST: Least =
    Least { seconds: 0, operations: 100, faults: 10, leader_changes: 0 };

/// A set of events, by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Set(Vec<u64>);

impl Set {
    pub(crate) fn insert(&mut self, event: usize) {
        self.0.resize(self.0.len().max(event / 64 + 1), 0);
        self.0[event / 64] |= 1 << (event % 64);
    }

    pub(crate) fn has(&self, event: usize) -> bool {
        self.0.get(event / 64).is_some_and(|word| word >> (event % 64) & 1 == 1)
    }

    fn join(&mut self, other: &Self) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word |= other;
        }
    }
}

/// One event, with its stamps and with the truth.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) lamport: Stamp<LamportTime>,
    pub(crate) vector: VectorClock,
    pub(crate) hlc: HlcTime,
    /// What the node's wall clock showed.
    pub(crate) wall: WallTime,
    /// The greatest unit of wall time that the node could know of.
    pub(crate) known: u64,
    /// How often nodes of the group have restarted.
    pub(crate) restarts: u64,
    /// Events before it where each life of a node is a process of its own.
    pub(crate) before_by_life: Set,
    /// Events before it where a node's lives follow each other.
    pub(crate) before_by_node: Set,
}

type Reading = Box<dyn Fn() -> WallTime>;

struct Node {
    peer: Peer,
    wall: Rc<Cell<u64>>,
    plain: Lamport,
    shared: AtomicLamport,
    vector: VectorClock,
    hlc: Hlc<Reading>,
    /// What would survive a crash.
    lamport_bound: LamportTime,
    hlc_bound: HlcTime,
    /// The wall time of the bound that this life began after.
    resumed: u64,
    /// The latest event of this life, and of the node.
    latest: Option<usize>,
    latest_of_node: Option<usize>,
}

fn clock(wall: &Rc<Cell<u64>>, bound: HlcTime) -> Hlc<Reading> {
    let wall = Rc::clone(wall);
    Hlc::resume_after(bound, Box::new(move || WallTime(wall.get())), AHEAD_MAX)
}

impl Node {
    fn new(node: u64, now: u64) -> Self {
        let wall = Rc::new(Cell::new(now));
        Self {
            peer: Peer { node: NodeId(node), incarnation: Incarnation(1) },
            plain: Lamport::new(),
            shared: AtomicLamport::new(),
            vector: VectorClock::new(),
            hlc: clock(&wall, HlcTime::ZERO),
            wall,
            lamport_bound: LamportTime::ZERO,
            hlc_bound: HlcTime::ZERO,
            resumed: 0,
            latest: None,
            latest_of_node: None,
        }
    }

    fn restart(&mut self) {
        self.peer.incarnation.0 += 1;
        self.plain = Lamport::resume_after(self.lamport_bound);
        self.shared = AtomicLamport::resume_after(self.lamport_bound);
        self.vector = VectorClock::new();
        self.hlc = clock(&self.wall, self.hlc_bound);
        self.resumed = self.hlc_bound.wall().0;
        self.latest = None;
    }

    /// Stamps an event by all clocks, a receipt's after its message.
    fn stamp(&mut self, message: Option<&Event>) -> (LamportTime, HlcTime) {
        let (lamport, hlc) = match message {
            None => {
                self.vector.tick(self.peer).unwrap();
                (self.plain.tick().unwrap(), self.hlc.now().unwrap())
            }
            Some(message) => {
                self.vector.receive(self.peer, &message.vector).unwrap();
                let lamport = self.plain.receive(message.lamport.time).unwrap();
                (lamport, self.hlc.receive(message.hlc).unwrap())
            }
        };
        let shared = message.map_or_else(
            || self.shared.tick(),
            |message| self.shared.receive(message.lamport.time),
        );
        assert_eq!(shared, Ok(lamport), "both forms of Lamport's clock agree");
        // No stamp is used before a bound above it is durable.
        if lamport > self.lamport_bound {
            self.lamport_bound = LamportTime(lamport.0 + LAMPORT_RESERVE);
        }
        if hlc >= self.hlc_bound {
            self.hlc_bound = hlc.bound_after(RESERVE);
        }
        (lamport, hlc)
    }
}

/// What happened under one seed.
pub(crate) struct History {
    rng: Rng,
    now: u64,
    nodes: Vec<Node>,
    pub(crate) events: Vec<Event>,
    /// Messages under way, by the event that sent them, and to whom.
    under_way: Vec<(usize, usize)>,
    choices: Choices,
    kinds: BTreeMap<Fault, u64>,
    restarts: u64,
    digest: Digest,
    story: Vec<String>,
}

impl History {
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let now = BEGIN + rng.below(1 << 21);
        let nodes = (1..=rng.between(2, 6)).map(|node| Node::new(node, now)).collect();
        let mut history = Self {
            rng,
            now,
            nodes,
            events: Vec::new(),
            under_way: Vec::new(),
            choices: Choices::default(),
            kinds: BTreeMap::new(),
            restarts: 0,
            digest: Digest::default(),
            story: Vec::new(),
        };
        (0..STEPS).for_each(|step| history.step(step));
        history
    }

    /// Each step draws from a stream of its own, so that one that is left out shifts no other.
    fn step(&mut self, step: u64) {
        let mut rng = self.rng.fork(step);
        self.pass_time(step, &mut rng.fork(1));
        let at = rng.below(self.nodes.len() as u64) as usize;
        match rng.below(20) {
            0 if self.strikes(Fault::Kill, step * 8 + 7) => self.restart(at),
            1 if self.strikes(Fault::Garbage, step) => self.absurd(at, &mut rng),
            0 | 1 => {}
            2..=10 if !self.choices.happens(Choice::Ask, step) => {}
            2 | 3 => self.event(at, None),
            4..=10 => {
                self.event(at, None);
                let to = rng.below(self.nodes.len() as u64) as usize;
                self.under_way.push((self.events.len() - 1, to));
            }
            _ => self.deliver(step, &mut rng),
        }
    }

    /// Whether a fault that was drawn strikes; it is told and counted.
    fn strikes(&mut self, fault: Fault, step: u64) -> bool {
        let choice = match fault {
            Fault::Kill | Fault::ClockJump => Choice::Strike,
            other => Choice::Frame(other),
        };
        let happens = !self.choices.is_masked(fault) && self.choices.happens(choice, step);
        if happens {
            *self.kinds.entry(fault).or_default() += 1;
            self.story.push(format!("{step:>4} fault {fault:?}"));
        }
        happens
    }

    fn restart(&mut self, at: usize) {
        self.nodes[at].restart();
        self.restarts += 1;
        let wall = HlcTime::at(WallTime(self.nodes[at].wall.get()));
        let is_ahead = self.nodes[at].hlc_bound > wall;
        sometimes!(is_ahead, "a clock resumed ahead of its wall clock");
    }

    /// True time moves on; a wall clock follows, stands still, or is set, back too.
    fn pass_time(&mut self, step: u64, rng: &mut Rng) {
        self.now += rng.below(3_000_000);
        for at in 0..self.nodes.len() {
            let (kind, ahead, passed) =
                (rng.below(30), rng.below(EPSILON_NANOS), rng.below(4_000_000));
            let before = self.nodes[at].wall.get();
            // No two strikes have one number.
            let number = step * 8 + at as u64;
            let wall = match kind {
                0 if self.strikes(Fault::ClockJump, number) => self.now + ahead,
                0..=9 => before,
                _ => before + passed,
            };
            let wall = wall.clamp(self.now, self.now + EPSILON_NANOS);
            sometimes!(wall < before, "a wall clock was set back");
            self.nodes[at].wall.set(wall);
        }
    }

    /// In any order, sometimes never, sometimes twice, sometimes to a later life.
    fn deliver(&mut self, step: u64, rng: &mut Rng) {
        let (which, fate) = (rng.next_u64(), rng.below(10));
        if self.under_way.is_empty() {
            return;
        }
        let which = (which % self.under_way.len() as u64) as usize;
        let (sent, to) = self.under_way.swap_remove(which);
        if fate == 0 && self.strikes(Fault::Loss, step) {
            return;
        }
        if fate == 1 && self.strikes(Fault::Duplicate, step) {
            self.under_way.push((sent, to));
        }
        self.event(to, Some(sent));
    }

    /// What no honest peer sends; all of it is refused and leaves no trace.
    fn absurd(&mut self, at: usize, rng: &mut Rng) {
        let far = self.now + EPSILON_NANOS + AHEAD_MAX.as_nanos() as u64;
        let node = &mut self.nodes[at];
        let was = (node.plain.clone(), node.vector.clone(), node.hlc.latest());
        let lamport = LamportTime(u64::MAX - rng.below(1 << 40));
        assert!(node.plain.receive(lamport).is_err() && node.shared.receive(lamport).is_err());
        let hlc = HlcTime::at(WallTime(far + rng.between(1 << 20, u64::MAX - far)));
        assert!(matches!(node.hlc.receive(hlc), Err(Error::HlcTooFarAhead { .. })));
        assert!(node.hlc.observe(hlc).is_err());
        let mut liar = node.vector.clone();
        liar.tick(node.peer).unwrap();
        assert!(matches!(
            node.vector.receive(node.peer, &liar),
            Err(Error::OwnCounterAhead { .. })
        ));
        assert_eq!(was, (node.plain.clone(), node.vector.clone(), node.hlc.latest()));
        assert_eq!(node.plain.latest(), node.shared.latest());
    }

    fn event(&mut self, at: usize, message: Option<usize>) {
        let number = self.events.len();
        let message = message.map(|sent| (sent, self.events[sent].clone()));
        let node = &mut self.nodes[at];
        let mut known = HlcTime::at(WallTime(node.wall.get())).wall().0.max(node.resumed);
        let (mut by_life, mut by_node) = (Set::default(), Set::default());
        let follow = |set: &mut Set, event: usize, before: &Set| {
            set.join(before);
            set.insert(event);
        };
        if let Some(latest) = node.latest {
            follow(&mut by_life, latest, &self.events[latest].before_by_life);
        }
        if let Some(latest) = node.latest_of_node {
            follow(&mut by_node, latest, &self.events[latest].before_by_node);
            known = known.max(self.events[latest].known);
        }
        if let Some((sent, message)) = &message {
            follow(&mut by_life, *sent, &message.before_by_life);
            follow(&mut by_node, *sent, &message.before_by_node);
            sometimes!(message.known > known, "a clock was led by a peer");
            known = known.max(message.known);
        }
        let (time, hlc) = node.stamp(message.as_ref().map(|(_, event)| event));
        sometimes!(hlc.counter() > 0, "a counter counted");
        for word in [at as u64, time.0, hlc.to_bits(), node.wall.get()] {
            self.digest.u64(word);
        }
        let from = message.as_ref().map(|(sent, _)| format!(", after {sent}")).unwrap_or_default();
        self.story.push(format!("{number:>4} at {}: {time:?} {hlc:?}{from}", node.peer.node));
        node.latest = Some(number);
        node.latest_of_node = Some(number);
        self.events.push(Event {
            lamport: Stamp { time, node: node.peer.node },
            vector: node.vector.clone(),
            hlc,
            wall: WallTime(node.wall.get()),
            known,
            restarts: self.restarts,
            before_by_life: by_life,
            before_by_node: by_node,
        });
    }
}

/// Runs one seed.
pub(crate) fn run(seed: u64, trace: bool) -> Run {
    let history = History::of(seed);
    let events = &history.events;
    let mut broken = [invariants::k1, invariants::k2, invariants::k4]
        .into_iter()
        .filter_map(|check| check(events).err());
    let violation = broken.next().map(|what| Violation { at: 0, node: NodeId(0), what });
    let strikes = [Fault::Kill, Fault::ClockJump].map(|kind| history.kinds.get(&kind));
    Run {
        violation,
        work: vec![("events", events.len() as u64), ("restarts", history.restarts)],
        faults: strikes.into_iter().flatten().sum(),
        kinds: history.kinds,
        events: events.len() as u64,
        nodes: history.nodes.len() as u64,
        asked: 0,
        nanos: history.now - BEGIN,
        digest: history.digest.value(),
        taken: history.choices.taken().to_vec(),
        trace: if trace { history.story } else { Vec::new() },
    }
}
