//! The laws of every machine, with messages that make little sense.

use bytes::Bytes;
use quorate_sim::laws::{Subject, check};
use quorate_transport::{Incarnation, Machine, NodeId, Rng, Start};
use quorate_txn::{Config, Message, Request, TwoPhaseCommit, TxnId, Vote};

fn txn(rng: &mut Rng) -> TxnId {
    let counter = match rng.below(30) {
        0 => u64::MAX,
        1 => rng.next_u64(),
        _ => 1 + rng.below(6),
    };
    let node = NodeId(rng.between(1, 5));
    TxnId { node, incarnation: Incarnation(rng.between(0, 3)), counter }
}

fn vote(rng: &mut Rng) -> Vote {
    [Vote::Yes, Vote::Yes, Vote::Yes, Vote::No, Vote::ReadOnly][rng.below(5) as usize]
}

fn message(rng: &mut Rng) -> Message {
    let txn = txn(rng);
    match rng.below(10) {
        0..3 => {
            let peers = (1..=rng.between(1, 5)).map(NodeId).collect();
            let cut = rng.below(4);
            let heard = Incarnation(rng.below(3));
            Message::Prepare { txn, cut, heard, peers, payload: Bytes::from_static(b"x") }
        }
        3 | 4 => Message::Voted { txn, vote: vote(rng) },
        5 => Message::Commit { txn },
        6 => Message::Abort { txn },
        7 => Message::Ack { txn },
        8 => Message::Inquire { txn },
        _ => Message::Uncertain { txn },
    }
}

fn request(rng: &mut Rng) -> Request {
    match rng.below(4) {
        0 => {
            let count = rng.below(5);
            let parts = (0..count).map(|_| (NodeId(rng.between(1, 6)), Bytes::new())).collect();
            Request::Begin { parts }
        }
        1 => Request::Done { txn: txn(rng) },
        _ => Request::Vote { txn: txn(rng), vote: vote(rng) },
    }
}

/// What was told as committed is not denied: a decision told and not acknowledged is remembered.
fn contradiction(machine: &TwoPhaseCommit, sent: &[(NodeId, Message)]) -> Result<(), String> {
    let aborted = |wanted: TxnId| {
        sent.iter().any(|(_, message)| matches!(message, Message::Abort { txn } if *txn == wanted))
    };
    for (txn, committed) in machine.driven() {
        if committed && aborted(txn) && txn.node == machine.node() {
            let voters = sent.iter().filter(
                |(_, message)| matches!(message, Message::Commit { txn: told } if *told == txn),
            );
            for (to, _) in voters {
                let both = sent.iter().any(|(other, m)| {
                    other == to && matches!(m, Message::Abort { txn: t } if *t == txn)
                });
                if both {
                    return Err(format!("{to} was told that {txn} is both"));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn two_phase_commit_keeps_the_laws_whatever_it_is_told() {
    let make = |start: Start| {
        let mut config = Config::new((1..=5).map(NodeId));
        (config.open_max, config.held_max, config.window_max) = (8, 8, 8);
        TwoPhaseCommit::new(start, config).expect("a valid configuration")
    };
    let subject = Subject {
        make: &make,
        message: &message,
        request: &request,
        stored: &|_, _| None,
        contradiction: &contradiction,
        effects_max: 300,
    };
    let seeds = std::env::var("QUORATE_SEEDS").ok().and_then(|text| text.parse().ok());
    for seed in 0..seeds.unwrap_or(300) {
        if let Err(broken) = check(&subject, seed, 500) {
            panic!("{broken}");
        }
    }
}
