//! What the transports have in common: the caps of queues, the inbox, and the tests for all.

mod caps;
#[cfg(all(feature = "conformance", not(loom)))]
pub mod conformance;
#[cfg(any(feature = "mem", feature = "tcp"))]
mod inbox;
#[cfg(any(feature = "mem", feature = "tcp"))]
pub(crate) mod sync;

#[cfg(any(feature = "mem", feature = "tcp"))]
pub(crate) use caps::Usage;
pub use caps::{QueueCap, QueueCaps};
#[cfg(any(feature = "mem", feature = "tcp"))]
pub(crate) use inbox::Inbox;
#[cfg(feature = "mem")]
pub(crate) use inbox::Refused;

#[cfg(any(feature = "mem", feature = "tcp"))]
use crate::{ATTACHMENTS_MAX, Frame, HEAD_BYTES_MAX};

/// Whether a frame may travel at all: the codec's own caps, and the transport's.
#[cfg(any(feature = "mem", feature = "tcp"))]
pub(crate) fn is_within(frame: &Frame, frame_bytes_max: usize) -> bool {
    frame.attachments.as_slice().len() <= ATTACHMENTS_MAX
        && frame.head.len() <= HEAD_BYTES_MAX
        && frame.flat_len() <= frame_bytes_max
}
