//! Timings of the machines: Raft from proposal to applied on all of three nodes, and a replica of
//! a map from commands to answers.
#![allow(missing_docs, reason = "criterion's macros write functions without documentation")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use quorate_benches::quorate_trio::Trio;
use quorate_raft::Proposals;
use quorate_smr::{
    Commands, Config, Outputs, Pieces, Reply, Request, RestoreError, Smr, StateMachine,
};
use quorate_transport::{
    Cell, Halt, Incarnation, Input, Machine, NodeId, RequestRange, Sink, Start, StoreOp, Ticket,
    Time,
};

/// Bytes of a command.
const COMMAND: usize = 32;
/// Commands of one request to the replica, and requests of one measurement.
const BATCH: usize = 64;
const BATCHES: usize = 50;

fn raft(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("raft propose to applied");
    for batch in [1, 64] {
        let (mut trio, mut rounds) = (Trio::new(3), 0);
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(format!("batch of {batch}"), |bencher| {
            bencher.iter(|| {
                let mut proposals = Proposals::with_capacity(COMMAND * batch, batch);
                (0..batch).for_each(|_| proposals.push(&[7; COMMAND]));
                trio.propose(proposals);
                rounds += 1;
                // The log is bounded.
                if rounds % 1024 == 0 {
                    trio.compact();
                }
            });
        });
    }
    group.finish();
}

/// A map whose commands are 8 bytes of key and a value.
#[derive(Clone, Default)]
struct Map(BTreeMap<u64, Vec<u8>>);

impl StateMachine for Map {
    fn apply(&mut self, commands: &mut dyn Iterator<Item = &[u8]>, outputs: &mut Outputs) {
        for command in commands {
            let fields = command.split_first_chunk();
            let before = fields
                .and_then(|(key, value)| self.0.insert(u64::from_le_bytes(*key), value.into()));
            outputs.push(&[u8::from(before.is_some())]);
        }
    }

    fn query(&self, _: &[u8]) -> Bytes {
        Bytes::new()
    }

    fn snapshot(&self) -> Pieces {
        Pieces::new(None) // never asked for: the log stays far below what makes one
    }

    fn restore(&mut self, _: &[u8]) -> Result<(), RestoreError> {
        Err(RestoreError)
    }
}

/// Where a replica's effects go: answers are counted.
#[derive(Default)]
struct Hands {
    applied: usize,
}

impl Sink<Smr<Map>> for Hands {
    fn persist(&mut self, _: Ticket, _: quorate_raft::Record) {}
    fn send(&mut self, _: NodeId, _: quorate_smr::Message) {}
    fn emit(&mut self, _: quorate_smr::Event) {}
    fn answer(&mut self, _: RequestRange, reply: Reply) {
        if let Reply::Applied { outcomes, .. } = reply {
            self.applied += outcomes.len();
        }
    }
    fn release(&mut self, _: Ticket) {}
    fn store(&mut self, _: StoreOp) {}
    fn halt(&mut self, halt: &Halt) {
        panic!("{halt}");
    }
}

/// A group of one, so that nothing but the replica itself is timed.
struct Alone {
    cell: Cell<Smr<Map>>,
    hands: Hands,
    now: Time,
}

impl Alone {
    fn new() -> Self {
        let start =
            Start { node: NodeId(1), incarnation: Incarnation(1), seed: 1, now: Time::ZERO };
        let config = Config::new([NodeId(1)], Map::default());
        let cell = Cell::new(Smr::new(start, config).expect("a valid configuration"));
        let mut alone = Self { cell, hands: Hands::default(), now: Time::ZERO };
        alone.cell.handle(alone.now, Input::Started, &mut alone.hands);
        alone.settle();
        alone.now = alone.cell.deadline().expect("an election timeout");
        alone.cell.handle(alone.now, Input::Timer, &mut alone.hands);
        alone.settle();
        alone
    }

    fn settle(&mut self) {
        for _ in 0..3 {
            self.cell.settle(self.now, &mut self.hands);
            let last = self.cell.last();
            self.cell.durable(self.now, last, &mut self.hands);
        }
    }

    fn run(&mut self) {
        for batch in 0..BATCHES {
            let mut commands = Commands::with_capacity(COMMAND * BATCH, BATCH);
            for at in 0..BATCH {
                let mut command = [7; COMMAND];
                let key = ((batch * BATCH + at) % 1000) as u64;
                command[..8].copy_from_slice(&key.to_le_bytes());
                commands.push(&command);
            }
            self.cell.request(self.now, Request::Apply(commands), &mut self.hands);
            self.settle();
        }
        assert_eq!(self.hands.applied, BATCHES * BATCH, "every command was applied");
    }
}

fn smr(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("smr apply");
    group.throughput(Throughput::Elements((BATCHES * BATCH) as u64));
    group.bench_function(format!("{BATCHES} batches of {BATCH} commands of a map"), |bencher| {
        let run = |mut alone: Alone| {
            alone.run();
            black_box(alone)
        };
        bencher.iter_batched(Alone::new, run, BatchSize::LargeInput);
    });
    group.finish();
}

criterion_group! {
    name = machines;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600));
    targets = raft, smr
}
criterion_main!(machines);
