//! The laws of every machine, on the detector.

use quorate_detector::{Config, Heartbeats, Message, Request};
use quorate_sim::laws::{Subject, check};
use quorate_transport::{Machine, NodeId, Rng, Start};

#[test]
fn the_detector_keeps_the_laws_whatever_it_is_told() {
    let make = |start: Start| {
        Heartbeats::new(start, Config::new((2..=5).map(NodeId))).expect("a valid configuration")
    };
    let subject = Subject {
        make: &make,
        message: &|rng: &mut Rng| {
            let wild = [rng.below(50), rng.next_u64(), u64::MAX];
            Message::Heartbeat { number: wild[rng.below(3) as usize] }
        },
        request: &|rng: &mut Rng| match rng.below(2) {
            0 => Request::Members,
            _ => Request::Status(NodeId(rng.below(9))),
        },
        stored: &|_, _| None,
        contradiction: &|_, _| Ok(()),
        effects_max: 20,
    };
    let seeds = std::env::var("QUORATE_SEEDS").ok().and_then(|text| text.parse().ok());
    for seed in 0..seeds.unwrap_or(500) {
        if let Err(broken) = check(&subject, seed, 300) {
            panic!("{broken}");
        }
    }
}
