//! Points of the clocks' times, and the total order of stamps.

use core::fmt;
use core::time::Duration;

use quorate_transport::NodeId;
use serde::{Deserialize, Serialize};

/// A point of Lamport time: how long the longest chain of events before it is, at least.
///
/// If an event happened before another its time is less; the converse does not hold. Zero stands
/// before every event.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct LamportTime(pub u64);

impl LamportTime {
    /// Before every event.
    pub const ZERO: Self = Self(0);
    /// The last time that a clock gives.
    pub const MAX: Self = Self(1 << 63);
}

impl fmt::Display for LamportTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A reading of a wall clock, in nanoseconds since the Unix epoch; good until the year 2554.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct WallTime(pub u64);

impl WallTime {
    /// The reading `nanos` nanoseconds after the Unix epoch.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }
}

/// A point of hybrid logical time in one word: 44 bits of wall time in units of 2^20 ns (about a
/// millisecond), then 20 bits that count events within the unit. [HLC §3.3, §6.2]
///
/// The order of the words is the order of time, and a word read as nanoseconds is never more than
/// a unit away from the wall time it stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HlcTime(u64);

impl HlcTime {
    /// Before every event.
    pub const ZERO: Self = Self(0);
    /// How many low bits count events within one unit of wall time.
    pub const COUNTER_BITS: u32 = 20;
    /// The greatest count within one unit: 1,048,575, one event a nanosecond.
    pub const COUNTER_MAX: u32 = (1 << Self::COUNTER_BITS) - 1;

    /// The first point of the unit that `wall` lies in.
    #[must_use]
    pub const fn at(wall: WallTime) -> Self {
        Self(wall.0 & !(Self::COUNTER_MAX as u64))
    }

    /// The point that travels as `bits`; every word is one.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The whole word, for the wire and for a record.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The start of the unit of wall time it stands for.
    #[must_use]
    pub const fn wall(self) -> WallTime {
        WallTime(self.0 & !(Self::COUNTER_MAX as u64))
    }

    /// Which event within the unit.
    #[must_use]
    pub const fn counter(self) -> u32 {
        self.0 as u32 & Self::COUNTER_MAX
    }

    /// A bound that no stamp reaches while the wall clock, now at or before this time's unit, moves
    /// on by `span`, unless a greater one is received.
    ///
    /// This is what a node persists before it gives stamps, to resume after it. A stamp that
    /// reaches the bound is not to be used before a greater bound is durable.
    #[must_use]
    pub fn bound_after(self, span: Duration) -> Self {
        let unit = 1 << Self::COUNTER_BITS;
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        // The wall clock may be anywhere in the unit; the bound is the start of one unreached.
        let reached = (self.wall().0 | (unit - 1)).checked_add(nanos);
        match reached.and_then(|nanos| nanos.checked_add(unit)) {
            Some(nanos) => Self::at(WallTime(nanos)),
            None => Self(u64::MAX),
        }
    }

    /// The next point of the same unit; none when its counter is full, for a carry would move the
    /// time.
    pub(crate) const fn successor(self) -> Option<Self> {
        if self.counter() == Self::COUNTER_MAX { None } else { Some(Self(self.0 + 1)) }
    }
}

impl fmt::Display for HlcTime {
    /// Seconds of wall time since the Unix epoch, then the counter: `1700000000.123207680+4`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.wall().0;
        write!(f, "{}.{:09}+{}", nanos / 1_000_000_000, nanos % 1_000_000_000, self.counter())
    }
}

impl fmt::Debug for HlcTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A time and the node whose event it is: totally ordered by time, then by node. [Lamport 1978]
///
/// The order agrees with happened-before, and no two events of a group share a stamp as long as
/// each node has one clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp<T = LamportTime> {
    /// When; the first thing compared.
    pub time: T,
    /// Where; breaks ties.
    pub node: NodeId,
}

impl<T: fmt::Display> fmt::Display for Stamp<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.time, self.node)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn stamps_are_ordered_by_time_and_then_by_node() {
        let stamp = |time, node| Stamp { time: LamportTime(time), node: NodeId(node) };
        assert!(stamp(1, 9) < stamp(2, 1));
        assert!(stamp(2, 1) < stamp(2, 2));
        assert_eq!(stamp(2, 1), stamp(2, 1));
        assert_eq!(stamp(2, 1).to_string(), "2@n1");
    }

    #[test]
    fn a_full_counter_has_no_successor_and_never_moves_the_time() {
        let unit = HlcTime::at(WallTime(5 << 20));
        let full = HlcTime::from_bits(unit.to_bits() | u64::from(HlcTime::COUNTER_MAX));
        assert_eq!((full.wall(), full.counter()), (unit.wall(), HlcTime::COUNTER_MAX));
        assert_eq!(full.successor(), None);
        assert_eq!(HlcTime::from_bits(u64::MAX).successor(), None);
        let next = unit.successor().unwrap();
        assert_eq!((next.wall(), next.counter()), (unit.wall(), 1));
    }

    #[test]
    fn no_stamp_within_the_span_reaches_the_bound() {
        let full = |wall| {
            HlcTime::from_bits(HlcTime::at(wall).to_bits() | u64::from(HlcTime::COUNTER_MAX))
        };
        let span = Duration::from_secs(1);
        for wall in [0, 1, (1 << 20) - 1, 1_700_000_000_123_456_789, 1_700_000_000_123_999_999] {
            let bound = HlcTime::at(WallTime(wall)).bound_after(span);
            assert_eq!(bound.counter(), 0, "a clock that resumes there has room");
            assert!(bound > full(WallTime(wall + 1_000_000_000)));
            assert!(bound.wall().0 < wall + 1_000_000_000 + (3 << 20));
        }
        assert_eq!(HlcTime::ZERO.bound_after(Duration::MAX), HlcTime::from_bits(u64::MAX));
    }

    #[test]
    fn a_time_shows_its_unit_and_its_counter() {
        let time = HlcTime::at(WallTime(1_700_000_000_123_456_789)).successor().unwrap();
        assert_eq!(time.to_string(), "1700000000.123076608+1");
    }
}
