//! The laws of every machine, on both elections.

use std::time::Duration;

use quorate_election::{Body, Bully, Config, Message, QuorumLease, Request, Term, bully};
use quorate_sim::laws::{Subject, check};
use quorate_transport::{Incarnation, Machine, NodeId, Rng, Start};

fn term(rng: &mut Rng) -> Term {
    Term(match rng.below(20) {
        0 => u64::MAX,
        1 => 1 << 62,
        2 => rng.next_u64(),
        _ => rng.below(6),
    })
}

fn message(rng: &mut Rng) -> Message {
    let (term, round) = (term(rng), rng.below(6));
    let body = match rng.below(8) {
        0 => Body::PreVote,
        1 => Body::PreVoted,
        2 => Body::Vote,
        3 => Body::Voted { to: Incarnation(rng.below(4)) },
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
        let voted = matches!(message.body, Body::Voted { .. }) && message.term == node.term();
        if voted && node.vote().map(|peer| peer.node) != Some(*to) {
            return Err(format!("{to} had the vote, now {:?} has it", node.vote()));
        }
    }
    Ok(())
}

fn all_seeds<M: Machine>(subject: &Subject<'_, M>) {
    let seeds = std::env::var("QUORATE_SEEDS").ok().and_then(|text| text.parse().ok());
    for seed in 0..seeds.unwrap_or(500) {
        if let Err(broken) = check(subject, seed, 400) {
            panic!("{broken}");
        }
    }
}

#[test]
fn the_quorum_lease_keeps_the_laws_whatever_it_is_told() {
    let make = |start: Start| {
        let mut config = Config::new((1..=5).map(NodeId));
        config.lease = Duration::from_millis(400);
        QuorumLease::new(start, config).expect("a valid configuration")
    };
    all_seeds(&Subject {
        make: &make,
        message: &message,
        request: &|rng: &mut Rng| {
            if rng.below(3) == 0 { Request::Resign } else { Request::Status }
        },
        stored: &|_, _| None,
        contradiction: &contradiction,
        effects_max: 200, // a sync opens the gates of many inputs
    });
}

/// A term that was told outlives every crash.
fn forgotten(node: &Bully, sent: &[(NodeId, bully::Message)]) -> Result<(), String> {
    match sent.iter().find(|(_, message)| message.term > node.term()) {
        Some((to, told)) => Err(format!("{to} was told {told:?}, the term is {:?}", node.term())),
        None => Ok(()),
    }
}

#[test]
fn the_bully_keeps_the_laws_whatever_it_is_told() {
    for (me, announces) in [(1, true), (3, true), (5, true), (3, false), (5, false)] {
        let make = |start: Start| {
            let start = Start { node: NodeId(me), ..start }; // among higher and lower peers
            let mut config = bully::Config::new((1..=5).map(NodeId));
            config.announce_interval = announces.then_some(Duration::from_millis(30));
            (config.answer_timeout, config.coordinator_timeout) =
                (Duration::from_millis(20), Duration::from_millis(60));
            Bully::new(start, config).expect("a valid configuration")
        };
        all_seeds(&Subject {
            make: &make,
            message: &|rng: &mut Rng| {
                let bodies = [bully::Body::Election, bully::Body::Answer, bully::Body::Coordinator];
                bully::Message { term: term(rng), body: bodies[rng.below(3) as usize] }
            },
            request: &|rng: &mut Rng| {
                if rng.below(3) == 0 { bully::Request::Elect } else { bully::Request::Status }
            },
            stored: &|_, _| None,
            contradiction: &forgotten,
            effects_max: 200,
        });
    }
}
