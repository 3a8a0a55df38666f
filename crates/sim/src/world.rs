//! The discrete-event world: one queue, one seed, every event checked.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;

use quorate_transport::{
    Class, Digest, Frame, Host, Incarnation, Key, LinkState, NodeId, Peer, Rng, Stored, Worked,
};
use quorate_wal::SimDisk;

use crate::clock::Clock;
use crate::limits::{Choice, Choices};
use crate::luck::{For, Luck};
use crate::nemesis::{Fault, Plan};
use crate::net::Net;
use crate::node::{Life, Node};

mod ask;
mod calm;
mod echo;
#[cfg(test)]
mod judged;
mod step;
mod strike;
mod turns;

pub use ask::Ask;
use ask::Clients;
pub(crate) use echo::Memory;
use turns::Turns;

/// What is being tested: which machines a node runs, what their application does, what must hold.
pub trait System: Sized {
    /// One life of a node's application, with references to its machines.
    type App;

    /// Adds the machines of a node to its host.
    fn boot(&mut self, node: Peer, host: &mut Host) -> Self::App;

    /// Takes what the machines have said, and asks what the application would ask.
    fn drain(&mut self, node: NodeId, app: &mut Self::App, ask: &mut Ask<'_>);

    /// Checks every invariant that this node's last step could have broken.
    ///
    /// # Errors
    /// The invariant that is broken, and how.
    fn check(&mut self, node: NodeId, app: &Self::App, host: &Host) -> Result<(), String>;

    /// An alarm that was set with [`Ask::alarm`] or [`World::alarm`]. `app` is `None` while the
    /// node is down.
    fn alarm(&mut self, node: NodeId, alarm: u64, app: Option<&mut Self::App>, ask: &mut Ask<'_>);

    /// A life ends, perhaps in a step that [`check`](Self::check) never sees; it may have spoken.
    fn ends(&mut self, _node: NodeId, _app: &Self::App, _host: &Host) {}

    /// A life has ended; what it had promised stands.
    fn died(&mut self, node: NodeId, app: Self::App);

    /// Who leads, for faults that aim at leaders.
    fn leader(&self) -> Option<NodeId> {
        None
    }

    /// True while somebody asks for votes, for faults that aim at elections.
    fn is_electing(&self) -> bool {
        false
    }

    /// True where the last step of a node has brought it a part, and not all, of what its leader
    /// has and is not decided yet, the other would have it give that up, and the rest can decide.
    fn lags(&self, _node: NodeId, _other: NodeId) -> bool {
        false
    }

    /// False where it is known that one of two nodes has all that the other has.
    fn contradict(&self, _one: NodeId, _other: NodeId) -> bool {
        true
    }

    /// A frame in words, for the trace.
    fn describe(&self, frame: &Frame) -> String {
        format!("{} bytes", frame.flat_len())
    }

    /// Where a node stands, in words, for the trace.
    fn status(&self, _app: &Self::App, _host: &Host) -> String {
        String::new()
    }

    /// Whether disks are told apart: incarnations say in which data directory a life is.
    fn births(&self) -> bool {
        false
    }

    /// A node is about to lose its disk for good, if this says so: what is known of it is to be
    /// forgotten.
    fn wipe(&mut self, _node: NodeId) -> bool {
        false
    }

    /// Does something to one node that the nemesis does not know of.
    fn disturb(&mut self, _node: NodeId, _app: &mut Self::App, _ask: &mut Ask<'_>, _rng: &mut Rng) {
    }
}

/// A broken invariant, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// True time since the start, in nanoseconds.
    pub at: u64,
    /// The node whose step showed it.
    pub node: NodeId,
    /// What is broken.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.at as f64 / 1e9;
        write!(f, "{} at {seconds:.6} s: {}", self.node, self.what)
    }
}

/// What a run was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events handled.
    pub events: u64,
    /// Faults that struck, by kind.
    pub faults: BTreeMap<Fault, u64>,
    /// Lives begun after the first of each node.
    pub restarts: u64,
    /// Operations that clients asked for.
    pub asked: u64,
}

