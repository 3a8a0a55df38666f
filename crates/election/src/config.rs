//! How an election is set up.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

use quorate_transport::NodeId;

use crate::types::Error;

/// Voters at most.
pub const VOTERS_MAX: usize = 31;

/// The configuration of one node; the same on all nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The number of this configuration; messages of others are refused. Rises with every change.
    pub config: u64,
    /// Who votes and may lead.
    pub voters: Vec<NodeId>,
    /// Who only hears who leads. Default none.
    pub observers: Vec<NodeId>,
    /// How long a majority's acknowledgement lasts, in true time. Shorter fails over sooner and is
    /// lost sooner to a slow network. Default 1 s.
    pub lease: Duration,
    /// How often the leader renews it. Default 200 ms.
    pub renew_interval: Duration,
    /// The least wait before a campaign when nobody leads. Default 50 ms.
    pub campaign_wait_min: Duration,
    /// The greatest; the wider the span, the fewer rivals. Default 300 ms.
    pub campaign_wait_max: Duration,
    /// How far a clock's rate may be off true time, in parts in a million. Safety rests on it.
    /// Default 1000, far above what crystals do.
    pub drift_ppm: u32,
}

impl Config {
    /// The defaults for these voters.
    #[must_use]
    pub fn new(voters: impl IntoIterator<Item = NodeId>) -> Self {
        let ms = Duration::from_millis;
        Self {
            config: 1,
            voters: voters.into_iter().collect(),
            observers: Vec::new(),
            lease: ms(1000),
            renew_interval: ms(200),
            campaign_wait_min: ms(50),
            campaign_wait_max: ms(300),
            drift_ppm: 1000,
        }
    }

    /// How much of its lease a leader may use, by its own clock.
    pub(crate) fn lease_of_leader(&self) -> Duration {
        self.scaled(1_000_000 - self.drift_ppm)
    }

    /// How long a voter keeps a promise, by its own clock.
    pub(crate) fn lease_of_voter(&self) -> Duration {
        self.scaled(1_000_000 + self.drift_ppm) + Duration::from_nanos(1)
    }

    fn scaled(&self, parts: u32) -> Duration {
        let nanos = self.lease.as_nanos() * u128::from(parts) / 1_000_000;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Checks every rule.
    ///
    /// # Errors
    /// [`Error::Config`] names the field and the rule it breaks.
    pub fn validate(&self, node: NodeId) -> Result<(), Error> {
        let all: BTreeSet<_> = self.voters.iter().chain(&self.observers).collect();
        let count = self.voters.len() + self.observers.len();
        let (ms, year) = (Duration::from_millis(1), Duration::from_secs(365 * 86_400));
        let rules = [
            ("voters", "holds 1 to 31 nodes", (1..=VOTERS_MAX).contains(&self.voters.len())),
            ("observers", "holds at most 1024 nodes", self.observers.len() <= 1024),
            ("voters", "and observers name no node twice", all.len() == count),
            ("voters", "or observers hold this node", all.contains(&node)),
            ("lease", "is at most a year", self.lease <= year),
            ("renew_interval", "is at least 1 ms", self.renew_interval >= ms),
            ("renew_interval", "is at most half the lease", self.renew_interval <= self.lease / 2),
            ("campaign_wait_min", "is at least 1 ms", self.campaign_wait_min >= ms),
            (
                "campaign_wait_max",
                "is not below campaign_wait_min",
                (self.campaign_wait_min..=year).contains(&self.campaign_wait_max),
            ),
            ("drift_ppm", "is at most 100,000", self.drift_ppm <= 100_000),
        ];
        match rules.into_iter().find(|(_, _, kept)| !kept) {
            Some((field, rule, _)) => Err(Error::Config { field, rule }),
            None => Ok(()),
        }
    }
}
