//! Why a clock refused.

use core::time::Duration;

use quorate_transport::Peer;
use thiserror::Error;

use crate::stamp::{HlcTime, LamportTime};

/// Why a clock gave no stamp, or took none. The clock is as it was before the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// A Lamport stamp that no honest peer can have reached: the sender's fault, and no retry
    /// helps before this clock has come nearer.
    #[error("Lamport stamp {stamp} is beyond {limit}, the most this clock takes now")]
    LamportTooFarAhead {
        /// What was refused.
        stamp: LamportTime,
        /// The greatest that would have been taken.
        limit: LamportTime,
    },
    /// This Lamport clock has given its last stamp; only a new clock helps.
    #[error("the Lamport clock has reached its end")]
    LamportExhausted,
    /// A hybrid stamp further ahead of the wall clock than is allowed: a clock is wrong, the
    /// sender's or this node's. A retry succeeds once the wall clock is near enough.
    #[error("stamp {stamp} is {ahead:?} ahead of the wall clock, {ahead_max:?} are allowed")]
    HlcTooFarAhead {
        /// What was refused.
        stamp: HlcTime,
        /// How far it is ahead.
        ahead: Duration,
        /// How far it may be.
        ahead_max: Duration,
    },
    /// All stamps of the latest time are given while the wall clock stands behind it. A retry
    /// succeeds once the wall clock has passed `latest`.
    #[error("no stamp is left at {latest}: the wall clock is behind it or stands still")]
    HlcCounterFull {
        /// The stamp that has no successor at its time.
        latest: HlcTime,
    },
    /// The vector claims events of this process that it has not had: the sender's fault, or two
    /// lives share one incarnation.
    #[error("the vector counts {claimed} events of {own:?}, which has had {had}")]
    OwnCounterAhead {
        /// This process.
        own: Peer,
        /// Its events by the vector.
        claimed: u64,
        /// Its events by its own count.
        had: u64,
    },
    /// More processes than a vector holds ([`ENTRIES_MAX`](crate::ENTRIES_MAX)); no retry helps.
    #[error("a vector of {0} processes is too long")]
    VectorFull(usize),
    /// A process has had 2^64 - 1 events; a new incarnation starts at none.
    #[error("the event counter of {0:?} has reached its end")]
    CounterExhausted(Peer),
}
