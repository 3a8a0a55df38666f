//! Decoders under random and mutated bytes: no panic, no growth, and what is read is what was
//! written.

use bytes::{Bytes, BytesMut};
use quorate_transport::{
    Attachment, Attachments, Frame, Incarnation, Key, NodeId, Rng, Ticket, decode_message,
    decode_record, encode_message, encode_record,
};
use quorate_txn::{Message, Record, TxnId, Vote};

const KEY: Key = Key::new(7, 0);

fn iterations() -> u64 {
    let text = std::env::var("QUORATE_FUZZ_ITERATIONS").ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(100_000)
}

fn messages() -> Vec<Message> {
    let txn = TxnId { node: NodeId(2), incarnation: Incarnation(300), counter: 70_000 };
    let peers = [1, 2, 3].map(NodeId).to_vec();
    vec![
        Message::Prepare {
            txn,
            cut: 60_000,
            heard: txn.incarnation,
            peers,
            payload: Bytes::from_static(b"payload"),
        },
        Message::Voted { txn, vote: Vote::ReadOnly },
        Message::Commit { txn },
        Message::Abort { txn },
        Message::Ack { txn },
        Message::Inquire { txn },
        Message::Uncertain { txn },
    ]
}

fn records() -> Vec<Record> {
    let txn = TxnId { node: NodeId(2), incarnation: Incarnation(300), counter: 70_000 };
    let nodes = [1, 2, 3].map(NodeId).to_vec();
    let payload = Bytes::from_static(b"payload");
    let (committed, refused) = (vec![7, 9], vec![8]);
    let (node, incarnation, order) = (txn.node, txn.incarnation, Ticket(9));
    vec![
        Record::Prepared { txn, cut: 1, again: true, peers: nodes.clone(), payload },
        Record::Committed { txn, order },
        Record::Aborted { txn, order },
        Record::Refused { txn },
        Record::Finished { txn },
        Record::Decided { txn, voters: nodes },
        Record::Forgotten { txn },
        Record::Closed { node, incarnation, cut: 7, committed, refused },
    ]
}

fn mutated(rng: &mut Rng, good: &[Frame]) -> Frame {
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
    if rng.below(8) == 0 {
        frame.attachments = Attachments::One(Attachment::new(Bytes::from_static(b"other")));
    }
    frame
}

#[test]
fn what_is_written_is_what_is_read() {
    let scratch = &mut BytesMut::new();
    for message in messages() {
        assert_eq!(decode_message(&encode_message(KEY, &message, scratch)), Ok(message));
    }
    for record in records() {
        assert_eq!(decode_record(&encode_record(&record, scratch)), Ok(record));
    }
}

#[test]
fn no_bytes_make_a_decoder_panic_or_grow() {
    let scratch = &mut BytesMut::new();
    let mut good: Vec<_> = messages().iter().map(|m| encode_message(KEY, m, scratch)).collect();
    good.extend(records().iter().map(|record| encode_record(record, scratch)));
    let mut rng = Rng::new(13);
    let (mut read, mut kept) = (0, 0);
    for _ in 0..iterations() {
        let frame = mutated(&mut rng, &good);
        if let Ok(message) = decode_message::<Message>(&frame) {
            read += 1;
            let again = encode_message(KEY, &message, scratch);
            assert!(again.flat_len() <= frame.flat_len() + 10, "{message:?}");
            assert_eq!(decode_message(&again), Ok(message));
        }
        if let Ok(record) = decode_record::<Record>(&frame) {
            kept += 1;
            assert_eq!(decode_record(&encode_record(&record, scratch)), Ok(record));
        }
    }
    assert!(read > 100 && kept > 100, "{read} {kept}");
}
