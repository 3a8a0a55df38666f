//! Lamport's clock in one atomic word, for many threads.
//!
//! Relaxed accesses suffice: all rest on the modification order of one word. A read-modify-write
//! that happens after another, or after a load, acts on what that one saw or on something later,
//! and the word never falls.

use crate::error::Error;
use crate::lamport::{after, raises};
use crate::stamp::LamportTime;
use crate::sync::{AtomicU64, Ordering};

/// Lamport's logical clock, shared by threads. [Lamport 1978]
///
/// A tick is one fetch-and-add, an old stamp costs one load, and a new one an atomic maximum: one
/// instruction where the processor has it (Arm with LSE), else, on x86 too, a compare-and-set that
/// is tried again only after another thread has moved the clock towards the stamp, and never once
/// the clock has reached it. So every operation ends in a bounded number of steps.
///
/// Each stamp is what one fetch-and-add returned, so no two events share one; an observation is a
/// fetch-and-max, so a concurrent event is never overwritten. A load, a maximum and a store, the
/// obvious way, loses events: `tests/loom.rs` keeps the proof.
#[derive(Debug)]
pub struct AtomicLamport {
    latest: AtomicU64,
}

impl AtomicLamport {
    /// A clock before every event.
    #[must_use]
    pub fn new() -> Self {
        Self::resume_after(LamportTime::ZERO)
    }

    /// A clock whose stamps are all later than `time`: for a node that has persisted a bound.
    #[must_use]
    pub fn resume_after(time: LamportTime) -> Self {
        // One beyond the end says the same as any number beyond it, and leaves room to count up.
        Self { latest: AtomicU64::new(time.min(LamportTime::MAX).0) }
    }

    /// The time of a local event, or of a send.
    ///
    /// # Errors
    /// [`Error::LamportExhausted`] after 2^63 events. The word would wrap only after as many
    /// refused calls again.
    pub fn tick(&self) -> Result<LamportTime, Error> {
        after(self.latest.fetch_add(1, Ordering::Relaxed))
    }

    /// The time of the receipt of a message stamped `stamp`: later than it.
    ///
    /// # Errors
    /// [`Error::LamportTooFarAhead`] when no honest peer can be that far, and as
    /// [`tick`](Self::tick); the clock is then unchanged.
    pub fn receive(&self, stamp: LamportTime) -> Result<LamportTime, Error> {
        self.observe(stamp)?;
        self.tick()
    }

    /// Makes all later stamps later than `stamp`, without an event of its own. A stamp that is not
    /// new costs one load and takes the cache line from nobody.
    ///
    /// # Errors
    /// [`Error::LamportTooFarAhead`]; the clock is then unchanged.
    pub fn observe(&self, stamp: LamportTime) -> Result<(), Error> {
        if raises(self.latest.load(Ordering::Relaxed), stamp)? {
            self.latest.fetch_max(stamp.0, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The latest time given or observed.
    #[must_use]
    pub fn latest(&self) -> LamportTime {
        LamportTime(self.latest.load(Ordering::Relaxed)).min(LamportTime::MAX)
    }
}

impl Default for AtomicLamport {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::lamport::Lamport;

    #[test]
    fn both_forms_give_the_same_stamps_and_the_same_errors() {
        let stamps = [3, 1, 1 << 20, 7, (1 << 48) + 5, 1 << 62, u64::MAX, 1 << 49].map(LamportTime);
        for start in [0, 5, 1 << 61, (1 << 63) - 9, 1 << 63, u64::MAX].map(LamportTime) {
            let (mut plain, shared) =
                (Lamport::resume_after(start), AtomicLamport::resume_after(start));
            for stamp in stamps {
                assert_eq!(plain.tick(), shared.tick());
                assert_eq!(plain.receive(stamp).is_ok(), shared.receive(stamp).is_ok());
                assert_eq!(plain.latest().min(LamportTime::MAX), shared.latest());
            }
        }
    }
}
