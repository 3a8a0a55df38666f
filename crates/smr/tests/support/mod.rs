//! Replicas in the simulator, with clients that retry through any node within their sessions, and
//! the invariants checked after every event.

mod invariants;
mod ledger;
pub(crate) mod watchers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use quorate_raft::{Change, Index, RoleName, Term};
use quorate_sim::linearizability::{Budget, Operation, Verdict, check};
use quorate_sim::sweep::Run;
use quorate_sim::{Ask, Fault, Plan, System, Violation, World, is_small, sometimes};
use quorate_smr::{
    Commands, Config, Event, Freshness, Outcome, Rejection, Reply, Request, SessionId, Smr, Stamp,
};
use quorate_transport::{
    Frame, Halt, Host, Key, MachineRef, NodeId, Peer, Port, RequestId, RequestRange, Rng, Time,
    decode_message,
};

use invariants::{States, d1_m7, m1, m1_answer, m5};
use ledger::{Ledger, Op, Sums, command, word};
use watchers::Watchers;

const KEY: Key = Key::new(2, 0);
const CLIENTS: usize = 6;
/// This client has more under way than replicas remember: some of it is given up.
const RUDE: usize = 0;
/// Alarms of watchers come after those of clients.
const WATCHER: u64 = 100;
/// Whose alarm is the operator's.
const OPERATOR: u64 = 0xff;
const SECOND: u64 = 1_000_000_000;
const MILLI: u64 = 1_000_000;

type Replica = Smr<Ledger>;

/// What a replica has said and nobody has taken yet.
#[derive(Default)]
pub(crate) struct Ear {
    answers: VecDeque<(RequestRange, Reply)>,
    events: VecDeque<Event>,
}

impl Port<Replica> for Ear {
    fn answer(&mut self, ids: RequestRange, reply: Reply) {
        self.answers.push_back((ids, reply));
    }
    fn event(&mut self, event: Event) {
        self.events.push_back(event);
    }
    fn halted(&mut self, _: &Halt) {}
}

/// What a request was about.
#[derive(Clone, Debug)]
enum Asked {
    Open {
        client: usize,
    },
    /// A command without a session, which is never sent again.
    Plain {
        op: usize,
    },
    /// Operations of one client, in this order.
    Add {
        ops: Vec<usize>,
    },
    Get {
        op: usize,
    },
    /// A stale read of a key.
    Stale,
    Change,
    Transfer,
    /// A watcher's question, by its number.
    Watch {
        watcher: usize,
        question: u64,
    },
}

/// One life of a node.
pub(crate) struct Member {
    smr: MachineRef<Replica, Ear>,
    asked: BTreeMap<RequestId, Asked>,
}

#[derive(Default)]
struct Client {
    session: Option<SessionId>,
    /// The last number given out in this session.
    sequence: u64,
    /// Operations under way in this session, by number.
    open: BTreeMap<u64, usize>,
    generation: u64,
}

struct Entry {
    client: usize,
    stamp: Option<Stamp>,
    called: Time,
    op: Op,
    returned: Option<(Time, u64)>,
    /// Certain not to have happened.
    failed: bool,
}

/// The whole group, and what is known to be true of it.
pub(crate) struct Group {
    config: Config<Ledger>,
    clients: Vec<Client>,
    entries: Vec<Entry>,
    /// The first digest and log time seen at each applied index. (M4)
    states: States,
    applied: BTreeMap<NodeId, Index>,
    leaders: BTreeMap<Term, NodeId>,
    electing: BTreeSet<NodeId>,
    hint: Option<NodeId>,
    broken: Option<String>,
    /// The state machine of this node is not deterministic.
    miscounts: Option<NodeId>,
    acknowledged: u64,
    duplicates: u64,
    watchers: Watchers,
    /// Where operations without a session stand in the log.
    exact: BTreeMap<u64, Index>,
    quiet: bool,
    /// Nobody asks anything for a while.
    rests: bool,
    /// All nodes; with an operator the last may join later.
    nodes: Vec<NodeId>,
    operator: Operator,
    changes: u64,
}

