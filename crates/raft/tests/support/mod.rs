//! A replicated map over Raft in the simulator, with clients, and the invariants of
//! `docs/ARCHITECTURE.md` checked after every event.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quorate_raft::{
    Change, Config, Event, Index, Kind, Members, Message, Proposals, Raft, Rejection, Reply,
    Request, RoleName, Term, View,
};
use quorate_sim::linearizability::{Budget, Map, MapOp, MapOutput, Operation, Verdict, check};
use quorate_sim::sweep::Run;
use quorate_sim::{Ask, Fault, Plan, System, Violation, World, is_small, sometimes};
use quorate_transport::{
    Digest, Frame, Halt, Host, Key, MachineRef, NodeId, Peer, Port, RequestId, RequestRange, Rng,
    SnapshotId, Time, decode_message,
};

mod invariants;
mod membership;

use invariants::{Disks, Facts, r11_r13, r14, r26};
use membership::{Configurations, any_change, r24};

const KEY: Key = Key::new(1, 0);
const CLIENTS: u64 = 6;
/// Whose alarm is the operator's.
const OPERATOR: u64 = 0xff;
/// A request that no client waits for.
const NO_OP: usize = usize::MAX;
const SECOND: u64 = 1_000_000_000;

type Op = MapOp<u64, u64>;
type Output = MapOutput<u64>;
type History = Vec<Operation<Map<u64, u64>>>;

/// What a member's Raft has said and nobody has taken yet.
#[derive(Default)]
pub(crate) struct Ear {
    answers: VecDeque<(RequestRange, Reply)>,
    events: VecDeque<Event>,
}

impl Port<Raft> for Ear {
    fn answer(&mut self, ids: RequestRange, reply: Reply) {
        self.answers.push_back((ids, reply));
    }
    fn event(&mut self, event: Event) {
        self.events.push_back(event);
    }
    fn halted(&mut self, _: &Halt) {}
}

/// One life of a member: the state machine and the requests under way.
pub(crate) struct Member {
    raft: MachineRef<Raft, Ear>,
    applied: Index,
    state: BTreeMap<u64, u64>,
    restore: Vec<u8>,
    snapshot: Index,
    compacting: bool,
    /// Requests under way, each with its operation.
    asked: BTreeMap<RequestId, usize>,
    /// Operations that wait until an index is applied; true for reads.
    waiting: BTreeMap<(Index, usize), bool>,
    outputs: BTreeMap<Index, Output>,
    commit: Index,
    term: Term,
}

struct Client {
    generation: u64,
    /// What it waits for: the place in the history.
    op: Option<usize>,
}

/// One operation of the history, as far as it is known.
struct Entry {
    client: u64,
    called: Time,
    op: Op,
    returned: Option<(Time, Output)>,
    /// Certain not to have happened.
    failed: bool,
    /// A read that may be so stale, in nanoseconds; it is no part of the history.
    within: Option<u64>,
}

/// What the operator is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operator {
    /// There is none.
    Absent,
    /// Changes the members at random.
    Changes,
    Rests,
    /// Makes all nodes voters again.
    Restores,
}

/// The whole group, and what is known to be true of it.
pub(crate) struct Group {
    config: Config,
    /// All nodes: the founders, and those who may join.
    nodes: Vec<NodeId>,
    operator: Operator,
    configurations: Configurations,
    changes: u64,
    /// Clocks keep within a bound: what rests on them is checked.
    clocks: bool,
    /// The highest index answered as committed so far, and when.
    promised: Vec<(u64, Index)>,
    clients: Vec<Client>,
    entries: Vec<Entry>,
    facts: Facts,
    disks: Disks,
    /// Disks are told apart.
    births: bool,
    /// Who knows the disks of all by a configuration that is committed and durable there.
    knows: std::collections::BTreeSet<NodeId>,
    /// Who has lost its disk.
    wiped: Option<NodeId>,
    /// A snapshot is taken after about so many entries.
    snapshot_every: u64,
    /// The highest index that anybody knew to be committed.
    committed: Index,
    /// The last entry known to be committed, and by which configurations it may be.
    stands: Option<((Index, Term), Vec<Members>)>,
    log_ends: BTreeMap<NodeId, (Index, Term)>,
    /// Whose log has grown in the last step, to less than its leader's; and the voters.
    lags: Option<(NodeId, Vec<NodeId>)>,
    broken: Option<String>,
    hint: Option<NodeId>,
    electing: std::collections::BTreeSet<NodeId>,
    acknowledged: u64,
    quiet: bool,
    /// Clients ask nothing for a while.
    rests: bool,
}

