//! Leases in the simulator, under drifting clocks, crashes, pauses and partitions.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use quorate_election::{Config, Event, QuorumLease, Reply, Request, Term, Token};
use quorate_sim::{Ask, Plan, System, Violation, World};
use quorate_transport::{Halt, Host, Key, MachineRef, NodeId, Peer, Port, RequestRange, Rng};

const SECOND: u64 = 1_000_000_000;
const SAMPLE: u64 = 3_000_000;

#[derive(Default)]
struct Ear(VecDeque<Event>);

impl Port<QuorumLease> for Ear {
    fn answer(&mut self, _: RequestRange, _: Reply) {}
    fn event(&mut self, event: Event) {
        self.0.push_back(event);
    }
    fn halted(&mut self, _: &Halt) {}
}

struct Member(MachineRef<QuorumLease, Ear>);

/// What is known to be true of the group.
struct Group {
    config: Config,
    /// E1.
    leaders: BTreeMap<Term, NodeId>,
    /// The newest lease, its holder, and when it was last seen to hold, in true time.
    newest: Option<(Token, NodeId, u64)>,
    broken: Option<String>,
}

impl Group {
    fn seen(&self) -> (Token, NodeId, u64) {
        let none = Token { config: 0, term: Term(0) };
        self.newest.unwrap_or((none, NodeId(0), 0))
    }

    /// A lease holds at this instant of true time: no later leader may have held one before. (E5)
    fn holds(&mut self, node: NodeId, token: Token, at: u64) {
        let first = *self.leaders.entry(token.term).or_insert(node);
        if first != node {
            self.broken = Some(format!("E1 {first} and {node} lead {:?}", token.term));
        }
        match self.newest {
            Some((newer, holder, since)) if newer > token => {
                let what = format!("E5 {node} holds {token:?}, {holder} held {newer:?} at {since}");
                self.broken = Some(what);
            }
            _ => self.newest = Some((token, node, at)),
        }
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
        host.port(member.0).0.clear();
        if let Some(guard) = host.machine(member.0).guard(now) {
            self.holds(node, guard.token(), at);
        }
    }

    fn check(&mut self, _: NodeId, _: &Member, _: &Host) -> Result<(), String> {
        self.broken.take().map_or(Ok(()), Err)
    }

    fn alarm(&mut self, node: NodeId, alarm: u64, _: Option<&mut Member>, ask: &mut Ask<'_>) {
        ask.alarm(SAMPLE, node, alarm); // the step that follows samples the lease
    }

    fn died(&mut self, _: NodeId, _: Member) {}

    fn leader(&self) -> Option<NodeId> {
        self.newest.map(|(_, node, _)| node)
    }

    fn disturb(&mut self, _: NodeId, member: &mut Member, ask: &mut Ask<'_>, _: &mut Rng) {
        ask.request(member.0, Request::Resign);
    }
}

struct Outcome {
    violation: Option<Violation>,
    leaders: u64,
    faults: u64,
}

/// 20 seconds of faults with clocks up to 5 % off, of which `declared` are declared; then a calm.
fn run(seed: u64, declared: u32) -> Outcome {
    let mut rng = Rng::new(seed).fork(41);
    let nodes = [1, 3, 3, 5][rng.below(4) as usize];
    let mut plan = Plan::draw(&mut rng);
    plan.drift_ppm = 50_000;
    let ms = Duration::from_millis;
    let mut config = Config::new((1..=nodes).map(NodeId));
    (config.lease, config.renew_interval) = (ms(300), ms(60));
    (config.campaign_wait_min, config.campaign_wait_max) = (ms(1), ms(40));
    config.drift_ppm = declared;
    let group = Group { config, leaders: BTreeMap::new(), newest: None, broken: None };
    let mut world = World::new(seed, nodes, plan, group);
    for node in world.ids() {
        world.alarm(SAMPLE, node, 0);
    }
    let violation = play(&mut world).err();
    let faults = world.counts().faults.values().sum();
    Outcome { violation, leaders: world.system.leaders.len() as u64, faults }
}

fn play(world: &mut World<Group>) -> Result<(), Violation> {
    world.run(20 * SECOND)?;
    world.calm();
    world.run(24 * SECOND)?;
    let (token, node, _) = world.system.seen();
    world.run(26 * SECOND)?;
    let last = world.system.seen();
    if (last.0, last.1) != (token, node) || last.2 + SECOND < world.now() {
        let what = format!("E3 {node} led with {token:?} in the calm, now {last:?}");
        return Err(Violation { at: world.now(), node, what });
    }
    Ok(())
}

fn seeds(default: u64) -> u64 {
    std::env::var("QUORATE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn no_seed_breaks_an_invariant() {
    let (mut leaders, mut faults) = (0, 0);
    let count = seeds(40);
    for seed in 0..count {
        let outcome = run(seed, 50_000);
        if let Some(violation) = outcome.violation {
            panic!("seed {seed}: {violation}");
        }
        leaders += outcome.leaders;
        faults += outcome.faults;
    }
    println!("{count} seeds: {leaders} leaders, {faults} faults");
    assert!(leaders / count >= 4 && faults / count >= 10, "{leaders} {faults}");
}

#[test]
fn clocks_beyond_the_declared_bound_are_found_out() {
    let broken = (0..seeds(400).max(400)).find_map(|seed| run(seed, 0).violation);
    let what = broken.expect("leases must overlap when drift is not declared").what;
    assert!(what.starts_with("E5"), "{what}");
}
