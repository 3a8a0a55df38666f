//! Log time: how long leaders have served, as the log has it.
//!
//! No clock is read into the log. A leader writes how much time has passed since it wrote that
//! last, or began to lead; log time is the sum, and so the same on every replica at the same index,
//! whoever led and whatever their clocks say. It never runs ahead of the clocks of the leaders:
//! what an entry counts lies between two proposals of one leader, and the next leader has the
//! entry before it begins to count. Time in which nobody led, or the leader stood still, is not
//! counted: nobody could have used a session in it.

use core::time::Duration;

use quorate_transport::{Digest, Time};

/// When a leader writes the next tick.
#[derive(Clone, Debug)]
pub(crate) struct Ticker {
    interval: Duration,
    /// Since when nothing is counted; `None` where nothing is to be.
    since: Option<Time>,
    /// A tick is on its way into the log.
    under_way: bool,
}

/// The most that one tick counts.
pub(crate) fn tick_max(interval: Duration) -> Duration {
    2 * interval
}

impl Ticker {
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval, since: None, under_way: false }
    }

    /// Whether time is to be counted here: this node leads, and there are sessions.
    pub(crate) fn count(&mut self, now: Time, counts: bool) {
        self.since = counts.then(|| self.since.unwrap_or(now));
    }

    /// The time to write into the log now, if that is due.
    pub(crate) fn tick(&mut self, now: Time) -> Option<Duration> {
        if self.deadline().is_none_or(|at| now < at) {
            return None;
        }
        let since = self.since.replace(now)?;
        self.under_way = true;
        Some(now.since(since).min(tick_max(self.interval)))
    }

    /// The tick is in the log, or never will be: then its time is not counted.
    pub(crate) fn answered(&mut self) {
        self.under_way = false;
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        if self.under_way { None } else { self.since.map(|since| since + self.interval) }
    }

    pub(crate) fn digest(&self, now: Time, into: &mut Digest) {
        into.option(self.since.map(|since| now.since(since).as_nanos() as u64));
        into.bool(self.under_way);
    }
}
