//! Entries and snapshots of random and mutated bytes: no panic, no growth, and a state that is
//! taken over or refused as a whole.

use std::sync::Arc;

use bytes::Bytes;
use quorate_raft::{Batch, Record, Snapshot, Term, View, Views};
use quorate_smr::{
    Commands, Config, Event, Outputs, Pieces, Reply, Request, RestoreError, SessionId, Smr, Stamp,
    StateMachine,
};
use quorate_transport::{
    Attachment, Cell, Halt, Incarnation, Input, Machine, NodeId, RequestRange, Rng, Sink,
    SnapshotId, Start, StoreOp, Stored, Ticket, Time,
};

fn iterations() -> u64 {
    let text = std::env::var("QUORATE_FUZZ_ITERATIONS").ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(100_000)
}

/// Keeps what it is given; refuses a piece that begins with 9.
#[derive(Clone, Debug, Default)]
struct Kept(Vec<Vec<u8>>);

impl StateMachine for Kept {
    fn apply(&mut self, commands: &mut dyn Iterator<Item = &[u8]>, outputs: &mut Outputs) {
        for command in commands {
            self.0.push(command.to_vec());
            outputs.push(command);
        }
    }
    fn query(&self, _: &[u8]) -> Bytes {
        Bytes::new()
    }
    fn snapshot(&self) -> Pieces {
        Pieces::new(self.0.clone().into_iter().map(Bytes::from))
    }
    fn restore(&mut self, piece: &[u8]) -> Result<(), RestoreError> {
        if piece.first() == Some(&9) {
            return Err(RestoreError);
        }
        self.0.push(piece.to_vec());
        Ok(())
    }
}

#[derive(Default)]
struct World {
    ops: Vec<StoreOp>,
    replies: Vec<Reply>,
    restored: bool,
    halted: bool,
}

impl Sink<Smr<Kept>> for World {
    fn persist(&mut self, _: Ticket, _: Record) {}
    fn send(&mut self, _: NodeId, _: quorate_smr::Message) {}
    fn emit(&mut self, event: Event) {
        self.restored |= matches!(event, Event::Restored { .. });
    }
    fn answer(&mut self, _: RequestRange, reply: Reply) {
        self.replies.push(reply);
    }
    fn release(&mut self, _: Ticket) {}
    fn store(&mut self, op: StoreOp) {
        self.ops.push(op);
    }
    fn halt(&mut self, _: &Halt) {
        self.halted = true;
    }
}

/// A group of one node.
struct One {
    cell: Cell<Smr<Kept>>,
    world: World,
    now: Time,
}

impl One {
    fn new() -> Self {
        let start =
            Start { node: NodeId(1), incarnation: Incarnation(1), seed: 1, now: Time::ZERO };
        let mut config = Config::new([NodeId(1)], Kept::default());
        (config.sessions_max, config.answers_max) = (3, 3);
        (config.snapshot_bytes, config.snapshot_step_bytes) = (200, 50);
        let cell = Cell::new(Smr::new(start, config).unwrap());
        Self { cell, world: World::default(), now: Time::ZERO }
    }

    fn feed(&mut self, input: Input<Smr<Kept>>) {
        self.cell.handle(self.now, input, &mut self.world);
        self.sync();
    }

    /// Everything is durable, and what follows from that as well.
    fn sync(&mut self) {
        for _ in 0..3 {
            self.cell.settle(self.now, &mut self.world);
            let last = self.cell.last();
            self.cell.durable(self.now, last, &mut self.world);
        }
    }

    fn apply(&mut self, commands: Commands) {
        self.cell.request(self.now, Request::Apply(commands), &mut self.world);
        self.sync();
    }

    fn kept(&self) -> usize {
        self.cell.machine().state().expect("it is here").0.iter().map(Vec::len).sum()
    }
}

/// A snapshot of a state with sessions and commands, and what it covers.
fn snapshot(rng: &mut Rng) -> (SnapshotId, Vec<u8>) {
    let mut one = One::new();
    one.feed(Input::Started);
    let mut sequence = 0;
    loop {
        let mut commands = Commands::default();
        match rng.below(4) {
            0 => commands.push_open(),
            1 => commands.push(&[b'p'; 30][..1 + rng.below(29) as usize]),
            _ => {
                sequence += 1;
                let session = SessionId(2 + rng.below(3));
                commands.push_stamped(Stamp { session, sequence, answered: 0 }, b"stamped");
            }
        }
        one.apply(commands);
        one.now = one.cell.deadline().expect("a leader has one");
        one.feed(Input::Timer);
        let finished = one.world.ops.iter().find_map(|op| match op {
            StoreOp::Finish { id, .. } => Some(*id),
            _ => None,
        });
        let Some(id) = finished else { continue };
        let written = |op: &StoreOp| match op {
            StoreOp::Write { bytes, .. } => bytes.to_vec(),
            _ => Vec::new(),
        };
        return (id, one.world.ops.iter().flat_map(written).collect());
    }
}

