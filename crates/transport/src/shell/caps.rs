//! How much a queue may hold.

use crate::wire::Class;

/// How much one queue may hold. An empty queue takes any one frame within the frame cap, so its
/// memory is at most `bytes_max` and one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueCap {
    /// Frames; at least 1.
    pub frames_max: usize,
    /// Bytes of flat frames; at least 1.
    pub bytes_max: usize,
}

/// How much the queues of one peer may hold, class by class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueCaps {
    /// Small and late is as bad as lost: short, so that what is in it is fresh.
    pub urgent: QueueCap,
    /// A window of payload: at least the round trip times the bandwidth.
    pub bulk: QueueCap,
    /// A few chunks: whoever makes them waits for each anyway.
    pub snapshot: QueueCap,
}

impl Default for QueueCaps {
    /// 1024 frames and 4 MiB, 1024 frames and 32 MiB, 16 frames and 16 MiB.
    fn default() -> Self {
        let cap = |frames_max, mib: usize| QueueCap { frames_max, bytes_max: mib << 20 };
        Self { urgent: cap(1024, 4), bulk: cap(1024, 32), snapshot: cap(16, 16) }
    }
}

impl QueueCaps {
    /// The same cap for every class.
    #[must_use]
    pub fn all(cap: QueueCap) -> Self {
        Self { urgent: cap, bulk: cap, snapshot: cap }
    }

    /// The cap of one class.
    #[must_use]
    pub fn of(&self, class: Class) -> QueueCap {
        match class {
            Class::Urgent => self.urgent,
            Class::Bulk => self.bulk,
            Class::Snapshot => self.snapshot,
        }
    }
}

/// What a queue holds now.
#[cfg(any(feature = "mem", feature = "tcp"))]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    frames: usize,
    bytes: usize,
}

#[cfg(any(feature = "mem", feature = "tcp"))]
impl Usage {
    pub(crate) fn fits(self, cap: QueueCap, bytes: usize) -> bool {
        self.frames == 0
            || (self.frames < cap.frames_max && self.bytes.saturating_add(bytes) <= cap.bytes_max)
    }

    pub(crate) fn add(&mut self, bytes: usize) {
        self.frames += 1;
        self.bytes += bytes;
    }

    pub(crate) fn remove(&mut self, bytes: usize) {
        self.frames -= 1;
        self.bytes -= bytes;
    }

    /// Low enough to end an episode of being full: half, so that a queue at its cap does not
    /// begin one with every frame.
    pub(crate) fn is_low(self, cap: QueueCap) -> bool {
        self.frames <= cap.frames_max / 2 && self.bytes <= cap.bytes_max / 2
    }
}
