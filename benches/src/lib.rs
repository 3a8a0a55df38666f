//! What the benchmarks share: the same work for us and for each peer.

pub mod omnipaxos_trio;
pub mod quorate_trio;