fn mutate(bytes: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..rng.below(3) {
        let at = rng.below(bytes.len() as u64 + 1) as usize;
        let len = (rng.below(20) as usize).min(bytes.len() - at);
        match rng.below(5) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..at + len)),
            2 => bytes.extend_from_within(at..at + len),
            3 => bytes[at..at + len].fill(rng.next_u64() as u8),
            _ if len > 0 => bytes[at] ^= 1 << rng.below(8),
            _ => {}
        }
    }
}

#[test]
fn mutated_snapshots_are_taken_over_or_refused_and_nothing_grows() {
    let mut rng = Rng::new(5);
    let good: Vec<_> = (0..8).map(|_| snapshot(&mut rng)).collect();
    let (mut restored, mut refused) = (0, 0);
    for round in 0..iterations() {
        let (id, mut bytes) = good[rng.below(8) as usize].clone();
        mutate(&mut bytes, &mut rng);
        let len = bytes.len() as u64;
        let mut one = One::new();
        let snapshot = Snapshot { id, len, checksum: 0, members: Arc::default() };
        let record = Record::Snapshot { term: Term(id.term), vote: None, snapshot };
        one.cell.replay(Ticket(1), record).unwrap();
        one.feed(Input::Started);
        while let Some(StoreOp::Read { id, offset, tag, .. }) = one.world.ops.pop() {
            let rest = &bytes[offset as usize..];
            let cut = (1 + rng.below(400) as usize).min(rest.len());
            let chunk = Bytes::copy_from_slice(&rest[..cut]);
            one.feed(Input::Stored(Stored::Chunk { id, offset, bytes: chunk, len, tag }));
        }
        assert!(one.world.restored != one.world.halted, "round {round}");
        assert!(one.kept() <= bytes.len(), "round {round}");
        restored += u64::from(one.world.restored);
        refused += u64::from(one.world.halted);
    }
    let few = iterations() / 20;
    assert!(restored > few && refused > few, "{restored} restored, {refused} refused");
}

/// Entries as a leader of another build might have written them.
fn entries(rng: &mut Rng) -> Vec<Vec<u8>> {
    let entry = |rng: &mut Rng| {
        let mut entry = vec![rng.below(5) as u8];
        let words = [2 + rng.below(4), rng.below(5), rng.below(5)];
        entry.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        entry.extend_from_slice(b"command");
        mutate(&mut entry, rng);
        entry
    };
    (0..1 + rng.below(6)).map(|_| entry(rng)).collect()
}

fn view(entries: &[Vec<u8>]) -> View {
    let payload = entries.concat();
    let mut bytes = Vec::new();
    bytes.extend([1u64, 1].iter().flat_map(|word| word.to_le_bytes()));
    bytes.extend([entries.len() as u32, payload.len() as u32].iter().flat_map(|n| n.to_le_bytes()));
    bytes.extend([0; 8]);
    bytes.extend_from_slice(&payload);
    let mut end = 0;
    for entry in entries {
        end += entry.len() as u32;
        bytes.extend(end.to_le_bytes());
    }
    Batch::decode(Attachment::new(bytes.into())).expect("a batch").into()
}

#[test]
fn whatever_stands_in_the_log_is_applied_or_changes_nothing() {
    let mut rng = Rng::new(6);
    let (mut applied, mut sessions) = (0, 0);
    for round in 0..iterations() / 4 {
        let entries = entries(&mut rng);
        let mut one = One::new();
        let record = Record::Append { prev_term: Term::ZERO, views: Views::One(view(&entries)) };
        one.cell.replay(Ticket(1), record).unwrap();
        one.feed(Input::Started);
        one.now = one.cell.deadline().unwrap();
        one.feed(Input::Timer);
        let status = one.cell.machine().status();
        assert!(!one.world.halted && status.applied.0 > entries.len() as u64, "round {round}");
        assert!(one.kept() <= entries.concat().len(), "round {round}");
        applied += u64::from(one.kept() > 0);
        sessions += status.sessions;
    }
    assert!(applied > 100 && sessions > 100, "{applied} {sessions}");
}