/// A command is 33 bytes: its place in the history, what to do, key, value, expected.
fn encode(number: usize, op: &Op) -> Vec<u8> {
    let (kind, key, value, expected) = match op {
        MapOp::Get { key } => (0, *key, 0, None),
        MapOp::Put { key, value } => (1u8, *key, *value, None),
        MapOp::Delete { key } => (2, *key, 0, None),
        MapOp::CompareAndSet { key, expected, value } => (3, *key, *value, *expected),
    };
    let mut bytes = vec![kind];
    for number in [number as u64, key, value, expected.unwrap_or(u64::MAX)] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes
}

fn decode(bytes: &[u8]) -> (usize, Op) {
    let word =
        |at: usize| u64::from_le_bytes(bytes[1 + 8 * at..9 + 8 * at].try_into().expect("33 bytes"));
    let (key, value) = (word(1), word(2));
    let op = match bytes[0] {
        1 => MapOp::Put { key, value },
        2 => MapOp::Delete { key },
        3 => {
            let expected = (word(3) != u64::MAX).then_some(word(3));
            MapOp::CompareAndSet { key, expected, value }
        }
        _ => MapOp::Get { key },
    };
    (word(0) as usize, op)
}

fn digest(bytes: &[u8]) -> u128 {
    let mut digest = Digest::default();
    digest.bytes(bytes);
    digest.value()
}

impl Member {
    fn apply(&mut self, index: Index, command: &[u8]) {
        let (_, op) = decode(command);
        let output = match op {
            MapOp::Get { key } => MapOutput::Value(self.state.get(&key).copied()),
            MapOp::Put { key, value } => {
                self.state.insert(key, value);
                MapOutput::Done
            }
            MapOp::Delete { key } => {
                self.state.remove(&key);
                MapOutput::Done
            }
            MapOp::CompareAndSet { key, expected, value } => {
                let matches = self.state.get(&key).copied() == expected;
                if matches {
                    self.state.insert(key, value);
                }
                MapOutput::Swapped(matches)
            }
        };
        self.outputs.insert(index, output);
        while self.outputs.len() > 2000 {
            self.outputs.pop_first();
        }
    }

    fn save(&self) -> Vec<u8> {
        self.state.iter().flat_map(|(k, v)| [k.to_le_bytes(), v.to_le_bytes()]).flatten().collect()
    }

    fn load(&mut self, id: SnapshotId) {
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let pairs = self.restore.chunks_exact(16);
        self.state = pairs.map(|pair| (word(&pair[..8]), word(&pair[8..]))).collect();
        self.applied = Index(id.index);
        self.snapshot = self.applied;
    }
}

impl Group {
    /// A group of `founders`, of `nodes` nodes in all, whose limits are drawn from `rng`.
    fn new(founders: u64, nodes: u64, operator: Operator, rng: &mut Rng) -> Self {
        let millis = std::time::Duration::from_millis;
        let mut config = Config::new((1..=founders).map(NodeId));
        config.heartbeat_interval = millis(40);
        config.election_timeout_min = millis(150);
        config.election_timeout_max = millis([150, 155, 200, 400][rng.below(4) as usize]);
        config.link_down_stagger = millis([0, 10][rng.below(2) as usize]);
        config.progress_timeout = millis([200, 2_000][rng.below(2) as usize]);
        config.append_bytes_max = [1, 300, 1 << 20][rng.below(3) as usize];
        config.resend_after = millis(100);
        config.batch_bytes_max = 1 << 10;
        config.window_bytes_max = [2 << 10, 64 << 10][rng.below(2) as usize];
        config.window_count_max = [1, 2, 64][rng.below(3) as usize];
        config.uncommitted_bytes_max = 16 << 10;
        config.unapplied_bytes_max = 4 << 10;
        config.keep_bytes_max = [0, 1 << 10, 1 << 20][rng.below(3) as usize];
        config.snapshot_chunk_bytes = [64, 1 << 10][rng.below(2) as usize];
        let client = |_| Client { generation: 0, op: None };
        Self {
            config,
            nodes: (1..=nodes).map(NodeId).collect(),
            operator,
            configurations: Configurations::of(&(1..=founders).map(NodeId).collect::<Vec<_>>()),
            changes: 0,
            clocks: false,
            promised: Vec::new(),
            clients: (0..CLIENTS).map(client).collect(),
            entries: Vec::new(),
            facts: Facts::default(),
            disks: Disks::default(),
            births: false,
            knows: Default::default(),
            wiped: None,
            snapshot_every: 150,
            committed: Index::ZERO,
            stands: None,
            log_ends: BTreeMap::new(),
            lags: None,
            broken: None,
            hint: None,
            electing: Default::default(),
            acknowledged: 0,
            quiet: false,
            rests: false,
        }
    }

