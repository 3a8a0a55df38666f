//! Bullies in the simulator: what holds for them whatever happens, and what once all is calm.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use quorate_election::bully::{Config, Event, Reply, Request};
use quorate_election::{Bully, Term};
use quorate_sim::sweep::Run;
use quorate_sim::{Ask, Plan, System, Violation, World, sometimes};
use quorate_transport::{
    Halt, Host, Key, Machine, MachineRef, NodeId, Peer, Port, RequestRange, Rng, Time,
};

mod bully_invariants;

use bully_invariants::{Beliefs, e2, e3_due, e3_e4, e7};

const SECOND: u64 = 1_000_000_000;

#[derive(Default)]
struct Ear {
    events: VecDeque<Event>,
    answers: u64,
}

impl Port<Bully> for Ear {
    fn answer(&mut self, ids: RequestRange, _: Reply) {
        self.answers += ids.iter().count() as u64;
    }
    fn event(&mut self, event: Event) {
        self.events.push_back(event);
    }
    fn halted(&mut self, _: &Halt) {}
}

struct Member {
    bully: MachineRef<Bully, Ear>,
    now: Time,
}

/// What is known of the group.
struct Group {
    config: Config,
    beliefs: Beliefs,
    /// What each node has told its application, in all its lives.
    told: BTreeMap<NodeId, Term>,
    terms: BTreeSet<Term>,
    /// Requests that were answered.
    answered: u64,
    chaos: bool,
    /// Opinions given up in the calm.
    doubts: u64,
    broken: Option<String>,
}

impl Group {
    fn on_event(&mut self, node: NodeId, event: Event) {
        let term = match event {
            Event::Believed(advisory) => {
                self.terms.insert(advisory.term);
                advisory.term
            }
            Event::Doubted(last) => {
                self.doubts += u64::from(!self.chaos);
                last.term
            }
        };
        let before = self.told.insert(node, term);
        self.broken = self.broken.take().or(e2(before, term, node).err());
    }
}

impl System for Group {
    type App = Member;

    fn boot(&mut self, _: Peer, host: &mut Host) -> Member {
        let bully = host.add::<Bully, Ear>(Key::new(4, 0), self.config.clone(), Ear::default());
        Member { bully: bully.expect("a valid configuration"), now: Time::ZERO }
    }

    fn drain(&mut self, node: NodeId, member: &mut Member, ask: &mut Ask<'_>) {
        member.now = ask.now;
        let Some(host) = ask.host() else { return };
        let ear = host.port(member.bully);
        self.answered += std::mem::take(&mut ear.answers);
        for event in std::mem::take(&mut ear.events) {
            self.on_event(node, event);
        }
    }

    fn check(&mut self, node: NodeId, member: &Member, host: &Host) -> Result<(), String> {
        let machine = host.machine(member.bully);
        match machine.advisory() {
            Some(advisory) => self.beliefs.insert(node, advisory),
            None => self.beliefs.remove(&node),
        };
        let leaders = self.beliefs.iter().filter(|(node, belief)| belief.leader == **node);
        sometimes!(leaders.count() > 1, "two bullies led at once");
        let longest = self.config.coordinator_timeout.max(self.config.leader_timeout);
        e3_due(member.now, machine.deadline(), member.now + longest)?;
        self.broken.take().map_or(Ok(()), Err)
    }

    fn alarm(&mut self, node: NodeId, alarm: u64, app: Option<&mut Member>, ask: &mut Ask<'_>) {
        if let Some(member) = app {
            let elect = ask.rng.below(8) == 0 && self.chaos;
            ask.request(member.bully, if elect { Request::Elect } else { Request::Status });
        }
        let pause = ask.rng.between(1, SECOND);
        ask.alarm(pause, node, alarm);
    }

    fn died(&mut self, node: NodeId, _: Member) {
        self.beliefs.remove(&node);
    }

    fn leader(&self) -> Option<NodeId> {
        self.beliefs.values().map(|belief| belief.leader).max()
    }

    fn disturb(&mut self, _: NodeId, member: &mut Member, ask: &mut Ask<'_>, _: &mut Rng) {
        ask.request(member.bully, Request::Elect);
    }
}

/// 20 seconds of faults, then a calm in which all must agree.
pub(crate) fn run(seed: u64, trace: bool) -> Run {
    let mut rng = Rng::new(seed).fork(43);
    let nodes = [1, 2, 3, 5, 7][rng.below(5) as usize];
    let plan = Plan::draw(&mut rng);
    let ms = Duration::from_millis;
    let mut config = Config::new((1..=nodes).map(NodeId));
    config.answer_timeout = ms([1, 10, 200][rng.below(3) as usize]);
    config.coordinator_timeout = config.answer_timeout + ms([1, 400][rng.below(2) as usize]);
    config.announce_interval = Some(ms(50));
    config.leader_timeout = ms([100, 400][rng.below(2) as usize]);
    let group = Group {
        config,
        beliefs: BTreeMap::new(),
        told: BTreeMap::new(),
        terms: BTreeSet::new(),
        answered: 0,
        chaos: true,
        doubts: 0,
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
    let (leaders, answered) = (world.system.terms.len() as u64, world.system.answered);
    let restarts = world.counts().restarts;
    let work = vec![("requests", answered), ("leaders", leaders), ("restarts", restarts)];
    Run::of(&world, violation, work)
}

fn play(world: &mut World<Group>) -> Result<(), Violation> {
    world.run(20 * SECOND)?;
    world.calm();
    world.system.chaos = false;
    world.run(32 * SECOND)?; // an old ELECTION may come ten seconds late, and upsets all
    let highest = world.ids().into_iter().max().expect("a node");
    let before = world.system.beliefs.clone();
    let doubts = world.system.doubts;
    world.run(34 * SECOND)?;
    let after = &world.system.beliefs;
    let broken = |what: String| Violation { at: world.now(), node: highest, what };
    e3_e4(&world.ids(), after).map_err(broken)?;
    e7(&before, after, world.system.doubts - doubts).map_err(broken)
}
