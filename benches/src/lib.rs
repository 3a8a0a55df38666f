//! What the benchmarks share: the same work for us and for each peer, taken in turns.

/// The allocator of all comparisons but one, on both sides: the one that the server uses. With the
/// system's own, giving freed pages back and taking them again can cost more than the work that is
/// measured.
#[cfg(not(feature = "system-allocator"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod cluster;
#[cfg(feature = "driver")]
pub mod driver_trio;
pub mod group;
#[cfg(feature = "driver")]
pub mod growth;
pub mod measure;
#[cfg(feature = "raft")]
pub mod omnipaxos_trio;
#[cfg(feature = "driver")]
pub mod openraft_trio;
pub mod progress;
#[cfg(feature = "driver")]
pub mod puts;
pub mod quorate_trio;
#[cfg(feature = "raft")]
pub mod raft_rs_trio;
pub mod report;
