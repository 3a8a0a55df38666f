//! What every implementation of [`Transport`] must pass, sentence by sentence.
//!
//! The network below it must be healthy: here, nothing may be lost, so the transport under test
//! must have patience as well. What never comes ends in a time limit that names the sentence.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use crate::frame::{Attachment, Attachments, Frame};
use crate::ids::{Incarnation, NodeId, Peer};
use crate::link::{Closed, Incoming, SendError, Transport};
use crate::machine::LinkState;
use crate::shell::{QueueCap, QueueCaps};
use crate::wire::Class;

/// The frame cap that the transports under test are to be given, in bytes.
pub const FRAME_BYTES_MAX: usize = 64 << 10;
/// The queue cap that the transports under test are to be given, for every class.
pub const QUEUE_CAP: QueueCap = QueueCap { frames_max: 64, bytes_max: 1 << 20 };
/// How long one sentence may take.
const PATIENCE: Duration = Duration::from_secs(60);
const LARGE: usize = 60 << 10;

/// The same cap for every class.
#[must_use]
pub fn queue_caps() -> QueueCaps {
    QueueCaps::all(QUEUE_CAP)
}

/// A network of its own, empty at first, whose members all come to know each other.
#[async_trait]
pub trait Fabric: Send + Sync {
    /// Starts this life of a node, with the caps above, beside any former life of it that still
    /// runs. It need not be connected yet on return, nor, an older life, ever.
    async fn start(&self, me: Peer) -> Arc<dyn Transport>;
}

/// Checks every sentence, each on a fabric of its own from `make`.
///
/// # Panics
/// When a sentence does not hold; the message names it.
pub async fn conformance<F, B>(make: F)
where
    F: Fn() -> B,
    B: Fabric,
{
    check("frames arrive whole, once, from whom sent them", whole(make())).await;
    check("what cannot travel is refused", refusals(make())).await;
    check("a full queue refuses the newest, and says so once", full(make())).await;
    check("a full class does not hold up another", classes(make())).await;
    check("a dropped receive has taken nothing", cancelled(make())).await;
    check("close sends what is queued", flushed(make())).await;
    check("close wakes the receiver, after what had arrived", closed(make())).await;
    check("a newer life is up again, an older one is refused", lives(make())).await;
}

async fn check(sentence: &str, holds: impl Future<Output = ()>) {
    assert!(timeout(PATIENCE, holds).await.is_ok(), "not in time: {sentence}");
}

/// A frame of a known size whose content follows from its number.
fn numbered(number: u32, sizes: &[usize]) -> Frame {
    let mut attachments = Attachments::None;
    for (at, size) in sizes.iter().enumerate() {
        let byte = number.wrapping_mul(31).wrapping_add(at as u32) as u8;
        attachments.push(Attachment::new(Bytes::from(vec![byte; *size])));
    }
    Frame { head: Bytes::copy_from_slice(&number.to_le_bytes()), attachments }
}

fn number_of(frame: &Frame) -> u32 {
    let head = frame.head.as_ref().try_into();
    u32::from_le_bytes(head.expect("a frame that was sent"))
}

fn peer(node: u64, incarnation: u64) -> Peer {
    Peer { node: NodeId(node), incarnation: Incarnation(incarnation) }
}

/// A transport, and what it has received and nobody has looked at.
struct Node {
    transport: Arc<dyn Transport>,
    me: Peer,
    frames: Vec<(Peer, Class, Frame)>,
    links: Vec<(NodeId, LinkState)>,
}

impl Node {
    async fn start(fabric: &impl Fabric, me: Peer) -> Self {
        Self { transport: fabric.start(me).await, me, frames: Vec::new(), links: Vec::new() }
    }

    async fn pump(&mut self, max: usize) -> Result<(), Closed> {
        let mut into = Vec::new();
        let count = self.transport.recv_many(&mut into, max).await?;
        assert_eq!(count, into.len(), "the count is of what was appended");
        assert!((1..=max).contains(&count), "at least one, at most `max`");
        self.sort(into);
        Ok(())
    }

    fn sort(&mut self, into: Vec<Incoming>) {
        for one in into {
            match one {
                Incoming::Frame { from, class, frame } => self.frames.push((from, class, frame)),
                Incoming::Link { peer, state } => self.links.push((peer, state)),
            }
        }
    }

    /// Takes up to this change of this link.
    async fn link(&mut self, node: NodeId, state: LinkState) {
        loop {
            if let Some(at) = self.links.iter().position(|link| *link == (node, state)) {
                let later = self.links.split_off(at + 1);
                self.links.retain(|(other, _)| *other != node);
                self.links.extend(later);
                return;
            }
            self.pump(16).await.expect("an open transport");
        }
    }

