//! The discrete-event world: one queue, one seed, every event checked.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;

use quorate_transport::{
    BurstId, Class, Digest, Frame, Host, Incarnation, Key, LinkState, NodeId, Peer, Rng, Shell,
    Start, Stored, Time,
};
use quorate_wal::{Fault as DiskFault, SimDisk};

use crate::clock::Clock;
use crate::nemesis::{Fault, Plan};
use crate::net::Net;
use crate::node::{JOURNAL_BYTES_MAX, Life, Node, boot};

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

    /// A frame in words, for the trace.
    fn describe(&self, frame: &Frame) -> String {
        format!("{} bytes", frame.flat_len())
    }

    /// Where a node stands, in words, for the trace.
    fn status(&self, _app: &Self::App, _host: &Host) -> String {
        String::new()
    }

    /// Does something to one node that the nemesis does not know of.
    fn disturb(&mut self, _node: NodeId, _app: &mut Self::App, _ask: &mut Ask<'_>, _rng: &mut Rng) {
    }
}

/// The application's way to its own host, in the middle of a step.
pub struct Ask<'a> {
    /// The host; `None` while the node is down.
    host: Option<(&'a mut Host, &'a mut dyn Shell)>,
    /// The node's own time.
    pub now: Time,
    /// True time since the start, in nanoseconds: for histories, not for machines.
    pub true_now: u64,
    alarms: &'a mut Vec<(NodeId, u64, u64)>,
    /// Randomness of the workload.
    pub rng: &'a mut Rng,
}

impl Ask<'_> {
    /// Asks one of the node's machines; `None` while the node is down.
    pub fn request<M, P>(
        &mut self,
        machine: quorate_transport::MachineRef<M, P>,
        request: M::Request,
    ) -> Option<quorate_transport::RequestId>
    where
        M: quorate_transport::Machine,
        P: quorate_transport::Port<M>,
    {
        let (host, shell) = self.host.as_mut()?;
        Some(host.request(self.now, machine, request, *shell))
    }

    /// The node's host; `None` while the node is down.
    pub fn host(&mut self) -> Option<&mut Host> {
        self.host.as_mut().map(|(host, _)| &mut **host)
    }

    /// Calls [`System::alarm`] for a node after `nanos` of true time.
    pub fn alarm(&mut self, nanos: u64, node: NodeId, alarm: u64) {
        self.alarms.push((node, nanos, alarm));
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
}

