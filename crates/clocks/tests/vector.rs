//! Vector clocks: the laws of the order, the rules of the entries, what the wire refuses.
#![cfg(not(loom))]

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use quorate_clocks::{Causality, ENTRIES_MAX, Error, INLINE, VectorClock};
use quorate_transport::{
    Attachments, Encoder, Frame, Incarnation, NodeId, Peer, Wire, WireError, decode_record,
    encode_record,
};

fn peer(node: u64, incarnation: u64) -> Peer {
    Peer { node: NodeId(node), incarnation: Incarnation(incarnation) }
}

/// A list of entries as any sender might write it, right or wrong.
#[derive(Clone, Debug)]
struct Raw(Vec<(Peer, u64)>);

impl Wire for Raw {
    fn encode(&self, to: &mut Encoder<'_>) {
        to.value(&(self.0.len() as u64));
        self.0.iter().for_each(|entry| to.value(entry));
    }
    fn decode(_: &mut quorate_transport::Decoder<'_>) -> Result<Self, WireError> {
        Err(WireError::Body { of: "a raw vector, which is only written" })
    }
}

fn read(entries: &[(Peer, u64)]) -> Result<VectorClock, WireError> {
    decode_record(&encode_record(&Raw(entries.to_vec()), &mut BytesMut::new()))
}

fn vector(entries: &[(Peer, u64)]) -> VectorClock {
    read(entries).unwrap()
}

/// Counts of few processes, so that vectors often meet; of more than fit inline.
fn any_vector() -> impl Strategy<Value = VectorClock> {
    let process = (1..8_u64, 1..3_u64).prop_map(|(node, life)| peer(node, life));
    proptest::collection::btree_map(process, 1..4_u64, 0..12)
        .prop_map(|entries| vector(&entries.into_iter().collect::<Vec<_>>()))
}

fn merged(a: &VectorClock, b: &VectorClock) -> VectorClock {
    let mut merged = a.clone();
    merged.merge(b).unwrap();
    merged
}

/// The definition, straight from the paper: at most as much of every process.
fn at_most(a: &VectorClock, b: &VectorClock) -> bool {
    a.iter().all(|(of, count)| count <= b.count(of))
}

proptest! {
    #[test]
    fn the_order_is_that_of_the_counts(a in any_vector(), b in any_vector()) {
        let expected = match (at_most(&a, &b), at_most(&b, &a)) {
            (true, true) => Causality::Equal,
            (true, false) => Causality::Before,
            (false, true) => Causality::After,
            (false, false) => Causality::Concurrent,
        };
        prop_assert_eq!(a.compare(&b), expected);
        prop_assert_eq!(a.dominates(&b), at_most(&b, &a));
        prop_assert_eq!(a == b, expected == Causality::Equal);
        prop_assert_eq!(a <= b, at_most(&a, &b));
    }

    #[test]
    fn the_order_is_antisymmetric_and_transitive(
        a in any_vector(), b in any_vector(), c in any_vector(),
    ) {
        prop_assert_eq!(a.compare(&a), Causality::Equal);
        prop_assert_eq!(a.compare(&b) == Causality::Before, b.compare(&a) == Causality::After);
        prop_assert!(!(a <= b && b <= a) || a == b);
        let (low, high) = (merged(&a, &b), merged(&merged(&a, &b), &c));
        prop_assert!(a <= low && low <= high && a <= high);
        prop_assert!(!(a <= b && b <= c) || a <= c);
    }

    #[test]
    fn merging_is_commutative_associative_and_idempotent(
        a in any_vector(), b in any_vector(), c in any_vector(),
    ) {
        prop_assert_eq!(merged(&a, &b), merged(&b, &a));
        prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
        prop_assert_eq!(merged(&a, &a), a.clone());
        prop_assert_eq!(merged(&a, &VectorClock::new()), a);
    }

    #[test]
    fn merging_gives_the_least_that_is_above_both(
        a in any_vector(), b in any_vector(), c in any_vector(),
    ) {
        let both = merged(&a, &b);
        prop_assert!(both.dominates(&a) && both.dominates(&b));
        prop_assert!(!(c.dominates(&a) && c.dominates(&b)) || c.dominates(&both));
    }

    #[test]
    fn a_receipt_is_after_the_message_and_after_all_before_it(
        mut a in any_vector(), message in any_vector(), own in 1..8_u64,
    ) {
        let own = peer(own, 1);
        let before = a.clone();
        match a.receive(own, &message) {
            Ok(count) => {
                prop_assert_eq!(count, before.count(own) + 1);
                prop_assert!(a > before && a > message);
                prop_assert_eq!(a.iter().len(), merged(&before, &message).len().max(a.len()));
            }
            Err(error) => {
                let (claimed, had) = (message.count(own), before.count(own));
                prop_assert!(claimed > had);
                prop_assert_eq!(error, Error::OwnCounterAhead { own, claimed, had });
                prop_assert_eq!(a, before);
            }
        }
    }

    #[test]
    fn what_is_written_is_read_and_no_entry_is_zero(a in any_vector()) {
        let frame = encode_record(&a, &mut BytesMut::new());
        prop_assert_eq!(decode_record::<VectorClock>(&frame), Ok(a.clone()));
        prop_assert!(a.iter().all(|(_, count)| count > 0));
        prop_assert!(a.iter().zip(a.iter().skip(1)).all(|(one, next)| one.0 < next.0));
    }
}

