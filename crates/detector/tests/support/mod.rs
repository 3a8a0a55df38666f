//! Nodes that watch each other under all faults, then in a calm in which one of them is cut off and
//! comes back: F1 to F4, F6, F7.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_detector::{
    Config, Event, Fixed, Heartbeats, Monitor, Phi, PhiParams, Reply, Request, Status,
};
use quorate_sim::sweep::Run;
use quorate_sim::{Ask, Plan, System, Violation, World, sometimes};
use quorate_transport::{
    Halt, Host, Incarnation, Key, MachineRef, NodeId, Peer, Port, RequestId, RequestRange, Rng,
    Time,
};

mod invariants;

use invariants::{f1_f2, f2_f4, f2_takes_its_time, f3, f3_restarted, f6, f7};

const SECOND: u64 = 1_000_000_000;
const MS: Duration = Duration::from_millis(1);

#[derive(Default)]
struct Ear {
    answers: Vec<(RequestRange, Reply)>,
    events: Vec<Event>,
}

impl Port<Heartbeats> for Ear {
    fn answer(&mut self, ids: RequestRange, reply: Reply) {
        self.answers.push((ids, reply));
    }
    fn event(&mut self, event: Event) {
        self.events.push(event);
    }
    fn halted(&mut self, _: &Halt) {}
}

/// What one life has been told of one peer.
struct Known {
    status: Status,
    restarted: Incarnation,
}

/// One life of a node.
struct Member {
    detector: MachineRef<Heartbeats, Ear>,
    known: BTreeMap<NodeId, Known>,
    asked: BTreeSet<RequestId>,
    /// Its own time at its last step.
    stepped: Option<Time>,
    /// When it last began, or went on after it had stood still.
    woke: Time,
}

struct Group {
    nodes: u64,
    config: Config,
    /// The present life of each node.
    lives: BTreeMap<NodeId, Incarnation>,
    chaos: bool,
    /// Requests that were answered.
    answered: u64,
    /// Verdicts told, and those of the calm.
    verdicts: u64,
    calm_verdicts: u64,
    broken: Option<String>,
}

impl Group {
    fn breaks(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    fn holds(&mut self, node: NodeId, result: Result<(), String>) {
        if let Err(what) = result {
            self.breaks(format!("{what}, at {node}"));
        }
    }

    fn on_event(&mut self, node: NodeId, member: &mut Member, now: Time, event: Event) {
        let (peer, next) = match event {
            Event::Suspected { node, .. } => (node, Status::Suspect),
            Event::Failed { node, .. } => (node, Status::Failed),
            Event::Trusted { node, .. } => (node, Status::Alive),
            Event::Restarted { node: peer, incarnation } => {
                return self.on_restarted(node, member, peer, incarnation);
            }
        };
        self.verdicts += 1;
        self.calm_verdicts += u64::from(!self.chaos);
        let known = member.known.get_mut(&peer).expect("a configured peer");
        let before = std::mem::replace(&mut known.status, next);
        self.holds(node, f3(before, &event));
        if let Event::Failed { last_heartbeat, .. } = event {
            self.convicts(node, member, now, last_heartbeat);
        }
    }

    fn convicts(&mut self, node: NodeId, member: &Member, now: Time, heard: Option<Time>) {
        sometimes!(true, "a peer was convicted");
        let failure_after = self.config.failure_after;
        self.holds(node, f6(now, member.woke, failure_after));
        let Monitor::Fixed(fixed) = self.config.monitor else { return };
        self.holds(node, f2_takes_its_time(now, heard, fixed.timeout + failure_after));
    }

    fn on_restarted(&mut self, node: NodeId, member: &mut Member, peer: NodeId, to: Incarnation) {
        sometimes!(true, "a restart was told from silence");
        let known = member.known.get_mut(&peer).expect("a configured peer");
        let before = std::mem::replace(&mut known.restarted, to);
        let lives = self.lives[&peer];
        self.holds(node, f3_restarted(before, to, lives));
    }
}

impl System for Group {
    type App = Member;

    fn boot(&mut self, me: Peer, host: &mut Host) -> Member {
        self.lives.insert(me.node, me.incarnation);
        let mut config = self.config.clone();
        config.peers.retain(|peer| *peer != me.node);
        let known =
            |peer: &NodeId| (*peer, Known { status: Status::Alive, restarted: Incarnation(0) });
        Member {
            known: config.peers.iter().map(known).collect(),
            detector: host.add(Key::new(5, 0), config, Ear::default()).expect("a valid one"),
            asked: BTreeSet::new(),
            stepped: None,
            woke: Time::ZERO,
        }
    }

