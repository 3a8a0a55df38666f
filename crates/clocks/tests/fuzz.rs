//! Decoders under random and mutated bytes: no panic, no growth, and what is read is written back
//! the same.
#![cfg(not(loom))]

use bytes::{Bytes, BytesMut};
use quorate_clocks::{ENTRIES_MAX, HlcTime, LamportTime, Stamp, VectorClock};
use quorate_transport::{
    Attachments, Decoder, Encoder, Frame, Incarnation, NodeId, Peer, Rng, Wire, WireError,
    decode_record, encode_record,
};

fn iterations() -> u64 {
    let text = std::env::var("QUORATE_FUZZ_ITERATIONS").ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(100_000)
}

/// Stamps of both clocks, as a message of some protocol has them.
#[derive(Debug, PartialEq)]
struct Stamps(Stamp<LamportTime>, Stamp<HlcTime>);

impl Wire for Stamps {
    fn encode(&self, to: &mut Encoder<'_>) {
        to.value(&self.0);
        to.value(&self.1);
    }
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        Ok(Self(from.value("stamp")?, from.value("stamp")?))
    }
}

fn good_vector(rng: &mut Rng) -> VectorClock {
    let mut clock = VectorClock::new();
    for _ in 0..rng.below(20) {
        let (node, incarnation) = (NodeId(rng.below(300)), Incarnation(rng.below(3)));
        clock.tick(Peer { node, incarnation }).unwrap();
    }
    clock
}

/// A good head made worse, or no head at all.
fn mutated(rng: &mut Rng, good: Bytes) -> Frame {
    let mut head = good.to_vec();
    match rng.below(5) {
        0 => head = (0..rng.below(60)).map(|_| rng.next_u64() as u8).collect(),
        1 => head.truncate(rng.below(head.len() as u64 + 1) as usize),
        2 => head.extend((0..rng.below(9)).map(|_| rng.next_u64() as u8)),
        _ => {
            for _ in 0..rng.between(0, 2) {
                let at = rng.below(head.len() as u64) as usize;
                head[at] ^= 1 << rng.below(8);
            }
        }
    }
    if let Some(version) = head.first_mut().filter(|_| rng.below(8) > 0) {
        *version = quorate_transport::WIRE_VERSION;
    }
    Frame { head: head.into(), attachments: Attachments::None }
}

#[test]
fn no_bytes_make_the_decoder_of_vectors_panic_or_grow_or_break_a_rule() {
    let (mut rng, scratch) = (Rng::new(5), &mut BytesMut::new());
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..iterations() {
        let good = encode_record(&good_vector(&mut rng), scratch);
        let frame = mutated(&mut rng, good.head);
        let Ok(clock) = decode_record::<VectorClock>(&frame) else {
            refused += 1;
            continue;
        };
        taken += 1;
        assert!(clock.len() <= ENTRIES_MAX && clock.len() * 3 < frame.head.len().max(1));
        assert!(clock.iter().all(|(_, count)| count > 0));
        assert!(clock.iter().zip(clock.iter().skip(1)).all(|(one, next)| one.0 < next.0));
        let again = encode_record(&clock, scratch);
        assert_eq!(decode_record::<VectorClock>(&again), Ok(clock));
        assert!(again.head.len() <= frame.head.len());
    }
    assert!(taken > iterations() / 100 && refused > iterations() / 100, "{taken} {refused}");
}

#[test]
fn no_bytes_make_the_decoders_of_stamps_panic() {
    let (mut rng, scratch) = (Rng::new(6), &mut BytesMut::new());
    let mut taken = 0;
    for _ in 0..iterations() {
        let node = NodeId(rng.below(300));
        let lamport = Stamp { time: LamportTime(rng.next_u64() >> rng.below(64)), node };
        let hlc = Stamp { time: HlcTime::from_bits(rng.next_u64()), node };
        let good = encode_record(&Stamps(lamport, hlc), scratch);
        if let Ok(stamps) = decode_record::<Stamps>(&mutated(&mut rng, good.head)) {
            taken += 1;
            let again = encode_record(&stamps, scratch);
            assert_eq!(decode_record::<Stamps>(&again), Ok(stamps));
        }
    }
    assert!(taken > iterations() / 100, "{taken}");
}
