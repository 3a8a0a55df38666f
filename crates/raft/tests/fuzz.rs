//! Decoders under random and mutated bytes: no panic, no growth, and what is read is what was
//! written.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use quorate_raft::{Batch, Index, Members, Message, Offer, Piece, Record, Snapshot, Term, Views};
use quorate_transport::{
    Attachment, Attachments, Frame, Key, NodeId, Rng, SnapshotId, Wire, decode_message,
    decode_record, encode_message, encode_record,
};

const KEY: Key = Key::new(1, 0);

fn iterations() -> u64 {
    let text = std::env::var("QUORATE_FUZZ_ITERATIONS").ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(100_000)
}

/// Bytes that are nearly a batch: a right head with numbers that may be wrong.
fn nearly_a_batch(rng: &mut Rng) -> Bytes {
    let count = rng.below(5) as u32;
    let payload = rng.below(20) as u32;
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&rng.below(9).to_le_bytes());
    bytes.extend_from_slice(&rng.below(9).to_le_bytes());
    bytes.extend_from_slice(&count.to_le_bytes());
    bytes.extend_from_slice(&payload.to_le_bytes());
    bytes.push(rng.below(4) as u8);
    bytes.resize(32 + payload as usize, 0);
    for entry in 0..count {
        let end = if entry + 1 == count { payload } else { payload * (entry + 1) / (count + 1) };
        bytes.extend_from_slice(&end.to_le_bytes());
    }
    if rng.below(3) == 0 {
        let at = rng.below(bytes.len() as u64) as usize;
        bytes[at] = rng.next_u64() as u8;
    }
    bytes.into()
}

fn frame(rng: &mut Rng, good: &[Frame]) -> Frame {
    let mut frame = good[rng.below(good.len() as u64) as usize].clone();
    let mut head = frame.head.to_vec();
    match rng.below(4) {
        0 => head = (0..rng.below(40)).map(|_| rng.next_u64() as u8).collect(),
        1 => head.truncate(rng.below(head.len() as u64 + 1) as usize),
        _ => {
            let at = rng.below(head.len() as u64) as usize;
            head[at] ^= 1 << rng.below(8);
        }
    }
    frame.head = head.into();
    let mut attachments = Attachments::None;
    for _ in 0..rng.below(4) {
        attachments.push(Attachment::new(nearly_a_batch(rng)));
    }
    if rng.below(2) == 0 {
        frame.attachments = attachments;
    }
    frame
}

fn good_frames() -> Vec<Frame> {
    let id = SnapshotId { index: 3, term: 2 };
    let scratch = &mut BytesMut::new();
    let batch = Attachment::new(nearly_a_batch(&mut Rng::new(3)));
    let members = Arc::new(Members::new(&[1, 2, 3].map(NodeId)));
    let snapshot = Snapshot { id, len: 9, checksum: 7, members };
    let bytes = Bytes::from_static(b"a piece");
    let messages = [
        Message::Vote { term: Term(3), last: Index(9), last_term: Term(2), transfer: true },
        Message::Appended { term: Term(3), matched: Index(300) },
        Message::ReadReply { term: Term(3), number: 7, index: Some(Index(300)) },
        Message::Removed { term: Term(3), commit: Index(9), commit_term: Term(2) },
        Message::Disowned { term: Term(3), birth: 7, lost: Some(Index(3)) },
        Message::PreVoteReply { term: Term(3), granted: false, ahead: true },
        Message::Fetched {
            term: Term(3),
            offer: Box::new(Offer {
                prev: (Index(4), Term(1)),
                last: (Index(300), Term(2)),
                views: Views::None,
            }),
        },
        Message::Snapshot {
            term: Term(3),
            piece: Box::new(Piece { snapshot: snapshot.clone(), offset: 0, bytes }),
        },
    ];
    let mut frames: Vec<_> =
        messages.iter().map(|message| encode_message(KEY, message, scratch)).collect();
    // An append, with whatever the batch turns out to be.
    let mut append = encode_message(KEY, &Message::TimeoutNow { term: Term(1) }, scratch);
    append.head = Bytes::from_static(&[1, 1, 0, 4, 3, 0, 0, 0, 1, 0, 1]);
    append.attachments = Attachments::One(batch);
    frames.push(append);
    let vote = Record::Vote { term: Term(8), vote: Some(NodeId(2)) };
    frames.push(encode_record(&vote, scratch));
    let record = Record::Snapshot { term: Term(8), vote: None, snapshot };
    frames.push(encode_record(&record, scratch));
    frames
}

fn again<W: Wire>(frame: &Frame, encode: impl Fn(&W) -> Frame, value: &W) {
    let encoded = encode(value);
    let bytes: usize = frame.attachments.as_slice().iter().map(|a| a.bytes().len()).sum();
    let back: usize = encoded.attachments.as_slice().iter().map(|a| a.bytes().len()).sum();
    assert_eq!(bytes, back, "nothing is lost and nothing grows");
}

#[test]
fn no_bytes_make_a_decoder_panic_or_grow() {
    let good = good_frames();
    let mut rng = Rng::new(11);
    let (mut messages, mut records, mut batches) = (0, 0, 0);
    for _ in 0..iterations() {
        let frame = frame(&mut rng, &good);
        if let Ok(message) = decode_message::<Message>(&frame) {
            messages += 1;
            again(&frame, |m| encode_message(KEY, m, &mut BytesMut::new()), &message);
        }
        if let Ok(record) = decode_record::<Record>(&frame) {
            records += 1;
            again(&frame, |r| encode_record(r, &mut BytesMut::new()), &record);
        }
        if Batch::decode(Attachment::new(nearly_a_batch(&mut rng))).is_ok() {
            batches += 1;
        }
    }
    assert!(messages > 100 && records > 100 && batches > 100, "{messages} {records} {batches}");
}
