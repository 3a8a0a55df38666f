#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod chronicle;
mod cluster;
mod export;
mod lifecycle;
mod resource;
mod system;

pub use cluster::Cluster;
pub use export::{ExportError, Exporter};
pub use lifecycle::{Lifecycle, Standing};
pub use resource::{Resource, participate};
pub use system::{Builder, Member, Node, NodeError, keys, members_of};