#[derive(Debug)]
enum Event {
    Deliver {
        to: NodeId,
        from: Peer,
        class: Class,
        frame: Frame,
        sent: u64,
    },
    /// Bytes that are no message.
    Garbage {
        to: NodeId,
        from: Peer,
        frame: Frame,
    },
    Timer {
        node: NodeId,
        life: u64,
        at: u64,
    },
    Settle {
        node: NodeId,
        life: u64,
    },
    Synced {
        node: NodeId,
        life: u64,
    },
    Stored {
        node: NodeId,
        life: u64,
        key: Key,
        stored: Stored,
    },
    Worked {
        node: NodeId,
        life: u64,
        key: Key,
        worked: Worked,
    },
    Link {
        node: NodeId,
        peer: NodeId,
        state: LinkState,
    },
    Restart {
        node: NodeId,
    },
    Alarm {
        node: NodeId,
        alarm: u64,
    },
    /// A fault that was armed strikes.
    Stop {
        node: NodeId,
        how: Stop,
    },
    /// A link is cut or mended, so many times more.
    Flap {
        link: (NodeId, NodeId),
        left: u64,
        period: u64,
    },
    /// A leader that one node does not hear any more is lost to the others as well.
    Usurp {
        leader: NodeId,
        heir: NodeId,
    },
    /// A clock that stood still goes on, so much later than it stood.
    ClockRuns {
        node: NodeId,
        ahead: u64,
    },
    Nemesis,
}

#[derive(Clone, Copy, Debug)]
enum Stop {
    Kill,
    Power,
    /// All nodes lose power.
    PowerAll,
    Isolate,
    IsolateWith(NodeId),
    /// Cut off, as leaders take turns.
    Turn,
    /// Not cut off any more.
    Rejoin,
    /// Those whom it was to lead hear each other again.
    Together,
    /// Dies and is back within milliseconds.
    Blink,
}

struct Queued {
    at: u64,
    tie: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.tie, self.number).cmp(&(other.at, other.tie, other.number))
    }
}

/// Everything that is simulated.
pub struct World<S: System> {
    /// The system under test.
    pub system: S,
    /// What the network does now.
    pub net: Net,
    plan: Plan,
    now: u64,
    number: u64,
    queue: BinaryHeap<Reverse<Queued>>,
    nodes: BTreeMap<NodeId, Node<S::App>>,
    /// When which kind of fault strikes whom.
    nemesis: Rng,
    luck: Luck,
    counts: Counts,
    chaos: bool,
    strikes: u64,
    choices: Choices,
    /// Frames sent so far.
    frames: u64,
    /// Strike when a leader or an election appears.
    stop_new_leaders: u64,
    power_new_leaders: u64,
    turns: Turns,
    crash_voters: u64,
    /// Hears both sides of an election, and dies so often after it spoke.
    waverer: Option<(NodeId, u64)>,
    known_leader: Option<NodeId>,
    digest: Digest,
    trace: Option<Vec<String>>,
}

impl<S: System> World<S> {
    /// A world of `nodes` nodes, numbered from 1, all about to start.
    pub fn new(seed: u64, nodes: u64, plan: Plan, system: S) -> Self {
        let choices = Choices::default();
        let root = Rng::new(seed);
        let mut nemesis = root.fork(4);
        let mut disks = root.fork(3);
        let luck = Luck::new(root.fork(6 + choices.limits().salt));
        let mut net = Net::default();
        (net.loss_ppm, net.duplicate_ppm) = (plan.loss_ppm, plan.duplicate_ppm);
        net.bulk_loss_ppm = plan.bulk_loss_ppm;
        (net.late_ppm, net.delay_max) = (plan.late_ppm, plan.delay_max);
        (net.garbage_ppm, net.delays) = (plan.garbage_ppm, plan.delays);
        let birth = u32::from(system.births());
        let node = |id| {
            let node = Node {
                id: NodeId(id),
                incarnation: Incarnation::of(birth, 0).0,
                disk: SimDisk::new(disks.next_u64()),
                snapshots: SimDisk::new(disks.next_u64()),
                clock: Clock::new(&mut nemesis, plan.drift_ppm),
                life: None,
                paused_until: 0,
                slow: (0, 0),
                slow_disk: (0, 0),
                crash_loop: 0,
                gone: false,
                wiped: false,
                lost: false,
                stall: 0,
                halts: 0,
                power_at_write: false,
                memory: Memory::default(),
            };
            (NodeId(id), node)
        };
        let nodes = (1..=nodes).map(node).collect();
        let mut world = Self {
            system,
            net,
            plan,
            now: 0,
            number: 0,
            queue: BinaryHeap::new(),
            nodes,
            nemesis,
            luck,
            counts: Counts::default(),
            chaos: true,
            strikes: 0,
            choices,
            frames: 0,
            stop_new_leaders: 0,
            power_new_leaders: 0,
            turns: Turns::default(),
            crash_voters: 0,
            waverer: None,
            known_leader: None,
            digest: Digest::default(),
            trace: None,
        };
        for node in world.ids() {
            let delay = world.draw(For::Burst, node).below(50_000_000);
            world.push(delay, Event::Restart { node });
        }
        world.push(500_000_000, Event::Nemesis);
        world
    }

