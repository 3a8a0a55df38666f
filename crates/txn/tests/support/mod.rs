//! Nodes that coordinate and take part in the simulator, with the invariants checked after every
//! event. The resource is a set of locks: volatile, taken again after a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use quorate_sim::sweep::Run;
use quorate_sim::{Ask, Plan, System, Violation, World, sometimes};
use quorate_transport::{
    Frame, Halt, Host, Key, MachineRef, NodeId, Peer, Port, RequestId, RequestRange, Rng,
    decode_message,
};
use quorate_txn::{Config, Event, Message, Reply, Request, TwoPhaseCommit, TxnId, Vote};

mod invariants;

use invariants::{Fate, ac5, t11_released, t11_taken};

const KEY: Key = Key::new(7, 0);
const SECOND: u64 = 1_000_000_000;
const MILLI: u64 = 1_000_000;
const CLIENTS: u64 = 4;
const TICK: u64 = 100;

#[derive(Default)]
pub(crate) struct Ear {
    answers: Vec<(RequestRange, Reply)>,
    events: Vec<Event>,
}

impl Port<TwoPhaseCommit> for Ear {
    fn answer(&mut self, ids: RequestRange, reply: Reply) {
        self.answers.push((ids, reply));
    }
    fn event(&mut self, event: Event) {
        self.events.push(event);
    }
    fn halted(&mut self, _: &Halt) {}
}

/// One life of a node.
pub(crate) struct Member {
    txn: MachineRef<TwoPhaseCommit, Ear>,
    /// Transactions whose lock is held, with the lock.
    locks: BTreeMap<TxnId, u8>,
    /// What the application does at its next tick.
    later: Vec<Request>,
    /// Begun here and not answered.
    begun: BTreeSet<RequestId>,
}

/// The whole group, and what is known to be true of it.
pub(crate) struct Group {
    config: Config,
    fates: BTreeMap<TxnId, Fate>,
    broken: Option<String>,
    answered: u64,
    calm: bool,
    quiet: bool,
}

impl Group {
    fn new(nodes: u64, rng: &mut Rng) -> Self {
        let mut config = Config::new((1..=nodes).map(NodeId));
        config.prepare_timeout = Duration::from_millis([100, 400, 2000][rng.below(3) as usize]);
        config.resend_after = Duration::from_millis([5, 50][rng.below(2) as usize]);
        config.inquire_after = Duration::from_millis([5, 50, 200][rng.below(3) as usize]);
        config.resend_max = Duration::from_millis(400);
        config.open_max = [2, 100][rng.below(2) as usize];
        config.held_max = [2, 100][rng.below(2) as usize];
        config.window_max = [8, 100][rng.below(2) as usize];
        let (fates, broken) = (BTreeMap::new(), None);
        Self { config, fates, broken, answered: 0, calm: false, quiet: false }
    }

