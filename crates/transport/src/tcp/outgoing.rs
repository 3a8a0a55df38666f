//! The bounded queue towards one peer on one class.

use std::collections::VecDeque;
use std::sync::Mutex;

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use super::lock;
use crate::frame::Frame;
use crate::link::SendError;

/// Attachments shorter than this are copied beside the heads: a copy is cheaper than a slice of a
/// vectored write.
const COPY_BELOW: usize = 2048;

#[derive(Debug)]
pub(super) struct Outgoing {
    queue: Mutex<Queue>,
    pub(super) wake: Notify,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Frame>,
    bytes: usize,
    connected: bool,
    closed: bool,
    full: bool,
}

impl Outgoing {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { queue: Mutex::default(), wake: Notify::new(), bytes_max }
    }

    pub(super) fn push(&self, frame: Frame) -> Result<(), SendError> {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return Err(SendError::Closed);
        }
        if !queue.connected {
            return Err(SendError::Down);
        }
        let bytes = frame.flat_len() + 4;
        if queue.bytes > 0 && queue.bytes + bytes > self.bytes_max {
            return Err(SendError::Full);
        }
        queue.bytes += bytes;
        queue.frames.push_back(frame);
        let first = queue.frames.len() == 1;
        drop(queue);
        if first {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// True for the first refusal since the queue last had room.
    pub(super) fn begins_full(&self) -> bool {
        !std::mem::replace(&mut lock(&self.queue).full, true)
    }

    /// A connection stands, or has gone; what waited for it is dropped.
    pub(super) fn set_connected(&self, connected: bool) {
        let mut queue = lock(&self.queue);
        queue.connected = connected;
        queue.full = false;
        queue.frames.clear();
        queue.bytes = 0;
    }

    pub(super) fn close(&self) {
        lock(&self.queue).closed = true;
        self.wake.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        lock(&self.queue).closed
    }

    /// Everything that waits, as it goes to the socket: heads and small attachments in shared
    /// buffers, large attachments as they are. Returns how many frames it is.
    pub(super) fn take(&self, chunks: &mut VecDeque<Bytes>, frames: &mut VecDeque<Frame>) -> usize {
        {
            let mut queue = lock(&self.queue);
            std::mem::swap(&mut queue.frames, frames);
            queue.bytes = 0;
            queue.full = false;
        }
        let count = frames.len();
        let mut buffer = BytesMut::new();
        for frame in frames.drain(..) {
            buffer.extend_from_slice(&(frame.flat_len() as u32).to_le_bytes());
            frame.put_prefix(&mut buffer);
            for attachment in frame.attachments.as_slice() {
                let bytes = attachment.bytes();
                if bytes.len() < COPY_BELOW {
                    buffer.extend_from_slice(bytes);
                } else {
                    chunks.push_back(buffer.split().freeze());
                    chunks.push_back(bytes.clone());
                }
            }
        }
        if !buffer.is_empty() {
            chunks.push_back(buffer.freeze());
        }
        count
    }
}
