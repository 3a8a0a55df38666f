//! Decoders under random and mutated bytes: no panic, no growth, and what is read is written again.

use bytes::BytesMut;
use quorate_dmutex::{Message, NAME_BYTES_MAX, Name, Record};
use quorate_transport::{
    Frame, Incarnation, Key, Rng, decode_message, decode_record, encode_message, encode_record,
};

const KEY: Key = Key::new(3, 0);

fn iterations() -> u64 {
    let text = std::env::var("QUORATE_FUZZ_ITERATIONS").ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(100_000)
}

fn good_frames() -> Vec<Frame> {
    let scratch = &mut BytesMut::new();
    let name = Name::try_from("a resource").expect("a short name");
    let (stamp, to) = (300, Incarnation(2));
    let messages = [
        Message::Hello,
        Message::Welcome { to, clock: 9 },
        Message::Request { name: name.clone(), stamp, again: true },
        Message::Permission { name, stamp, to },
    ];
    let mut frames: Vec<_> = messages.iter().map(|m| encode_message(KEY, m, scratch)).collect();
    frames.push(encode_record(&Record::Reserved { upto: 70_000 }, scratch));
    frames
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

#[test]
fn no_bytes_make_a_decoder_panic_or_grow() {
    let good = good_frames();
    let mut rng = Rng::new(12);
    let (mut messages, mut records) = (0, 0);
    for _ in 0..iterations() {
        let frame = mutate(&good[rng.below(good.len() as u64) as usize], &mut rng);
        if let Ok(message) = decode_message::<Message>(&frame) {
            messages += 1;
            if let Message::Request { name, .. } | Message::Permission { name, .. } = &message {
                assert!((1..=NAME_BYTES_MAX).contains(&name.as_bytes().len()));
            }
            let back = encode_message(KEY, &message, &mut BytesMut::new());
            assert_eq!(decode_message::<Message>(&back), Ok(message));
        }
        if let Ok(record) = decode_record::<Record>(&frame) {
            records += 1;
            let back = encode_record(&record, &mut BytesMut::new());
            assert_eq!(decode_record::<Record>(&back), Ok(record));
        }
    }
    assert!(messages > 100 && records > 100, "{messages} {records}");
}
