//! A protocol of your own under every fault, in two parts: the protocol, and what must hold.
//!
//! `cargo run --profile sim -p quorate-sim --example your_protocol -- --seeds 200`; with
//! `-- --seed 3 --trace` the story of one seed.

use std::process::ExitCode;

use quorate_sim::sweep::{self, Run};
use quorate_sim::{Ask, Plan, System, World};
use quorate_transport::{
    Decoder, Digest, Encoder, Halt, Host, Input, Key, Machine, MachineRef, NodeId, Outbox, Peer,
    Port, Rename, RequestId, RequestRange, Rng, Start, Ticket, Time, Wire, WireError,
};

/// The protocol: a number that only rises. Nodes tell each other the highest they know of.
#[derive(Clone)]
struct Highest {
    peers: Vec<NodeId>,
    value: u64,
}

/// What is persisted, and what is sent: the number.
#[derive(Clone, Debug)]
struct Number(u64);

impl Wire for Number {
    fn encode(&self, to: &mut Encoder<'_>) {
        to.value(&self.0);
    }
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        from.value("number").map(Self)
    }
}

impl Machine for Highest {
    type Config = u64; // how many nodes there are
    type Error = WireError;
    type Message = Number;
    type Record = Number;
    type Request = u64; // raise it to this
    type Reply = u64; // it is at least this, for ever
    type Event = ();

    fn new(start: Start, nodes: u64) -> Result<Self, WireError> {
        let peers = (1..=nodes).map(NodeId).filter(|node| *node != start.node).collect();
        Ok(Self { peers, value: 0 })
    }
    fn replay(&mut self, _: Ticket, record: Number) -> Result<(), WireError> {
        self.value = record.0;
        Ok(())
    }
    fn handle(&mut self, _: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        let (value, asked) = match input {
            Input::Request { id, request } => (request, Some(id)),
            Input::Message { message, .. } => (message.0, None),
            _ => return,
        };
        if value > self.value {
            self.value = value;
            out.persist(Number(value));
            self.peers.iter().for_each(|peer| out.send(*peer, Number(value)));
        }
        if let Some(id) = asked {
            out.answer(id, self.value); // leaves once the record above is durable
        }
    }
    fn deadline(&self) -> Option<Time> {
        None
    }
    fn digest(&self, _: Time, _: &Rename, into: &mut Digest) {
        into.u64(self.value);
    }
}

/// What is tested: such nodes, an application that raises the number, and two invariants.
#[derive(Default)]
struct Group {
    nodes: u64,
    /// The highest that each node has acknowledged, in all its lives.
    acknowledged: Vec<u64>,
    highest_asked: u64,
    answered: u64,
}

#[derive(Default)]
struct Ear(Vec<u64>);

impl Port<Highest> for Ear {
    fn answer(&mut self, _: RequestRange, reply: u64) {
        self.0.push(reply);
    }
    fn event(&mut self, (): ()) {}
    fn halted(&mut self, _: &Halt) {}
}

impl System for Group {
    type App = MachineRef<Highest, Ear>;

    fn boot(&mut self, _: Peer, host: &mut Host) -> Self::App {
        host.add(Key::new(99, 0), self.nodes, Ear::default()).expect("a valid configuration")
    }

    fn drain(&mut self, node: NodeId, app: &mut Self::App, ask: &mut Ask<'_>) {
        let Some(host) = ask.host() else { return };
        for value in std::mem::take(&mut host.port(*app).0) {
            self.answered += 1;
            let acknowledged = &mut self.acknowledged[node.0 as usize - 1];
            *acknowledged = value.max(*acknowledged);
        }
    }

    fn check(&mut self, node: NodeId, app: &Self::App, host: &Host) -> Result<(), String> {
        let value = host.machine(*app).value;
        let acknowledged = self.acknowledged[node.0 as usize - 1];
        if value < acknowledged {
            return Err(format!("U1 {node} acknowledged {acknowledged} and has {value}"));
        }
        if value > self.highest_asked {
            return Err(format!("U2 {node} has {value}, which nobody asked for"));
        }
        Ok(())
    }

    fn alarm(&mut self, node: NodeId, _: u64, app: Option<&mut Self::App>, ask: &mut Ask<'_>) {
        if let Some(app) = app {
            let value = self.highest_asked + ask.rng.below(3);
            self.highest_asked = value;
            let _: Option<RequestId> = ask.request(*app, value);
        }
        let pause = ask.rng.between(1_000_000, 200_000_000);
        ask.alarm(pause, node, 0);
    }

    fn died(&mut self, _: NodeId, _: Self::App) {}
}

fn run(seed: u64, trace: bool) -> Run {
    let mut rng = Rng::new(seed).fork(1);
    let nodes = rng.between(2, 5);
    let plan = Plan::draw(&mut rng);
    let system = Group { nodes, acknowledged: vec![0; nodes as usize], ..Group::default() };
    let mut world = World::new(seed, nodes, plan, system);
    if trace {
        world.record_trace();
    }
    world.ids().into_iter().for_each(|node| world.alarm(1_000_000, node, 0));
    let mut violation = world.run(20_000_000_000).err();
    if violation.is_none() {
        world.calm();
        violation = world.run(25_000_000_000).err();
    }
    let work = vec![("answers", world.system.answered)];
    Run::of(&world, violation, work)
}

fn main() -> ExitCode {
    sweep::main("highest", &[], run)
}
