//! A large snapshot holds nothing up: a bounded step at a time, and commands in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use quorate_raft::{Message, Piece, Record, Snapshot, Term};
use quorate_smr::{
    Commands, Config, Event, Outputs, Pieces, Reply, Request, RestoreError, Smr, StateMachine,
};
use quorate_transport::{
    Cell, Digest, Halt, Incarnation, Input, Machine, NodeId, Peer, RequestRange, Sink, SnapshotId,
    Start, StoreOp, Stored, Ticket, Time,
};

const PIECES: u64 = 1000;
const PIECE: usize = 100;
const STEP: usize = 1000;
/// A piece costs its length as well, and the last of a step may be one too many.
const PIECES_A_STEP: u64 = (STEP / PIECE) as u64 + 1;

/// A large state that counts the pieces that were made and taken over.
#[derive(Clone, Default)]
struct Large {
    made: Arc<AtomicU64>,
    taken: Arc<AtomicU64>,
    commands: u64,
}

impl StateMachine for Large {
    fn apply(&mut self, commands: &mut dyn Iterator<Item = &[u8]>, outputs: &mut Outputs) {
        for _ in commands {
            self.commands += 1;
            outputs.push(&self.commands.to_le_bytes());
        }
    }
    fn query(&self, _: &[u8]) -> Bytes {
        Bytes::new()
    }
    fn snapshot(&self) -> Pieces {
        let (made, commands) = (Arc::clone(&self.made), self.commands as u8);
        Pieces::new((0..PIECES).map(move |_| {
            made.fetch_add(1, Ordering::Relaxed);
            Bytes::from(vec![commands; PIECE])
        }))
    }
    fn restore(&mut self, piece: &[u8]) -> Result<(), RestoreError> {
        self.taken.fetch_add(1, Ordering::Relaxed);
        self.commands = u64::from(piece[0]);
        Ok(())
    }
}

#[derive(Default)]
struct World {
    ops: Vec<StoreOp>,
    answers: u64,
    restored: bool,
}

impl Sink<Smr<Large>> for World {
    fn persist(&mut self, _: Ticket, _: Record) {}
    fn send(&mut self, _: NodeId, _: quorate_smr::Message) {}
    fn emit(&mut self, event: Event) {
        self.restored |= matches!(event, Event::Restored { .. });
    }
    fn answer(&mut self, _: RequestRange, reply: Reply) {
        assert!(matches!(reply, Reply::Applied { .. }), "{reply:?}");
        self.answers += 1;
    }
    fn release(&mut self, _: Ticket) {}
    fn store(&mut self, op: StoreOp) {
        self.ops.push(op);
    }
    fn halt(&mut self, halt: &Halt) {
        panic!("{halt}");
    }
}

struct One {
    cell: Cell<Smr<Large>>,
    world: World,
    now: Time,
    state: Large,
}

impl One {
    fn new(voters: u64) -> Self {
        let start =
            Start { node: NodeId(1), incarnation: Incarnation(1), seed: 1, now: Time::ZERO };
        let state = Large::default();
        let mut config = Config::new((1..=voters).map(NodeId), state.clone());
        (config.snapshot_bytes, config.snapshot_step_bytes) = (30, STEP);
        let cell = Cell::new(Smr::new(start, config).unwrap());
        Self { cell, world: World::default(), now: Time::ZERO, state }
    }

    /// Feeds an input, and says how many pieces were made of it and taken over in it.
    fn feed(&mut self, input: Input<Smr<Large>>) -> (u64, u64) {
        let count = |one: &Self| {
            let Large { made, taken, .. } = &one.state;
            (made.load(Ordering::Relaxed), taken.load(Ordering::Relaxed))
        };
        let (made, taken) = count(self);
        self.cell.handle(self.now, input, &mut self.world);
        for _ in 0..3 {
            self.cell.settle(self.now, &mut self.world);
            let last = self.cell.last();
            self.cell.durable(self.now, last, &mut self.world);
        }
        let after = count(self);
        (after.0 - made, after.1 - taken)
    }

    fn tick(&mut self) -> u64 {
        self.now = self.cell.deadline().unwrap();
        self.feed(Input::Timer).0
    }

