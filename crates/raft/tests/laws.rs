//! The laws of every machine, on Raft, with messages that make little sense.

use std::sync::Arc;

use bytes::Bytes;
use quorate_raft::{
    Change, Config, Index, Message, Offer, Piece, Proposals, Raft, Request, Snapshot, Term, Views,
};
use quorate_sim::laws::{Subject, check};
use quorate_transport::{
    Machine, NodeId, Rng, SnapshotId, Start, StoreError, StoreOp, Stored, crc32c,
};

fn number(rng: &mut Rng) -> u64 {
    match rng.below(20) {
        0 => u64::MAX,
        1 => 1 << 62,
        2 => rng.next_u64(),
        _ => rng.below(8),
    }
}

fn message(rng: &mut Rng) -> Message {
    let term = Term(number(rng));
    let id = SnapshotId { index: number(rng), term: number(rng) };
    let index = Index(number(rng));
    let other = Index(number(rng));
    match rng.below(20) {
        0 => Message::PreVote { term, last: index, last_term: Term(number(rng)) },
        1 => Message::PreVoteReply { term, granted: rng.below(2) == 0, ahead: rng.below(2) == 0 },
        2 => {
            let transfer = rng.below(4) == 0;
            Message::Vote { term, last: index, last_term: Term(number(rng)), transfer }
        }
        3 | 4 => Message::VoteReply { term, granted: rng.below(4) > 0 },
        5 | 6 => {
            let (prev_term, views) = (Term(number(rng)), Views::None);
            Message::Append { term, prev: index, prev_term, commit: other, views }
        }
        7 => Message::Appended { term, matched: index },
        8 => Message::Conflict { term, prev: index, hint: other, hint_term: Term(number(rng)) },
        9 => Message::Heartbeat { term, commit: index, round: number(rng) },
        10 => Message::HeartbeatReply { term, round: number(rng) },
        11 => {
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
        12 => Message::SnapshotReply { term, id, next: number(rng) },
        17 => {
            let lost = (rng.below(2) == 0).then_some(index);
            Message::Disowned { term, birth: 1 + rng.below(3) as u32, lost }
        }
        18 => Message::Removed { term, commit: index, commit_term: Term(number(rng)) },
        13 => Message::Read { term, number: number(rng) },
        14 => {
            let index = (rng.below(2) == 0).then_some(index);
            Message::ReadReply { term, number: number(rng), index }
        }
        15 => Message::Fetch { term, at: index, at_term: Term(number(rng)) },
        16 => {
            let (prev_term, last_term) = (Term(number(rng)), Term(number(rng)));
            let (prev, last) = ((index, prev_term), (other, last_term));
            Message::Fetched { term, offer: Box::new(Offer { prev, last, views: Views::None }) }
        }
        _ => Message::TimeoutNow { term },
    }
}

fn change(rng: &mut Rng) -> Change {
    let mut node = || NodeId(1 + rng.below(5));
    let (node, new, address) = (node(), node(), String::new());
    match rng.below(6) {
        0 => Change::Add { node, address },
        1 => Change::AddLearner { node, address },
        2 => Change::Remove { node },
        3 => Change::Replace { old: node, new, address },
        4 => Change::Become { voters: vec![node, new], learners: Vec::new() },
        _ => Change::Cancel,
    }
}

fn request(rng: &mut Rng) -> Request {
    match rng.below(11) {
        8 => Request::Change(change(rng)),
        9 => Request::ReadHere { within: std::time::Duration::from_nanos(rng.below(1_000_000)) },
        10 => Request::ForgetLeader,
        0 => Request::Read,
        1 => Request::Applied { index: Index(number(rng)) },
        2 => {
            let contents = [Bytes::from("state")].into_iter().collect();
            Request::Compact { index: Index(rng.below(20)), contents }
        }
        3 => Request::Transfer { to: (rng.below(2) == 0).then(|| NodeId(number(rng))) },
        4 => Request::Propose(Proposals::default()),
        5 => Request::Propose(Proposals::one(&[7; 5000])),
        _ => Request::Propose(Proposals::one(b"command")),
    }
}

/// Mostly what was asked for; now and then what was not.
fn stored(rng: &mut Rng, asked: Option<&StoreOp>) -> Option<Stored> {
    let error = StoreError::Disk;
    match asked {
        _ if rng.below(10) == 0 => {
            let id = SnapshotId { index: number(rng), term: number(rng) };
            Some(match rng.below(3) {
                0 => Stored::Finished { id },
                1 => Stored::Failed { id, error, tag: number(rng) },
                _ => {
                    let (bytes, offset) = (Bytes::from("x"), number(rng));
                    Stored::Chunk { id, offset, bytes, len: number(rng), tag: number(rng) }
                }
            })
        }
        Some(StoreOp::Finish { id, .. }) => Some(Stored::Finished { id: *id }),
        Some(StoreOp::Read { id, offset, tag, .. }) => {
            let (bytes, tag) = (Bytes::from_static(b"snapshot"), *tag);
            Some(Stored::Chunk { id: *id, offset: *offset, bytes, len: offset + 8, tag })
        }
        _ => None,
    }
}

/// Term and votes that were told outlive every crash.
fn contradiction(raft: &Raft, sent: &[(NodeId, Message)]) -> Result<(), String> {
    for (to, message) in sent {
        let (here, term) = (raft.term(), message.term());
        let binds = !matches!(message, Message::PreVote { .. } | Message::PreVoteReply { .. });
        if binds && here < term {
            return Err(format!("{message:?} was sent to {to}, the term is {here}"));
        }
        let granted = matches!(message, Message::VoteReply { granted: true, .. });
        if granted && here == term && raft.vote() != Some(*to) {
            return Err(format!("{to} had the vote in {term}, now {:?} has it", raft.vote()));
        }
    }
    Ok(())
}

#[test]
fn raft_keeps_the_laws_whatever_it_is_told() {
    let make = |start: Start| {
        let mut config = Config::new((1..=5).map(NodeId));
        config.batch_bytes_max = 1 << 12;
        Raft::new(start, config).expect("a valid configuration")
    };
    let subject = Subject {
        make: &make,
        message: &message,
        request: &request,
        stored: &stored,
        contradiction: &contradiction,
        effects_max: 400,
    };
    let seeds = std::env::var("QUORATE_SEEDS").ok().and_then(|text| text.parse().ok());
    for seed in 0..seeds.unwrap_or(500) {
        if let Err(broken) = check(&subject, seed, 500) {
            panic!("{broken}");
        }
    }
}
