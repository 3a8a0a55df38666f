//! Hybrid logical clocks: wall time that agrees with happened-before, in one atomic word.

use core::time::Duration;

use crate::error::Error;
use crate::stamp::{HlcTime, WallTime};
use crate::sync::{AtomicU64, Ordering};

/// Where a hybrid clock reads wall time: a closure, a simulated clock, a cached reading.
///
/// It may step back and stand still; the stamps rise all the same.
pub trait Physical {
    /// The reading.
    fn now(&self) -> WallTime;
}

impl<F: Fn() -> WallTime> Physical for F {
    fn now(&self) -> WallTime {
        self()
    }
}

/// A hybrid logical clock, shared by threads; every operation is lock-free.
/// [Kulkarni, Demirbas, Madappa, Avva, Leone 2014]
#[derive(Debug)]
pub struct Hlc<P> {
    latest: AtomicU64,
    physical: P,
    ahead_max_nanos: u64,
}

impl<P: Physical> Hlc<P> {
    /// A clock that takes stamps at most `ahead_max` ahead of its own wall clock: more than the
    /// clocks of honest nodes differ, plus a unit (about a millisecond) of rounding.
    #[must_use]
    pub fn new(physical: P, ahead_max: Duration) -> Self {
        Self::resume_after(HlcTime::ZERO, physical, ahead_max)
    }

    /// A clock whose stamps are all later than `bound`: for a node that persists a bound above the
    /// stamps it gives (see [`HlcTime::bound_after`]), and so is never behind its former lives.
    #[must_use]
    pub fn resume_after(bound: HlcTime, physical: P, ahead_max: Duration) -> Self {
        let ahead_max_nanos = u64::try_from(ahead_max.as_nanos()).unwrap_or(u64::MAX);
        Self { latest: AtomicU64::new(bound.to_bits()), physical, ahead_max_nanos }
    }

    /// The time of a local event, or of a send: later than every time given or observed before,
    /// and not before the unit of the wall clock.
    ///
    /// # Errors
    /// [`Error::HlcCounterFull`] when 2^20 stamps are given and the wall clock has not moved on;
    /// the clock is then unchanged.
    pub fn now(&self) -> Result<HlcTime, Error> {
        self.advance(HlcTime::ZERO, self.physical.now())
    }

    /// The time of the receipt of a message stamped `stamp`: later than it, too. However old a
    /// stamp is, it is taken.
    ///
    /// # Errors
    /// [`Error::HlcTooFarAhead`] when the stamp is more than `ahead_max` ahead of the wall clock,
    /// and [`Error::HlcCounterFull`]; the clock is then unchanged.
    pub fn receive(&self, stamp: HlcTime) -> Result<HlcTime, Error> {
        let wall = self.physical.now();
        self.admit(stamp, wall)?;
        self.advance(stamp, wall)
    }

    /// Makes all later stamps later than `stamp`, without an event of its own. A stamp that is not
    /// new costs one load, and reads no wall clock.
    ///
    /// # Errors
    /// [`Error::HlcTooFarAhead`]; the clock is then unchanged.
    pub fn observe(&self, stamp: HlcTime) -> Result<(), Error> {
        if stamp > self.latest() {
            self.admit(stamp, self.physical.now())?;
            self.latest.fetch_max(stamp.to_bits(), Ordering::Relaxed);
        }
        Ok(())
    }

    /// The latest time given or observed; what it has been resumed after, before the first.
    #[must_use]
    pub fn latest(&self) -> HlcTime {
        HlcTime::from_bits(self.latest.load(Ordering::Relaxed))
    }

    /// How far the clock is ahead of the wall clock: a measure of how the clocks of the group, or
    /// this node's own before and after a step, differ.
    #[must_use]
    pub fn ahead(&self) -> Duration {
        let wall = self.physical.now();
        Duration::from_nanos(self.latest().wall().0.saturating_sub(wall.0))
    }

    /// Refuses what is ahead of the wall clock by more than is allowed.
    fn admit(&self, stamp: HlcTime, wall: WallTime) -> Result<(), Error> {
        let ahead = stamp.wall().0.saturating_sub(wall.0);
        if ahead <= self.ahead_max_nanos || stamp <= self.latest() {
            return Ok(());
        }
        let (ahead, ahead_max) =
            (Duration::from_nanos(ahead), Duration::from_nanos(self.ahead_max_nanos));
        Err(Error::HlcTooFarAhead { stamp, ahead, ahead_max })
    }

    /// Moves to the first time after `seen` and after the latest that is not before `wall`.
    fn advance(&self, seen: HlcTime, wall: WallTime) -> Result<HlcTime, Error> {
        let wall = HlcTime::at(wall);
        let mut latest = self.latest();
        loop {
            let next = following(latest.max(seen), wall)?;
            let swapped = self.latest.compare_exchange_weak(
                latest.to_bits(),
                next.to_bits(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match swapped {
                Ok(_) => return Ok(next),
                Err(newer) => latest = HlcTime::from_bits(newer),
            }
        }
    }
}

/// The time after `latest` at the wall time `wall`: that time where it is later, else the same
/// with the counter one up. [HLC, figure 5]
fn following(latest: HlcTime, wall: HlcTime) -> Result<HlcTime, Error> {
    if wall.wall() > latest.wall() {
        return Ok(wall);
    }
    latest.successor().ok_or(Error::HlcCounterFull { latest })
}
