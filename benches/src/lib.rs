//! What the benchmarks share: the same work for us and for each peer, taken in turns.

pub mod cluster;
pub mod measure;
#[cfg(feature = "raft")]
pub mod omnipaxos_trio;
pub mod progress;
pub mod quorate_trio;
#[cfg(feature = "raft")]
pub mod raft_rs_trio;
pub mod report;