    async fn frames(&mut self, count: usize) -> Vec<(Peer, Class, Frame)> {
        while self.frames.len() < count {
            self.pump(7).await.expect("an open transport");
        }
        self.frames.drain(..).collect()
    }

    fn try_send(&self, to: &Self, class: Class, frame: Frame) -> Result<(), SendError> {
        self.transport.try_send(to.me.node, class, frame)
    }

    /// Sends, waiting while there is no room.
    async fn send(&self, to: &Self, class: Class, frame: Frame) {
        loop {
            match self.try_send(to, class, frame.clone()) {
                Ok(()) => return,
                Err(SendError::Full | SendError::Down) => yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Sends until the queue is full; how many were taken.
    async fn fill(&self, to: &Self, class: Class) -> u32 {
        let mut refused = 0;
        let mut taken = 0;
        // Only when room stays away for a while is the way full, and not just the nearest queue.
        while refused < 1000 {
            match self.try_send(to, class, numbered(taken, &[LARGE])) {
                Ok(()) => {
                    taken += 1;
                    refused = 0;
                }
                Err(error) => {
                    assert_eq!(error, SendError::Full);
                    refused += 1;
                    yield_now().await;
                }
            }
        }
        taken
    }
}

/// That many nodes, each of which knows that each other is up.
async fn nodes<const N: usize>(fabric: &impl Fabric) -> [Node; N] {
    let mut nodes = Vec::new();
    for node in 1..=N {
        nodes.push(Node::start(fabric, peer(node as u64, 1)).await);
    }
    for at in 0..N {
        for other in (0..N).filter(|other| *other != at) {
            let node = nodes[other].me.node;
            nodes[at].link(node, LinkState::Up).await;
        }
    }
    nodes.try_into().ok().expect("as many as were started")
}

async fn whole(fabric: impl Fabric) {
    const EACH: u32 = 40;
    let mut nodes: [Node; 3] = nodes(&fabric).await;
    let sizes: [&[usize]; 5] = [&[], &[0], &[1, 5000], &[40_000], &[9; 255]];
    let of = |number: u32| numbered(number, sizes[number as usize % sizes.len()]);
    for number in 0..EACH {
        for from in 0..3 {
            for to in (0..3).filter(|to| *to != from) {
                for class in Class::ALL {
                    loop {
                        match nodes[from].try_send(&nodes[to], class, of(number)) {
                            Ok(()) => break,
                            Err(error) => assert_eq!(error, SendError::Full),
                        }
                        let receiver = &mut nodes[to];
                        receiver.pump(64).await.expect("an open transport");
                    }
                }
            }
        }
    }
    for receiver in &mut nodes {
        let mut seen = BTreeSet::new();
        for (from, class, frame) in receiver.frames(2 * 3 * EACH as usize).await {
            let number = number_of(&frame);
            assert_eq!(frame, of(number), "a frame was altered");
            assert_eq!(from.incarnation, Incarnation(1));
            assert_ne!(from, receiver.me);
            let first = seen.insert((from, class, number));
            assert!(first, "{number} of {from:?} came twice");
        }
        assert_eq!(seen.len(), 2 * 3 * EACH as usize);
    }
}

async fn refusals(fabric: impl Fabric) {
    let [a, mut b] = nodes(&fabric).await;
    let nobody = a.transport.try_send(NodeId(99), Class::Bulk, numbered(0, &[]));
    assert_eq!(nobody, Err(SendError::Unknown));
    let room = FRAME_BYTES_MAX - numbered(0, &[0]).flat_len();
    let over = numbered(1, &[room + 1]);
    assert_eq!(a.try_send(&b, Class::Bulk, over), Err(SendError::TooLarge));
    let many = numbered(2, &[0; 256]);
    assert_eq!(a.try_send(&b, Class::Bulk, many), Err(SendError::TooLarge));
    let largest = numbered(3, &[room]);
    a.send(&b, Class::Bulk, largest.clone()).await;
    let got = b.frames(1).await;
    assert_eq!(got, [(a.me, Class::Bulk, largest)]);
}

async fn full(fabric: impl Fabric) {
    let [mut a, mut b] = nodes(&fabric).await;
    let taken = a.fill(&b, Class::Bulk).await;
    assert!(taken > 0, "an empty queue takes a frame");
    a.link(b.me.node, LinkState::Full).await;
    let got = b.frames(taken as usize).await;
    let mut numbers: Vec<u32> = got.iter().map(|(.., frame)| number_of(frame)).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..taken), "what was taken arrives");
    a.send(&b, Class::Bulk, numbered(taken, &[])).await;
    let got = b.frames(1).await;
    assert_eq!(number_of(&got[0].2), taken, "nothing that was refused came");
}

async fn classes(fabric: impl Fabric) {
    let [a, mut b] = nodes(&fabric).await;
    for slower in [Class::Snapshot, Class::Bulk] {
        let taken = a.fill(&b, slower).await;
        let urgent = numbered(u32::MAX, &[100]);
        assert_eq!(a.try_send(&b, Class::Urgent, urgent), Ok(()));
        let mut before = 0;
        let mut pause = Duration::from_millis(1);
        loop {
            b.pump(1).await.expect("an open transport");
            match b.frames.pop() {
                Some((_, Class::Urgent, _)) => break,
                Some(_) => before += 1,
                None => {}
            }
            // It may still be on its way, for as long as a busy machine likes: most of the
            // patience is gone before the last of those in front of it is taken.
            sleep(pause).await;
            pause = (pause * 2).min(PATIENCE / (2 * taken));
        }
        let rest = (taken - before) as usize;
        assert!(rest > 0, "the urgent frame came last");
        b.frames(rest).await;
    }
}

async fn cancelled(fabric: impl Fabric) {
    const COUNT: u32 = 200;
    let [a, mut b] = nodes(&fabric).await;
    let mut number = 0;
    while b.frames.len() < COUNT as usize {
        if number < COUNT && a.try_send(&b, Class::Bulk, numbered(number, &[50])).is_ok() {
            number += 1;
        }
        let mut into = Vec::new();
        tokio::select! {
            biased;
            received = b.transport.recv_many(&mut into, 3) => {
                received.expect("an open transport");
            }
            () = yield_now() => {}
        }
        b.sort(into);
    }
    let mut numbers: Vec<u32> = b.frames.iter().map(|(.., f)| number_of(f)).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..COUNT), "each came once");
}