    fn breaks(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    fn holds(&mut self, result: Result<(), String>) {
        if let Err(what) = result {
            self.breaks(what);
        }
    }

    fn on_view(&mut self, member: &mut Member, view: &View, term: Term) {
        self.holds(r14(member.applied, view.first()));
        if let Some(members) = view.members() {
            let step = self.configurations.r23(view.first(), &members);
            self.holds(step);
        }
        let mut index = view.first();
        for entry in view.entries() {
            let normal = view.kind() == Kind::Normal;
            let op = normal.then(|| decode(entry).0 as u64);
            let fact = (view.term(), digest(entry), op);
            let one = self.facts.r6(index, fact, term);
            self.holds(one);
            let kept = self.facts.d1(index);
            self.holds(kept);
            if normal {
                member.apply(index, entry);
            }
            index = index.next();
        }
        member.applied = view.last();
    }

    fn on_event(&mut self, node: NodeId, member: &mut Member, event: Event, term: Term) {
        match event {
            Event::Committed(view) => self.on_view(member, &view, term),
            Event::Restore { id, offset, bytes, last } => {
                if offset == 0 {
                    member.restore.clear();
                }
                member.restore.extend_from_slice(&bytes);
                if last {
                    sometimes!(true, "restored from a snapshot");
                    member.load(id);
                }
            }
            Event::Role { role: RoleName::Leader, .. } => self.hint = Some(node),
            Event::Role { .. } | Event::Members { .. } => {}
        }
    }

    /// R26: a read sees all that was answered as committed before it came, or longer ago than it
    /// may be stale.
    fn check_staleness(&self, op: usize, index: Index) -> Result<(), String> {
        let Entry { called, within, .. } = &self.entries[op];
        let slack = within.map_or(0, |within| within + within / 3); // its clock may be slow
        sometimes!(within.is_some(), "a read was answered within a bound");
        if within.is_some() && !self.clocks {
            return Ok(());
        }
        let since = called.as_nanos().saturating_sub(slack);
        r26(&self.promised, since, index).map_err(|what| format!("{what} (op {op})"))
    }

    fn on_answer(
        &mut self,
        member: &mut Member,
        ids: RequestRange,
        reply: &Reply,
        ask: &mut Ask<'_>,
    ) {
        for (place, id) in ids.iter().enumerate() {
            self.changes += u64::from(matches!(reply, Reply::Changed { .. }));
            let Some(op) = member.asked.remove(&id).filter(|op| *op != NO_OP) else { continue };
            match reply {
                Reply::Committed { first, .. } => {
                    let index = Index(first.0 + place as u64);
                    self.facts.promised.insert(index, op as u64);
                    let kept = self.facts.d1(index);
                    self.holds(kept);
                    if self.promised.last().is_none_or(|(_, last)| *last < index) {
                        self.promised.push((ask.true_now, index));
                    }
                    member.waiting.insert((index, op), false);
                }
                Reply::ReadAt { index } => {
                    let fresh = self.check_staleness(op, *index);
                    self.holds(fresh);
                    member.waiting.insert((*index, op), true);
                }
                Reply::Rejected(rejection) => {
                    sometimes!(true, "a proposal was refused");
                    self.entries[op].failed = true;
                    if let Rejection::NotLeader { leader } = rejection {
                        self.hint = *leader;
                    }
                    let client = self.entries[op].client;
                    if self.clients[client as usize].op == Some(op) {
                        let pause = ask.rng.between(1_000_000, 60_000_000);
                        self.next_alarm(client, pause, ask);
                    }
                }
                other => {
                    sometimes!(*other == Reply::Unknown, "an outcome became unknown");
                }
            }
        }
        if matches!(reply, Reply::Compacted { .. } | Reply::Rejected(_)) {
            member.compacting = false;
        }
    }

    /// Clients whose index is applied have their answer.
    fn answer_clients(&mut self, member: &mut Member, ask: &mut Ask<'_>) {
        while let Some((&(index, op), &read)) = member.waiting.first_key_value() {
            if index > member.applied {
                break;
            }
            member.waiting.pop_first();
            let output = if read {
                let MapOp::Get { key } = self.entries[op].op else { continue };
                MapOutput::Value(member.state.get(&key).copied())
            } else {
                let fact = self.facts.committed.get(&index).and_then(|(_, _, op)| *op);
                if fact != Some(op as u64) {
                    self.breaks(format!(
                        "D1 op {op} acknowledged at {index}, which holds {fact:?}"
                    ));
                }
                match member.outputs.get(&index) {
                    Some(output) => output.clone(),
                    None => continue, // the state came by snapshot: its output is not known here
                }
            };
            self.entries[op].returned = Some((Time::from_nanos(ask.true_now), output));
            self.acknowledged += 1;
            let client = self.entries[op].client;
            if self.clients[client as usize].op == Some(op) {
                let pause = ask.rng.between(1_000_000, 60_000_000);
                self.next_alarm(client, pause, ask);
            }
        }
    }

    fn next_alarm(&mut self, client: u64, nanos: u64, ask: &mut Ask<'_>) {
        let generation = &mut self.clients[client as usize].generation;
        *generation += 1;
        let alarm = client | *generation << 8;
        let any = self.nodes[ask.rng.below(self.nodes.len() as u64) as usize];
        let node = self.hint.filter(|_| ask.rng.below(10) < 8).unwrap_or(any);
        if self.is_sentinel(client) {
            // It stays where it is, whoever leads, and is quick: a lease that has ended shows.
            let node = self.nodes[(client as usize + self.nodes.len() / 2) % self.nodes.len()];
            return ask.alarm(nanos / 4, node, alarm);
        }
        ask.alarm(nanos, node, alarm);
    }

    /// Whether a client does nothing but read, at one node.
    fn is_sentinel(&self, client: u64) -> bool {
        self.clocks && client < 3
    }

    fn new_op(&mut self, ask: &mut Ask<'_>) -> Op {
        let key = ask.true_now / (3 * SECOND) * 8 + ask.rng.below(4);
        let value = self.entries.len() as u64 + 1;
        match ask.rng.below(10) {
            0..4 => MapOp::Get { key },
            4..8 => MapOp::Put { key, value },
            8 => MapOp::Delete { key },
            _ => {
                let near = ask.rng.below(value);
                let expected = (near > 0).then_some(near);
                MapOp::CompareAndSet { key, expected, value }
            }
        }
    }

    /// True when every node has applied everything.
    fn has_converged(&self, world: &World<Self>) -> bool {
        let last = self.facts.committed.last_key_value().map_or(Index::ZERO, |(index, _)| *index);
        let mut ids = world.ids().into_iter().filter(|id| Some(*id) != self.wiped);
        ids.all(|id| world.app(id).is_some_and(|(m, _)| m.applied == last))
    }

    /// These nodes have answered all that was asked, though they may have left the group.
    fn check_answered(&self, world: &World<Self>, nodes: &[NodeId]) -> Result<(), String> {
        for node in nodes {
            let Some((member, host)) = world.app(*node) else { continue };
            let status = host.machine(member.raft).status();
            let told = status.is_removed && status.members.contains(*node);
            sometimes!(told, "a node that had left was told so");
            if let Some((id, op)) = member.asked.iter().find(|(_, op)| **op != NO_OP) {
                return Err(format!("law 8: {node} has not answered {id}, op {op}"));
            }
        }
        Ok(())
    }

    /// What all nodes agree on at the end; call when the world has been calm for a while.
    ///
    /// # Errors
    /// The invariant that is broken.
    fn check_end(&self, world: &[(NodeId, &Member)]) -> Result<(), String> {
        let last = self.facts.committed.last_key_value().map_or(Index::ZERO, |(index, _)| *index);
        for (node, member) in world {
            if member.applied != last {
                return Err(format!("R29 {node} has applied {} of {last}", member.applied));
            }
            if member.state != world[0].1.state {
                return Err(format!("M4 {node} and {} differ at {last}", world[0].0));
            }
        }
        self.facts.d1_in_the_end()?;
        let ops: std::collections::BTreeSet<u64> =
            self.facts.committed.values().filter_map(|(_, _, op)| *op).collect();
        for (number, entry) in self.entries.iter().enumerate() {
            let write = !matches!(entry.op, MapOp::Get { .. });
            if entry.failed && write && ops.contains(&(number as u64)) {
                return Err(format!("M7 op {number} was rejected and happened"));
            }
            if entry.returned.is_some() && write && !ops.contains(&(number as u64)) {
                return Err(format!("D1 op {number} was acknowledged and is lost"));
            }
        }
        let happened = |(number, entry): &(usize, &Entry)| {
            !entry.failed
                && entry.within.is_none()
                && (entry.returned.is_some() || ops.contains(&(*number as u64)))
        };
        let history: History =
            self.entries.iter().enumerate().filter(happened).map(operation).collect();
        match check(&history, Budget::default()) {
            Verdict::Ok => Ok(()),
            Verdict::Illegal(example) => Err(format!("M3 not linearizable: {example}")),
            Verdict::Unknown => {
                sometimes!(true, "linearizability was too costly to decide");
                Ok(())
            }
        }
    }
}

/// Each operation is a process of its own: a client that has given one up begins another.
fn operation((number, entry): (usize, &Entry)) -> Operation<Map<u64, u64>> {
    let process = number as u64;
    let op = entry.op.clone();
    match &entry.returned {
        Some((at, output)) => Operation::returned(process, entry.called, *at, op, output.clone()),
        None => Operation::indeterminate(process, entry.called, op),
    }
}

impl System for Group {
    type App = Member;

