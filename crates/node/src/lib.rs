#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod chronicle;
pub mod client;
mod cluster;
mod export;
mod group;
pub mod kv;
mod lifecycle;
mod resource;
mod system;
pub mod wire;

pub use cluster::Cluster;
pub use export::{ExportError, Exporter};
pub use lifecycle::{Lifecycle, Standing};
pub use resource::{Resource, participate};
pub use system::{Builder, Member, NoResource, Node, NodeError, keys, members_of};