/// What the operator is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operator {
    /// There is none.
    Absent,
    /// Changes the members at random.
    Changes,
    /// Makes all nodes voters again.
    Restores,
}

impl Group {
    fn new(nodes: u64, rng: &mut Rng) -> Self {
        let mut config = Config::new((1..=nodes).map(NodeId), Ledger::default());
        let raft = &mut config.raft;
        raft.heartbeat_interval = Duration::from_millis(40);
        raft.election_timeout_min = Duration::from_millis(150);
        raft.election_timeout_max =
            Duration::from_millis([150, 155, 200, 400][rng.below(4) as usize]);
        raft.link_down_stagger = Duration::from_millis([0, 10][rng.below(2) as usize]);
        raft.progress_timeout = Duration::from_millis([200, 2_000][rng.below(2) as usize]);
        raft.append_bytes_max = [1, 300, 1 << 20][rng.below(3) as usize];
        raft.resend_after = Duration::from_millis(100);
        raft.batch_bytes_max = 1 << 10;
        raft.window_bytes_max = [2 << 10, 64 << 10][rng.below(2) as usize];
        raft.window_count_max = [1, 2, 64][rng.below(3) as usize];
        raft.uncommitted_bytes_max = 16 << 10;
        raft.unapplied_bytes_max = 4 << 10;
        raft.keep_bytes_max = [0, 1 << 10, 1 << 20][rng.below(3) as usize];
        raft.snapshot_chunk_bytes = [300, 4 << 10][rng.below(2) as usize];
        config.sessions_max = [3, 6, 20][rng.below(3) as usize];
        config.answers_max = 1 + rng.below(4) as usize;
        config.session_ttl = Duration::from_millis([300, 2_000, 60_000][rng.below(3) as usize]);
        config.tick_interval = Duration::from_millis([50, 300][rng.below(2) as usize]);
        config.audit_interval = Duration::from_millis([100, 1_000][rng.below(2) as usize]);
        config.snapshot_bytes = [1 << 10, 10 << 10, 1 << 20][rng.below(3) as usize];
        if is_small() {
            (config.snapshot_bytes, config.raft.keep_bytes_max) = (300, 0);
        }
        config.snapshot_bytes_max = config.snapshot_bytes * (1 + rng.below(3));
        config.apply_apart = rng.fork(82).below(2) == 0;
        config.apply_step_bytes = [1, 300, 1 << 20][rng.below(3) as usize];
        config.snapshot_interval =
            Duration::from_millis([300, 3_000, 60_000][rng.below(3) as usize]);
        config.snapshot_step_bytes = [1, 200, 1 << 20][rng.below(3) as usize];
        config.snapshot_step_interval = Duration::from_millis(1 + rng.below(20));
        config.queries_max = [4, 100][rng.below(2) as usize];
        config.history_bytes_max = [400, 4_000, 1 << 20][rng.below(3) as usize];
        config.watch_bytes_max = [1, 200, 1 << 16][rng.below(3) as usize];
        config.watches_max = [2, 100][rng.below(2) as usize];
        config.watch_wait_max = Duration::from_millis(1_000);
        Self {
            config,
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            entries: Vec::new(),
            states: States::default(),
            applied: BTreeMap::new(),
            leaders: BTreeMap::new(),
            electing: BTreeSet::new(),
            hint: None,
            broken: None,
            miscounts: None,
            acknowledged: 0,
            duplicates: 0,
            watchers: Watchers::new(rng),
            exact: BTreeMap::new(),
            quiet: false,
            rests: false,
            nodes: (1..=nodes).map(NodeId).collect(),
            operator: Operator::Absent,
            changes: 0,
        }
    }