    fn boot(&mut self, node: Peer, host: &mut Host) -> Member {
        self.log_ends.remove(&node.node);
        self.disks.start(node.node);
        let mut config = self.config.clone();
        if !config.voters.contains(&node.node) {
            config.voters.clear(); // it joins
        }
        let raft = host.add::<Raft, Ear>(KEY, config, Ear::default());
        Member {
            raft: raft.expect("a valid configuration"),
            applied: Index::ZERO,
            state: BTreeMap::new(),
            restore: Vec::new(),
            snapshot: Index::ZERO,
            compacting: false,
            asked: BTreeMap::new(),
            waiting: BTreeMap::new(),
            outputs: BTreeMap::new(),
            commit: Index::ZERO,
            term: Term::ZERO,
        }
    }

    fn drain(&mut self, node: NodeId, member: &mut Member, ask: &mut Ask<'_>) {
        loop {
            let Some(host) = ask.host() else { return };
            let term = host.machine(member.raft).term();
            let ear = host.port(member.raft);
            let (answers, events) =
                (std::mem::take(&mut ear.answers), std::mem::take(&mut ear.events));
            if answers.is_empty() && events.is_empty() {
                break;
            }
            let before = member.applied;
            for event in events {
                self.on_event(node, member, event, term);
            }
            for (ids, reply) in answers {
                self.on_answer(member, ids, &reply, ask);
            }
            self.answer_clients(member, ask);
            if member.applied > before {
                let index = member.applied;
                if let Some(id) = ask.request(member.raft, Request::Applied { index }) {
                    member.asked.insert(id, NO_OP);
                }
            }
            let every = self.snapshot_every;
            let far = member.snapshot.0 + every + ask.rng.below(every * 2 / 3);
            if member.applied.0 > far && !member.compacting {
                compact(member, ask);
            }
        }
    }

