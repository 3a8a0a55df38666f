//! Leases in the simulator, under drifting clocks, crashes, pauses and partitions: E1, E3, E5.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_election::{Config, Event, QuorumLease, Reply, Request, Term, Token};
use quorate_sim::sweep::Run;
use quorate_sim::{Ask, Fault, Plan, System, Violation, World};
use quorate_transport::{Halt, Host, Key, MachineRef, NodeId, Peer, Port, RequestRange, Rng};

const SECOND: u64 = 1_000_000_000;
const SAMPLE: u64 = 3_000_000;

#[derive(Default)]
struct Ear {
    answers: u64,
}

impl Port<QuorumLease> for Ear {
    fn answer(&mut self, ids: RequestRange, _: Reply) {
        self.answers += ids.iter().count() as u64;
    }
    fn event(&mut self, _: Event) {}
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
    /// Resignations and questions that were answered.
    answered: u64,
    chaos: bool,
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
        self.answered += std::mem::take(&mut host.port(member.0).answers);
        if let Some(guard) = host.machine(member.0).guard(now) {
            self.holds(node, guard.token(), at);
        }
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

    fn died(&mut self, _: NodeId, _: Member) {}

    fn leader(&self) -> Option<NodeId> {
        self.newest.map(|(_, node, _)| node)
    }

    fn disturb(&mut self, _: NodeId, member: &mut Member, ask: &mut Ask<'_>, _: &mut Rng) {
        ask.request(member.0, Request::Resign);
    }
}

/// Half a minute of faults with clocks up to 5 % off, of which `declared` are declared; then a calm.
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
    let group = Group {
        config,
        leaders: BTreeMap::new(),
        newest: None,
        answered: 0,
        chaos: true,
        broken: None,
    };
    let mut world = World::new(seed, nodes, plan, group);
    for node in world.ids() {
        world.alarm(SAMPLE, node, 0);
    }
    if trace {
        world.record_trace();
    }
    let violation = play(&mut world).err();
    let leaders = world.system.leaders.len() as u64;
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
    let (token, node, _) = world.system.seen();
    world.run(37 * SECOND)?;
    let last = world.system.seen();
    if (last.0, last.1) != (token, node) || last.2 + SECOND < world.now() {
        let what = format!("E3 {node} led with {token:?} in the calm, now {last:?}");
        return Err(Violation { at: world.now(), node, what });
    }
    Ok(())
}