    /// Keeps a readable story of every event.
    pub fn record_trace(&mut self) {
        self.trace = Some(Vec::new());
    }

    /// The story so far.
    #[must_use]
    pub fn trace(&self) -> &[String] {
        self.trace.as_deref().unwrap_or_default()
    }

    /// True time since the start, in nanoseconds.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// What the run was made of so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Every fault so far by kind, with what disks did on their own.
    #[must_use]
    pub fn faults(&self) -> BTreeMap<Fault, u64> {
        let mut faults = self.counts.faults.clone();
        for disk in self.nodes.values().flat_map(|node| [&node.disk, &node.snapshots]) {
            let troubles = disk.troubles();
            *faults.entry(Fault::TornWrite).or_default() += troubles.torn;
            *faults.entry(Fault::ReorderedWrite).or_default() += troubles.reordered;
            *faults.entry(Fault::SyncError).or_default() += troubles.syncs;
            *faults.entry(Fault::ShortWrite).or_default() += troubles.short_writes;
        }
        faults.retain(|_, count| *count > 0);
        faults
    }

    /// What happened so far and might be left out, where it is written down.
    #[must_use]
    pub fn taken(&self) -> &[(Choice, u64)] {
        self.choices.taken()
    }

    /// A digest of every event so far: equal for equal runs.
    #[must_use]
    pub fn digest(&self) -> u128 {
        self.digest.value()
    }

    /// All nodes.
    #[must_use]
    pub fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// The application of a node that is up.
    #[must_use]
    pub fn app(&self, node: NodeId) -> Option<(&S::App, &Host)> {
        let life = self.nodes.get(&node)?.life.as_ref()?;
        Some((&life.app, &life.host))
    }

