#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
mod heartbeats;
mod message;
mod monitor;
mod types;

pub use config::{Config, PEERS_MAX};
pub use heartbeats::Heartbeats;
pub use message::Message;
pub use monitor::{Fixed, Monitor, Phi, PhiParams};
pub use quorate_transport::NoRecord as Record;
pub use types::{Error, Event, PeerStatus, Reply, Request, Stats, Status};
