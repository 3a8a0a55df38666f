//! The in-memory network with more members and longer stories than loom can walk through, in many
//! orders: `cargo xtask shuttle transport`.
#![cfg(shuttle)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use quorate_transport::mem::{MemTransport, Network, NetworkOptions, plant_race};
use quorate_transport::{
    Attachments, Class, Frame, Incarnation, Incoming, LinkState, NodeId, Peer, QueueCap, QueueCaps,
    SendError, Transport,
};
use shuttle::future::block_on;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, MaxSteps, Runner, thread};

/// Forced switches of one schedule; nearly every bug needs fewer.
const DEPTH: usize = 3;

/// Runs a model in as many orders as `QUORATE_SCHEDULES` says, or once as the file
/// `QUORATE_SCHEDULE` has it.
fn check(model: impl Fn() + Send + Sync + 'static) {
    if let Ok(schedule) = std::env::var("QUORATE_SCHEDULE") {
        return shuttle::replay_from_file(model, &schedule);
    }
    let schedules = std::env::var("QUORATE_SCHEDULES").ok();
    let schedules: usize = schedules.and_then(|text| text.parse().ok()).unwrap_or(1000);
    let mut config = Config::new();
    config.max_steps = MaxSteps::FailAfter(100_000);
    let model = Arc::new(model);
    let again = Arc::clone(&model);
    let half = schedules.div_ceil(2);
    Runner::new(PctScheduler::new(DEPTH, half), config.clone()).run(move || model());
    Runner::new(RandomScheduler::new(half), config).run(move || again());
}

fn peer(node: u64, incarnation: u64) -> Peer {
    Peer { node: NodeId(node), incarnation: Incarnation(incarnation) }
}

fn frame(number: u8) -> Frame {
    Frame { head: Bytes::copy_from_slice(&[number]), attachments: Attachments::None }
}

fn network(frames_max: usize) -> Network {
    let cap = QueueCap { frames_max, bytes_max: 1 << 20 };
    Network::new(NetworkOptions { queues: QueueCaps::all(cap), ..NetworkOptions::default() })
}

/// Two processes of one node come up at once: the newer one stays, whoever was first.
fn two_lives() {
    let network = network(8);
    let observer = network.join(peer(9, 1));
    let join = |incarnation| {
        let network = network.clone();
        thread::spawn(move || network.join(peer(1, incarnation)))
    };
    let (old, new) = (join(1), join(2));
    let (old, new) = (old.join().unwrap(), new.join().unwrap());
    let send = |from: &MemTransport| from.try_send(NodeId(9), Class::Urgent, frame(1));
    assert_eq!(send(&old), Err(SendError::Closed));
    assert_eq!(send(&new), Ok(()));
    assert_eq!(observer.try_send(NodeId(1), Class::Urgent, frame(2)), Ok(()));
    let mut into = Vec::new();
    block_on(new.recv_many(&mut into, 8)).unwrap();
    assert!(into.iter().any(|one| matches!(one, Incoming::Frame { .. })));
}

#[test]
fn of_two_lives_that_join_at_once_the_newer_stays() {
    plant_race(true);
    let found = catch_unwind(AssertUnwindSafe(|| check(two_lives)));
    plant_race(false);
    assert!(found.is_err(), "looking and joining apart was not found");
    check(two_lives);
}

/// Four members send to each other and leave, all at once.
fn crowd() {
    const MEMBERS: u64 = 4;
    let network = network(2);
    let members: Vec<_> = (1..=MEMBERS).map(|node| Arc::new(network.join(peer(node, 1)))).collect();
    let run = |member: &Arc<MemTransport>| {
        let member = Arc::clone(member);
        thread::spawn(move || {
            let me = member.me().node;
            let mut sent = Vec::new();
            for to in (1..=MEMBERS).map(NodeId).filter(|to| *to != me) {
                for number in 0..2 {
                    if member.try_send(to, Class::Bulk, frame(number)).is_ok() {
                        sent.push((me, to, number));
                    }
                }
            }
            // Until all others have gone, nothing that came is missed.
            let (mut got, mut down, mut into) = (Vec::new(), 0, Vec::new());
            if me != NodeId(1) {
                block_on(member.close());
            }
            while me == NodeId(1) && down < MEMBERS - 1 {
                block_on(member.recv_many(&mut into, 3)).unwrap();
                for one in into.drain(..) {
                    match one {
                        Incoming::Frame { from, frame, .. } => {
                            got.push((from.node, me, frame.head[0]));
                        }
                        Incoming::Link { state, .. } => {
                            down += u64::from(state == LinkState::Down);
                        }
                    }
                }
            }
            (sent, got)
        })
    };
    let threads: Vec<_> = members.iter().map(run).collect();
    let (mut sent, mut got) = (Vec::new(), Vec::new());
    for thread in threads {
        let (of_one, to_one) = thread.join().unwrap();
        sent.extend(of_one.into_iter().filter(|(_, to, _)| *to == NodeId(1)));
        got.extend(to_one);
    }
    sent.sort_unstable();
    got.sort_unstable();
    let late = sent.len() - got.len();
    let mut into = Vec::new();
    while got.len() < sent.len() {
        block_on(members[0].recv_many(&mut into, 8)).unwrap();
        for one in into.drain(..) {
            if let Incoming::Frame { from, frame, .. } = one {
                got.push((from.node, NodeId(1), frame.head[0]));
            }
        }
    }
    got.sort_unstable();
    assert_eq!(got, sent, "{late} came late");
}

#[test]
fn a_crowd_loses_and_repeats_nothing_that_was_taken() {
    check(crowd);
}
