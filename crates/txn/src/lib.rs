#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
mod coordinator;
mod error;
mod message;
mod participant;
mod record;
mod request;
mod seen;
mod stats;
mod timers;
mod two_phase;
mod types;

pub use config::{Config, NODES_MAX};
pub use error::Error;
pub use message::Message;
pub use record::Record;
pub use request::{AbortReason, Event, Rejection, Reply, Request};
pub use stats::Stats;
pub use two_phase::TwoPhaseCommit;
pub use types::{Standing, TxnId, Vote};
