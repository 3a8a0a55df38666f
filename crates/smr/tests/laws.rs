//! The laws of every machine, on a replica, with messages that make little sense.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_raft::{Index, Message, Piece, Snapshot, Term, Views};
use quorate_sim::laws::{Subject, check};
use quorate_smr::{
    Commands, Config, Filter, Freshness, Outputs, Pieces, Request, RestoreError, SessionId, Smr,
    Stamp, StateMachine, Watch,
};
use quorate_transport::{
    Digest, Machine, NodeId, Rng, SnapshotId, Start, StoreError, StoreOp, Stored, crc32c,
};

/// Counts commands.
#[derive(Clone, Default)]
struct Count(u64);

impl StateMachine for Count {
    fn apply(&mut self, commands: &mut dyn Iterator<Item = &[u8]>, outputs: &mut Outputs) {
        for _ in commands {
            self.0 += 1;
            outputs.change(b"count", &[&self.0.to_le_bytes()]);
            outputs.push(&self.0.to_le_bytes());
        }
    }
    fn query(&self, _: &[u8]) -> Bytes {
        Bytes::copy_from_slice(&self.0.to_le_bytes())
    }
    fn snapshot(&self) -> Pieces {
        Pieces::one(self.query(&[]))
    }
    fn restore(&mut self, piece: &[u8]) -> Result<(), RestoreError> {
        self.0 = u64::from_le_bytes(piece.try_into().map_err(|_| RestoreError)?);
        Ok(())
    }
}

fn number(rng: &mut Rng) -> u64 {
    match rng.below(20) {
        0 => u64::MAX,
        1 => 1 << 62,
        2 => rng.next_u64(),
        _ => rng.below(8),
    }
}

fn message(rng: &mut Rng) -> quorate_smr::Message {
    if rng.below(12) == 0 {
        let digest = [number(rng), number(rng)];
        return quorate_smr::Message::Audit { index: Index(number(rng)), digest };
    }
    raft_message(rng).into()
}

fn raft_message(rng: &mut Rng) -> Message {
    let term = Term(number(rng));
    let id = SnapshotId { index: number(rng), term: number(rng) };
    let (index, other) = (Index(number(rng)), Index(number(rng)));
    match rng.below(10) {
        0 => Message::PreVoteReply { term, granted: rng.below(2) == 0, ahead: false },
        1 | 2 => Message::VoteReply { term, granted: rng.below(4) > 0 },
        3 => {
            let (prev_term, views) = (Term(number(rng)), Views::None);
            Message::Append { term, prev: index, prev_term, commit: other, views }
        }
        4 | 5 => Message::Appended { term, matched: index },
        6 => Message::Heartbeat { term, commit: index, round: number(rng) },
        7 => Message::HeartbeatReply { term, round: number(rng) },
        8 => {
            let bytes = Bytes::from_static(b"snapshot");
            let (offset, len) = (rng.below(2) * number(rng), 8);
            Message::Snapshot {
                term,
                piece: Box::new(Piece {
                    snapshot: Snapshot {
                        id,
                        len,
                        checksum: crc32c(&bytes),
                        members: Arc::default(),
                    },
                    offset,
                    bytes,
                }),
            }
        }
        _ => Message::TimeoutNow { term },
    }
}

fn request(rng: &mut Rng) -> Request {
    let mut commands = Commands::default();
    for _ in 0..rng.below(4) {
        let (session, sequence) = (SessionId(number(rng)), number(rng));
        match rng.below(4) {
            0 => commands.push_open(),
            1 => commands.push(b"plain"),
            _ => {
                let stamp = Stamp { session, sequence, answered: number(rng) };
                commands.push_stamped(stamp, b"stamped");
            }
        }
    }
    let freshness = match rng.below(3) {
        0 => Freshness::Linearizable,
        1 => Freshness::Within(Duration::from_millis(rng.below(500))),
        _ => Freshness::Any,
    };
    match rng.below(13) {
        12 => Request::Audit,
        10 => Request::ReadIndex,
        11 => {
            let filter = match rng.below(3) {
                0 => Filter::All,
                1 => Filter::Key(Bytes::new()),
                _ => Filter::Prefix(Bytes::from_static(b"c")),
            };
            let wait = Duration::from_millis(number(rng));
            Request::Watch(Watch { after: Index(number(rng)), filter, wait })
        }
        0 | 1 => Request::Query { query: Bytes::new(), freshness },
        2 => Request::Digest,
        3 => Request::Transfer { to: (rng.below(2) == 0).then(|| NodeId(number(rng))) },
        4 => Request::Apply(Commands::one(&[7; 5000])),
        _ => Request::Apply(commands),
    }
}

/// Mostly what was asked for; now and then what was not.
fn stored(rng: &mut Rng, asked: Option<&StoreOp>) -> Option<Stored> {
    match asked {
        _ if rng.below(20) == 0 => {
            let id = SnapshotId { index: number(rng), term: number(rng) };
            let error = StoreError::Disk;
            Some(Stored::Failed { id, error, tag: number(rng) })
        }
        Some(StoreOp::Finish { id, .. }) => Some(Stored::Finished { id: *id }),
        Some(StoreOp::Read { id, offset, tag, .. }) => {
            // Now and then it is a snapshot of this replica: no sessions, and as many commands.
            let (mut bytes, mut digest) = (Vec::new(), Digest::default());
            for piece in [&[id.index, 0, 0, 0, 0][..], &[rng.below(3)]] {
                bytes.extend_from_slice(&(8 * piece.len() as u32).to_le_bytes());
                let piece: Vec<u8> = piece.iter().flat_map(|word| word.to_le_bytes()).collect();
                digest.bytes(&piece);
                bytes.extend(piece);
            }
            bytes.extend(u32::MAX.to_le_bytes());
            bytes.extend(digest.value().to_le_bytes());
            let whole = bytes.len();
            bytes.truncate(if rng.below(3) == 0 { rng.below(76) as usize } else { whole });
            let (bytes, len) = (Bytes::from(bytes), offset + whole as u64);
            Some(Stored::Chunk { id: *id, offset: *offset, bytes, len, tag: *tag })
        }
        _ => None,
    }
}

#[test]
fn a_replica_keeps_the_laws_whatever_it_is_told() {
    for (voters, apart) in [(1, false), (5, false), (1, true), (5, true)] {
        let make = |start: Start| {
            let mut config = Config::new((1..=voters).map(NodeId), Count::default());
            config.raft.batch_bytes_max = 1 << 12;
            (config.sessions_max, config.answers_max) = (2, 2);
            (config.snapshot_bytes, config.queries_max) = (100, 3);
            config.snapshot_step_bytes = 20;
            config.session_ttl = Duration::from_millis(50);
            config.tick_interval = Duration::from_millis(10);
            (config.apply_step_bytes, config.apply_apart) = (60, apart);
            config.snapshot_interval = Duration::from_millis(200);
            config.audit_interval = Duration::from_millis(100);
            (config.history_bytes_max, config.watches_max) = (500, 3);
            Smr::new(start, config).expect("a valid configuration")
        };
        let subject = Subject {
            make: &make,
            message: &message,
            request: &request,
            stored: &stored,
            contradiction: &|_, _| Ok(()), // what is told is Raft's alone, and tested there
            effects_max: 400,
        };
        let seeds = std::env::var("QUORATE_SEEDS").ok().and_then(|text| text.parse().ok());
        for seed in 0..seeds.unwrap_or(100) {
            if let Err(broken) = check(&subject, seed, 500) {
                panic!("{voters} voters, applied apart {apart}: {broken}");
            }
        }
    }
}