    fn check(&mut self, node: NodeId, member: &Member, host: &Host) -> Result<(), String> {
        let raft = host.machine(member.raft);
        if let Some(what) = self.broken.take() {
            return Err(what);
        }
        self.lags = None;
        let term = raft.term();
        r11_r13((member.term, member.commit), (term, raft.commit()))?;
        self.configurations.note(node, raft);
        let durable = raft.members_index() <= raft.commit().min(raft.durable_index());
        if self.births && durable && raft.members().birth(node).is_some() {
            self.knows.insert(node); // all voters are named at once
        }
        if !matches!(raft.role_name(), RoleName::Follower) {
            let committed = raft.members_index() <= raft.commit();
            r24(raft.members().is_voter(node), committed, raft.is_leader())?;
        }
        if raft.role_name() == RoleName::Candidate {
            self.electing.insert(node);
        } else {
            self.electing.remove(&node);
        }
        if raft.is_leader() {
            self.facts.r1(term, node)?;
            let known = self.facts.committed.last_key_value().map_or(Index::ZERO, |(at, _)| *at);
            let known = known.max(raft.commit());
            self.configurations.r23_one_at_a_time(term, raft.members_index(), known)?;
            sometimes!(raft.members().is_joint(), "a configuration was joint");
            sometimes!(!raft.members().is_voter(node), "a leader was removed");
            sometimes!(raft.stats().lease_reads > 0, "a lease answered a read");
            sometimes!(raft.stats().fetched > 0, "a leader got entries from a peer before");
            self.check_complete(raft)?;
        }
        self.check_log(node, raft)?;
        let replaced = self.note_durable(node, member, host);
        self.check_durable(raft, replaced)
    }

    fn alarm(&mut self, node: NodeId, alarm: u64, member: Option<&mut Member>, ask: &mut Ask<'_>) {
        let (client, generation) = (alarm & 0xff, alarm >> 8);
        if client == OPERATOR {
            return self.operate(member, ask);
        }
        if self.clients[client as usize].generation != generation || self.quiet {
            return;
        }
        if self.rests {
            return self.next_alarm(client, 100_000_000, ask);
        }
        // An operation still under way has taken too long: its outcome stays open.
        self.clients[client as usize].op = None;
        let Some(member) = member else {
            return self.next_alarm(client, 20_000_000, ask);
        };
        let op = match self.new_op(ask) {
            MapOp::Put { key, .. } | MapOp::Delete { key } if self.is_sentinel(client) => {
                MapOp::Get { key }
            }
            op => op,
        };
        let number = self.entries.len();
        let mut within = None;
        let request = match &op {
            MapOp::Get { .. } => match ask.rng.below(8) {
                _ if self.is_sentinel(client) => Request::Read,
                0..3 => Request::Read,
                3 | 4 => Request::ReadHere { within: std::time::Duration::ZERO },
                5 => {
                    let nanos = ask.rng.between(1_000_000, 900_000_000);
                    within = Some(nanos);
                    Request::ReadHere { within: std::time::Duration::from_nanos(nanos) }
                }
                _ => Request::Propose(Proposals::one(&encode(number, &op))),
            },
            op => Request::Propose(Proposals::one(&encode(number, op))),
        };
        let called = Time::from_nanos(ask.true_now);
        self.entries.push(Entry { client, called, op, returned: None, failed: false, within });
        self.clients[client as usize].op = Some(number);
        if let Some(id) = ask.request(member.raft, request) {
            member.asked.insert(id, number);
        }
        // Where leases are at stake nobody waits long for a leader that is cut off: its successor
        // is to have work while the lease may stand.
        let (least, most) = if self.clocks { (10, 150) } else { (100, 900) };
        let patience = ask.rng.between(least * 1_000_000, most * 1_000_000);
        self.next_alarm(client, patience, ask);
        let _ = node;
    }

