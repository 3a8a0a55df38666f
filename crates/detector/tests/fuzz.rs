//! The decoder under random and mutated bytes: no panic, and what is read is written again.

use bytes::BytesMut;
use quorate_detector::Message;
use quorate_transport::{Frame, Key, Rng, decode_message, encode_message};

const KEY: Key = Key::new(3, 0);

fn iterations() -> u64 {
    let text = std::env::var("QUORATE_FUZZ_ITERATIONS").ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(100_000)
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
fn no_bytes_make_the_decoder_panic() {
    let numbers = [1, 300, u64::MAX];
    let good = numbers
        .map(|number| encode_message(KEY, &Message::Heartbeat { number }, &mut BytesMut::new()));
    let mut rng = Rng::new(12);
    let (mut read, mut refused) = (0, 0);
    for _ in 0..iterations() {
        let frame = mutate(&good[rng.below(good.len() as u64) as usize], &mut rng);
        let Ok(message) = decode_message::<Message>(&frame) else {
            refused += 1;
            continue;
        };
        read += 1;
        let back = encode_message(KEY, &message, &mut BytesMut::new());
        assert_eq!(decode_message::<Message>(&back), Ok(message));
    }
    assert!(read > 100 && refused > 100, "{read} {refused}");
}
