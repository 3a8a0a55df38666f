//! Seeds against the invariants X1, X2, X3, X6 and X10: nodes that take turns, under all faults.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use quorate_dmutex::{Config, Event, Name, Reply, Request, RicartAgrawala};
use quorate_sim::sweep::Run;
use quorate_sim::{Ask, Plan, System, Violation, World, sometimes};
use quorate_transport::{
    Halt, Host, Key, MachineRef, NodeId, Peer, Port, RequestId, RequestRange, Rng,
};

mod invariants;

use invariants::{Asked, Facts, x3, x6, x10};

const KEY: Key = Key::new(3, 0);
const SECOND: u64 = 1_000_000_000;
const NAMES: u64 = 3;
/// In the calm a free resource is handed over within the time after which one asks again.
const IDLE_MAX: u64 = 200_000_000;
/// In the calm nobody waits longer.
const WAIT_MAX: u64 = 10 * SECOND;

#[derive(Default)]
struct Ear {
    answers: VecDeque<(RequestRange, Reply)>,
}

impl Port<RicartAgrawala> for Ear {
    fn answer(&mut self, ids: RequestRange, reply: Reply) {
        self.answers.push_back((ids, reply));
    }
    fn event(&mut self, event: Event) {
        sometimes!(
            matches!(&event, Event::Silent { peers } if !peers.is_empty()),
            "a peer is silent"
        );
    }
    fn halted(&mut self, _: &Halt) {}
}

/// One life's application.
struct Member {
    mutex: MachineRef<RicartAgrawala, Ear>,
    asked: BTreeMap<RequestId, Asked>,
    held: Vec<RequestId>,
    released: Option<RequestId>,
}

/// The whole group, and what is known to be true of it.
struct Group {
    nodes: u64,
    reserve: u64,
    facts: Facts,
    /// True time of the present step.
    now: u64,
    grants: u64,
    /// The longest wait of a request that was made in the calm. (X3)
    longest: u64,
    open_in_calm: i64,
    calm: bool,
    quiet: bool,
    broken: Option<String>,
}

fn name(number: u64) -> Name {
    Name::new(format!("lock-{number}").into_bytes()).expect("a short name")
}

impl Group {
    fn breaks(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    fn holds(&mut self, result: Result<(), String>) {
        if let Err(what) = result {
            self.breaks(what);
        }
    }

    fn on_answer(
        &mut self,
        node: NodeId,
        member: &mut Member,
        id: RequestId,
        reply: Reply,
        now: u64,
    ) {
        let Some(asked) = member.asked.remove(&id) else {
            return self.breaks(format!("law 8: {id} of {node} was answered twice"));
        };
        self.holds(x6(node, id, &asked, reply));
        match (asked, reply) {
            (Asked::Acquire { name, asked_at, calm }, Reply::Held { fence }) => {
                let grown = self.facts.x1_x2(&name, fence);
                self.holds(grown);
                self.grants += 1;
                member.held.push(id);
                if calm {
                    let handed = self.facts.x3_handed_over(&name, (asked_at, now), IDLE_MAX);
                    self.holds(handed);
                    self.open_in_calm -= 1;
                    self.longest = self.longest.max(now - asked_at);
                }
            }
            (Asked::Acquire { calm, .. }, _) => self.open_in_calm -= i64::from(calm),
            (asked, _) => {
                let refused = asked == Asked::WrongRelease;
                sometimes!(refused, "a release by no holder was refused");
            }
        }
    }

    fn act(&mut self, member: &mut Member, ask: &mut Ask<'_>) {
        let mutex = member.mutex;
        if let Some(acquired) = member.held.pop() {
            member.released = Some(acquired);
            if let Some(id) = ask.insist(mutex, Request::Release { acquired }) {
                member.asked.insert(id, Asked::Release);
            }
            return;
        }
        if self.quiet {
            return;
        }
        let waits = |asked: &&Asked| matches!(asked, Asked::Acquire { .. });
        let waiting = member.asked.iter().find(|(_, asked)| waits(asked)).map(|(id, _)| *id);
        let open = member.asked.values().filter(waits).count();
        match (ask.rng.below(10), waiting, member.released) {
            (0, Some(waiting), _) => {
                if let Some(id) = ask.request(mutex, Request::Cancel { waiting }) {
                    member.asked.insert(id, Asked::Cancel);
                }
            }
            (1, _, Some(acquired)) => {
                if let Some(id) = ask.request(mutex, Request::Release { acquired }) {
                    member.asked.insert(id, Asked::WrongRelease);
                }
            }
            _ if open < 4 => {
                let name = name(ask.rng.below(NAMES));
                let millis = ask.rng.between(50, 3000);
                let hasty = ask.rng.below(3) == 0;
                let patience = hasty.then(|| Duration::from_millis(millis));
                let calm = self.calm && !hasty;
                self.open_in_calm += i64::from(calm);
                let (name_, asked_at) = (name.clone(), ask.true_now);
                let asked = Asked::Acquire { name: name_, asked_at, calm };
                if let Some(id) = ask.request(mutex, Request::Acquire { name, patience }) {
                    member.asked.insert(id, asked);
                }
            }
            _ => {}
        }
    }
}

impl System for Group {
    type App = Member;

