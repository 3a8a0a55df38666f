//! How a detector is set up.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

use quorate_transport::NodeId;

use crate::monitor::{Monitor, Phi, PhiParams};
use crate::types::Error;

/// Peers of one node at most.
pub const PEERS_MAX: usize = 1024;

/// The configuration of one node.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Whom to watch and to tell; not this node.
    pub peers: Vec<NodeId>,
    /// How often to tell them. Default 100 ms.
    pub heartbeat_interval: Duration,
    /// How silence is judged; each peer gets a copy. Default phi of 8.
    pub monitor: Monitor,
    /// How long a suspicion lasts before the peer counts as failed. Default 1 s.
    pub failure_after: Duration,
    /// How late an own timer may be before it is this node that stood still. Default 200 ms.
    pub stall_max: Duration,
}

impl Config {
    /// The defaults for these peers.
    #[must_use]
    pub fn new(peers: impl IntoIterator<Item = NodeId>) -> Self {
        let heartbeat_interval = Duration::from_millis(100);
        Self {
            peers: peers.into_iter().collect(),
            heartbeat_interval,
            monitor: Monitor::Phi(Phi::new(heartbeat_interval, PhiParams::default())),
            failure_after: Duration::from_secs(1),
            stall_max: Duration::from_millis(200),
        }
    }

    /// Checks every rule.
    ///
    /// # Errors
    /// [`Error::Config`] names the field and the rule it breaks.
    pub fn validate(&self, node: NodeId) -> Result<(), Error> {
        let unique: BTreeSet<_> = self.peers.iter().collect();
        let (ms, year) = (Duration::from_millis(1), Duration::from_secs(365 * 86_400));
        let within = |span: Duration| (ms..=year).contains(&span);
        let rules = [
            ("peers", "holds at most 1024 nodes", self.peers.len() <= PEERS_MAX),
            ("peers", "names no node twice", unique.len() == self.peers.len()),
            ("peers", "does not hold this node", !unique.contains(&node)),
            ("heartbeat_interval", "is 1 ms to a year", within(self.heartbeat_interval)),
            ("monitor", "has sensible numbers", self.monitor.is_sensible()),
            (
                "monitor",
                "tolerates one heartbeat interval of silence",
                self.monitor.patience() > self.heartbeat_interval,
            ),
            ("failure_after", "is 1 ms to a year", within(self.failure_after)),
            ("stall_max", "is 1 ms to a year", within(self.stall_max)),
        ];
        match rules.into_iter().find(|(_, _, kept)| !kept) {
            Some((field, rule, _)) => Err(Error::Config { field, rule }),
            None => Ok(()),
        }
    }
}
