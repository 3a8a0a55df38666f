//! Leases in the simulator, under drifting clocks, crashes, pauses and partitions: E1, E2, E3,
//! E5, E7, E8.

use std::time::Duration;

use quorate_election::{Config, Event, QuorumLease, Reply, Request};
use quorate_sim::sweep::Run;
use quorate_sim::{Ask, Fault, Plan, System, Violation, World};
use quorate_transport::{Halt, Host, Key, MachineRef, NodeId, Peer, Port, RequestRange, Rng};

mod lease_invariants;

use lease_invariants::{Facts, e3_e7};

const SECOND: u64 = 1_000_000_000;
const SAMPLE: u64 = 3_000_000;

#[derive(Default)]
struct Ear {
    events: Vec<Event>,
    answers: u64,
}

impl Port<QuorumLease> for Ear {
    fn answer(&mut self, ids: RequestRange, _: Reply) {
        self.answers += ids.iter().count() as u64;
    }
    fn event(&mut self, event: Event) {
        self.events.push(event);
    }
    fn halted(&mut self, _: &Halt) {}
}

struct Member(MachineRef<QuorumLease, Ear>);

/// What is known to be true of the group.
struct Group {
    config: Config,
    facts: Facts,
    /// Resignations and questions that were answered.
    answered: u64,
    chaos: bool,
    broken: Option<String>,
}

impl Group {
    fn holds(&mut self, result: Result<(), String>) {
        if let Err(what) = result {
            self.broken.get_or_insert(what);
        }
    }

    fn on_event(&mut self, node: NodeId, event: Event) {
        let token = match event {
            Event::Acquired(guard) | Event::Renewed(guard) => guard.token(),
            Event::Observed { token, .. } => token,
            Event::Lost { token, .. } => token,
        };
        let risen = self.facts.e2(node, token);
        self.holds(risen);
    }
}

impl System for Group {
    type App = Member;

    fn boot(&mut self, _: Peer, host: &mut Host) -> Member {
        let added =
            host.add::<QuorumLease, Ear>(Key::new(3, 0), self.config.clone(), Ear::default());
        Member(added.expect("a valid configuration"))
    }

    fn drain(&mut self, node: NodeId, member: &mut Member, ask: &mut Ask<'_>) {
        let (now, at) = (ask.now, ask.true_now);
        let Some(host) = ask.host() else { return };
        let ear = std::mem::take(host.port(member.0));
        self.answered += ear.answers;
        if let Some(guard) = host.machine(member.0).guard(now) {
            let token = guard.token();
            let one = self.facts.e1(token.term, node);
            let disjoint = self.facts.e5((token, node, at));
            self.holds(one.and(disjoint));
        }
        ear.events.into_iter().for_each(|event| self.on_event(node, event));
    }

    fn check(&mut self, _: NodeId, _: &Member, _: &Host) -> Result<(), String> {
        self.broken.take().map_or(Ok(()), Err)
    }

    fn alarm(&mut self, node: NodeId, alarm: u64, app: Option<&mut Member>, ask: &mut Ask<'_>) {
        if let Some(member) = app.filter(|_| self.chaos) {
            let request = match ask.rng.below(1000) {
                0..20 => Some(Request::Status),
                20 => Some(Request::Resign),
                _ => None,
            };
            request.and_then(|request| ask.request(member.0, request));
        }
        ask.alarm(SAMPLE, node, alarm); // the step that follows samples the lease
    }

    fn died(&mut self, node: NodeId, _: Member) {
        self.facts.died(node);
    }

    fn leader(&self) -> Option<NodeId> {
        Some(self.facts.newest().1).filter(|node| *node != NodeId(0))
    }

    fn disturb(&mut self, _: NodeId, member: &mut Member, ask: &mut Ask<'_>, _: &mut Rng) {
        ask.request(member.0, Request::Resign);
    }
}

/// Half a minute of faults, clocks up to 5 % off, of which `declared` are declared; then a calm.
pub(crate) fn run(seed: u64, declared: u32, trace: bool) -> Run {
    let mut rng = Rng::new(seed).fork(41);
    let nodes = [1, 3, 3, 5][rng.below(4) as usize];
    // A lease rests on clocks that run within a declared bound: none that stop or jump.
    let beyond = [Fault::ClockFreeze, Fault::ClockJump, Fault::Suspend];
    let mut plan = Plan::draw(&mut rng).without(&beyond);
    plan.drift_ppm = 50_000;
    let ms = Duration::from_millis;
    let mut config = Config::new((1..=nodes).map(NodeId));
    (config.lease, config.renew_interval) = (ms(300), ms(60));
    (config.campaign_wait_min, config.campaign_wait_max) = (ms(1), ms(40));
    config.drift_ppm = declared;
    let group = Group { config, facts: Facts::default(), answered: 0, chaos: true, broken: None };
    let mut world = World::new(seed, nodes, plan, group);
    for node in world.ids() {
        world.alarm(SAMPLE, node, 0);
    }
    if trace {
        world.record_trace();
    }
    let violation = play(&mut world).err();
    let leaders = world.system.facts.leaders.len() as u64;
    let work = vec![
        ("requests", world.system.answered),
        ("leaders", leaders),
        ("restarts", world.counts().restarts),
    ];
    Run::of(&world, violation, work)
}

fn play(world: &mut World<Group>) -> Result<(), Violation> {
    world.run(31 * SECOND)?;
    world.calm();
    world.system.chaos = false;
    world.run(35 * SECOND)?;
    let before = world.system.facts.newest();
    world.run(37 * SECOND)?;
    let kept = e3_e7(before, world.system.facts.newest(), world.now(), SECOND);
    kept.map_err(|what| Violation { at: world.now(), node: before.1, what })
}