    /// It lost its disk, has stopped itself, and is out of the world.
    #[must_use]
    pub fn is_lost(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|slot| slot.lost)
    }

    /// Calls [`System::alarm`] for a node after `nanos`.
    pub fn alarm(&mut self, nanos: u64, node: NodeId, alarm: u64) {
        self.push(nanos, Event::Alarm { node, alarm });
    }

    /// Runs until `until` (true time, nanoseconds).
    ///
    /// # Errors
    /// The first broken invariant.
    pub fn run(&mut self, until: u64) -> Result<(), Violation> {
        let limits = self.choices.limits();
        let end = limits.until.unwrap_or(u64::MAX);
        let calm_at = limits.calm_at.filter(|_| self.chaos).unwrap_or(u64::MAX);
        let until = until.min(calm_at);
        while let Some(Reverse(next)) = self.queue.peek() {
            if next.at > until.min(end) {
                break;
            }
            let Some(Reverse(next)) = self.queue.pop() else { break };
            self.now = next.at;
            self.counts.events += 1;
            self.note(&next.event);
            self.handle(next.event)?;
            if self.choices.are_too_many() {
                return Err(self.violation(NodeId(0), "too much has happened".into()));
            }
        }
        if until > end {
            self.now = end;
            return Err(self.violation(NodeId(0), "the run was cut short".into()));
        }
        self.now = until;
        Ok(())
    }

    fn note(&mut self, event: &Event) {
        self.digest.u64(self.now);
        match event {
            Event::Deliver { to, from, frame, .. } => {
                self.digest.u64(to.0);
                self.digest.u64(from.node.0);
                self.digest.bytes(&frame.head);
            }
            Event::Garbage { to, frame, .. } => {
                self.digest.u64(to.0);
                self.digest.bytes(&frame.head);
            }
            Event::Timer { node, life, at } => {
                [1, node.0, *life, *at].into_iter().for_each(|word| self.digest.u64(word));
            }
            Event::Settle { node, life } => {
                [2, node.0, *life].into_iter().for_each(|word| self.digest.u64(word));
            }
            Event::Synced { node, life } => {
                [3, node.0, *life].into_iter().for_each(|word| self.digest.u64(word));
            }
            Event::Alarm { node, alarm } => {
                [4, node.0, *alarm].into_iter().for_each(|word| self.digest.u64(word));
            }
            other => self.digest.bytes(format!("{other:?}").as_bytes()),
        }
        if let Some(trace) = &mut self.trace {
            let line = match event {
                Event::Deliver { to, from, frame, .. } => {
                    let what = self.system.describe(frame);
                    format!("{to} <- {}.{} {what}", from.node, from.incarnation)
                }
                other => format!("{other:?}"),
            };
            trace.push(format!("{:>12.6} {line}", self.now as f64 / 1e9));
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Nemesis => self.strike(),
            Event::Restart { node } => self.restart(node),
            Event::Deliver { to, from, class, frame, sent } => {
                self.on_deliver(to, from, class, frame, sent)
            }
            Event::Garbage { to, from, frame } => self.on_garbage(to, from, &frame),
            Event::Timer { node, life, at } => self.on_timer(node, life, at),
            Event::Settle { node, life } => {
                if self.is_stale(node, life) {
                    Ok(())
                } else {
                    self.settle(node)
                }
            }
            Event::Synced { node, life } => {
                if self.is_stale(node, life) {
                    Ok(())
                } else {
                    self.synced(node)
                }
            }
            Event::Stored { node, life, key, stored } => {
                if self.is_stale(node, life) {
                    return Ok(());
                }
                self.step(node, |life, now| life.host.stored(now, key, stored, &mut life.hands))
            }
            Event::Worked { node, life, key, worked } => {
                if self.is_stale(node, life) {
                    return Ok(());
                }
                self.step(node, |life, now| life.host.worked(now, key, worked, &mut life.hands))
            }
            Event::Link { node, peer, state } => {
                self.step(node, |life, now| life.host.link(now, peer, state, &mut life.hands))
            }
            Event::Alarm { node, alarm } => self.on_alarm(node, alarm),
            Event::Stop { node, how } => self.stop(node, how),
            Event::Usurp { leader, heir } => {
                self.usurp(leader, heir);
                Ok(())
            }
            Event::Flap { link, left, period } => {
                self.flap(link, left, period);
                Ok(())
            }
            Event::ClockRuns { node, ahead } => {
                let now = self.now;
                if let Some(slot) = self.nodes.get_mut(&node) {
                    slot.clock.go_on(now);
                    slot.clock.jump(now, ahead);
                }
                self.reschedule(node);
                Ok(())
            }
        }
    }

    fn count(&mut self, fault: Fault) {
        *self.counts.faults.entry(fault).or_default() += 1;
    }

    fn violation(&self, node: NodeId, what: String) -> Violation {
        Violation { at: self.now, node, what }
    }

    fn life(&self, node: NodeId) -> Option<&Life<S::App>> {
        self.nodes.get(&node)?.life.as_ref()
    }

    fn life_mut(&mut self, node: NodeId) -> Option<&mut Life<S::App>> {
        self.nodes.get_mut(&node)?.life.as_mut()
    }

    fn is_stale(&self, node: NodeId, life: u64) -> bool {
        self.nodes.get(&node).is_none_or(|slot| slot.incarnation != life || slot.life.is_none())
    }

    /// How long a paused node still stands still.
    fn paused(&self, node: NodeId) -> Option<u64> {
        let until = self.nodes.get(&node)?.paused_until;
        (until > self.now).then(|| until - self.now)
    }

    /// What is drawn now.
    fn draw(&mut self, what: For, who: NodeId) -> Rng {
        self.luck.at(self.now, what, who)
    }

    fn push(&mut self, delay: u64, event: Event) {
        self.number += 1;
        let tie = self.draw(For::Tie, NodeId(0)).next_u64();
        let at = self.now.saturating_add(delay);
        self.queue.push(Reverse(Queued { at, tie, number: self.number, event }));
    }
}
