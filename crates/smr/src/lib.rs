#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod applier;
mod audit;
mod changes;
mod command;
mod config;
mod guard;
mod message;
mod outcomes;
mod request;
mod retry;
mod session;
mod shared;
mod smr;
mod snapshots;
mod state_machine;
mod ticker;
mod transit;
mod watch;

pub use applier::Outcome;
pub use changes::{Change, Filter};
pub use command::Commands;
pub use config::{Config, Error};
pub use message::Message;
pub use outcomes::Outcomes;
pub use request::{Event, Freshness, Rejection, Reply, Request, Status};
pub use retry::Retry;
pub use session::{SessionId, Stamp};
pub use shared::{IntoIter, Iter, SharedMap};
pub use smr::Smr;
pub use state_machine::{Outputs, Pieces, RestoreError, StateMachine};
pub use watch::Watch;

/// What commands, queries and answers are made of.
pub use bytes::Bytes;
/// The consensus beneath.
pub use quorate_raft as raft;
/// The contract that a replica keeps, and who runs it.
pub use quorate_transport as transport;