    fn breaks(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    fn holds(&mut self, result: Result<(), String>) {
        if let Err(what) = result {
            self.breaks(what);
        }
    }

    fn decide(&mut self, node: NodeId, txn: TxnId, committed: bool) {
        let fate = self.fates.entry(txn).or_default();
        let same = fate.ac1(node, txn, committed);
        let all = if committed { fate.ac3(node, txn) } else { Ok(()) };
        self.holds(same.and(all));
    }

    fn on_event(&mut self, node: NodeId, member: &mut Member, event: Event, ask: &mut Ask<'_>) {
        match event {
            Event::Prepare { txn, payload } => {
                let lock = payload[0];
                let free = member.locks.values().all(|held| *held != lock);
                let vote = match ask.rng.below(20) {
                    0 => Vote::No,
                    1 | 2 => Vote::ReadOnly,
                    _ if free => Vote::Yes,
                    _ => Vote::No,
                };
                if vote == Vote::Yes {
                    member.locks.insert(txn, lock);
                }
                self.asks(member, Request::Vote { txn, vote }, node, ask);
            }
            Event::Recovered { txn, payload } => {
                sometimes!(true, "a yes vote outlived a restart");
                self.holds(t11_taken(&mut member.locks, txn, payload[0]));
            }
            Event::Commit { txn } => {
                self.decide(node, txn, true);
                self.holds(t11_released(&mut member.locks, txn));
                self.fates.entry(txn).or_default().applied.insert(node);
                self.asks(member, Request::Done { txn }, node, ask);
            }
            Event::Abort { txn } => {
                let fate = self.fates.entry(txn).or_default();
                let left = fate.has_left(node);
                let stands = fate.ac2(node, txn);
                self.holds(stands);
                if !left {
                    self.decide(node, txn, false);
                }
                member.locks.remove(&txn);
                self.asks(member, Request::Done { txn }, node, ask);
            }
            Event::Blocked { .. } => sometimes!(true, "a transaction was blocked"),
        }
    }

    fn asks(&mut self, member: &mut Member, request: Request, node: NodeId, ask: &mut Ask<'_>) {
        if ask.rng.below(3) == 0 {
            member.later.push(request);
            return;
        }
        self.ask_now(member, request, node, ask);
    }

    fn ask_now(&mut self, member: &mut Member, request: Request, node: NodeId, ask: &mut Ask<'_>) {
        if let Request::Vote { txn, vote } = request {
            // Counted even where it comes too late: a vote cast is a vote that may be counted.
            self.fates.entry(txn).or_default().votes.entry(node).or_default().push(vote);
        }
        ask.insist(member.txn, request);
    }

    fn on_answer(&mut self, node: NodeId, reply: &Reply, now: u64) {
        match reply {
            Reply::Committed { txn } => {
                self.answered += 1;
                sometimes!(true, "a transaction committed");
                self.decide(node, *txn, true);
            }
            Reply::Aborted { txn, .. } => {
                sometimes!(true, "a transaction aborted");
                // Whoever waits longer than that may take silence for a failure.
                let patience = self.config.prepare_timeout.min(self.config.inquire_after);
                let patience = patience.as_nanos() as u64;
                let fate = self.fates.entry(*txn).or_default();
                let wanted = fate.ac4(*txn, now, patience);
                self.holds(wanted);
                self.decide(node, *txn, false);
            }
            Reply::Rejected(_) => sometimes!(true, "a transaction was refused"),
            Reply::Taken => self.breaks("a begin was answered as taken".into()),
        }
    }

    fn begin(&mut self, node: NodeId, member: &mut Member, ask: &mut Ask<'_>) {
        let nodes = self.config.nodes.clone();
        let count = 1 + ask.rng.below(nodes.len() as u64) as usize;
        let first = ask.rng.below(nodes.len() as u64) as usize;
        let those = nodes.iter().cycle().skip(first).take(count);
        let parts: Vec<_> =
            those.map(|node| (*node, Bytes::from(vec![ask.rng.below(8) as u8]))).collect();
        let names = parts.iter().map(|(node, _)| *node).collect();
        let Some(id) = ask.request(member.txn, Request::Begin { parts }) else { return };
        let newest = ask.host().and_then(|host| {
            let driven = host.machine(member.txn).driven();
            driven.map(|(txn, _)| txn).filter(|txn| txn.node == node).max()
        });
        if let Some(txn) = newest {
            // A node that may hold only a few votes no itself: AC4 is not for those groups.
            let is_roomy = self.config.held_max > 2;
            let begun_in_calm = (self.calm && is_roomy).then_some(ask.true_now);
            let fate = || Fate { parts: names, begun_in_calm, ..Fate::default() };
            self.fates.entry(txn).or_insert_with(fate);
        }
        member.begun.insert(id);
    }
}

impl System for Group {
    type App = Member;

    fn boot(&mut self, _: Peer, host: &mut Host) -> Member {
        let txn = host.add::<TwoPhaseCommit, Ear>(KEY, self.config.clone(), Ear::default());
        let txn = txn.expect("a valid configuration");
        Member { txn, locks: BTreeMap::new(), later: Vec::new(), begun: BTreeSet::new() }
    }