    fn drain(&mut self, node: NodeId, member: &mut Member, ask: &mut Ask<'_>) {
        let now = ask.now;
        // A timer is due once an interval: a longer gap than that and `stall_max` is a stall.
        let punctual = self.config.heartbeat_interval + self.config.stall_max;
        if member.stepped.is_none_or(|before| now.since(before) > punctual) {
            sometimes!(member.stepped.is_some(), "a node stood still");
            member.woke = now;
        }
        member.stepped = Some(now);
        let Some(host) = ask.host() else { return };
        let ear = host.port(member.detector);
        let (answers, events) = (std::mem::take(&mut ear.answers), std::mem::take(&mut ear.events));
        for event in events {
            self.on_event(node, member, now, event);
        }
        for (id, reply) in
            answers.iter().flat_map(|(ids, reply)| ids.iter().map(move |id| (id, reply)))
        {
            if member.asked.remove(&id) {
                self.answered += 1;
            } else {
                self.breaks(format!("law 8: {id} of {node} was answered again: {reply:?}"));
            }
        }
    }

    fn check(&mut self, node: NodeId, member: &Member, host: &Host) -> Result<(), String> {
        if let Some(what) = self.broken.take() {
            return Err(what);
        }
        let machine = host.machine(member.detector);
        for (peer, known) in &member.known {
            let status = member.stepped.and_then(|now| machine.status(now, *peer));
            let Some(status) = status else { continue };
            if status.status != known.status && host.cell(member.detector).is_settled() {
                return Err(format!(
                    "F3 {node} was told {:?} of {peer}, which is {:?}",
                    known.status, status.status
                ));
            }
            f7(&status, self.lives[peer])?;
        }
        Ok(())
    }

    fn alarm(&mut self, node: NodeId, alarm: u64, app: Option<&mut Member>, ask: &mut Ask<'_>) {
        if let Some(member) = app {
            let peer = NodeId(ask.rng.between(1, self.nodes));
            let members = ask.rng.below(2) == 0;
            let request = if members { Request::Members } else { Request::Status(peer) };
            if let Some(id) = ask.request(member.detector, request) {
                member.asked.insert(id);
            }
        }
        let pause = ask.rng.between(1, SECOND);
        ask.alarm(pause, node, alarm);
    }

    fn died(&mut self, _: NodeId, _: Member) {}
}

/// What a sweep must have seen.
pub(crate) const MARKS: &[&str] =
    &["a peer was convicted", "a restart was told from silence", "a node stood still"];

/// Runs one seed.
pub(crate) fn run(seed: u64, trace: bool) -> Run {
    let mut rng = Rng::new(seed).fork(47);
    let nodes = [2, 3, 3, 5][rng.below(4) as usize];
    let plan = Plan::draw(&mut rng);
    let mut config = Config::new((1..=nodes).map(NodeId));
    config.heartbeat_interval = MS * 50;
    config.monitor = if rng.below(2) == 0 {
        Monitor::Fixed(Fixed { timeout: MS * [150, 400][rng.below(2) as usize] })
    } else {
        Monitor::Phi(Phi::new(config.heartbeat_interval, PhiParams::default()))
    };
    config.failure_after = MS * [100, 1000][rng.below(2) as usize];
    config.stall_max = MS * [20, 200][rng.below(2) as usize];
    let lives = (1..=nodes).map(|node| (NodeId(node), Incarnation(0))).collect();
    let group = Group {
        nodes,
        config,
        lives,
        chaos: true,
        answered: 0,
        verdicts: 0,
        calm_verdicts: 0,
        broken: None,
    };
    let mut world = World::new(seed, nodes, plan, group);
    for node in world.ids() {
        world.alarm(SECOND / 5, node, 0);
    }
    if trace {
        world.record_trace();
    }
    let violation = play(&mut world).err();
    let (verdicts, answered) = (world.system.verdicts, world.system.answered);
    let restarts = world.counts().restarts;
    let work = vec![("requests", answered), ("verdicts", verdicts), ("restarts", restarts)];
    Run::of(&world, violation, work)
}

/// What each node thinks of each other.
fn views(world: &World<Group>) -> Vec<(NodeId, NodeId, Status)> {
    let mut views = Vec::new();
    for node in world.ids() {
        let (member, _) = world.app(node).expect("all are up in the calm");
        views.extend(member.known.iter().map(|(peer, known)| (node, *peer, known.status)));
    }
    views
}

/// Twenty seconds of faults; a calm; one node cut off; and all well again.
fn play(world: &mut World<Group>) -> Result<(), Violation> {
    world.run(20 * SECOND)?;
    world.calm();
    world.system.chaos = false;
    world.run(23 * SECOND)?;
    let before = world.system.calm_verdicts;
    world.run(35 * SECOND)?;
    let ids = world.ids();
    let victim = ids[world.digest() as usize % ids.len()];
    let broken = |at, what| Violation { at, node: victim, what };
    let after = world.system.calm_verdicts;
    f2_f4(after - before, &views(world)).map_err(|what| broken(world.now(), what))?;
    let rest: Vec<_> = ids.iter().copied().filter(|id| *id != victim).collect();
    world.net.split(&[victim], &rest);
    for seconds in [38, 45] {
        world.run(seconds * SECOND)?;
        f1_f2(victim, &views(world)).map_err(|what| broken(world.now(), what))?;
    }
    world.net.heal();
    world.run(46 * SECOND)?;
    f2_f4(0, &views(world)).map_err(|what| broken(world.now(), what))
}
