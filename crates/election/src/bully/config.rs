//! How a bully election is set up.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

use quorate_transport::NodeId;

use crate::types::Error;

/// Nodes at most: an election may cost the square of their number.
pub const NODES_MAX: usize = 128;

/// The configuration of one node; the same on all nodes, or two may lead without any fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// All nodes, this one among them.
    pub nodes: Vec<NodeId>,
    /// How long an ANSWER may take; whoever is slower counts as dead. Default 200 ms.
    pub answer_timeout: Duration,
    /// How long, after an ANSWER, a COORDINATOR may take before this node asks again: longer than
    /// `answer_timeout`, which the one that answered waits itself. Default 1 s.
    pub coordinator_timeout: Duration,
    /// How often a leader announces itself again. `None` is the article's: once, and the verdict
    /// on a silent leader is left to a detector and [`Request::Elect`](super::Request::Elect).
    /// Default 200 ms.
    pub announce_interval: Option<Duration>,
    /// How long a leader that announces itself may be silent before it counts as dead. Default 1 s.
    pub leader_timeout: Duration,
}

impl Config {
    /// The defaults for these nodes.
    #[must_use]
    pub fn new(nodes: impl IntoIterator<Item = NodeId>) -> Self {
        let ms = Duration::from_millis;
        Self {
            nodes: nodes.into_iter().collect(),
            answer_timeout: ms(200),
            coordinator_timeout: ms(1000),
            announce_interval: Some(ms(200)),
            leader_timeout: ms(1000),
        }
    }

    /// Checks every rule.
    ///
    /// # Errors
    /// [`Error::Config`] names the field and the rule it breaks.
    pub fn validate(&self, node: NodeId) -> Result<(), Error> {
        let unique: BTreeSet<_> = self.nodes.iter().collect();
        let (ms, year) = (Duration::from_millis(1), Duration::from_secs(365 * 86_400));
        let within = |span: Duration| (ms..=year).contains(&span);
        let interval = self.announce_interval;
        let rules = [
            ("nodes", "holds at most 128 nodes", self.nodes.len() <= NODES_MAX),
            ("nodes", "names no node twice", unique.len() == self.nodes.len()),
            ("nodes", "holds this node", unique.contains(&node)),
            ("answer_timeout", "is 1 ms to a year", within(self.answer_timeout)),
            (
                "coordinator_timeout",
                "is above answer_timeout",
                self.coordinator_timeout > self.answer_timeout,
            ),
            ("coordinator_timeout", "is at most a year", self.coordinator_timeout <= year),
            ("announce_interval", "is none, or 1 ms to a year", interval.is_none_or(within)),
            (
                "leader_timeout",
                "is at least twice announce_interval",
                interval.is_none_or(|interval| self.leader_timeout >= interval * 2),
            ),
            ("leader_timeout", "is 1 ms to a year", within(self.leader_timeout)),
        ];
        match rules.into_iter().find(|(_, _, kept)| !kept) {
            Some((field, rule, _)) => Err(Error::Config { field, rule }),
            None => Ok(()),
        }
    }
}
