//! The laws of every machine, with messages that make little sense.

use std::time::Duration;

use quorate_dmutex::{Config, Message, Name, Request, RicartAgrawala};
use quorate_sim::laws::{Subject, check};
use quorate_transport::{Incarnation, Machine, NodeId, RequestId, Rng, Start};

fn number(rng: &mut Rng) -> u64 {
    match rng.below(20) {
        0 => u64::MAX,
        1 => 1 << 62,
        2 => rng.next_u64(),
        _ => rng.below(8),
    }
}

fn name(rng: &mut Rng) -> Name {
    Name::new(vec![b'a' + rng.below(3) as u8]).expect("one byte")
}

fn message(rng: &mut Rng) -> Message {
    let (name, stamp, to) = (name(rng), number(rng), Incarnation(rng.below(4)));
    match rng.below(8) {
        0 => Message::Hello,
        1 | 2 => Message::Welcome { to, clock: rng.below(50) },
        3 | 4 => Message::Request { name, stamp, again: rng.below(2) == 0 },
        5 | 6 => Message::Permission { name, stamp, to },
        _ => Message::Deferred { name, stamp, to },
    }
}

fn request(rng: &mut Rng) -> Request {
    let id = RequestId(rng.below(40));
    match rng.below(6) {
        0 => Request::Release { acquired: id },
        1 => Request::Cancel { waiting: id },
        _ => {
            let patience = (rng.below(2) == 0).then(|| Duration::from_millis(rng.below(300)));
            Request::Acquire { name: name(rng), patience }
        }
    }
}

/// No stamp that was told is drawn again in a later life.
fn contradiction(mutex: &RicartAgrawala, sent: &[(NodeId, Message)]) -> Result<(), String> {
    for (to, message) in sent {
        if let Message::Request { stamp, .. } = message
            && mutex.status().clock < *stamp
        {
            return Err(format!("{stamp} was told to {to}, the clock is {}", mutex.status().clock));
        }
    }
    Ok(())
}

#[test]
fn ricart_agrawala_keeps_the_laws_whatever_it_is_told() {
    let make = |start: Start| {
        let mut config = Config::new((1..=4).map(NodeId));
        (config.reserve, config.waiters_max) = (3, 4);
        RicartAgrawala::new(start, config).expect("a valid configuration")
    };
    let subject = Subject {
        make: &make,
        message: &message,
        request: &request,
        stored: &|_, _| None,
        contradiction: &contradiction,
        effects_max: 200,
    };
    let seeds = std::env::var("QUORATE_SEEDS").ok().and_then(|text| text.parse().ok());
    for seed in 0..seeds.unwrap_or(500) {
        if let Err(broken) = check(&subject, seed, 500) {
            panic!("{broken}");
        }
    }
}