    fn boot(&mut self, _: Peer, host: &mut Host) -> Member {
        let mut config = Config::new((1..=self.nodes).map(NodeId));
        config.reserve = self.reserve;
        let mutex = host.add(KEY, config, Ear::default()).expect("a valid configuration");
        Member { mutex, asked: BTreeMap::new(), held: Vec::new(), released: None }
    }

    fn drain(&mut self, node: NodeId, member: &mut Member, ask: &mut Ask<'_>) {
        let now = ask.true_now;
        self.now = now;
        let Some(host) = ask.host() else { return };
        let answers = std::mem::take(&mut host.port(member.mutex).answers);
        for (ids, reply) in answers {
            for id in ids.iter() {
                self.on_answer(node, member, id, reply, now);
            }
        }
    }

    fn check(&mut self, node: NodeId, member: &Member, host: &Host) -> Result<(), String> {
        if let Some(what) = self.broken.take() {
            return Err(what);
        }
        let machine = host.machine(member.mutex);
        let held: Vec<Name> = machine.held().map(|(name, _)| name.clone()).collect();
        self.facts.x1(node, &held, self.now)?;
        let open = member.asked.values().filter_map(|asked| match asked {
            Asked::Acquire { name, .. } => Some(name),
            _ => None,
        });
        x10(node, machine.status().wanted, &open.collect::<BTreeSet<_>>())
    }

    fn alarm(&mut self, node: NodeId, _: u64, member: Option<&mut Member>, ask: &mut Ask<'_>) {
        if let Some(member) = member {
            self.act(member, ask);
        }
        let pause = ask.rng.between(1_000_000, 80_000_000);
        ask.alarm(pause, node, 0);
    }

    fn died(&mut self, node: NodeId, member: Member) {
        self.facts.forget(node, &[], self.now);
        let lost = member.asked.values().filter(|a| matches!(a, Asked::Acquire { calm: true, .. }));
        self.open_in_calm -= lost.count() as i64;
    }

    fn leader(&self) -> Option<NodeId> {
        self.facts.any_holder()
    }
}

/// What a sweep must have seen.
pub(crate) const MARKS: &[&str] = &["a peer is silent", "a release by no holder was refused"];

/// Runs one seed.
pub(crate) fn run(seed: u64, trace: bool) -> Run {
    let mut rng = Rng::new(seed).fork(77);
    let nodes = [1, 2, 3, 3, 5][rng.below(5) as usize];
    let plan = Plan::draw(&mut rng);
    let group = Group {
        nodes,
        reserve: [1, 4, 4096][rng.below(3) as usize],
        facts: Facts::default(),
        now: 0,
        grants: 0,
        longest: 0,
        open_in_calm: 0,
        calm: false,
        quiet: false,
        broken: None,
    };
    let mut world = World::new(seed, nodes, plan, group);
    if trace {
        world.record_trace();
    }
    for node in (1..=nodes).map(NodeId) {
        world.alarm(200_000_000, node, 0);
    }
    let violation = play(&mut world).err();
    let grants = world.system.grants;
    Run::of(&world, violation, vec![("grants", grants)])
}

/// Thirty seconds of faults, then a calm in which every request must be granted in time.
fn play(world: &mut World<Group>) -> Result<(), Violation> {
    world.run(30 * SECOND)?;
    world.calm();
    world.run(34 * SECOND)?;
    world.system.calm = true;
    let before = world.system.grants;
    world.run(40 * SECOND)?;
    world.system.quiet = true;
    world.run(50 * SECOND)?;
    let served = world.system.grants - before;
    let (open, longest) = (world.system.open_in_calm, world.system.longest);
    let broken = |what| Violation { at: 50 * SECOND, node: NodeId(0), what };
    x3(open, longest, WAIT_MAX).map_err(broken)?;
    if served < 20 {
        return Err(broken(format!("X3 {served} grants in six calm seconds")));
    }
    Ok(())
}
