#![doc = include_str!("../README.md")]
#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod frame;
mod ids;
mod rng;
mod time;

pub use frame::{
    ATTACHMENTS_MAX, Attachment, Attachments, FRAME_BYTES_MAX, Frame, FrameError, HEAD_BYTES_MAX,
};
pub use ids::{
    ClusterId, GroupId, Incarnation, Key, NodeId, Peer, ProtocolId, RequestId, RequestRange, Ticket,
};
pub use rng::Rng;
pub use time::Time;
