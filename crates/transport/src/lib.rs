#![doc = include_str!("../README.md")]
#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

#[cfg(feature = "tcp")]
pub mod tcp;

mod cell;
mod checksum;
mod digest;
mod frame;
mod host;
mod ids;
mod link;
mod machine;
mod outbox;
mod rng;
mod time;
mod wire;

pub use cell::{Cell, Sink};
pub use checksum::{crc32c, crc32c_append};
pub use digest::{Digest, Rename};
pub use frame::{
    ATTACHMENTS_MAX, Attachment, Attachments, FRAME_BYTES_MAX, Frame, FrameError, HEAD_BYTES_MAX,
};
pub use host::{
    BurstId, Host, HostError, HostOptions, HostStats, MachineRef, Port, ReplayError, Shell,
};
pub use ids::{
    ClusterId, GroupId, Incarnation, Key, NodeId, Peer, ProtocolId, RequestId, RequestRange, Ticket,
};
pub use link::{Closed, Incoming, SendError, Transport};
pub use machine::{
    Halt, Input, LinkState, Machine, SnapshotId, Start, StoreError, StoreOp, Stored,
};
pub use outbox::{Effect, Outbox};
pub use rng::Rng;
pub use time::Time;
pub use wire::{
    Class, Decoder, Encoder, NoRecord, WIRE_VERSION, Wire, WireError, decode_message,
    decode_record, encode_message, encode_record, message_key,
};
