//! The laws of every machine, on the quorum lease.

use quorate_election::{Body, Config, Message, QuorumLease, Request, Term};
use quorate_sim::laws::{Subject, check};
use quorate_transport::{Machine, NodeId, Rng, Start};

fn message(rng: &mut Rng) -> Message {
    let term = Term(match rng.below(20) {
        0 => u64::MAX,
        1 => 1 << 62,
        2 => rng.next_u64(),
        _ => rng.below(6),
    });
    let round = rng.below(6);
    let body = match rng.below(8) {
        0 => Body::PreVote,
        1 => Body::PreVoted,
        2 => Body::Vote,
        3 => Body::Voted,
        4 => Body::Renew { round },
        5 => Body::Renewed { round },
        6 => Body::Resign,
        _ => Body::Stale,
    };
    Message { config: u64::from(rng.below(20) > 0), term, body }
}

/// Terms and votes that were told outlive every crash.
fn contradiction(node: &QuorumLease, sent: &[(NodeId, Message)]) -> Result<(), String> {
    for (to, message) in sent {
        let binds = !matches!(message.body, Body::PreVote | Body::PreVoted);
        if binds && node.term() < message.term {
            return Err(format!("{message:?} was sent to {to}, the term is {:?}", node.term()));
        }
        let voted = message.body == Body::Voted && message.term == node.term();
        if voted && node.vote().map(|peer| peer.node) != Some(*to) {
            return Err(format!("{to} had the vote, now {:?} has it", node.vote()));
        }
    }
    Ok(())
}

#[test]
fn the_quorum_lease_keeps_the_laws_whatever_it_is_told() {
    let make = |start: Start| {
        let mut config = Config::new((1..=5).map(NodeId));
        config.lease = core::time::Duration::from_millis(400);
        QuorumLease::new(start, config).expect("a valid configuration")
    };
    let subject = Subject {
        make: &make,
        message: &message,
        request: &|rng: &mut Rng| {
            if rng.below(3) == 0 { Request::Resign } else { Request::Status }
        },
        stored: &|_, _| None,
        contradiction: &contradiction,
        effects_max: 200, // a sync opens the gates of many inputs
    };
    let seeds = std::env::var("QUORATE_SEEDS").ok().and_then(|text| text.parse().ok());
    for seed in 0..seeds.unwrap_or(500) {
        if let Err(broken) = check(&subject, seed, 400) {
            panic!("{broken}");
        }
    }
}
