#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod diagram;
mod entries;
mod error;
#[cfg(target_has_atomic = "64")]
mod hlc;
mod lamport;
#[cfg(target_has_atomic = "64")]
mod shared;
mod stamp;
#[cfg(target_has_atomic = "64")]
mod sync;
mod vector;

pub use entries::{ENTRIES_MAX, INLINE};
pub use error::Error;
#[cfg(target_has_atomic = "64")]
pub use hlc::{Hlc, Physical};
pub use lamport::Lamport;
#[cfg(target_has_atomic = "64")]
pub use shared::AtomicLamport;
pub use stamp::{HlcTime, LamportTime, Stamp, WallTime};
pub use vector::{Causality, VectorClock};
