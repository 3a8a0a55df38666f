//! The one place that reads a clock.

use quorate_transport::Time;
use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the machine booted, suspend included: a lease that was held before a suspend
/// is over after it.
#[must_use]
pub fn boot_time() -> Time {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Time::from_nanos(seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0))
}
