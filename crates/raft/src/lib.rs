#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
mod workspace_readme {}

mod batch;
mod config;
mod dispatch;
mod election;
mod error;
mod fetch;
mod follower;
mod handover;
mod identity;
mod leader;
mod log;
mod members;
mod membership;
mod message;
mod progress;
mod quorum;
mod raft;
mod read;
mod read_here;
mod record;
mod request;
mod snapshot;
mod state;
mod stats;
mod types;

pub use batch::{BATCH_COUNT_MAX, Batch, Kind, Proposals, View, Views};
pub use config::Config;
pub use error::Error;
pub use members::{ADDRESS_BYTES_MAX, Change, MEMBERS_MAX, Members, Target};
pub use message::{Message, Offer, Piece};
pub use raft::Raft;
pub use record::{Record, Snapshot};
pub use request::{Contents, Event, Rejection, Reply, Request, RoleName};
pub use stats::{PeerStatus, Stats, Status};
pub use types::{Index, Term};

/// The contract that a node here keeps, and who runs it.
pub use quorate_transport as transport;
