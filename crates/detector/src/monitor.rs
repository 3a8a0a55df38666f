//! How the silence of one peer is judged.

use core::time::Duration;

use quorate_transport::Digest;

/// `sqrt(2)`.
const ROOT_TWO: f64 = core::f64::consts::SQRT_2;
/// Beyond so many deviations the tail is taken from its expansion: `erfc` would end in 0.
const FAR: f64 = 20.0;

/// How the silence of one peer is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Monitor {
    /// By one limit.
    Fixed(Fixed),
    /// By how unlikely it is, given the intervals so far.
    Phi(Phi),
}

/// A fixed timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// Silence longer than this is suspicious.
    pub timeout: Duration,
}

/// What a phi-accrual monitor is set to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PhiParams {
    /// The level that is suspicious: at 8, one suspicion in 10^8 heartbeats is wrong, were the
    /// intervals normal. Default 8.
    pub threshold: f64,
    /// The least deviation assumed, against a network that has been too regular. Default 20 ms.
    pub deviation_min: Duration,
    /// Silence that counts for nothing, on top of the mean. Default 100 ms.
    pub pause: Duration,
    /// Over how many heartbeats the past fades. Default 200.
    pub memory: u32,
}

impl Default for PhiParams {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self { threshold: 8.0, deviation_min: ms(20), pause: ms(100), memory: 200 }
    }
}

/// The accrual detector over a normal distribution. [IS-RR-2004-010 §III]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Phi {
    params: PhiParams,
    /// Deviations at which the threshold is reached.
    limit: f64,
    /// In nanoseconds.
    mean: f64,
    /// In square nanoseconds.
    variance: f64,
    count: u32,
}

impl Phi {
    /// A monitor that expects heartbeats every `interval`, give or take a quarter.
    #[must_use]
    pub fn new(interval: Duration, params: PhiParams) -> Self {
        let mean = interval.as_nanos() as f64;
        let variance = mean * mean / 16.0;
        Self { params, limit: limit(params.threshold), mean, variance, count: 3 }
    }

    fn deviation(&self) -> f64 {
        libm::sqrt(self.variance).max(self.params.deviation_min.as_nanos() as f64).max(1.0)
    }

    fn level(&self, silence: Duration) -> f64 {
        let expected = self.mean + self.params.pause.as_nanos() as f64;
        phi((silence.as_nanos() as f64 - expected) / self.deviation())
    }

    fn patience(&self) -> Duration {
        let pause = self.params.pause.as_nanos() as f64;
        // The cast saturates, whatever the number.
        Duration::from_nanos((self.mean + pause + self.limit * self.deviation()) as u64)
    }

    /// An interval is learned as no longer than what would have been suspicious, so that a pause
    /// does not blind the monitor for the next one.
    fn learn(&mut self, interval: Duration) {
        let sample = interval.min(self.patience()).as_nanos() as f64;
        self.count = self.count.saturating_add(1).min(self.params.memory);
        let weight = 1.0 / f64::from(self.count);
        let off = sample - self.mean;
        self.mean += weight * off;
        self.variance = (1.0 - weight) * (self.variance + weight * off * off);
    }
}

impl Monitor {
    /// How strongly this silence speaks against the peer: finite, and never less for more silence.
    #[must_use]
    pub fn level(&self, silence: Duration) -> f64 {
        match self {
            Self::Fixed(fixed) => silence.as_secs_f64() / fixed.timeout.as_secs_f64(),
            Self::Phi(phi) => phi.level(silence),
        }
    }

    /// How much silence is not yet suspicious.
    #[must_use]
    pub fn patience(&self) -> Duration {
        match self {
            Self::Fixed(fixed) => fixed.timeout,
            Self::Phi(phi) => phi.patience(),
        }
    }

    pub(crate) fn learn(&mut self, interval: Duration) {
        if let Self::Phi(phi) = self {
            phi.learn(interval);
        }
    }