    fn apply(&mut self) {
        let request = Request::Apply(Commands::one(b"command"));
        self.cell.request(self.now, request, &mut self.world);
        let (made, _) = self.feed(Input::Timer);
        assert_eq!(made, 0, "a command waits for no piece");
    }
}

#[test]
fn a_snapshot_is_of_one_index_and_commands_are_applied_while_it_is_written() {
    let mut one = One::new(1);
    one.feed(Input::Started);
    one.apply();
    let mut steps = 0;
    while !one.world.ops.iter().any(|op| matches!(op, StoreOp::Finish { .. })) {
        let made = one.tick();
        assert!(made <= PIECES_A_STEP, "{made} pieces in one step");
        steps += 1;
        assert!(steps < 2 * PIECES, "it comes to an end");
        one.apply();
        assert_eq!(one.world.answers, 1 + steps, "it is answered at once");
    }
    assert!(steps >= PIECES / PIECES_A_STEP, "{steps} steps");
    let written = |op: &StoreOp| match op {
        StoreOp::Write { bytes, .. } => bytes.to_vec(),
        _ => Vec::new(),
    };
    let bytes: Vec<u8> = one.world.ops.iter().flat_map(written).collect();
    let piece = [&(PIECE as u32).to_le_bytes()[..], &[1; PIECE]].concat();
    let (_, state) = bytes.split_at(44);
    let (state, end) = state.split_at(state.len() - 20);
    assert_eq!(end[..4], u32::MAX.to_le_bytes(), "the digest is at the end");
    assert!(state.chunks(piece.len()).all(|found| found == piece), "later commands are not in it");
    assert_eq!(state.len(), piece.len() * PIECES as usize);
}

#[test]
fn a_snapshot_is_taken_over_as_its_chunks_come_and_the_former_state_goes_in_steps() {
    let mut one = One::new(3);
    one.feed(Input::Started);
    let id = SnapshotId { index: 50, term: 3 };
    let mut bytes = Vec::new();
    let mut digest = Digest::default();
    for piece in [[50u64, 0, 0, 0, 0].map(u64::to_le_bytes).concat()]
        .into_iter()
        .chain((0..PIECES).map(|_| vec![9; PIECE]))
    {
        bytes.extend_from_slice(&(piece.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&piece);
        digest.bytes(&piece);
    }
    bytes.extend_from_slice(&u32::MAX.to_le_bytes());
    bytes.extend_from_slice(&digest.value().to_le_bytes());
    let len = bytes.len() as u64;
    let from = Peer { node: NodeId(2), incarnation: Incarnation(1) };
    let checksum = quorate_transport::crc32c(&bytes);
    let whole = Bytes::from(bytes);
    let message = Message::Snapshot {
        term: Term(3),
        piece: Box::new(Piece {
            snapshot: Snapshot { id, len, checksum, members: Arc::default() },
            offset: 0,
            bytes: whole.clone(),
        }),
    };
    one.feed(Input::Message { from, message: message.into() });
    one.feed(Input::Stored(Stored::Finished { id }));
    let mut reads = 0;
    let stands = |one: &One| {
        let replica = one.cell.machine();
        (replica.status().applied.0, replica.state().unwrap().commands)
    };
    let read = |op: &StoreOp| matches!(op, StoreOp::Read { .. });
    while let Some(at) = one.world.ops.iter().position(read) {
        let StoreOp::Read { id, offset, tag, .. } = one.world.ops.remove(at) else { break };
        let end = (offset as usize + STEP).min(whole.len());
        let chunk = whole.slice(offset as usize..end);
        assert_eq!(stands(&one), (0, 0), "state and index change together, at the end");
        let (made, taken) =
            one.feed(Input::Stored(Stored::Chunk { id, offset, bytes: chunk, len, tag }));
        assert!(made == 0 && taken <= PIECES_A_STEP, "{taken} pieces of one chunk");
        reads += 1;
    }
    assert!(one.world.restored && reads >= PIECES / PIECES_A_STEP);
    assert_eq!(stands(&one), (50, 9));
    // The former state goes and the new one is audited, a step of each at a time.
    let (mut made, mut ticks) = (0, 0);
    while made < 2 * PIECES {
        let step = one.tick();
        assert!(step <= 2 * PIECES_A_STEP, "{step} pieces in one step");
        made += step;
        ticks += 1;
        assert!(ticks < 10 * PIECES, "the former state goes");
    }
}