async fn flushed(fabric: impl Fabric) {
    let [a, mut b] = nodes(&fabric).await;
    for number in 0..20 {
        a.send(&b, Class::Bulk, numbered(number, &[1000])).await;
    }
    a.transport.close().await;
    let got = b.frames(20).await;
    assert_eq!(got.len(), 20);
    b.link(a.me.node, LinkState::Down).await;
}

async fn closed(fabric: impl Fabric) {
    let [mut a, mut b] = nodes(&fabric).await;
    a.send(&b, Class::Bulk, numbered(0, &[])).await;
    b.frames(1).await;
    for number in 1..5 {
        a.send(&b, Class::Bulk, numbered(number, &[])).await;
    }
    let close = async {
        yield_now().await;
        b.transport.close().await;
        b.transport.close().await;
    };
    let drain = async {
        let mut all = Vec::new();
        while b.transport.recv_many(&mut all, 1).await.is_ok() {}
        all
    };
    let (all, ()) = tokio::join!(drain, close);
    b.sort(all);
    let mut numbers: Vec<u32> = b.frames.iter().map(|(.., f)| number_of(f)).collect();
    numbers.dedup();
    assert_eq!(numbers.len(), b.frames.len(), "none came twice");
    assert!(numbers.iter().all(|number| (1..5).contains(number)));
    let again = b.transport.recv_many(&mut Vec::new(), 1).await;
    assert_eq!(again, Err(Closed));
    let send = b.try_send(&a, Class::Bulk, numbered(9, &[]));
    assert_eq!(send, Err(SendError::Closed));
    a.link(b.me.node, LinkState::Down).await;
    while a.try_send(&b, Class::Bulk, numbered(9, &[])) != Err(SendError::Down) {
        yield_now().await;
    }
}

async fn lives(fabric: impl Fabric) {
    let [first, mut b] = nodes(&fabric).await;
    let mut second = Node::start(&fabric, peer(1, 5)).await;
    b.link(NodeId(1), LinkState::Down).await;
    b.link(NodeId(1), LinkState::Up).await;
    second.link(NodeId(2), LinkState::Up).await;
    first.transport.close().await;
    second.send(&b, Class::Bulk, numbered(1, &[])).await;
    assert_eq!(b.frames(1).await[0].0, second.me);
    let older = Node::start(&fabric, peer(1, 3)).await;
    for number in 2..50 {
        let sent = older.try_send(&b, Class::Bulk, numbered(number, &[]));
        assert!(sent.is_err(), "an older life was taken for a newer one");
        second.send(&b, Class::Bulk, numbered(number, &[])).await;
        let got = b.frames(1).await;
        assert!(got.iter().all(|(from, ..)| *from == second.me));
    }
    b.send(&second, Class::Urgent, numbered(1, &[])).await;
    assert_eq!(second.frames(1).await[0].0, b.me);
}
