#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
mod digest;
mod join;
mod lock;
mod message;
mod name;
mod record;
mod request;
mod ricart_agrawala;
mod stats;
mod timer;

pub use config::{Config, Error, NODES_MAX};
pub use message::Message;
pub use name::{NAME_BYTES_MAX, Name, NameError};
pub use record::Record;
pub use request::{Event, Fence, Rejection, Reply, Request};
pub use ricart_agrawala::RicartAgrawala;
pub use stats::{Stats, Status};
