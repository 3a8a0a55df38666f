#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod bully;
mod config;
mod lease;
mod types;
mod wire;

pub use bully::{Advisory, Bully};
pub use config::{Config, VOTERS_MAX};
pub use lease::QuorumLease;
pub use types::{Error, Event, LeaseGuard, Lost, Reply, Request, Stats, Term, Token};
pub use wire::{Body, Message, Record};
