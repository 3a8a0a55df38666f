//! Lamport's clock for one owner, and the rule that both of its forms share.

use crate::error::Error;
use crate::stamp::LamportTime;

/// No stamp above this is taken, so that no message, and no number of them, brings a clock to its
/// end: half of all times are left to local events.
const ACCEPT_MAX: u64 = LamportTime::MAX.0 / 2;

/// How far one stamp may move a clock: nine years of a million events a second.
const JUMP_MAX: u64 = 1 << 48;

/// Whether a clock at `own` must be raised for `stamp`.
pub(crate) fn raises(own: u64, stamp: LamportTime) -> Result<bool, Error> {
    if stamp.0 <= own {
        return Ok(false);
    }
    let limit = LamportTime(own.saturating_add(JUMP_MAX).min(ACCEPT_MAX));
    if stamp > limit {
        return Err(Error::LamportTooFarAhead { stamp, limit });
    }
    Ok(true)
}

/// The time of the event that found the clock at `before`.
pub(crate) fn after(before: u64) -> Result<LamportTime, Error> {
    if before >= LamportTime::MAX.0 {
        return Err(Error::LamportExhausted);
    }
    Ok(LamportTime(before + 1))
}

/// Lamport's logical clock, owned by one thread. [Lamport 1978]
///
/// [`AtomicLamport`](crate::AtomicLamport) is the same for many threads.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Lamport {
    latest: u64,
}

impl Lamport {
    /// A clock before every event.
    #[must_use]
    pub const fn new() -> Self {
        Self { latest: 0 }
    }

    /// A clock whose stamps are all later than `time`: for a node that has persisted a bound.
    #[must_use]
    pub const fn resume_after(time: LamportTime) -> Self {
        Self { latest: time.0 }
    }

    /// The time of a local event, or of a send.
    ///
    /// # Errors
    /// [`Error::LamportExhausted`] after 2^63 events.
    pub fn tick(&mut self) -> Result<LamportTime, Error> {
        let time = after(self.latest)?;
        self.latest = time.0;
        Ok(time)
    }

    /// The time of the receipt of a message stamped `stamp`: later than it.
    ///
    /// # Errors
    /// [`Error::LamportTooFarAhead`] when no honest peer can be that far, and as
    /// [`tick`](Self::tick); the clock is then unchanged.
    pub fn receive(&mut self, stamp: LamportTime) -> Result<LamportTime, Error> {
        self.observe(stamp)?;
        self.tick()
    }

    /// Makes all later stamps later than `stamp`, without an event of its own.
    ///
    /// # Errors
    /// [`Error::LamportTooFarAhead`]; the clock is then unchanged.
    pub fn observe(&mut self, stamp: LamportTime) -> Result<(), Error> {
        if raises(self.latest, stamp)? {
            self.latest = stamp.0;
        }
        Ok(())
    }

    /// The latest time given or observed.
    #[must_use]
    pub const fn latest(&self) -> LamportTime {
        LamportTime(self.latest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_later_than_the_message_and_than_all_local_events() {
        let mut clock = Lamport::new();
        assert_eq!(clock.tick(), Ok(LamportTime(1)));
        assert_eq!(clock.receive(LamportTime(7)), Ok(LamportTime(8)));
        assert_eq!(clock.receive(LamportTime(3)), Ok(LamportTime(9)));
        clock.observe(LamportTime(9)).unwrap();
        assert_eq!(clock.latest(), LamportTime(9));
    }

    #[test]
    fn a_stamp_near_the_end_is_refused_and_changes_nothing() {
        let mut clock = Lamport::resume_after(LamportTime(10));
        for stamp in [u64::MAX, u64::MAX - 1, LamportTime::MAX.0, ACCEPT_MAX, 11 + JUMP_MAX] {
            let stamp = LamportTime(stamp);
            let limit = LamportTime(10 + JUMP_MAX);
            let refused = Error::LamportTooFarAhead { stamp, limit };
            assert_eq!(clock.receive(stamp), Err(refused));
            assert_eq!(clock.latest(), LamportTime(10));
        }
        assert_eq!(clock.receive(LamportTime(10 + JUMP_MAX)), Ok(LamportTime(11 + JUMP_MAX)));
    }

    #[test]
    fn no_number_of_messages_brings_the_clock_to_its_end() {
        let mut clock = Lamport::new();
        while clock.observe(LamportTime(clock.latest + JUMP_MAX)).is_ok() {}
        assert!(clock.observe(LamportTime(ACCEPT_MAX)).is_ok());
        assert!(clock.observe(LamportTime(ACCEPT_MAX + 1)).is_err());
        assert_eq!(clock.tick(), Ok(LamportTime(ACCEPT_MAX + 1)));
        // An old stamp stays harmless, however great it is.
        assert!(clock.observe(LamportTime(ACCEPT_MAX + 1)).is_ok());
    }

    #[test]
    fn the_end_is_an_error_and_no_wrap() {
        let mut clock = Lamport::resume_after(LamportTime(LamportTime::MAX.0 - 1));
        assert_eq!(clock.tick(), Ok(LamportTime::MAX));
        assert_eq!(clock.tick(), Err(Error::LamportExhausted));
        assert_eq!(clock.tick(), Err(Error::LamportExhausted));
        assert_eq!(clock.latest(), LamportTime::MAX);
        let mut beyond = Lamport::resume_after(LamportTime(u64::MAX));
        assert_eq!(beyond.tick(), Err(Error::LamportExhausted));
    }
}