    fn drain(&mut self, node: NodeId, member: &mut Member, ask: &mut Ask<'_>) {
        loop {
            let Some(host) = ask.host() else { return };
            let ear = host.port(member.txn);
            let (answers, events) =
                (std::mem::take(&mut ear.answers), std::mem::take(&mut ear.events));
            if answers.is_empty() && events.is_empty() {
                return;
            }
            for event in events {
                self.on_event(node, member, event, ask);
            }
            for (ids, reply) in answers {
                for id in ids.iter() {
                    if member.begun.remove(&id) {
                        self.on_answer(node, &reply, ask.true_now);
                    }
                }
            }
        }
    }

    fn check(&mut self, _: NodeId, member: &Member, host: &Host) -> Result<(), String> {
        if let Some(what) = self.broken.take() {
            return Err(what);
        }
        let machine = host.machine(member.txn);
        let (held, driven) = (machine.held().count(), machine.driven().count());
        let max = (self.config.held_max, self.config.open_max);
        if driven > max.1 {
            return Err(format!("law 5: {held} held and {driven} driven"));
        }
        Ok(())
    }

    fn alarm(&mut self, node: NodeId, alarm: u64, app: Option<&mut Member>, ask: &mut Ask<'_>) {
        let pause = ask.rng.between(5 * MILLI, 60 * MILLI);
        let nodes = self.config.nodes.len() as u64;
        let next = if alarm == TICK { node } else { NodeId(1 + ask.rng.below(nodes)) };
        ask.alarm(pause, next, alarm);
        let Some(member) = app else { return };
        if alarm == TICK {
            for request in std::mem::take(&mut member.later) {
                self.ask_now(member, request, node, ask);
            }
        } else if !self.quiet {
            self.begin(node, member, ask);
        }
        self.drain(node, member, ask);
    }

    fn died(&mut self, _: NodeId, _: Member) {}

    fn describe(&self, frame: &Frame) -> String {
        format!("{:?}", decode_message::<Message>(frame))
    }
}

/// What a sweep must have seen.
pub(crate) const MARKS: &[&str] = &[
    "a transaction aborted",
    "a transaction committed",
    "a transaction was blocked",
    "a transaction was refused",
    "a yes vote outlived a restart",
];

/// Runs one seed: half a minute of faults, then a calm in which all must be well.
pub(crate) fn run(seed: u64, trace: bool) -> Run {
    let mut rng = Rng::new(seed).fork(77);
    let nodes = [1, 2, 3, 3, 4, 5][rng.below(6) as usize];
    let plan = Plan::draw(&mut rng);
    let group = Group::new(nodes, &mut rng);
    let mut world = World::new(seed, nodes, plan, group);
    if trace {
        world.record_trace();
    }
    for node in 1..=nodes {
        world.alarm(100 * MILLI, NodeId(node), TICK);
    }
    for client in 0..CLIENTS {
        world.alarm(200 * MILLI, NodeId(1 + client % nodes), client);
    }
    let violation = play(&mut world).err();
    let (committed, restarts) = (world.system.answered, world.counts().restarts);
    Run::of(&world, violation, vec![("committed", committed), ("restarts", restarts)])
}

fn play(world: &mut World<Group>) -> Result<(), Violation> {
    world.run(31 * SECOND)?;
    world.calm();
    world.run(33 * SECOND)?;
    world.system.calm = true;
    let before = world.system.answered;
    world.run(35 * SECOND)?;
    let served = world.system.answered - before;
    world.system.quiet = true;
    world.run(41 * SECOND)?;
    let at = world.now();
    let broken = |node, what| Violation { at, node, what };
    if served == 0 {
        return Err(broken(NodeId(0), "AC4 nothing commits in two calm seconds".into()));
    }
    for node in world.ids() {
        let Some((member, host)) = world.app(node) else {
            return Err(broken(node, "a node did not come back".into()));
        };
        let machine = host.machine(member.txn);
        let held: Vec<_> = machine.held().map(|(txn, _)| txn).collect();
        let driven: Vec<_> = machine.driven().map(|(txn, _)| txn).collect();
        ac5(&held, &driven).map_err(|what| broken(node, what))?;
        if !member.locks.is_empty() {
            return Err(broken(node, format!("T11 locks are left: {:?}", member.locks)));
        }
    }
    for (txn, fate) in &world.system.fates {
        fate.ac1_in_the_end(*txn).map_err(|what| broken(NodeId(0), what))?;
    }
    Ok(())
}