#[test]
fn two_events_that_know_nothing_of_each_other_are_concurrent() {
    let (one, two) = (peer(1, 1), peer(2, 1));
    let (mut a, mut b) = (VectorClock::new(), VectorClock::new());
    assert_eq!((a.tick(one), b.tick(two)), (Ok(1), Ok(1)));
    assert_eq!(a.compare(&b), Causality::Concurrent);
    assert_eq!(a.partial_cmp(&b), None);
    assert_eq!(b.receive(two, &a), Ok(2));
    assert_eq!(a.compare(&b), Causality::Before);
    assert_eq!(format!("{a} {b}"), "[n1:1] [n1:1 n2:2]");
}

#[test]
fn a_new_life_of_a_node_counts_for_itself() {
    let mut old = VectorClock::new();
    (0..3).for_each(|_| assert!(old.tick(peer(1, 1)).is_ok()));
    let mut new = VectorClock::new();
    assert_eq!(new.tick(peer(1, 2)), Ok(1));
    assert_eq!(new.compare(&old), Causality::Concurrent);
    assert_eq!(new.receive(peer(1, 2), &old), Ok(2));
    assert_eq!(format!("{new}"), "[n1:3 n1.2:2]");
}

#[test]
fn nobody_knows_more_of_a_process_than_itself() {
    let own = peer(1, 1);
    let mut clock = vector(&[(own, 4)]);
    let lie = vector(&[(own, u64::MAX), (peer(2, 1), 1)]);
    let error = Error::OwnCounterAhead { own, claimed: u64::MAX, had: 4 };
    assert_eq!(clock.receive(own, &lie), Err(error));
    assert_eq!(clock, vector(&[(own, 4)]));
    assert_eq!(clock.tick(own), Ok(5));
}

#[test]
fn a_count_ends_in_an_error_and_not_in_a_wrap() {
    let own = peer(1, 1);
    let full = vector(&[(own, u64::MAX)]);
    let mut clock = full.clone();
    assert_eq!(clock.tick(own), Err(Error::CounterExhausted(own)));
    let news = vector(&[(peer(2, 1), 1)]);
    assert_eq!(clock.receive(own, &news), Err(Error::CounterExhausted(own)));
    assert_eq!(clock, full);
}

#[test]
fn a_vector_is_bounded_and_refuses_what_is_beyond_unchanged() {
    let entries: Vec<_> = (1..=ENTRIES_MAX as u64).map(|node| (peer(node, 1), 1)).collect();
    let full = vector(&entries);
    let mut clock = full.clone();
    let one_more = Err(Error::VectorFull(ENTRIES_MAX + 1));
    assert_eq!(clock.tick(peer(0, 1)), one_more);
    let stranger = vector(&[(peer(0, 1), 1)]);
    assert_eq!(clock.merge(&stranger).map(|()| 0), one_more);
    assert_eq!(clock.receive(peer(1, 1), &stranger), one_more);
    assert_eq!(clock, full);
    // The receipt itself is the entry that does not fit.
    let mut empty = VectorClock::new();
    assert_eq!(empty.receive(peer(0, 1), &full), one_more);
    assert!(empty.is_empty());
    assert_eq!(clock.receive(peer(1, 1), &full), Ok(2));
}

#[test]
fn a_vector_from_the_wire_breaks_no_rule() {
    let rule = |rule| Err(WireError::Rule { field: "vector", rule });
    assert_eq!(read(&[(peer(1, 1), 0)]), rule("has no zero entry"));
    let order = "is ascending and names no process twice";
    assert_eq!(read(&[(peer(1, 1), 1), (peer(1, 1), 1)]), rule(order));
    assert_eq!(read(&[(peer(2, 1), 1), (peer(1, 1), 1)]), rule(order));
    assert_eq!(read(&[(peer(1, 2), 1), (peer(1, 1), 1)]), rule(order));
    let long: Vec<_> = (0..=ENTRIES_MAX as u64).map(|node| (peer(node, 1), 1)).collect();
    assert_eq!(read(&long), rule("has at most 1024 entries"));
    assert!(read(&long[1..]).is_ok());
    // A length that is not there is refused before anything is made for it.
    let mut frame = encode_record(&Raw(Vec::new()), &mut BytesMut::new());
    frame.head = Bytes::from_static(&[1, 0xff, 0x07, 1, 1, 1]);
    assert_eq!(decode_record::<VectorClock>(&frame), Err(WireError::Body { of: "vector entry" }));
    let trailing = Frame { head: Bytes::from_static(&[1, 0, 9]), attachments: Attachments::None };
    assert!(decode_record::<VectorClock>(&trailing).is_err());
}

#[test]
fn few_processes_need_no_heap() {
    let mut clock = VectorClock::new();
    for node in 1..=INLINE as u64 {
        clock.tick(peer(node, 1)).unwrap();
    }
    assert_eq!((clock.len(), INLINE), (8, 8));
    assert!(size_of::<VectorClock>() <= 8 + INLINE * 24);
}
