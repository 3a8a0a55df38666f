//! Where everything arrives: bounded for each peer and class, many producers, one receiver.
//!
//! One lock, and wakers kept under it: whoever finds nothing to do leaves its waker in the same
//! critical section, so no wake-up falls between looking and waiting. Wakers are called after
//! the lock is let go.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use crate::frame::Frame;
use crate::ids::{NodeId, Peer};
use crate::link::{Closed, Incoming};
use crate::machine::LinkState;
use crate::shell::sync::Mutex;
use crate::shell::{QueueCaps, Usage};
use crate::wire::Class;

/// Why a frame was not taken.
#[cfg(any(feature = "mem", test))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No room; `first` of an episode that lasts until half the queue is free.
    Full { first: bool },
    /// The receiver is gone.
    Closed,
}

#[derive(Debug)]
pub(crate) struct Inbox {
    caps: QueueCaps,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// At most one of each state for each peer, the newest last.
    links: VecDeque<(NodeId, LinkState)>,
    queues: [VecDeque<Entry>; 3],
    lanes: BTreeMap<NodeId, [Lane; 3]>,
    receiver: Option<Waker>,
    closed: bool,
}

#[derive(Debug)]
struct Entry {
    from: Peer,
    frame: Frame,
    bytes: usize,
}

/// What one peer has in one class.
#[derive(Debug, Default)]
struct Lane {
    usage: Usage,
    full: bool,
    waiting: Vec<Waker>,
}

impl Inbox {
    pub(crate) fn new(caps: QueueCaps) -> Self {
        Self { caps, state: Mutex::new(State::default()) }
    }

    /// Takes a frame, or refuses it because it is the newest.
    #[cfg(any(feature = "mem", test))]
    pub(crate) fn try_push(&self, from: Peer, class: Class, frame: Frame) -> Result<(), Refused> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        if let Err(_frame) = state.push(&self.caps, from, class, frame) {
            let lane = state.lane(from.node, class);
            let first = !std::mem::replace(&mut lane.full, true);
            return Err(Refused::Full { first });
        }
        let receiver = state.receiver.take();
        drop(state);
        wake(receiver);
        Ok(())
    }

    /// Takes all of `frames`, in order, waiting for room; those left were not taken.
    #[cfg(any(feature = "tcp", test, loom))]
    pub(crate) async fn push_all(
        &self,
        from: Peer,
        class: Class,
        frames: &mut VecDeque<Frame>,
    ) -> Result<(), Closed> {
        poll_fn(|cx| self.poll_push_all(cx, from, class, frames)).await
    }

    #[cfg(any(feature = "tcp", test, loom))]
    fn poll_push_all(
        &self,
        cx: &Context<'_>,
        from: Peer,
        class: Class,
        frames: &mut VecDeque<Frame>,
    ) -> Poll<Result<(), Closed>> {
        let mut state = self.state.lock();
        if state.closed {
            return Poll::Ready(Err(Closed));
        }
        let before = frames.len();
        while let Some(frame) = frames.pop_front() {
            if let Err(frame) = state.push(&self.caps, from, class, frame) {
                frames.push_front(frame);
                break;
            }
        }
        let receiver = if frames.len() < before { state.receiver.take() } else { None };
        let done = frames.is_empty();
        if !done {
            let waiting = &mut state.lane(from.node, class).waiting;
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
        }
        drop(state);
        wake(receiver);
        if done { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Tells of a change of a connection; never refused, and bounded by the number of peers.
    pub(crate) fn link(&self, peer: NodeId, link: LinkState) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        state.links.retain(|known| *known != (peer, link));
        state.links.push_back((peer, link));
        let receiver = state.receiver.take();
        drop(state);
        wake(receiver);
    }

    /// Refuses everything from now on, and wakes whoever waits.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let lanes = state.lanes.values_mut().flatten();
        let mut woken: Vec<Waker> = lanes.flat_map(|lane| lane.waiting.drain(..)).collect();
        woken.extend(state.receiver.take());
        drop(state);
        wake(woken);
    }

    /// As [`Transport::recv_many`](crate::Transport::recv_many).
    pub(crate) async fn recv_many(
        &self,
        into: &mut Vec<Incoming>,
        max: usize,
    ) -> Result<usize, Closed> {
        poll_fn(|cx| self.poll_recv(cx, into, max)).await
    }

    fn poll_recv(
        &self,
        cx: &Context<'_>,
        into: &mut Vec<Incoming>,
        max: usize,
    ) -> Poll<Result<usize, Closed>> {
        let mut woken = Vec::new();
        let mut state = self.state.lock();
        let count = state.take(&self.caps, into, max, &mut woken);
        let poll = if count > 0 || max == 0 {
            Poll::Ready(Ok(count))
        } else if state.closed {
            Poll::Ready(Err(Closed))
        } else {
            state.receiver = Some(cx.waker().clone());
            Poll::Pending
        };
        drop(state);
        wake(woken);
        poll
    }
}

impl State {
    fn lane(&mut self, node: NodeId, class: Class) -> &mut Lane {
        &mut self.lanes.entry(node).or_default()[class as usize]
    }

