#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod clock;
mod desk;
mod disks;
mod engine;
mod handle;
mod identity;
mod mailbox;
mod setup;
#[cfg(not(shuttle))]
mod sync;
#[cfg(shuttle)]
pub mod sync;

pub use clock::boot_time;
pub use handle::{Gone, Handle, Refused};
pub use identity::{Identity, IdentityError};
pub use setup::{Driver, DriverError, DriverStats, Options, Probe, Setup, StartError};
