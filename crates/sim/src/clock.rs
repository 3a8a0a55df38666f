//! A node's clock: it runs at its own rate from its own origin.

use quorate_transport::{Rng, Time};

/// Parts in a billion that a perfect clock advances in a nanosecond.
const TRUE_RATE: u64 = 1_000_000_000;
/// A clock that stands still moves by a nanosecond a second, so that every deadline has its time.
const STILL: u64 = 1;

/// Maps true time to one node's monotonic time.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    rate: u64,
    /// The rate it goes on with after a stop.
    usual: u64,
    true_base: u64,
    local_base: u64,
}

impl Clock {
    pub(crate) fn new(rng: &mut Rng, drift_ppm: u64) -> Self {
        let local_base = rng.below(1 << 40);
        let mut clock = Self { rate: TRUE_RATE, usual: TRUE_RATE, true_base: 0, local_base };
        clock.drift(0, rng, drift_ppm);
        clock
    }

    /// Runs at another rate from now on, at most `ppm` parts in a million off, and half of the time
    /// so much: where a bound is a little too wide only the extremes tell.
    pub(crate) fn drift(&mut self, now: u64, rng: &mut Rng, ppm: u64) {
        let off = ppm * (TRUE_RATE / 1_000_000);
        let any = rng.between(TRUE_RATE - off, TRUE_RATE + off);
        self.usual = [TRUE_RATE - off, TRUE_RATE + off, any, any][rng.below(4) as usize];
        self.set_rate(now, self.usual);
    }

    /// Stands still from now on.
    pub(crate) fn stop(&mut self, now: u64) {
        self.set_rate(now, STILL);
    }

    /// Goes on from where it stands.
    pub(crate) fn go_on(&mut self, now: u64) {
        self.set_rate(now, self.usual);
    }

    /// Is ahead by so many nanoseconds at once.
    pub(crate) fn jump(&mut self, now: u64, nanos: u64) {
        self.set_rate(now, self.rate);
        self.local_base += nanos;
    }

    pub(crate) fn local(&self, now: u64) -> Time {
        let passed = u128::from(now - self.true_base) * u128::from(self.rate);
        Time::from_nanos(self.local_base + (passed / u128::from(TRUE_RATE)) as u64)
    }

    /// The first true time at which the clock shows at least `local`.
    pub(crate) fn true_time(&self, local: Time) -> u64 {
        let ahead = u128::from(local.as_nanos().saturating_sub(self.local_base));
        let span = (ahead * u128::from(TRUE_RATE)).div_ceil(u128::from(self.rate));
        self.true_base.saturating_add(u64::try_from(span).unwrap_or(u64::MAX))
    }

    fn set_rate(&mut self, now: u64, rate: u64) {
        self.local_base = self.local(now).as_nanos();
        self.true_base = now;
        self.rate = rate;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_reached_exactly_when_the_clock_shows_it() {
        let mut rng = Rng::new(5);
        let mut clock = Clock::new(&mut rng, 100_000);
        let mut now = 0;
        for _ in 0..1000 {
            now += rng.below(1_000_000_000);
            let before = clock.local(now);
            clock.drift(now, &mut rng, 100_000);
            assert_eq!(clock.local(now), before, "a change of rate is no step");
            let deadline = Time::from_nanos(before.as_nanos() + rng.below(1_000_000_000));
            let at = clock.true_time(deadline);
            assert!(clock.local(at) >= deadline);
            assert!(at == now || clock.local(at - 1) < deadline);
        }
    }

    #[test]
    fn half_of_all_clocks_are_as_far_off_as_they_may_be_and_none_is_further() {
        let (mut rng, off) = (Rng::new(5), 1_000_000);
        let rates: Vec<u64> = (0..400).map(|_| Clock::new(&mut rng, 1_000).rate).collect();
        let is_extreme = |rate: &&u64| rate.abs_diff(TRUE_RATE) == off;
        assert!((150..250).contains(&rates.iter().filter(is_extreme).count()));
        assert!(rates.iter().all(|rate| rate.abs_diff(TRUE_RATE) <= off));
    }

    #[test]
    fn a_clock_that_stops_goes_on_where_it_stood_unless_it_jumps() {
        let mut clock = Clock::new(&mut Rng::new(1), 0);
        let before = clock.local(1_000);
        clock.stop(1_000);
        assert_eq!(clock.local(5_000), before);
        clock.go_on(5_000);
        assert_eq!(clock.local(5_010).as_nanos(), before.as_nanos() + 10);
        clock.jump(5_010, 4_000);
        assert_eq!(clock.local(5_010).as_nanos(), before.as_nanos() + 4_010);
    }
}
