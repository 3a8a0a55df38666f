#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod clock;
pub mod explorer;
pub mod laws;
mod limits;
mod luck;
pub mod marks;
mod nemesis;
mod net;
mod node;
pub mod script;
pub mod sweep;
mod world;

pub use quorate_linearizability as linearizability;

pub use limits::{Choice, Choices, is_small};
pub use nemesis::{Delays, Fault, Plan};
pub use net::Net;
pub use world::{Ask, Counts, System, Violation, World};
