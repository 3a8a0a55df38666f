//! A hundred groups in each of three processes, over one journal and one network, under all
//! faults: each elects, commits and recovers for itself.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quorate_raft::{
    Config, Event, Index, Kind, Message, Proposals, Raft, Reply, Request, RoleName, Term,
};
use quorate_sim::sweep::{self, Run};
use quorate_sim::{Ask, Plan, System, Violation, World};
use quorate_transport::{
    Digest, Frame, Halt, Host, Key, Machine, MachineRef, NodeId, Peer, Port, RequestId,
    RequestRange, Rng, decode_message,
};

const GROUPS: u64 = 100;
const SECOND: u64 = 1_000_000_000;

#[derive(Default)]
struct Ear {
    answers: Vec<(RequestRange, Reply)>,
    events: Vec<Event>,
}

impl Port<Raft> for Ear {
    fn answer(&mut self, ids: RequestRange, reply: Reply) {
        self.answers.push((ids, reply));
    }
    fn event(&mut self, event: Event) {
        self.events.push(event);
    }
    fn halted(&mut self, _: &Halt) {}
}

/// One group in one process.
struct Seat {
    raft: MachineRef<Raft, Ear>,
    applied: Index,
    /// The digest of all that was applied, which is the state.
    state: u128,
    compacted: Index,
    asked: BTreeMap<RequestId, u64>,
}

/// One process.
struct Member {
    seats: Vec<Seat>,
}

#[derive(Default)]
struct Groups {
    leaders: BTreeMap<(u64, Term), NodeId>,
    /// The state of each group after each index.
    states: BTreeMap<(u64, Index), u128>,
    /// Commands answered as committed.
    acknowledged: BTreeMap<(u64, Index), u64>,
    /// What stands at an index.
    commands: BTreeMap<(u64, Index), u64>,
    hints: BTreeMap<u64, NodeId>,
    next: u64,
    quiet: bool,
}

fn seat_config() -> Config {
    let mut config = Config::new([1, 2, 3].map(NodeId));
    config.heartbeat_interval = Duration::from_millis(100);
    config.heartbeats_together = true;
    config.election_timeout_min = Duration::from_millis(400);
    config.election_timeout_max = Duration::from_millis(900);
    config.keep_bytes_max = 1 << 10;
    config
}

fn digest(before: u128, entry: &[u8]) -> u128 {
    let mut digest = Digest::default();
    digest.bytes(&before.to_le_bytes());
    digest.bytes(entry);
    digest.value()
}

impl Groups {
    fn on_event(
        &mut self,
        node: NodeId,
        group: u64,
        seat: &mut Seat,
        event: Event,
    ) -> Result<(), String> {
        match event {
            Event::Committed(view) => {
                for (at, entry) in view.entries().enumerate() {
                    let index = Index(view.first().0 + at as u64);
                    if view.kind() == Kind::Normal {
                        let command = u64::from_le_bytes(entry.try_into().expect("eight bytes"));
                        self.commands.insert((group, index), command);
                        seat.state = digest(seat.state, entry);
                    }
                    seat.applied = index;
                    let known = *self.states.entry((group, index)).or_insert(seat.state);
                    if known != seat.state {
                        return Err(format!("M4 {node} differs in group {group} at {index}"));
                    }
                }
            }
            Event::Restore { id, bytes, .. } => {
                seat.state = u128::from_le_bytes(bytes[..].try_into().expect("sixteen bytes"));
                seat.applied = Index(id.index);
                seat.compacted = seat.applied;
            }
            Event::Role { role: RoleName::Leader, .. } => {
                self.hints.insert(group, node);
            }
            Event::Role { .. } | Event::Members { .. } => {}
        }
        Ok(())
    }

    /// Every group has applied all of it everywhere, and all that was acknowledged is there.
    fn check_end(&self, world: &World<Self>) -> Result<(), String> {
        for ((group, index), command) in &self.acknowledged {
            if self.commands.get(&(*group, *index)) != Some(command) {
                return Err(format!("D1 {command} is not at {index} of group {group}"));
            }
        }
        for group in 0..GROUPS {
            let seats = world.ids().into_iter().filter_map(|id| Some(&world.app(id)?.0.seats));
            let applied: Vec<_> = seats
                .map(|seats| (seats[group as usize].applied, seats[group as usize].state))
                .collect();
            if applied.len() < 3 || applied.iter().any(|one| *one != applied[0]) {
                return Err(format!("R29 group {group} stands at {applied:?}"));
            }
        }
        Ok(())
    }
}

impl System for Groups {
    type App = Member;

    fn boot(&mut self, _: Peer, host: &mut Host) -> Member {
        let seat = |group| {
            let raft = host.add::<Raft, Ear>(Key::new(1, group), seat_config(), Ear::default());
            Seat {
                raft: raft.expect("a valid configuration"),
                applied: Index::ZERO,
                state: 0,
                compacted: Index::ZERO,
                asked: BTreeMap::new(),
            }
        };
        Member { seats: (0..GROUPS).map(seat).collect() }
    }

