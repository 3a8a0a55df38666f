//! Random and mutated bytes for everything that decodes: no panic, and nothing larger comes out
//! than went in. `QUORATE_FUZZ_ITERATIONS` says how many for each decoder.

use bytes::{BufMut, Bytes, BytesMut};
use quorate_transport::tcp::Refusal;
use quorate_transport::tcp::wire::{
    ANSWER_BYTES, Answer, HELLO_BYTES, Hello, Piece, SplitError, put_ping, split,
};
use quorate_transport::{
    Attachment, Attachments, ClusterId, Frame, Incarnation, NodeId, Peer, Rng, WIRE_VERSION,
    crc32c, message_key,
};

const FRAME_BYTES_MAX: usize = 4096;

fn iterations() -> u64 {
    let asked = std::env::var("QUORATE_FUZZ_ITERATIONS").ok();
    asked.map_or(100_000, |count| count.parse().expect("a number"))
}

fn bytes(rng: &mut Rng, max: u64) -> Vec<u8> {
    let len = rng.below(max + 1);
    (0..len).map(|_| rng.next_u64() as u8).collect()
}

fn frame(rng: &mut Rng) -> Frame {
    let mut attachments = Attachments::None;
    for _ in 0..rng.below(4) {
        attachments.push(Attachment::new(bytes(rng, 200).into()));
    }
    let head = bytes(rng, 40).into();
    Frame { head, attachments }
}

/// A few of: a flipped bit, a byte changed, a cut, an insertion, a length made extreme.
fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.between(1, 3) {
        if bytes.is_empty() {
            return bytes.push(rng.next_u64() as u8);
        }
        let at = rng.below(bytes.len() as u64) as usize;
        match rng.below(5) {
            0 => bytes[at] ^= 1 << rng.below(8),
            1 => bytes[at] = rng.next_u64() as u8,
            2 => bytes.truncate(at),
            3 => bytes.insert(at, rng.next_u64() as u8),
            _ => {
                let end = bytes.len().min(at + 4);
                bytes[at..end].fill(if rng.below(2) == 0 { 0xff } else { 0 });
            }
        }
    }
}

/// Half of the mutated frames get a right head checksum, so that what lies behind it is reached.
fn reseal(rng: &mut Rng, flat: &mut [u8]) {
    if flat.len() > 9 && rng.below(2) == 0 {
        let head = u32::from_le_bytes(flat[4..8].try_into().expect("four bytes")) as usize;
        let end = head.saturating_add(9 + 8 * usize::from(flat[8]));
        if let Some(covered) = flat.get(4..end) {
            let checksum = crc32c(covered).to_le_bytes();
            flat[..4].copy_from_slice(&checksum);
        }
    }
}

#[test]
fn frames() {
    let mut rng = Rng::new(1);
    let mut read = 0u64;
    for _ in 0..iterations() {
        let mut flat = if rng.below(4) == 0 {
            bytes(&mut rng, 300)
        } else {
            let mut out = BytesMut::new();
            frame(&mut rng).put_flat(&mut out);
            out.to_vec()
        };
        if rng.below(8) > 0 {
            mutate(&mut rng, &mut flat);
            reseal(&mut rng, &mut flat);
        }
        let flat = Bytes::from(flat);
        if let Ok(frame) = Frame::from_flat(&flat) {
            read += 1;
            assert_eq!(frame.flat_len(), flat.len(), "nothing is made up");
            let mut again = BytesMut::new();
            frame.put_flat(&mut again);
            assert_eq!(again, flat, "one encoding for each frame");
            let _ = message_key(&frame);
        }
    }
    assert!(read > iterations() / 20, "the good ones are read");
}

