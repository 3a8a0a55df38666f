//! Every interleaving of the in-memory network and of the inbox that all transports share:
//! `cargo xtask loom transport`.
#![cfg(loom)]

use std::sync::Arc;

use bytes::Bytes;
use loom::future::block_on;
use loom::thread;
use quorate_transport::mem::{MemTransport, Network, NetworkOptions};
use quorate_transport::{
    Attachments, Class, Closed, Frame, Incarnation, Incoming, LinkState, NodeId, Peer, QueueCap,
    QueueCaps, SendError, Transport,
};

fn peer(node: u64, incarnation: u64) -> Peer {
    Peer { node: NodeId(node), incarnation: Incarnation(incarnation) }
}

fn frame(number: u8) -> Frame {
    Frame { head: Bytes::copy_from_slice(&[number]), attachments: Attachments::None }
}

fn network(frames_max: usize) -> Network {
    let bytes_max = 1 << 20;
    let cap = QueueCap { frames_max, bytes_max };
    Network::new(NetworkOptions { queues: QueueCaps::all(cap), ..NetworkOptions::default() })
}

/// Two members that have taken each other's `Up`.
fn pair(network: &Network) -> (Arc<MemTransport>, Arc<MemTransport>) {
    let (a, b) = (network.join(peer(1, 1)), network.join(peer(2, 1)));
    for member in [&a, &b] {
        let mut into = Vec::new();
        block_on(member.recv_many(&mut into, 8)).unwrap();
        assert!(matches!(into[..], [Incoming::Link { state: LinkState::Up, .. }]));
    }
    (Arc::new(a), Arc::new(b))
}

/// Receives until closed; the frames' numbers, in order.
fn drain(of: &MemTransport) -> Vec<u8> {
    let (mut into, mut numbers) = (Vec::new(), Vec::new());
    while let Ok(count) = block_on(of.recv_many(&mut into, 1)) {
        assert_eq!(count, 1);
    }
    for one in into {
        if let Incoming::Frame { frame, .. } = one {
            numbers.push(frame.head[0]);
        }
    }
    numbers
}

fn frames(of: &MemTransport, count: usize) -> Vec<u8> {
    let (mut into, mut numbers) = (Vec::new(), Vec::new());
    while numbers.len() < count {
        block_on(of.recv_many(&mut into, 8)).unwrap();
        for one in into.drain(..) {
            if let Incoming::Frame { frame, .. } = one {
                numbers.push(frame.head[0]);
            }
        }
    }
    numbers
}

#[test]
fn a_waiting_receiver_is_woken_by_every_send() {
    loom::model(|| {
        let (a, b) = pair(&network(8));
        let sender = thread::spawn(move || {
            a.try_send(NodeId(2), Class::Urgent, frame(1)).unwrap();
            a.try_send(NodeId(2), Class::Urgent, frame(2)).unwrap();
            a
        });
        assert_eq!(frames(&b, 2), [1, 2]);
        sender.join().unwrap();
    });
}

#[test]
fn two_senders_and_a_receiver_lose_and_repeat_nothing() {
    loom::model(|| {
        let network = network(8);
        let (a, b) = pair(&network);
        let c = network.join(peer(3, 1));
        let one = thread::spawn(move || {
            a.try_send(NodeId(2), Class::Bulk, frame(1)).unwrap();
            a
        });
        let two = thread::spawn(move || {
            c.try_send(NodeId(2), Class::Urgent, frame(2)).unwrap();
            c
        });
        let mut got = frames(&b, 2);
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
        one.join().unwrap();
        two.join().unwrap();
    });
}

#[test]
fn close_wakes_the_receiver_and_what_was_taken_before_it_is_delivered() {
    loom::model(|| {
        let (a, b) = pair(&network(8));
        let receiver = thread::spawn({
            let b = Arc::clone(&b);
            move || drain(&b)
        });
        let closer = thread::spawn({
            let b = Arc::clone(&b);
            move || block_on(b.close())
        });
        let mut sent = Vec::new();
        for number in [1, 2] {
            match a.try_send(NodeId(2), Class::Urgent, frame(number)) {
                Ok(()) => sent.push(number),
                Err(error) => assert_eq!(error, SendError::Down),
            }
        }
        closer.join().unwrap();
        assert_eq!(receiver.join().unwrap(), sent);
        let again = block_on(b.recv_many(&mut Vec::new(), 1));
        assert_eq!(again, Err(Closed));
    });
}

#[test]
fn a_full_queue_refuses_the_newest_and_keeps_the_older() {
    loom::model(|| {
        let (a, b) = pair(&network(1));
        let sender = thread::spawn(move || {
            let send = |number| a.try_send(NodeId(2), Class::Bulk, frame(number)).is_ok();
            let sent: Vec<u8> = [1, 2].into_iter().filter(|number| send(*number)).collect();
            block_on(a.close());
            sent
        });
        let mut got = Vec::new();
        let mut into = Vec::new();
        let mut down = false;
        while !down {
            block_on(b.recv_many(&mut into, 8)).unwrap();
            for one in into.drain(..) {
                match one {
                    Incoming::Frame { frame, .. } => got.push(frame.head[0]),
                    Incoming::Link { state, .. } => down |= state == LinkState::Down,
                }
            }
        }
        let sent = sender.join().unwrap();
        assert!(sent.first() == Some(&1), "an empty queue takes a frame");
        assert_eq!(got, sent);
    });
}

#[test]
fn a_newer_life_closes_the_older_and_its_receiver_is_woken() {
    loom::model(|| {
        let network = network(8);
        let old = network.join(peer(1, 1));
        let joiner = thread::spawn({
            let network = network.clone();
            move || network.join(peer(1, 2))
        });
        assert_eq!(drain(&old), []);
        let new = joiner.join().unwrap();
        assert_eq!(old.try_send(NodeId(2), Class::Urgent, frame(1)), Err(SendError::Closed));
        assert_eq!(new.try_send(NodeId(2), Class::Urgent, frame(1)), Err(SendError::Unknown));
    });
}

#[test]
fn a_sender_that_waits_for_room_is_woken_by_the_receiver() {
    loom::model(|| {
        let (a, b) = pair(&network(1));
        let sender = thread::spawn(move || {
            let frames = vec![frame(1), frame(2), frame(3)];
            block_on(a.send_all(NodeId(2), Class::Bulk, frames)).unwrap();
            a
        });
        assert_eq!(frames(&b, 3), [1, 2, 3]);
        sender.join().unwrap();
    });
}

#[test]
fn a_sender_that_waits_for_room_is_woken_by_close() {
    loom::model(|| {
        let (a, b) = pair(&network(1));
        let sender = thread::spawn(move || {
            let frames = vec![frame(1), frame(2)];
            let sent = block_on(a.send_all(NodeId(2), Class::Bulk, frames));
            assert_eq!(sent, Err(Closed));
            a
        });
        block_on(b.close());
        sender.join().unwrap();
    });
}