    fn ends(&mut self, node: NodeId, member: &Member, host: &Host) {
        self.note_durable(node, member, host);
    }

    fn died(&mut self, node: NodeId, _: Member) {
        self.electing.remove(&node);
        if self.hint == Some(node) {
            self.hint = None;
        }
    }

    fn is_electing(&self) -> bool {
        !self.electing.is_empty()
    }

    fn describe(&self, frame: &Frame) -> String {
        match decode_message::<Message>(frame) {
            Ok(message) => format!("{message:?}"),
            Err(error) => error.to_string(),
        }
    }

    fn status(&self, member: &Member, host: &Host) -> String {
        let raft = host.machine(member.raft);
        let (base, last) = raft.log_bounds();
        format!(
            "{:?} {:?} vote {:?} log {base}..{last} durable {} commit {} applied {} {:?}",
            raft.role_name(),
            raft.term(),
            raft.vote(),
            raft.durable_index(),
            raft.commit(),
            member.applied,
            raft.members()
        )
    }

    fn leader(&self) -> Option<NodeId> {
        self.facts.leaders.last_key_value().map(|(_, node)| *node)
    }

    fn lags(&self, node: NodeId, other: NodeId) -> bool {
        let Some((_, voters)) = self.lags.as_ref().filter(|(lags, _)| *lags == node) else {
            return false;
        };
        let rest = voters.iter().filter(|id| ![node, other].contains(id)).count();
        let end = |node| self.log_ends.get(&node).map(|(index, term)| (*term, *index));
        rest > voters.len() / 2 && end(other) > end(node) && self.contradict(node, other)
    }

    fn contradict(&self, one: NodeId, other: NodeId) -> bool {
        let ends = [one, other].map(|node| self.log_ends.get(&node).copied());
        matches!(ends, [Some(one), Some(other)] if self.facts.contradict(one, other))
    }

    fn births(&self) -> bool {
        self.births
    }

    /// One node, whom each of the others knows well enough not to believe it afterwards.
    fn wipe(&mut self, node: NodeId) -> bool {
        let may = self.wiped.is_none() && self.knows.len() == self.nodes.len();
        if may {
            self.wiped = Some(node);
            self.log_ends.remove(&node);
        }
        may
    }

    fn disturb(&mut self, _: NodeId, member: &mut Member, ask: &mut Ask<'_>, rng: &mut Rng) {
        // A change of members that nobody else may have heard of: the node is often cut off next.
        if self.operator == Operator::Changes && rng.fork(1).below(3) == 0 {
            let change = any_change(&self.nodes, rng);
            if let Some(id) = ask.request(member.raft, Request::Change(change)) {
                member.asked.insert(id, NO_OP);
            }
            return;
        }
        // Where leases are on they must not outlive a hand-over.
        let hands_over = if self.clocks { rng.below(4) > 0 } else { rng.below(2) == 0 };
        if hands_over {
            let to = self.nodes[rng.below(self.nodes.len() as u64) as usize];
            let to = (rng.below(3) > 0).then_some(to);
            if let Some(id) = ask.request(member.raft, Request::Transfer { to }) {
                member.asked.insert(id, NO_OP);
            }
        } else if !member.compacting {
            compact(member, ask);
        }
    }
}

fn compact(member: &mut Member, ask: &mut Ask<'_>) {
    let bytes = Bytes::from(member.save());
    let contents = bytes.chunks(100).map(Bytes::copy_from_slice).collect();
    let index = member.applied;
    if let Some(id) = ask.request(member.raft, Request::Compact { index, contents }) {
        member.asked.insert(id, NO_OP);
        member.compacting = true;
        member.snapshot = index;
    }
}

impl Group {
    /// The operator asks somebody, most often the leader, for a change.
    fn operate(&mut self, member: Option<&mut Member>, ask: &mut Ask<'_>) {
        let change = match self.operator {
            Operator::Absent => return,
            Operator::Rests => None,
            Operator::Changes => Some(any_change(&self.nodes, ask.rng)),
            Operator::Restores => {
                let (voters, learners) = (self.nodes.clone(), Vec::new());
                Some(Change::Become { voters, learners })
            }
        };
        if let (Some(change), Some(member)) = (change, member)
            && let Some(id) = ask.request(member.raft, Request::Change(change))
        {
            member.asked.insert(id, NO_OP);
        }
        let pause = ask.rng.between(20_000_000, 600_000_000);
        let any = self.nodes[ask.rng.below(self.nodes.len() as u64) as usize];
        let node = self.hint.filter(|_| ask.rng.below(10) < 8).unwrap_or(any);
        ask.alarm(pause, node, OPERATOR);
    }

