//! Decoders under random and mutated bytes: no panic, no growth, and what is read is written again.

use bytes::BytesMut;
use quorate_election::{Body, Message, Record, Term, bully};
use quorate_transport::{
    Frame, Incarnation, Key, NodeId, Peer, Rng, Wire, decode_message, decode_record,
    encode_message, encode_record,
};

const KEY: Key = Key::new(3, 0);
const TERM_MAX: Term = Term(1 << 62);

fn iterations() -> u64 {
    let text = std::env::var("QUORATE_FUZZ_ITERATIONS").ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(100_000)
}

fn good_frames() -> Vec<Frame> {
    let scratch = &mut BytesMut::new();
    let term = Term(300);
    let vote = Some(Peer { node: NodeId(5), incarnation: Incarnation(2) });
    let body = Body::Renew { round: 70_000 };
    let voted = Body::Voted { to: Incarnation(9) };
    vec![
        encode_message(KEY, &Message { config: 1, term, body: Body::PreVote }, scratch),
        encode_message(KEY, &Message { config: 9, term: TERM_MAX, body }, scratch),
        encode_message(KEY, &Message { config: 2, term, body: voted }, scratch),
        encode_message(KEY, &bully::Message { term, body: bully::Body::Answer }, scratch),
        encode_record(&Record { term, vote }, scratch),
        encode_record(&bully::Record { term: TERM_MAX }, scratch),
    ]
}

fn mutate(frame: &Frame, rng: &mut Rng) -> Frame {
    let mut head = frame.head.to_vec();
    match rng.below(4) {
        0 => head = (0..rng.below(40)).map(|_| rng.next_u64() as u8).collect(),
        1 => head.truncate(rng.below(head.len() as u64 + 1) as usize),
        _ => {
            let at = rng.below(head.len() as u64) as usize;
            head[at] ^= 1 << rng.below(8);
        }
    }
    Frame { head: head.into(), attachments: frame.attachments.clone() }
}

/// What decodes, encodes to what decodes to the same; gives its term.
fn message<M: Wire + PartialEq + std::fmt::Debug>(frame: &Frame, term: fn(&M) -> Term) -> u64 {
    let Ok(message) = decode_message::<M>(frame) else { return 0 };
    assert!(term(&message) <= TERM_MAX, "{message:?}");
    let back = encode_message(KEY, &message, &mut BytesMut::new());
    assert!(decode_message::<M>(&back).is_ok_and(|again| again == message));
    1
}

fn record<R: Wire + PartialEq + std::fmt::Debug>(frame: &Frame, term: fn(&R) -> Term) -> u64 {
    let Ok(record) = decode_record::<R>(frame) else { return 0 };
    assert!(term(&record) <= TERM_MAX, "{record:?}");
    let back = encode_record(&record, &mut BytesMut::new());
    assert!(decode_record::<R>(&back).is_ok_and(|again| again == record));
    1
}

#[test]
fn no_bytes_make_a_decoder_panic_or_grow() {
    let good = good_frames();
    let mut rng = Rng::new(12);
    let mut read = [0; 4];
    for _ in 0..iterations() {
        let frame = mutate(&good[rng.below(good.len() as u64) as usize], &mut rng);
        read[0] += message::<Message>(&frame, |m| m.term);
        read[1] += message::<bully::Message>(&frame, |m| m.term);
        read[2] += record::<Record>(&frame, |r| r.term);
        read[3] += record::<bully::Record>(&frame, |r| r.term);
    }
    assert!(read.iter().all(|count| *count > 100), "{read:?}");
}

#[test]
fn a_term_beyond_the_last_is_refused() {
    let term = Term(TERM_MAX.0 + 1);
    let scratch = &mut BytesMut::new();
    let lease = Message { config: 1, term, body: Body::Stale };
    assert!(decode_message::<Message>(&encode_message(KEY, &lease, scratch)).is_err());
    let bully = bully::Message { term, body: bully::Body::Coordinator };
    assert!(decode_message::<bully::Message>(&encode_message(KEY, &bully, scratch)).is_err());
    let kept = Record { term, vote: None };
    assert!(decode_record::<Record>(&encode_record(&kept, scratch)).is_err());
    let kept = bully::Record { term };
    assert!(decode_record::<bully::Record>(&encode_record(&kept, scratch)).is_err());
}
