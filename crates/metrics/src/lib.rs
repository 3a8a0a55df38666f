#![doc = include_str!("../README.md")]
#![cfg_attr(not(any(test, loom, feature = "std")), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod counter;
mod histogram;
mod registry;
mod request;
mod scale;
mod snapshot;
mod stripe;
mod text;

pub use counter::{Counter, Gauge};
pub use histogram::Histogram;
pub use registry::{Registry, RegistryError};
pub use request::{RequestMetrics, RequestSnapshot};
pub use scale::{HOUR_NANOS, RELATIVE_ERROR};
pub use snapshot::{RangeError, Snapshot};
pub use text::{Kind, Text, TextError};