    fn check_complete(&self, raft: &Raft) -> Result<(), String> {
        let (base, last) = raft.log_bounds();
        let term_at = |index| raft.entry(index).map(|(term, _)| term);
        self.facts.r5(raft.term(), (base.next(), last), term_at)
    }

    /// Whether what was durable there may have lost something.
    fn note_durable(&mut self, node: NodeId, member: &Member, host: &Host) -> bool {
        if self.wiped == Some(node) {
            // What it had acknowledged with its former disk was true, and nothing after.
            return false;
        }
        let (cell, raft) = (host.cell(member.raft), host.machine(member.raft));
        let last = raft.log_bounds().1;
        let end = (last, raft.entry(last).map(|(term, _)| term));
        self.disks.note(node, end, cell.last(), cell.durable_upto())
    }

    /// Whoever first knows that an entry is committed has counted who has it; nor does a quorum of
    /// those ever lose it.
    fn check_durable(&mut self, raft: &Raft, replaced: bool) -> Result<(), String> {
        let (index, before) = (raft.commit(), self.committed);
        self.committed = index.max(before);
        if index > before
            && let Some((term, _)) = raft.entry(index)
        {
            let term_at = |index| raft.entry(index).map(|(term, _)| term);
            let all = self.configurations.of_log(before, term_at).into_iter().cloned().collect();
            self.stands = Some(((index, term), all));
        } else if !replaced {
            return Ok(());
        }
        let Some((entry, all)) = &self.stands else { return Ok(()) };
        let by_any = |has: &dyn Fn(NodeId) -> bool| all.iter().any(|all| all.is_quorum(has));
        self.facts.r8(*entry, &self.disks, by_any)
    }