#[derive(Debug)]
enum Event {
    Deliver {
        to: NodeId,
        from: Peer,
        class: Class,
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
    Nemesis,
}

#[derive(Clone, Copy, Debug)]
enum Stop {
    Kill,
    Power,
    Isolate,
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

/// Separate streams, so that drawing more for one concern shifts no other.
struct Streams {
    order: Rng,
    net: Rng,
    disk: Rng,
    nemesis: Rng,
    work: Rng,
    seeds: Rng,
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
    streams: Streams,
    counts: Counts,
    chaos: bool,
    /// Strike when a leader or an election appears.
    stop_new_leader: bool,
    crash_voters: u64,
    known_leader: Option<NodeId>,
    digest: Digest,
    trace: Option<Vec<String>>,
}

impl<S: System> World<S> {
    /// A world of `nodes` nodes, numbered from 1, all about to start.
    pub fn new(seed: u64, nodes: u64, plan: Plan, system: S) -> Self {
        let root = Rng::new(seed);
        let mut streams = Streams {
            order: root.fork(1),
            net: root.fork(2),
            disk: root.fork(3),
            nemesis: root.fork(4),
            work: root.fork(5),
            seeds: root.fork(6),
        };
        let mut net = Net::default();
        (net.loss_ppm, net.duplicate_ppm) = (plan.loss_ppm, plan.duplicate_ppm);
        (net.late_ppm, net.delay_max) = (plan.late_ppm, plan.delay_max);
        let node = |id| {
            let node = Node {
                id: NodeId(id),
                incarnation: 0,
                disk: SimDisk::new(streams.disk.next_u64()),
                snapshots: SimDisk::new(streams.disk.next_u64()),
                clock: Clock::new(&mut streams.nemesis, plan.drift_ppm),
                life: None,
                paused_until: 0,
                stall: 0,
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
            streams,
            counts: Counts::default(),
            chaos: true,
            stop_new_leader: false,
            crash_voters: 0,
            known_leader: None,
            digest: Digest::default(),
            trace: None,
        };
        for node in world.ids() {
            let delay = world.streams.order.below(50_000_000);
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

    /// Calls [`System::alarm`] for a node after `nanos`.
    pub fn alarm(&mut self, nanos: u64, node: NodeId, alarm: u64) {
        self.push(nanos, Event::Alarm { node, alarm });
    }

    /// Ends all faults: links heal, frames arrive, clocks run true, and whoever is down restarts.
    pub fn calm(&mut self) {
        self.chaos = false;
        self.net = Net::default();
        let now = self.now;
        for node in self.nodes.values_mut() {
            node.disk.heal();
            node.snapshots.heal();
            node.paused_until = node.paused_until.min(now);
            node.stall = 0;
            node.clock.drift(now, &mut self.streams.nemesis, 0);
            if let Some(life) = &mut node.life {
                life.hands.effects_left = None;
            }
        }
        for node in self.ids() {
            if self.nodes[&node].life.is_none() {
                self.push(1_000_000, Event::Restart { node });
            } else {
                self.reschedule(node);
            }
        }
    }

    /// Runs until `until` (true time, nanoseconds).
    ///
    /// # Errors
    /// The first broken invariant.
    pub fn run(&mut self, until: u64) -> Result<(), Violation> {
        while let Some(Reverse(next)) = self.queue.peek() {
            if next.at > until {
                break;
            }
            let Some(Reverse(next)) = self.queue.pop() else { break };
            self.now = next.at;
            self.counts.events += 1;
            self.note(&next.event);
            self.handle(next.event)?;
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
            Event::Deliver { to, from, class, frame } => {
                if let Some(resume) = self.paused(to) {
                    self.push(resume, Event::Deliver { to, from, class, frame });
                    return Ok(());
                }
                let bulk = class != Class::Urgent;
                if bulk && self.life(to).is_some_and(|life| !life.host.is_open()) {
                    self.push(1_000_000, Event::Deliver { to, from, class, frame });
                    return Ok(());
                }
                self.step(to, |life, now| life.host.message(now, from, &frame, &mut life.hands))
            }
            Event::Timer { node, life, at } => {
                if self.is_stale(node, life)
                    || self.life(node).is_none_or(|l| l.timer_at != Some(at))
                {
                    return Ok(());
                }
                if let Some(resume) = self.paused(node) {
                    let at = self.now + resume;
                    if let Some(life) = self.life_mut(node) {
                        life.timer_at = Some(at);
                    }
                    self.push(resume, Event::Timer { node, life, at });
                    return Ok(());
                }
                if let Some(life) = self.life_mut(node) {
                    life.timer_at = None;
                }
                self.step(node, |life, now| life.host.timer(now, &mut life.hands))
            }
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
            Event::Link { node, peer, state } => {
                self.step(node, |life, now| life.host.link(now, peer, state, &mut life.hands))
            }
            Event::Alarm { node, alarm } => self.on_alarm(node, alarm),
            Event::Stop { node, how } => self.stop(node, how),
        }
    }

    fn on_alarm(&mut self, node: NodeId, alarm: u64) -> Result<(), Violation> {
        if let Some(resume) = self.paused(node) {
            self.push(resume, Event::Alarm { node, alarm });
            return Ok(());
        }
        let true_now = self.now;
        let mut alarms = Vec::new();
        let Some(slot) = self.nodes.get_mut(&node) else { return Ok(()) };
        let now = slot.clock.local(true_now);
        let rng = &mut self.streams.work;
        let up = slot.life.is_some();
        match &mut slot.life {
            Some(life) => {
                let host = Some((&mut life.host, &mut life.hands as &mut dyn Shell));
                let mut ask = Ask { host, now, true_now, alarms: &mut alarms, rng };
                self.system.alarm(node, alarm, Some(&mut life.app), &mut ask);
            }
            None => {
                let mut ask = Ask { host: None, now, true_now, alarms: &mut alarms, rng };
                self.system.alarm(node, alarm, None, &mut ask);
            }
        }
        for (node, nanos, alarm) in alarms {
            self.push(nanos, Event::Alarm { node, alarm });
        }
        if up { self.step(node, |_, _| ()) } else { Ok(()) }
    }

    /// One input to one node, and everything that follows from it at once.
    fn step(
        &mut self,
        node: NodeId,
        input: impl FnOnce(&mut Life<S::App>, Time),
    ) -> Result<(), Violation> {
        let true_now = self.now;
        let Some(slot) = self.nodes.get_mut(&node) else { return Ok(()) };
        let now = slot.clock.local(true_now);
        let Some(life) = &mut slot.life else { return Ok(()) };
        input(life, now);
        self.drain(node);
        if self.streams.order.chance_ppm(self.plan.settle_ppm) {
            return self.settle(node);
        }
        let life_number = self.nodes[&node].incarnation;
        if let Some(life) = self.life_mut(node)
            && !std::mem::replace(&mut life.settle_due, true)
        {
            let delay = self.streams.order.between(1_000, 500_000);
            self.push(delay, Event::Settle { node, life: life_number });
        }
        self.finish(node)
    }

    fn settle(&mut self, node: NodeId) -> Result<(), Violation> {
        let true_now = self.now;
        let Some(slot) = self.nodes.get_mut(&node) else { return Ok(()) };
        let now = slot.clock.local(true_now);
        let Some(life) = &mut slot.life else { return Ok(()) };
        life.settle_due = false;
        if let Some(burst) = life.host.settle(now, &mut life.hands) {
            life.written = Some(burst);
        }
        self.drain(node);
        self.write(node);
        self.finish(node)
    }

    /// Writes what was appended and begins a sync, unless one is under way.
    fn write(&mut self, node: NodeId) {
        let Some(slot) = self.nodes.get_mut(&node) else { return };
        let Some(life) = &mut slot.life else { return };
        if life.hands.dead.is_some() || life.written.is_none() || life.syncing.is_some() {
            return;
        }
        if let Err(error) = life.hands.wal.write() {
            life.hands.dead = Some(format!("journal: {error}"));
            return;
        }
        life.syncing = life.written.take();
        let stall = std::mem::take(&mut slot.stall);
        let nanos = stall + self.streams.disk.between(50_000, self.plan.sync_max);
        let life = slot.incarnation;
        self.push(nanos, Event::Synced { node, life });
    }

    fn synced(&mut self, node: NodeId) -> Result<(), Violation> {
        let Some(life) = self.life_mut(node) else { return Ok(()) };
        let Some(burst) = life.syncing.take() else { return Ok(()) };
        if let Err(error) = life.hands.wal.sync() {
            life.hands.dead = Some(format!("journal: {error}"));
            return self.finish(node);
        }
        let pin = (life.hands.wal.disk_bytes() > JOURNAL_BYTES_MAX)
            .then(|| life.hands.wal.oldest_live())
            .flatten();
        self.step(node, |life, now| {
            life.host.durable(now, BurstId(burst.0), &mut life.hands);
            if let Some((key, before)) = pin {
                life.host.checkpoint(now, key, before, &mut life.hands);
            }
        })?;
        self.write(node);
        self.finish(node)
    }

    /// Lets the application take what was said until nothing more is.
    fn drain(&mut self, node: NodeId) {
        let true_now = self.now;
        let Some(slot) = self.nodes.get_mut(&node) else { return };
        let now = slot.clock.local(true_now);
        let Some(life) = &mut slot.life else { return };
        if life.hands.dead.is_some() {
            return; // a dead process hears nothing
        }
        let mut alarms = Vec::new();
        let host = Some((&mut life.host, &mut life.hands as &mut dyn Shell));
        let rng = &mut self.streams.work;
        let mut ask = Ask { host, now, true_now, alarms: &mut alarms, rng };
        self.system.drain(node, &mut life.app, &mut ask);
        for (node, nanos, alarm) in alarms {
            self.push(nanos, Event::Alarm { node, alarm });
        }
    }

    /// After a step: frames leave, the dead are buried, invariants are checked, timers are set.
    fn finish(&mut self, node: NodeId) -> Result<(), Violation> {
        let Some(slot) = self.nodes.get_mut(&node) else { return Ok(()) };
        let from = slot.peer();
        let life_number = slot.incarnation;
        let Some(life) = &mut slot.life else { return Ok(()) };
        let sent = std::mem::take(&mut life.hands.sent);
        let stored = std::mem::take(&mut life.hands.stored);
        let spoke = !sent.is_empty();
        let in_disk = slot.disk.is_down() || slot.snapshots.is_down();
        let dead = life.hands.dead.take().or(in_disk.then(|| "crash in a disk call".into()));
        let halted = life.hands.halted.take();
        for (to, class, frame) in sent {
            for delay in self.net.routes(from.node, to, &mut self.streams.net) {
                let frame = frame.clone();
                self.push(delay, Event::Deliver { to, from, class, frame });
            }
        }
        if let Some(what) = halted {
            return Err(self.violation(node, format!("halted: {what}")));
        }
        if let Some(why) = dead {
            if let Some(trace) = &mut self.trace {
                trace.push(format!("{:>12} {node} died: {why}", ""));
            }
            self.kill(node, None);
            return Ok(());
        }
        for (key, stored) in stored {
            let delay = self.streams.disk.between(20_000, self.plan.sync_max);
            self.push(delay, Event::Stored { node, life: life_number, key, stored });
        }
        if let Some(life) = self.nodes[&node].life.as_ref()
            && let Some(trace) = &mut self.trace
        {
            let status = self.system.status(&life.app, &life.host);
            if !status.is_empty() {
                trace.push(format!("{:>12} {node} {status}", ""));
            }
        }
        let life = self.nodes[&node].life.as_ref();
        if let Some(life) = life
            && let Err(what) = self.system.check(node, &life.app, &life.host)
        {
            return Err(self.violation(node, what));
        }
        self.reschedule(node);
        self.strike_armed(node, spoke);
        Ok(())
    }

    /// Faults that wait for a leader or an election.
    fn strike_armed(&mut self, node: NodeId, spoke: bool) {
        let leader = self.system.leader();
        let changed = std::mem::replace(&mut self.known_leader, leader) != leader;
        if let Some(node) = leader.filter(|_| changed && self.stop_new_leader && self.chaos) {
            self.stop_new_leader = false;
            let rng = &mut self.streams.nemesis;
            let how = [Stop::Kill, Stop::Power, Stop::Isolate][rng.below(3) as usize];
            let delay = rng.below(60_000_000);
            self.push(delay, Event::Stop { node, how });
        }
        if self.crash_voters > 0 && self.chaos && self.system.is_electing() {
            let rng = &mut self.streams.nemesis;
            if spoke && rng.below(2) == 0 {
                self.crash_voters -= 1;
                let delay = rng.below(300_000);
                self.push(delay, Event::Stop { node, how: Stop::Blink });
            }
        }
    }

    fn stop(&mut self, node: NodeId, how: Stop) -> Result<(), Violation> {
        if !self.chaos {
            return Ok(());
        }
        match how {
            Stop::Kill => self.kill(node, None),
            Stop::Power => self.power_loss(node),
            Stop::Blink => {
                let down = self.streams.nemesis.between(10_000, 2_000_000);
                self.kill(node, Some(down));
            }
            Stop::Isolate => {
                let rest: Vec<_> = self.ids().into_iter().filter(|id| *id != node).collect();
                self.net.split(&[node], &rest);
            }
        }
        Ok(())
    }

    fn reschedule(&mut self, node: NodeId) {
        let now = self.now;
        let Some(slot) = self.nodes.get_mut(&node) else { return };
        let life_number = slot.incarnation;
        let Some(life) = &mut slot.life else { return };
        let at = life.deadline().map(|deadline| slot.clock.true_time(deadline).max(now));
        if at != life.timer_at {
            life.timer_at = at;
            if let Some(at) = at {
                self.push(at - now, Event::Timer { node, life: life_number, at });
            }
        }
    }

    fn violation(&self, node: NodeId, what: String) -> Violation {
        Violation { at: self.now, node, what }
    }

    /// Ends a life; the node comes back after `down` nanoseconds, or after a while.
    fn kill(&mut self, node: NodeId, down: Option<u64>) {
        let Some(slot) = self.nodes.get_mut(&node) else { return };
        let Some(life) = slot.life.take() else { return };
        self.system.died(node, life.app);
        drop(life.hands);
        slot.disk.kill();
        slot.snapshots.kill();
        slot.paused_until = 0;
        let millis = match self.streams.nemesis.below(10) {
            0 => self.streams.nemesis.between(1_000, 8_000),
            1..5 => self.streams.nemesis.between(1, 50),
            _ => self.streams.nemesis.between(50, 1_500),
        };
        self.push(down.unwrap_or(millis * 1_000_000), Event::Restart { node });
        for peer in self.ids() {
            if peer != node && self.streams.net.chance_ppm(700_000) {
                let delay = self.streams.net.between(10_000, 3_000_000);
                self.push(delay, Event::Link { node: peer, peer: node, state: LinkState::Down });
            }
        }
    }

    fn power_loss(&mut self, node: NodeId) {
        self.kill(node, None);
        let seed = self.streams.disk.next_u64();
        let other = self.streams.disk.next_u64();
        if let Some(slot) = self.nodes.get_mut(&node) {
            slot.disk.power_loss(seed);
            slot.snapshots.power_loss(other);
        }
    }

    fn restart(&mut self, node: NodeId) -> Result<(), Violation> {
        let true_now = self.now;
        let Some(slot) = self.nodes.get_mut(&node) else { return Ok(()) };
        if slot.life.is_some() {
            return Ok(());
        }
        slot.incarnation += 1;
        self.counts.restarts += u64::from(slot.incarnation > 1);
        let peer = Peer { node, incarnation: Incarnation(slot.incarnation) };
        let now = slot.clock.local(true_now);
        let seed = self.streams.seeds.next_u64();
        let start = Start { node, incarnation: peer.incarnation, seed, now };
        let system = &mut self.system;
        let booted = boot(start, &slot.disk, &slot.snapshots, |host| system.boot(peer, host));
        match booted {
            Ok(life) => slot.life = Some(life),
            Err(what) => return Err(self.violation(node, format!("cannot restart: {what}"))),
        }
        for other in self.ids() {
            if other != node && self.nodes[&other].life.is_some() {
                let delay = self.streams.net.between(10_000, 3_000_000);
                self.push(delay, Event::Link { node: other, peer: node, state: LinkState::Up });
            }
        }
        self.step(node, |life, now| life.host.start(now, &mut life.hands))
    }

    fn strike(&mut self) -> Result<(), Violation> {
        if !self.chaos {
            return Ok(());
        }
        let wait = self.streams.nemesis.between(1, 2 * self.plan.interval);
        self.push(wait, Event::Nemesis);
        let fault = self.plan.pick(&mut self.streams.nemesis);
        *self.counts.faults.entry(fault).or_default() += 1;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12.6} fault {fault:?}", self.now as f64 / 1e9));
        }
        let ids = self.ids();
        let node = ids[self.streams.nemesis.below(ids.len() as u64) as usize];
        let other = ids[self.streams.nemesis.below(ids.len() as u64) as usize];
        let now = self.now;
        let rng = &mut self.streams.nemesis;
        match fault {
            Fault::Kill => self.kill(node, None),
            Fault::KillLeader => self.kill(self.system.leader().unwrap_or(node), None),
            Fault::StopNewLeader => self.stop_new_leader = true,
            Fault::CrashVoters => self.crash_voters += rng.between(1, 8),
            Fault::PowerLoss => self.power_loss(node),
            Fault::PowerLossAll => ids.iter().for_each(|node| self.power_loss(*node)),
            Fault::CrashInStep => {
                let left = rng.below(30);
                if let Some(life) = self.life_mut(node) {
                    life.hands.effects_left = Some(left);
                }
            }
            Fault::CrashInDisk | Fault::DiskError => {
                let within = rng.between(1, 12);
                let kind = match (fault, rng.below(2)) {
                    (Fault::CrashInDisk, _) => DiskFault::Crash,
                    (_, 0) => DiskFault::Io,
                    _ => DiskFault::NoSpace,
                };
                if let Some(slot) = self.nodes.get(&node).filter(|slot| slot.life.is_some()) {
                    slot.disk.fail_at(slot.disk.calls() + within, kind);
                    if kind == DiskFault::Crash {
                        slot.snapshots.fail_at(slot.snapshots.calls() + within, kind);
                    }
                }
            }
            Fault::DiskStall => {
                let stall = rng.between(10_000_000, 1_000_000_000);
                self.nodes.get_mut(&node).into_iter().for_each(|slot| slot.stall = stall);
            }
            Fault::Partition => {
                let (one, two): (Vec<_>, Vec<_>) = ids.into_iter().partition(|_| rng.below(2) == 0);
                self.net.split(&one, &two);
            }
            Fault::IsolateLeader => {
                let leader = self.system.leader().unwrap_or(node);
                let rest: Vec<_> = ids.into_iter().filter(|id| *id != leader).collect();
                self.net.split(&[leader], &rest);
            }
            Fault::OneWay => self.net.cut(node, other),
            Fault::SlowLink => self.net.slow(node, other, rng.between(1_000_000, 200_000_000)),
            Fault::Heal => self.net.heal(),
            Fault::Pause => {
                let until = now + rng.between(10_000_000, 2_000_000_000);
                self.nodes.get_mut(&node).into_iter().for_each(|slot| slot.paused_until = until);
            }
            Fault::ClockDrift => {
                let ppm = self.plan.drift_ppm;
                let rng = &mut self.streams.nemesis;
                self.nodes.get_mut(&node).into_iter().for_each(|s| s.clock.drift(now, rng, ppm));
                self.reschedule(node);
            }
            Fault::LinkFlap => {
                self.push(0, Event::Link { node, peer: other, state: LinkState::Down });
                self.push(5_000_000, Event::Link { node, peer: other, state: LinkState::Up });
            }
            Fault::System => return self.disturb(node),
        }
        Ok(())
    }

    fn disturb(&mut self, node: NodeId) -> Result<(), Violation> {
        let true_now = self.now;
        let Some(slot) = self.nodes.get_mut(&node) else { return Ok(()) };
        let now = slot.clock.local(true_now);
        let Some(life) = &mut slot.life else { return Ok(()) };
        let mut alarms = Vec::new();
        let host = Some((&mut life.host, &mut life.hands as &mut dyn Shell));
        let rng = &mut self.streams.work;
        let mut ask = Ask { host, now, true_now, alarms: &mut alarms, rng };
        self.system.disturb(node, &mut life.app, &mut ask, &mut self.streams.nemesis);
        for (node, nanos, alarm) in alarms {
            self.push(nanos, Event::Alarm { node, alarm });
        }
        self.step(node, |_, _| ())
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

    fn push(&mut self, delay: u64, event: Event) {
        self.number += 1;
        let tie = self.streams.order.next_u64();
        let at = self.now.saturating_add(delay);
        self.queue.push(Reverse(Queued { at, tie, number: self.number, event }));
    }
}