    pub(crate) fn is_sensible(&self) -> bool {
        let year = Duration::from_secs(365 * 86_400);
        match self {
            Self::Fixed(fixed) => (Duration::from_nanos(1)..=year).contains(&fixed.timeout),
            Self::Phi(Phi { params, .. }) => {
                (0.5..=64.0).contains(&params.threshold)
                    && params.deviation_min <= year
                    && params.pause <= year
                    && params.memory >= 4
            }
        }
    }

    pub(crate) fn digest(&self, into: &mut Digest) {
        if let Self::Phi(phi) = self {
            into.u64(phi.mean.to_bits());
            into.u64(phi.variance.to_bits());
            into.u64(phi.count.into());
        }
    }
}

/// Minus the decimal logarithm of the chance to be more than `z` deviations late.
fn phi(z: f64) -> f64 {
    if z < FAR {
        return 0.0 - libm::log10(0.5 * libm::erfc(z / ROOT_TWO)).min(0.0);
    }
    // The expansion to its second term is a little below the true chance, so phi steps up here.
    let z = z.min(1e9);
    let tail = libm::log10((1.0 - 1.0 / (z * z)) / (z * libm::sqrt(2.0 * core::f64::consts::PI)));
    z * z / 2.0 * core::f64::consts::LOG10_E - tail
}

/// The deviations at which phi reaches `threshold`.
fn limit(threshold: f64) -> f64 {
    let (mut low, mut high) = (-10.0, 40.0);
    for _ in 0..64 {
        let middle = (low + high) / 2.0;
        if phi(middle) < threshold { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use quorate_transport::Rng;

    use super::*;

    #[test]
    fn phi_is_finite_and_never_falls_between_heartbeats() {
        let mut rng = Rng::new(3);
        for samples in [0, 1, 2, 3, 50, 2000] {
            let mut monitor =
                Monitor::Phi(Phi::new(Duration::from_millis(100), PhiParams::default()));
            for _ in 0..samples {
                let bits = 1 + rng.below(40);
                monitor.learn(Duration::from_nanos(rng.below(1 << bits)));
            }
            let mut last = -1.0;
            let mut silence = 0u64;
            while silence < 1 << 50 {
                let level = monitor.level(Duration::from_nanos(silence));
                assert!(level.is_finite() && level >= last, "{samples}: {silence}: {level} {last}");
                last = level;
                silence += 1 + silence / 500;
            }
            assert!(monitor.level(Duration::MAX).is_finite());
        }
    }

    #[test]
    fn patience_is_where_the_level_reaches_the_threshold() {
        for threshold in [1.0, 3.0, 8.0, 16.0, 60.0] {
            let params = PhiParams { threshold, ..PhiParams::default() };
            let monitor = Monitor::Phi(Phi::new(Duration::from_millis(100), params));
            let level = monitor.level(monitor.patience());
            assert!((level - threshold).abs() < 1e-3, "{threshold}: {level}");
        }
    }

    #[test]
    fn the_chance_of_a_normal_tail_is_right() {
        // P(Z > z) for z = 0, 1.6448536, 3.0902323, 5.6120012: a half, 5 %, 0.1 %, 1e-8.
        let known = [
            (0.0, core::f64::consts::LOG10_2),
            (1.644_853_6, 1.301_03),
            (3.090_232_3, 3.0),
            (5.612_001_2, 8.0),
        ];
        for (z, want) in known {
            assert!((phi(z) - want).abs() < 1e-4, "{z}: {}", phi(z));
        }
    }

    #[test]
    fn a_long_pause_does_not_blind_the_monitor() {
        let mut phi = Phi::new(Duration::from_millis(100), PhiParams::default());
        (0..500).for_each(|_| phi.learn(Duration::from_millis(100)));
        let before = phi.patience();
        phi.learn(Duration::from_secs(3600));
        assert!(phi.patience() < before * 2, "{:?}", phi.patience());
    }
}
