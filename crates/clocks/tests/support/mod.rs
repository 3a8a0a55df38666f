//! A group of processes that exchange stamped messages, badly: what really happened before what is
//! written down beside the clocks, so that they can be judged by it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use quorate_clocks::{
    AtomicLamport, Error, Hlc, HlcTime, Lamport, LamportTime, Stamp, VectorClock, WallTime,
};
use quorate_transport::{Incarnation, NodeId, Peer, Rng};

/// How far the wall clocks of two nodes are apart at most.
pub(crate) const EPSILON_NANOS: u64 = 100_000_000;
pub(crate) const AHEAD_MAX: Duration = Duration::from_millis(500);
/// How much of hybrid time a node reserves at once.
pub(crate) const RESERVE: Duration = Duration::from_millis(20);
const LAMPORT_RESERVE: u64 = 16;
const EVENTS: usize = 160;

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

/// What must happen now and then, or the simulation shows little.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) restarted: u64,
    pub(crate) refused: u64,
    pub(crate) stepped_back: u64,
    pub(crate) counted: u64,
    pub(crate) led_by_a_peer: u64,
    pub(crate) resumed_ahead: u64,
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

/// A run of one seed.
pub(crate) struct Run {
    rng: Rng,
    now: u64,
    nodes: Vec<Node>,
    pub(crate) events: Vec<Event>,
    /// Messages under way, by the event that sent them, and to whom.
    under_way: Vec<(usize, usize)>,
    pub(crate) marks: Marks,
}

impl Run {
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let now = 1_700_000_000_000_000_000 + rng.below(1 << 21);
        let nodes = (1..=rng.between(2, 6)).map(|node| Node::new(node, now)).collect();
        let (events, under_way, marks) = (Vec::new(), Vec::new(), Marks::default());
        let mut run = Self { rng, now, nodes, events, under_way, marks };
        while run.events.len() < EVENTS {
            run.step();
        }
        run
    }

    fn step(&mut self) {
        self.pass_time();
        let at = self.rng.below(self.nodes.len() as u64) as usize;
        match self.rng.below(20) {
            0 => {
                self.nodes[at].restart();
                self.marks.restarted += 1;
                let wall = HlcTime::at(WallTime(self.nodes[at].wall.get()));
                self.marks.resumed_ahead += u64::from(self.nodes[at].hlc_bound > wall);
            }
            1 => self.absurd(at),
            2 | 3 => self.event(at, None),
            4..=10 => {
                self.event(at, None);
                let to = self.rng.below(self.nodes.len() as u64) as usize;
                self.under_way.push((self.events.len() - 1, to));
            }
            _ => self.deliver(),
        }
    }

    /// True time moves on; a wall clock follows, stands still, or is set, back too.
    fn pass_time(&mut self) {
        self.now += self.rng.below(3_000_000);
        for node in &mut self.nodes {
            let wall = match self.rng.below(30) {
                0 => self.now + self.rng.below(EPSILON_NANOS),
                1..=9 => node.wall.get(),
                _ => node.wall.get() + self.rng.below(4_000_000),
            };
            let wall = wall.clamp(self.now, self.now + EPSILON_NANOS);
            self.marks.stepped_back += u64::from(wall < node.wall.get());
            node.wall.set(wall);
        }
    }

    /// In any order, sometimes never, sometimes twice, sometimes to a later life.
    fn deliver(&mut self) {
        if self.under_way.is_empty() {
            return;
        }
        let which = self.rng.below(self.under_way.len() as u64) as usize;
        let (sent, to) = self.under_way.swap_remove(which);
        match self.rng.below(10) {
            0 => self.marks.lost += 1,
            fate => {
                if fate == 1 {
                    self.under_way.push((sent, to));
                    self.marks.doubled += 1;
                }
                self.event(to, Some(sent));
            }
        }
    }

    /// What no honest peer sends; all of it is refused and leaves no trace.
    fn absurd(&mut self, at: usize) {
        let far = self.now + EPSILON_NANOS + AHEAD_MAX.as_nanos() as u64;
        let node = &mut self.nodes[at];
        let was = (node.plain.clone(), node.vector.clone(), node.hlc.latest());
        let lamport = LamportTime(u64::MAX - self.rng.below(1 << 40));
        assert!(node.plain.receive(lamport).is_err() && node.shared.receive(lamport).is_err());
        let hlc = HlcTime::at(WallTime(far + self.rng.between(1 << 20, u64::MAX - far)));
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
        self.marks.refused += 1;
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
            self.marks.led_by_a_peer += u64::from(message.known > known);
            known = known.max(message.known);
        }
        let (time, hlc) = node.stamp(message.as_ref().map(|(_, event)| event));
        self.marks.counted += u64::from(hlc.counter() > 0);
        node.latest = Some(number);
        node.latest_of_node = Some(number);
        self.events.push(Event {
            lamport: Stamp { time, node: node.peer.node },
            vector: node.vector.clone(),
            hlc,
            wall: WallTime(node.wall.get()),
            known,
            restarts: self.marks.restarted,
            before_by_life: by_life,
            before_by_node: by_node,
        });
    }
}