    /// From the end of the log back to what was seen before.
    fn check_log(&mut self, node: NodeId, raft: &Raft) -> Result<(), String> {
        let (base, last) = raft.log_bounds();
        let Some((term, _)) = raft.entry(last) else { return Ok(()) };
        if self.log_ends.insert(node, (last, term)) == Some((last, term)) {
            return Ok(());
        }
        let leader = self.facts.leaders.get(&raft.term());
        let more =
            leader.and_then(|leader| self.log_ends.get(leader)).map(|end| end.0) > Some(last);
        if more && last > self.committed && raft.role_name() == RoleName::Follower {
            self.lags = Some((node, raft.members().voters().to_vec()));
        }
        let mut index = last;
        while index > base.next() {
            let (Some((term, bytes)), Some((before, _))) =
                (raft.entry(index), raft.entry(index.previous()))
            else {
                break;
            };
            let fact = (digest(&bytes), before);
            if self.facts.r4((index, term), fact)? {
                break;
            }
            index = index.previous();
        }
        Ok(())
    }
}

/// What a sweep must have seen.
pub(crate) const MARKS: &[&str] = &[
    "a proposal was refused",
    "an outcome became unknown",
    "restored from a snapshot",
    "a configuration was joint",
    "a leader was removed",
    "a node that had left was told so",
    "a node that lost its disk stopped itself",
];

/// Runs one seed: faults; then a majority at peace among others that stay broken, which must elect
/// and serve; then a calm in which all must be well.
pub(crate) fn run(seed: u64, trace: bool) -> Run {
    let mut rng = Rng::new(seed).fork(77);
    let founders = [1, 3, 3, 3, 5, 5][rng.below(6) as usize];
    let mut plan = Plan::draw(&mut rng);
    // A stream of its own: groups without an operator stay as they are.
    let mut operator = rng.fork(78);
    let (nodes, operator) = match operator.below(2) {
        0 => (founders, Operator::Absent),
        _ => (founders.max(operator.between(2, 6)), Operator::Changes),
    };
    let mut group = Group::new(founders, nodes, operator, &mut rng);
    group.clocks = rng.fork(79).below(2) == 0;
    if group.clocks {
        // No clock stops or jumps, and any two differ by a third at most: no more is allowed for,
        // so that a lease ends hardly before the promises that it rests on.
        plan = plan.without(&[Fault::ClockFreeze, Fault::ClockJump, Fault::Suspend]);
        plan.drift_ppm = 200_000;
        plan.kinds.extend([(Fault::Usurp, 16), (Fault::System, 14), (Fault::ClockDrift, 8)]);
        plan.interval = plan.interval.min(300_000_000);
        group.config.clock_drift_ppm = Some(340_000);
    }
    group.snapshot_every = [12, 150, 150, 150][rng.fork(81).below(4) as usize];
    if is_small() {
        group.snapshot_every = 8;
        group.config.keep_bytes_max = 0;
    }
    let mut disks = rng.fork(80);
    group.births = disks.below(4) == 0;
    if group.births && operator == Operator::Absent && nodes > 2 {
        plan.kinds.push((Fault::Wipe, disks.between(2, 20)));
    }
    let mut world = World::new(seed, nodes, plan, group);
    if trace {
        world.record_trace();
    }
    for client in 0..CLIENTS {
        let node = NodeId(1 + client % nodes);
        world.alarm(500_000_000 + client * 10_000_000, node, client);
    }
    if operator == Operator::Changes {
        world.alarm(700_000_000, NodeId(1), OPERATOR);
    }
    let violation = play(&mut world, &mut rng).err();
    let leaders = world.system.facts.leaders.len() as u64;
    let work = vec![
        ("operations", world.system.acknowledged),
        ("leaders", leaders),
        ("changes", world.system.changes),
    ];
    Run::of(&world, violation, work)
}

fn play(world: &mut World<Group>, rng: &mut Rng) -> Result<(), Violation> {
    world.run(22 * SECOND)?;
    let (mut core, mut others) = (world.ids(), Vec::new());
    core.retain(|id| Some(*id) != world.system.wiped);
    while core.len() > world.ids().len() / 2 + 1 {
        others.push(core.remove(rng.below(core.len() as u64) as usize));
    }
    world.system.configurations.complete(&mut core, others);
    if world.system.operator == Operator::Changes {
        world.system.operator = Operator::Rests;
    }
    world.calm_core(&core);
    // What was asked before is answered though nobody asks for anything more.
    world.system.rests = true;
    world.run(world.now() + 2 * SECOND)?;
    let mut patience = 30;
    while patience > 0 && world.system.check_answered(world, &core).is_err() {
        patience -= 1;
        world.run(world.now() + SECOND)?;
    }
    let broken = |world: &World<Group>, what| Violation { at: world.now(), node: NodeId(0), what };
    world.system.check_answered(world, &core).map_err(|what| broken(world, what))?;
    world.system.rests = false;
    world.run(world.now() + 2 * SECOND)?;
    let mut core_served = 0;
    // With one entry a message and one message at a time a laggard of the core takes its time.
    for _ in 0..10 {
        let before = world.system.acknowledged;
        world.run(world.now() + 2 * SECOND)?;
        core_served = world.system.acknowledged - before;
        if core_served >= 5 {
            break;
        }
    }
    if core_served < 5 {
        if core.iter().any(|id| world.app(*id).is_none()) {
            return Err(broken(world, "R29 a node did not come back".into()));
        }
        let what = format!("R29 {core:?} served {core_served} operations in two seconds");
        return Err(broken(world, what));
    }
    world.calm();
    if world.system.operator == Operator::Rests {
        world.system.operator = Operator::Restores;
    }
    // Whoever was down is back at once; a leader follows within a few timeouts, and serves.
    world.run(world.now() + 2 * SECOND)?;
    let before = world.system.acknowledged;
    world.run(world.now() + 2 * SECOND)?;
    let served = world.system.acknowledged - before;
    world.system.quiet = true;
    world.run(world.now() + 2 * SECOND)?;
    // With one entry a message and one message at a time a laggard takes its time.
    let mut patience = 30;
    while patience > 0 && !world.system.has_converged(world) {
        patience -= 1;
        world.run(world.now() + SECOND)?;
    }
    let broken = |what| broken(world, what);
    if served < 10 {
        return Err(broken(format!("R29 {served} operations were served in two calm seconds")));
    }
    if let Some(node) = world.system.wiped.filter(|node| !world.is_lost(*node)) {
        return Err(broken(format!("R29 {node} lost its disk and goes on under its old name")));
    }
    sometimes!(world.system.wiped.is_some(), "a node that lost its disk stopped itself");
    let ids: Vec<_> = world.ids().into_iter().filter(|id| !world.is_lost(*id)).collect();
    let members: Vec<_> = ids.iter().filter_map(|id| Some((*id, world.app(*id)?.0))).collect();
    if members.len() < ids.len() {
        return Err(broken("R29 a node did not come back".into()));
    }
    world.system.check_answered(world, &ids).map_err(broken)?;
    world.system.check_end(&members).map_err(broken)
}
