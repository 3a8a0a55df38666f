#![doc = include_str!("../README.md")]
#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod cell;
mod checksum;
mod digest;
mod frame;
mod host;
mod ids;
mod link;
mod machine;
#[cfg(feature = "mem")]
pub mod mem;
mod outbox;
mod rng;
#[cfg(any(feature = "mem", feature = "tcp", feature = "conformance"))]
mod shell;
#[cfg(all(feature = "tcp", not(loom)))]
pub mod tcp;
mod time;
mod wire;
mod work;

pub use cell::{Cell, Sink};
pub use checksum::{crc32c, crc32c_append};
pub use digest::{Digest, Rename};
pub use frame::{
    ATTACHMENTS_MAX, Attachment, Attachments, FRAME_BYTES_MAX, Frame, FrameError, HEAD_BYTES_MAX,
};
pub use host::{
    BurstId, Host, HostError, HostOptions, HostStats, MachineMut, MachineRef, Port, ReplayError,
    Shell,
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
#[cfg(all(feature = "conformance", not(loom)))]
pub use shell::conformance;
#[cfg(any(feature = "mem", feature = "tcp", feature = "conformance"))]
pub use shell::{QueueCap, QueueCaps};
pub use time::Time;
pub use wire::{
    Class, Decoder, Encoder, NoRecord, WIRE_VERSION, Wire, WireError, decode_message,
    decode_record, encode_message, encode_record, message_key,
};
pub use work::{Work, Worked};