    fn push(
        &mut self,
        caps: &QueueCaps,
        from: Peer,
        class: Class,
        frame: Frame,
    ) -> Result<(), Frame> {
        let bytes = frame.flat_len();
        let lane = self.lane(from.node, class);
        if !lane.usage.fits(caps.of(class), bytes) {
            return Err(frame);
        }
        lane.usage.add(bytes);
        self.queues[class as usize].push_back(Entry { from, frame, bytes });
        Ok(())
    }

    /// Links first, then urgent before bulk before snapshot; of what is left of `max`, each class
    /// leaves a quarter to those after it, so that none starves another.
    fn take(
        &mut self,
        caps: &QueueCaps,
        into: &mut Vec<Incoming>,
        max: usize,
        woken: &mut Vec<Waker>,
    ) -> usize {
        let links = self.links.len().min(max);
        let taken = self.links.drain(..links);
        into.extend(taken.map(|(peer, state)| Incoming::Link { peer, state }));
        let mut left = max - links;
        for class in Class::ALL {
            left -= self.take_class(caps, class, into, left - left / 4, woken);
        }
        for class in Class::ALL {
            left -= self.take_class(caps, class, into, left, woken);
        }
        max - left
    }

    fn take_class(
        &mut self,
        caps: &QueueCaps,
        class: Class,
        into: &mut Vec<Incoming>,
        max: usize,
        woken: &mut Vec<Waker>,
    ) -> usize {
        let queue = &mut self.queues[class as usize];
        let count = queue.len().min(max);
        for Entry { from, frame, bytes } in queue.drain(..count) {
            let lane = &mut self.lanes.entry(from.node).or_default()[class as usize];
            lane.usage.remove(bytes);
            if lane.usage.is_low(caps.of(class)) {
                lane.full = false;
                woken.append(&mut lane.waiting);
            }
            into.push(Incoming::Frame { from, class, frame });
        }
        count
    }
}

fn wake(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::ids::Incarnation;
    use crate::shell::QueueCap;
    use std::pin::pin;

    const A: Peer = Peer { node: NodeId(1), incarnation: Incarnation(1) };

    fn inbox(frames_max: usize) -> Inbox {
        let bytes_max = 1 << 20;
        Inbox::new(QueueCaps::all(QueueCap { frames_max, bytes_max }))
    }

    fn now<T>(future: impl Future<Output = T>) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn taken(inbox: &Inbox, max: usize) -> Vec<Incoming> {
        let mut into = Vec::new();
        let _ = now(inbox.recv_many(&mut into, max));
        into
    }

    #[test]
    fn a_full_lane_refuses_once_an_episode_and_no_other_lane() {
        let inbox = inbox(4);
        for _ in 0..4 {
            inbox.try_push(A, Class::Bulk, Frame::default()).unwrap();
        }
        let push = || inbox.try_push(A, Class::Bulk, Frame::default());
        assert_eq!(push(), Err(Refused::Full { first: true }));
        assert_eq!(push(), Err(Refused::Full { first: false }));
        assert_eq!(inbox.try_push(A, Class::Urgent, Frame::default()), Ok(()));
        assert_eq!(taken(&inbox, 2).len(), 2);
        assert_eq!(push(), Ok(()));
        assert_eq!(push(), Err(Refused::Full { first: false }));
        assert_eq!(taken(&inbox, 9).len(), 4);
        (0..4).for_each(|_| push().unwrap());
        assert_eq!(push(), Err(Refused::Full { first: true }));
    }

    #[test]
    fn no_class_starves_another() {
        let inbox = inbox(100);
        for _ in 0..100 {
            for class in Class::ALL {
                inbox.try_push(A, class, Frame::default()).unwrap();
            }
        }
        let first = taken(&inbox, 16);
        let of = |wanted| {
            let is =
                |one: &&Incoming| matches!(one, Incoming::Frame { class, .. } if *class == wanted);
            first.iter().filter(is).count()
        };
        assert_eq!(Class::ALL.map(of), [12, 3, 1]);
    }

    #[test]
    fn a_flapping_link_is_remembered_by_its_last_states_only() {
        let inbox = inbox(1);
        for _ in 0..1000 {
            inbox.link(NodeId(1), LinkState::Up);
            inbox.link(NodeId(1), LinkState::Down);
        }
        let links = taken(&inbox, 9);
        assert_eq!(links.len(), 2);
        let state = LinkState::Down;
        let peer = NodeId(1);
        assert_eq!(links[1], Incoming::Link { peer, state });
    }

    #[test]
    fn a_producer_waits_for_room_and_close_ends_its_wait() {
        let inbox = inbox(2);
        let mut frames: VecDeque<Frame> = vec![Frame::default(); 5].into();
        let mut push = |count: usize| {
            let poll = now(inbox.push_all(A, Class::Bulk, &mut frames));
            assert_eq!(frames.len(), count);
            poll
        };
        assert_eq!(push(3), Poll::Pending);
        assert_eq!(taken(&inbox, 9).len(), 2);
        assert_eq!(push(1), Poll::Pending);
        assert_eq!(taken(&inbox, 1).len(), 1);
        assert_eq!(push(0), Poll::Ready(Ok(())));
        inbox.close();
        assert_eq!(push(0), Poll::Ready(Err(Closed)));
        assert_eq!(taken(&inbox, 9).len(), 2);
        assert_eq!(now(inbox.recv_many(&mut Vec::new(), 1)), Poll::Ready(Err(Closed)));
    }
}