#[test]
fn message_keys() {
    let mut rng = Rng::new(2);
    let mut read = 0u64;
    for _ in 0..iterations() {
        let mut head = bytes(&mut rng, 24);
        if let Some(version) = head.first_mut().filter(|_| rng.below(4) > 0) {
            *version = WIRE_VERSION;
        }
        let frame = Frame { head: head.into(), attachments: Attachments::None };
        read += u64::from(message_key(&frame).is_ok());
    }
    assert!(read > iterations() / 20, "some are keys");
}

#[test]
fn handshakes() {
    let mut rng = Rng::new(3);
    for _ in 0..iterations() {
        let from = Peer { node: NodeId(rng.next_u64()), incarnation: Incarnation(rng.next_u64()) };
        let hello = Hello {
            version_min: rng.next_u64() as u16,
            version_max: rng.next_u64() as u16,
            class: rng.next_u64() as u8,
            cluster: ClusterId(rng.next_u64()),
            from,
            to: NodeId(rng.next_u64()),
        };
        let refusal = Refusal::ALL.get(rng.below(7) as usize).copied();
        let answer = Answer {
            refusal,
            version_min: rng.next_u64() as u16,
            version_max: rng.next_u64() as u16,
            peer: from,
        };
        assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
        assert_eq!(Answer::decode(&answer.encode()), Ok(answer));

        let (mut one, mut two) = (hello.encode().to_vec(), answer.encode().to_vec());
        mutate(&mut rng, &mut one);
        mutate(&mut rng, &mut two);
        if rng.below(4) == 0 {
            one = bytes(&mut rng, 60);
            two.clone_from(&one);
        }
        one.resize(HELLO_BYTES, 0);
        two.resize(ANSWER_BYTES, 0);
        // Resealed, so that every field is reached with every value.
        for bytes in [&mut one, &mut two] {
            let end = bytes.len() - 4;
            let checksum = crc32c(&bytes[..end]).to_le_bytes();
            bytes[end..].copy_from_slice(&checksum);
        }
        let one: [u8; HELLO_BYTES] = one.try_into().expect("resized");
        let two: [u8; ANSWER_BYTES] = two.try_into().expect("resized");
        if let Ok(hello) = Hello::decode(&one) {
            assert_eq!(hello.encode(), one);
        }
        if let Ok(answer) = Answer::decode(&two) {
            assert_eq!(answer.encode(), two);
        }
    }
}

#[test]
fn streams() {
    let mut rng = Rng::new(4);
    let mut whole = 0u64;
    for _ in 0..iterations() / 4 {
        let mut stream = BytesMut::new();
        let mut sent = Vec::new();
        for _ in 0..rng.between(1, 5) {
            if rng.below(5) == 0 {
                put_ping(&mut stream);
                sent.push(Piece::Ping);
            } else {
                let frame = frame(&mut rng);
                stream.put_u32_le(frame.flat_len() as u32);
                frame.put_flat(&mut stream);
                sent.push(Piece::Frame(frame));
            }
        }
        let mut stream = stream.to_vec();
        let broken = rng.below(2) == 0;
        if broken {
            mutate(&mut rng, &mut stream);
        }
        let mut rest = &stream[..];
        let mut buffer = BytesMut::with_capacity(64);
        let mut pieces = Vec::new();
        let end = 'stream: loop {
            loop {
                match split(&mut buffer, FRAME_BYTES_MAX) {
                    Ok(Some(piece)) => pieces.push(piece),
                    Ok(None) => break,
                    Err(error) => break 'stream Some(error),
                }
            }
            assert!(
                buffer.capacity() <= 4 * FRAME_BYTES_MAX,
                "the splitter allocates nothing for a length"
            );
            if rest.is_empty() {
                break None;
            }
            let (now, later) = rest.split_at(rng.between(1, rest.len() as u64) as usize);
            buffer.extend_from_slice(now);
            rest = later;
        };
        if let Some(SplitError::OverCap { bytes, max }) = end {
            assert!(bytes > max);
        }
        if !broken {
            assert_eq!(end, None);
            assert_eq!(pieces, sent);
            whole += 1;
        }
    }
    assert!(whole > 0);
}
