//! What waits to be written to one peer in one class: bounded, many senders, one writer.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use crate::frame::Frame;
use crate::shell::sync::Mutex;
use crate::shell::{QueueCap, Usage};

/// One write takes at most so many frames.
const BATCH_FRAMES_MAX: usize = 256;
/// One write begins no further frame past so many bytes.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotTaken {
    Down,
    /// No room; `first` of an episode that lasts until half the queue is free.
    Full {
        first: bool,
    },
    Closed,
}

/// The queue is closed and empty: nothing follows.
#[derive(Debug)]
pub(super) struct Finished;

#[derive(Debug)]
pub(super) struct Outbound {
    cap: QueueCap,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<(Frame, usize)>,
    usage: Usage,
    full: bool,
    open: bool,
    closed: bool,
    writer: Option<Waker>,
}

impl Outbound {
    pub(super) fn new(cap: QueueCap) -> Self {
        Self { cap, state: Mutex::new(State::default()) }
    }

    pub(super) fn push(&self, frame: Frame) -> Result<(), NotTaken> {
        let bytes = frame.flat_len();
        let mut state = self.state.lock();
        if state.closed {
            return Err(NotTaken::Closed);
        }
        if !state.open {
            return Err(NotTaken::Down);
        }
        if !state.usage.fits(self.cap, bytes) {
            let first = !std::mem::replace(&mut state.full, true);
            return Err(NotTaken::Full { first });
        }
        state.usage.add(bytes);
        state.frames.push_back((frame, bytes));
        let writer = state.writer.take();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
        Ok(())
    }

    /// The peer is there: frames are taken.
    pub(super) fn open(&self) {
        self.state.lock().open = true;
    }

    /// The peer is gone: what waited is lost; how many frames that was. A closed queue keeps
    /// what it has: its own connection may still stand, or come.
    pub(super) fn shut(&self) -> usize {
        let mut state = self.state.lock();
        if state.closed {
            return 0;
        }
        state.open = false;
        state.full = false;
        state.usage = Usage::default();
        let lost = std::mem::take(&mut state.frames);
        drop(state);
        lost.len()
    }

    /// No frame is taken any more; those that wait may still be written.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let writer = state.writer.take();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    /// True once closed, with nothing left to write.
    pub(super) fn is_finished(&self) -> bool {
        let state = self.state.lock();
        state.closed && state.frames.is_empty()
    }

    /// Waits for frames and moves the next batch of them into `into`; nothing is taken by a
    /// future that is dropped before it is ready.
    pub(super) async fn take(&self, into: &mut Vec<Frame>) -> Result<(), Finished> {
        poll_fn(|cx| self.poll_take(cx, into)).await
    }

    fn poll_take(&self, cx: &Context<'_>, into: &mut Vec<Frame>) -> Poll<Result<(), Finished>> {
        let mut state = self.state.lock();
        if state.frames.is_empty() {
            if state.closed {
                return Poll::Ready(Err(Finished));
            }
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut total = 0;
        while into.len() < BATCH_FRAMES_MAX && total < BATCH_BYTES_MAX {
            let Some((frame, bytes)) = state.frames.pop_front() else {
                break;
            };
            state.usage.remove(bytes);
            total += bytes;
            into.push(frame);
        }
        if state.usage.is_low(self.cap) {
            state.full = false;
        }
        Poll::Ready(Ok(()))
    }
}