    fn drain(&mut self, node: NodeId, member: &mut Member, ask: &mut Ask<'_>) {
        for (group, seat) in member.seats.iter_mut().enumerate() {
            let Some(host) = ask.host() else { return };
            let ear = host.port(seat.raft);
            if ear.answers.is_empty() && ear.events.is_empty() {
                continue;
            }
            let ear = std::mem::take(ear);
            let before = seat.applied;
            for event in ear.events {
                if let Err(what) = self.on_event(node, group as u64, seat, event) {
                    panic!("{what}");
                }
            }
            for (ids, reply) in ear.answers {
                for (place, id) in ids.iter().enumerate() {
                    let Some(command) = seat.asked.remove(&id) else { continue };
                    if let Reply::Committed { first, .. } = reply {
                        let index = Index(first.0 + place as u64);
                        self.acknowledged.insert((group as u64, index), command);
                    }
                }
            }
            if seat.applied > before {
                ask.request(seat.raft, Request::Applied { index: seat.applied });
            }
            if seat.applied.0 > seat.compacted.0 + 30 {
                seat.compacted = seat.applied;
                let bytes = Bytes::copy_from_slice(&seat.state.to_le_bytes());
                let (index, contents) = (seat.applied, [bytes].into_iter().collect());
                ask.request(seat.raft, Request::Compact { index, contents });
            }
        }
    }

    fn check(&mut self, node: NodeId, member: &Member, host: &Host) -> Result<(), String> {
        for (group, seat) in member.seats.iter().enumerate() {
            let raft = host.machine(seat.raft);
            if raft.is_leader() {
                let at = (group as u64, raft.term());
                let first = *self.leaders.entry(at).or_insert(node);
                if first != node {
                    return Err(format!("R1 two leaders of {at:?}: {first} and {node}"));
                }
            }
        }
        Ok(())
    }

    fn alarm(&mut self, _: NodeId, alarm: u64, member: Option<&mut Member>, ask: &mut Ask<'_>) {
        if self.quiet {
            return;
        }
        let group = ask.rng.below(GROUPS);
        if let Some(member) = member {
            self.next += 1;
            let seat = &mut member.seats[group as usize];
            let request = Request::Propose(Proposals::one(&self.next.to_le_bytes()));
            if let Some(id) = ask.request(seat.raft, request) {
                seat.asked.insert(id, self.next);
            }
        }
        let any = NodeId(1 + ask.rng.below(3));
        let node = self.hints.get(&group).copied().filter(|_| ask.rng.below(4) > 0).unwrap_or(any);
        let pause = ask.rng.between(1_000_000, 10_000_000);
        ask.alarm(pause, node, alarm);
    }

    fn died(&mut self, node: NodeId, _: Member) {
        self.hints.retain(|_, hint| *hint != node);
    }

    fn leader(&self) -> Option<NodeId> {
        self.leaders.last_key_value().map(|(_, node)| *node)
    }

    fn describe(&self, frame: &Frame) -> String {
        decode_message::<Message>(frame).map_or_else(|e| e.to_string(), |m| format!("{m:?}"))
    }
}

fn run(seed: u64, trace: bool) -> Run {
    let mut rng = Rng::new(seed).fork(91);
    let plan = Plan::draw(&mut rng);
    let mut world = World::new(seed, 3, plan, Groups::default());
    if trace {
        world.record_trace();
    }
    (0..4).for_each(|client| world.alarm(SECOND, NodeId(1 + client % 3), client));
    let violation = play(&mut world).err();
    let system = &world.system;
    let (operations, leaders) = (system.acknowledged.len() as u64, system.leaders.len() as u64);
    Run::of(&world, violation, vec![("operations", operations), ("leaders", leaders)])
}

fn play(world: &mut World<Groups>) -> Result<(), Violation> {
    world.run(8 * SECOND)?;
    world.calm();
    world.run(world.now() + 3 * SECOND)?;
    let before = world.system.acknowledged.len();
    world.run(world.now() + SECOND)?;
    let served = world.system.acknowledged.len() - before;
    world.system.quiet = true;
    world.run(world.now() + 3 * SECOND)?;
    let broken = |what| Violation { at: world.now(), node: NodeId(0), what };
    if served < 100 {
        return Err(broken(format!("R29 {served} operations were served in a calm second")));
    }
    world.system.check_end(world).map_err(broken)
}

#[test]
fn a_hundred_groups_share_a_journal_and_a_network_under_all_faults() {
    let totals = sweep::seeds("raft, 100 groups", sweep::count(2).min(20), run);
    assert!(totals.mean("operations") >= 300, "each seed does real work");
    assert!(totals.mean("leaders") >= 100, "every group has had one");
    assert!(totals.mean_faults() >= 3, "and is disturbed");
}

#[test]
fn heartbeats_of_all_groups_of_a_node_are_due_at_once() {
    // One wake-up an interval, whoever was elected when: what it sends leaves in one write.
    let plan = Plan::draw(&mut Rng::new(3));
    let mut world = World::new(3, 3, plan, Groups::default());
    world.calm();
    world.run(4 * SECOND).expect("nothing disturbs it");
    for id in world.ids() {
        let (member, host) = world.app(id).expect("it is up");
        let leading = member.seats.iter().map(|seat| host.machine(seat.raft));
        let leading: Vec<_> = leading.filter(|raft| raft.is_leader()).collect();
        let due: std::collections::BTreeSet<_> =
            leading.iter().filter_map(|raft| raft.deadline()).collect();
        assert!(leading.len() > 10, "it leads many");
        assert_eq!(due.len(), 1, "{id}: {due:?}");
    }
}