    /// The operator asks somebody, most often the leader, for a change of the members.
    fn operate(&mut self, member: Option<&mut Member>, ask: &mut Ask<'_>) {
        let mut any = || self.nodes[ask.rng.below(self.nodes.len() as u64) as usize];
        let (node, other, address) = (any(), any(), String::new());
        let change = match (self.operator, ask.rng.below(5)) {
            (Operator::Absent, _) => return,
            (Operator::Restores, _) => {
                Change::Become { voters: self.nodes.clone(), learners: Vec::new() }
            }
            (Operator::Changes, 0) => Change::Remove { node },
            (Operator::Changes, 1) => Change::Demote { node },
            (Operator::Changes, 2) => Change::Replace { old: node, new: other, address },
            (Operator::Changes, _) => Change::Add { node, address },
        };
        if let Some(member) = member {
            member.ask(Asked::Change, Request::ChangeMembers(change), ask);
        }
        let pause = ask.rng.between(50 * MILLI, 800 * MILLI);
        let node = self.any_node(ask);
        ask.alarm(pause, node, OPERATOR);
    }

    fn holds(&mut self, result: Result<(), String>) {
        if let Err(what) = result {
            self.breaks(what);
        }
    }

    fn breaks(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    fn any_node(&self, ask: &mut Ask<'_>) -> NodeId {
        let any = self.nodes[ask.rng.below(self.nodes.len() as u64) as usize];
        self.hint.filter(|_| ask.rng.below(10) < 8).unwrap_or(any)
    }

    /// Lets a client act again, somewhere; what it had set before is void.
    fn wake(&mut self, client: usize, nanos: u64, ask: &mut Ask<'_>) {
        let generation = &mut self.clients[client].generation;
        *generation += 1;
        let alarm = client as u64 | *generation << 8;
        let node = self.any_node(ask);
        ask.alarm(nanos, node, alarm);
    }

    /// A watcher asks some node; it asks again, elsewhere, when no answer comes.
    fn watch(&mut self, watcher: usize, member: Option<&mut Member>, ask: &mut Ask<'_>) {
        let request = self.watchers.question(watcher, ask.rng);
        let question = self.watchers.all[watcher].question;
        let patience = ask.rng.between(50 * MILLI, 2 * SECOND);
        let alarm = (WATCHER + watcher as u64) | question << 8;
        let any = self.nodes[ask.rng.below(self.nodes.len() as u64) as usize];
        // Only the leader knows where to begin; any replica can be watched.
        let begins = matches!(request, Request::ReadIndex);
        let node = self.hint.filter(|_| begins && ask.rng.below(4) > 0).unwrap_or(any);
        ask.alarm(patience, node, alarm);
        if let Some(member) = member {
            member.ask(Asked::Watch { watcher, question }, request, ask);
        }
    }

    fn on_watched(&mut self, watcher: usize, question: u64, reply: &Reply, ask: &mut Ask<'_>) {
        if self.watchers.all[watcher].question != question {
            return;
        }
        if let Err(what) = self.watchers.hear(watcher, reply.clone()) {
            self.breaks(what);
        }
        self.watchers.all[watcher].question += 1;
        // Mostly at once, now and then after a long time.
        let pause = match ask.rng.below(20) {
            _ if self.quiet => 2 * MILLI,
            0 => 3 * SECOND,
            _ => 20 * MILLI,
        };
        let alarm = (WATCHER + watcher as u64) | (question + 1) << 8;
        let node = self.any_node(ask);
        let pause = ask.rng.between(MILLI, pause);
        ask.alarm(pause, node, alarm);
    }

    /// A client at work: opens its session, tries again what is under way, or begins anew.
    fn act(&mut self, client: usize, member: &mut Member, ask: &mut Ask<'_>) {
        let Some(session) = self.clients[client].session else {
            let mut commands = Commands::default();
            commands.push_open();
            return member.ask(Asked::Open { client }, Request::Apply(commands), ask);
        };
        let key = ask.true_now / (3 * SECOND) * 4 + ask.rng.below(3);
        let called = Time::from_nanos(ask.true_now);
        let choice = ask.rng.below(10);
        if choice < 3 {
            let op = self.entries.len();
            let entry = Entry {
                client,
                stamp: None,
                called,
                op: Op::Get { key },
                returned: None,
                failed: false,
            };
            self.entries.push(entry);
            let freshness = Freshness::Linearizable;
            let query = Bytes::copy_from_slice(&key.to_le_bytes());
            return member.ask(Asked::Get { op }, Request::Query { query, freshness }, ask);
        }
        if choice == 3 {
            let within = Freshness::Within(Duration::from_millis(ask.rng.below(300)));
            let freshness = if ask.rng.below(2) == 0 { Freshness::Any } else { within };
            let query = Bytes::copy_from_slice(&key.to_le_bytes());
            member.ask(Asked::Stale, Request::Query { query, freshness }, ask);
        }
        if choice == 4 {
            let (op, value) = (self.entries.len(), 1 + ask.rng.below(1000));
            let what = Op::Add { key, value };
            let entry =
                Entry { client, stamp: None, called, op: what, returned: None, failed: false };
            self.entries.push(entry);
            let commands = Commands::one(&command(op as u64, key, value));
            return member.ask(Asked::Plain { op }, Request::Apply(commands), ask);
        }
        let window = self.config.answers_max as u64 + if client == RUDE { 3 } else { 0 };
        let Client { sequence, open, .. } = &mut self.clients[client];
        let answered = open.first_key_value().map_or(*sequence, |(first, _)| first - 1);
        let room = answered + window - *sequence;
        let fresh = if open.is_empty() { 1 } else { ask.rng.below(3) }.min(room);
        for _ in 0..fresh {
            *sequence += 1;
            open.insert(*sequence, self.entries.len());
            let stamp = Some(Stamp { session, sequence: *sequence, answered });
            let op = Op::Add { key, value: 1 + ask.rng.below(1000) };
            self.entries.push(Entry { client, stamp, called, op, returned: None, failed: false });
        }
        // All that is open, in any order, and perhaps one of them twice.
        let mut ops: Vec<usize> = open.values().copied().collect();
        for at in (1..ops.len()).rev() {
            ops.swap(at, ask.rng.below(at as u64 + 1) as usize);
        }
        if ask.rng.below(8) == 0 {
            ops.push(ops[0]);
        }
        let mut commands = Commands::default();
        for op in &ops {
            let Entry { stamp: Some(stamp), op: Op::Add { key, value }, .. } = &self.entries[*op]
            else {
                continue;
            };
            commands.push_stamped(Stamp { answered, ..*stamp }, &command(*op as u64, *key, *value));
        }
        member.ask(Asked::Add { ops }, Request::Apply(commands), ask);
    }

    fn on_answer(&mut self, asked: Asked, reply: &Reply, ask: &mut Ask<'_>) {
        // Now and then a client is away for longer than its session may last.
        let away = if ask.rng.below(100) == 0 { 5 * SECOND } else { 60 * MILLI };
        let pause = ask.rng.between(MILLI, away);
        match (&asked, reply) {
            (Asked::Open { client }, Reply::Applied { outcomes, .. }) => match outcomes[..] {
                [Outcome::Opened(session)] if self.clients[*client].session.is_none() => {
                    let client = &mut self.clients[*client];
                    (client.session, client.sequence) = (Some(session), 0);
                }
                [Outcome::Opened(_)] => {}
                _ => self.breaks(format!("M1 an opening became {outcomes:?}")),
            },
            (Asked::Add { ops }, Reply::Applied { outcomes, .. }) => {
                if ops.len() != outcomes.len() {
                    self.breaks(format!("{} commands have {} outcomes", ops.len(), outcomes.len()));
                }
                for (op, outcome) in ops.iter().zip(outcomes) {
                    self.on_outcome(*op, outcome, ask);
                }
            }
            (Asked::Plain { op }, Reply::Applied { outcomes, first }) => match &outcomes[..] {
                [Outcome::Done(output)] => {
                    self.exact.insert(*op as u64, *first);
                    self.finish(*op, word(output, 0), ask);
                }
                other => self.breaks(format!("op {op} became {other:?}")),
            },
            (Asked::Plain { op }, Reply::Rejected(rejection)) => {
                self.entries[*op].failed = true;
                if let Rejection::NotLeader { leader } = rejection {
                    self.hint = *leader;
                }
            }
            (Asked::Get { op }, Reply::Answer { answer, .. }) => {
                self.finish(*op, word(answer, 0), ask);
            }
            (Asked::Stale, Reply::Answer { index, .. }) => {
                sometimes!(true, "a stale read was answered");
                let known = self.states.m2(*index);
                self.holds(known);
                return;
            }
            (Asked::Change, reply) => {
                self.changes += u64::from(matches!(reply, Reply::MembersChanged { .. }));
                return;
            }
            (Asked::Stale | Asked::Transfer, _) => return,
            (Asked::Watch { watcher, question }, reply) => {
                return self.on_watched(*watcher, *question, reply, ask);
            }
            (_, Reply::Rejected(Rejection::NotLeader { leader })) => self.hint = *leader,
            (_, Reply::Rejected(_)) => sometimes!(true, "a request was refused"),
            (_, Reply::Unknown) => sometimes!(true, "an outcome became unknown"),
            (asked, reply) => self.breaks(format!("{asked:?} was answered {reply:?}")),
        }
        let client = match asked {
            Asked::Open { client } => client,
            Asked::Get { op } | Asked::Plain { op } => self.entries[op].client,
            Asked::Add { ops } => self.entries[ops[0]].client,
            Asked::Stale | Asked::Transfer | Asked::Change | Asked::Watch { .. } => return,
        };
        self.wake(client, pause, ask);
    }

    fn on_outcome(&mut self, op: usize, outcome: &Outcome, ask: &mut Ask<'_>) {
        let Entry { client, stamp: Some(stamp), returned, .. } = &self.entries[op] else {
            return self.breaks(format!("op {op} is no command"));
        };
        let rude = *client == RUDE;
        let client = &mut self.clients[*client];
        match outcome {
            Outcome::Done(output) => self.finish(op, word(output, 0), ask),
            Outcome::Forgotten if returned.is_some() => {}
            Outcome::Forgotten if client.session != Some(stamp.session) => {}
            Outcome::Forgotten if rude => {
                sometimes!(true, "a command was given up");
                client.open.remove(&stamp.sequence);
            }
            Outcome::Expired if client.session == Some(stamp.session) => {
                sometimes!(true, "a session expired under its client");
                // What became of its last commands cannot be known: it begins anew.
                client.session = None;
                client.open.clear();
            }
            Outcome::Expired => {}
            other => self.breaks(format!("M1 op {op} became {other:?}")),
        }
    }

    fn finish(&mut self, op: usize, output: u64, ask: &Ask<'_>) {
        let entry = &mut self.entries[op];
        if let Some((_, first)) = entry.returned {
            self.duplicates += 1;
            let alike = m1_answer(op, first, output);
            return self.holds(alike);
        }
        entry.returned = Some((Time::from_nanos(ask.true_now), output));
        self.acknowledged += 1;
        let client = &mut self.clients[entry.client];
        if let Some(stamp) = entry.stamp.filter(|stamp| client.session == Some(stamp.session)) {
            client.open.remove(&stamp.sequence);
        }
    }

    /// These nodes have answered all that was asked, though they may have left the group.
    fn check_answered(&self, world: &World<Self>, nodes: &[NodeId]) -> Result<(), String> {
        for node in nodes {
            let Some((member, _)) = world.app(*node) else { continue };
            if let Some((id, asked)) = member.asked.first_key_value() {
                return Err(format!("law 8: {node} has not answered {id}, {asked:?}"));
            }
        }
        Ok(())
    }

    /// Everything that clients asked for is applied everywhere, and told to every watcher. The
    /// log goes on all the same: time passes in it.
    fn has_converged(&self, world: &World<Self>, last: Index) -> bool {
        let replicas = replicas(world);
        replicas.len() == world.ids().len()
            && self.watchers.upto() >= Some(last)
            && replicas
                .iter()
                .all(|(_, replica)| replica.status().applied >= last && replica.state().is_some())
    }

    fn check_end(&self, replicas: &[(NodeId, &Replica)]) -> Result<(), String> {
        let (first, one) = replicas[0];
        for (node, other) in replicas {
            if other.state() != one.state() {
                return Err(format!("M4 {first} and {node} differ in the end"));
            }
        }
        let state = one.state().ok_or("R29 commands are applied for ever")?;
        self.watchers.check_end(state, &self.exact)?;
        let seen = &state.seen;
        for (number, entry) in self.entries.iter().enumerate() {
            let happened = seen.get(&(number as u64)).is_some();
            let write = matches!(entry.op, Op::Add { .. });
            d1_m7(number, happened, (write && entry.returned.is_some(), entry.failed))?;
        }
        let happened = |(number, entry): &(usize, &Entry)| {
            entry.returned.is_some() || seen.get(&(*number as u64)).is_some()
        };
        let operation = |(number, entry): (usize, &Entry)| {
            let (called, op) = (entry.called, entry.op.clone());
            match entry.returned {
                Some((at, out)) => Operation::returned(number as u64, called, at, op, out),
                None => Operation::indeterminate(number as u64, called, op),
            }
        };
        let history: Vec<Operation<Sums>> =
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

impl Member {
    fn ask(&mut self, asked: Asked, request: Request, ask: &mut Ask<'_>) {
        if let Some(id) = ask.request(self.smr, request) {
            self.asked.insert(id, asked);
        }
    }
}

impl System for Group {
    type App = Member;

    fn boot(&mut self, node: Peer, host: &mut Host) -> Member {
        self.applied.remove(&node.node);
        let mut config = self.config.clone();
        config.state.miscounts = self.miscounts == Some(node.node);
        if !config.raft.voters.contains(&node.node) {
            config.raft.voters.clear(); // it joins
        }
        let smr = host.add::<Replica, Ear>(KEY, config, Ear::default());
        Member { smr: smr.expect("a valid configuration"), asked: BTreeMap::new() }
    }

    fn drain(&mut self, node: NodeId, member: &mut Member, ask: &mut Ask<'_>) {
        let Some(host) = ask.host() else { return };
        let ear = host.port(member.smr);
        let (answers, events) = (std::mem::take(&mut ear.answers), std::mem::take(&mut ear.events));
        for event in events {
            match event {
                Event::Role { role: RoleName::Leader, term, .. } => {
                    self.hint = Some(node);
                    self.leaders.insert(term, node);
                }
                Event::Role { .. } => {}
                Event::Members { committed, .. } => {
                    sometimes!(committed && self.changes > 0, "the members have changed");
                }
                Event::Differs { .. } if self.miscounts.is_some() => {}
                Event::Differs { node: other, index } => {
                    self.breaks(format!("M4 {node} and {other} differ at {index}"));
                }
                Event::Restored { .. } => sometimes!(true, "restored from a snapshot"),
            }
        }
        let replica = host.machine(member.smr);
        let (leads, status) = (replica.raft().is_leader(), replica.status());
        let one = self.states.m4(status.applied, (status.digest, status.log_time));
        self.holds(one);
        for (ids, reply) in answers {
            let told = matches!(&reply, Reply::Changes { changes, .. } if !changes.is_empty());
            sometimes!(told && !leads, "a watcher was told something by a follower");
            for id in ids.iter() {
                match member.asked.remove(&id) {
                    Some(asked) => self.on_answer(asked, &reply, ask),
                    None => self.breaks(format!("request {id} was answered twice")),
                }
            }
        }
    }

    fn check(&mut self, node: NodeId, member: &Member, host: &Host) -> Result<(), String> {
        if let Some(what) = self.broken.take() {
            return Err(what);
        }
        let replica = host.machine(member.smr);
        let status = replica.status();
        let (applied, digest) = (status.applied, (status.digest, status.log_time));
        sometimes!(status.sessions_expired > 0, "a session expired for want of use");
        sometimes!(status.audits_agreed > 0, "two replicas found that their states are equal");
        if replica.raft().role_name() == RoleName::Candidate {
            self.electing.insert(node);
        } else {
            self.electing.remove(&node);
        }
        let before = self.applied.insert(node, applied).unwrap_or(Index::ZERO);
        m5((before, applied), replica.raft().durable_index(), status.raft.commit)?;
        sometimes!(replica.state().is_none(), "commands were applied on another thread");
        replica.state().map_or(Ok(()), |state| m1(state.doubled))?;
        self.states.m4(applied, digest)?;
        Ok(())
    }

    fn alarm(&mut self, node: NodeId, alarm: u64, member: Option<&mut Member>, ask: &mut Ask<'_>) {
        if self.rests {
            return ask.alarm(100 * MILLI, node, alarm);
        }
        if alarm == OPERATOR {
            return self.operate(member, ask);
        }
        if alarm & 0xff >= WATCHER {
            let (watcher, question) = ((alarm & 0xff) - WATCHER, alarm >> 8);
            if self.watchers.all[watcher as usize].question == question {
                self.watch(watcher as usize, member, ask);
            }
            return;
        }
        let (client, generation) = ((alarm & 0xff) as usize, alarm >> 8);
        if self.clients[client].generation != generation || self.quiet {
            return;
        }
        let Some(member) = member else {
            return self.wake(client, 20 * MILLI, ask);
        };
        let patience = ask.rng.between(50 * MILLI, 900 * MILLI);
        self.wake(client, patience, ask);
        self.act(client, member, ask);
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

    fn leader(&self) -> Option<NodeId> {
        self.leaders.last_key_value().map(|(_, node)| *node)
    }

    fn describe(&self, frame: &Frame) -> String {
        match decode_message::<quorate_smr::Message>(frame) {
            Ok(message) => format!("{message:?}"),
            Err(error) => error.to_string(),
        }
    }

    fn disturb(&mut self, _: NodeId, member: &mut Member, ask: &mut Ask<'_>, _: &mut Rng) {
        member.ask(Asked::Transfer, Request::Transfer { to: None }, ask);
    }
}

fn replicas(world: &World<Group>) -> Vec<(NodeId, &Replica)> {
    let ids = world.ids();
    let replica = |id: &NodeId| {
        let (member, host) = world.app(*id)?;
        Some((*id, host.machine(member.smr)))
    };
    ids.iter().filter_map(replica).collect()
}

/// What a sweep must have seen.
pub(crate) const MARKS: &[&str] = &[
    "a command was given up",
    "a request was refused",
    "a session expired for want of use",
    "a session expired under its client",
    "a stale read was answered",
    "a watcher came too late",
    "a watcher was told something by a follower",
    "an outcome became unknown",
    "restored from a snapshot",
    "commands were applied on another thread",
    "the members have changed",
    "two replicas found that their states are equal",
];

/// Runs one seed: 30 seconds of faults, then a calm in which all must be well.
pub(crate) fn run(seed: u64, trace: bool) -> Run {
    run_with(seed, trace, None)
}

/// As [`run`]; the state machine of one node is not deterministic, which no answer shows.
#[allow(dead_code, reason = "the example runs what is right")]
pub(crate) fn run_miscounting(seed: u64) -> Run {
    run_with(seed, false, Some(NodeId(1)))
}

fn run_with(seed: u64, trace: bool, miscounts: Option<NodeId>) -> Run {
    let mut rng = Rng::new(seed).fork(77);
    let nodes = [1, 3, 3, 3, 5, 5][rng.below(6) as usize];
    let plan = Plan::draw(&mut rng);
    let mut group = Group::new(nodes, &mut rng);
    group.miscounts = miscounts;
    // Streams of their own: groups without an operator stay as they are.
    if rng.fork(78).below(3) == 0 && nodes > 1 && miscounts.is_none() {
        group.operator = Operator::Changes;
        group.config.raft.voters.pop();
    }
    let mut plan = plan;
    if rng.fork(79).below(3) == 0 {
        // No clock stops or jumps, and any two differ by half at most: leases hold.
        plan = plan.without(&[Fault::ClockFreeze, Fault::ClockJump, Fault::Suspend]);
        plan.drift_ppm = 200_000;
        group.config.raft.clock_drift_ppm = Some(500_000);
    }
    let mut world = World::new(seed, nodes, plan, group);
    if trace {
        world.record_trace();
    }
    for client in 0..CLIENTS as u64 {
        world.alarm(500 * MILLI + client * 10 * MILLI, NodeId(1 + client % nodes), client);
    }
    for watcher in 0..world.system.watchers.all.len() as u64 {
        world.alarm(
            400 * MILLI + watcher * 10 * MILLI,
            NodeId(1 + watcher % nodes),
            WATCHER + watcher,
        );
    }
    if world.system.operator == Operator::Changes {
        world.alarm(700 * MILLI, NodeId(1), OPERATOR);
    }
    let violation = play(&mut world, &mut rng).err();
    let group = &world.system;
    let work = vec![
        ("operations", group.acknowledged),
        ("of them answered again", group.duplicates),
        ("leaders", group.leaders.len() as u64),
        ("changes told to watchers", group.watchers.told),
        ("changes of members", group.changes),
    ];
    Run::of(&world, violation, work)
}

/// What was asked before is answered though nobody asks for anything more.
fn be_silent(world: &mut World<Group>, core: &[NodeId]) -> Result<(), Violation> {
    world.system.rests = true;
    world.run(world.now() + 2 * SECOND)?;
    let mut patience = 30;
    while patience > 0 && world.system.check_answered(world, core).is_err() {
        patience -= 1;
        world.run(world.now() + SECOND)?;
    }
    let broken = |what| Violation { at: world.now(), node: NodeId(0), what };
    world.system.check_answered(world, core).map_err(broken)?;
    world.system.rests = false;
    Ok(())
}

/// How many operations are served in two seconds; others follow while those are not enough. With
/// one entry a message and one message at a time a laggard takes its time, and clients are away
/// now and then, all of them if it comes to that.
fn served(world: &mut World<Group>, enough: u64) -> Result<u64, Violation> {
    let mut served = 0;
    for _ in 0..10 {
        let before = world.system.acknowledged;
        world.run(world.now() + 2 * SECOND)?;
        served = world.system.acknowledged - before;
        if served >= enough {
            break;
        }
    }
    Ok(served)
}

fn play(world: &mut World<Group>, rng: &mut Rng) -> Result<(), Violation> {
    world.run(22 * SECOND)?;
    let mut core = world.ids();
    // With an operator whoever leaves or joins may be needed: the sweep of raft sees to that.
    let least =
        if world.system.operator == Operator::Absent { core.len() / 2 + 1 } else { core.len() };
    while core.len() > least {
        core.remove(rng.below(core.len() as u64) as usize);
    }
    world.calm_core(&core);
    be_silent(world, &core)?;
    world.run(world.now() + 2 * SECOND)?;
    let core_served = served(world, 5)?;
    world.calm();
    if world.system.operator == Operator::Changes {
        world.system.operator = Operator::Restores;
    }
    world.run(world.now() + 2 * SECOND)?;
    let all_served = served(world, 10)?;
    world.system.quiet = true;
    // With one entry a message and one message at a time a laggard takes its time.
    let mut patience = 150;
    world.run(world.now() + 2 * SECOND)?;
    let last = replicas(world).into_iter().filter(|(_, replica)| replica.raft().is_leader());
    let last = last.map(|(_, replica)| (replica.raft().term(), replica.status().raft.last)).max();
    let last = last.map_or(Index::ZERO, |(_, last)| last);
    while patience > 0 && !world.system.has_converged(world, last) {
        patience -= 1;
        world.run(world.now() + SECOND)?;
    }
    let at = world.now();
    let broken = |what| Violation { at, node: NodeId(0), what };
    if core_served < 5 {
        return Err(broken(format!("R29 {core:?} served {core_served} operations in two seconds")));
    }
    if all_served < 10 {
        return Err(broken(format!("R29 {all_served} operations were served in two calm seconds")));
    }
    if !world.system.has_converged(world, last) {
        return Err(broken("R29 a replica did not catch up".into()));
    }
    world.system.check_end(&replicas(world)).map_err(broken)
}
