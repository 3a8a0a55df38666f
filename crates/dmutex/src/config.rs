//! How a node is set up.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

use quorate_transport::{NodeId, Ticket};
use thiserror::Error;

/// Nodes of one group at most.
pub const NODES_MAX: usize = 128;

/// The configuration of one node; `nodes` is the same on all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// All nodes, this one among them. Each of them must answer before one may enter.
    pub nodes: Vec<NodeId>,
    /// How long a question may stay unanswered before it is asked again; doubled each time, up to
    /// eight times this. Above a round trip; shorter recovers from losses sooner and asks more
    /// holders in vain. Default 200 ms.
    pub retry_interval: Duration,
    /// A peer that has said nothing for so long while it was waited for is reported as silent.
    /// Default 2 s.
    pub silent_after: Duration,
    /// Resources that this node holds or waits for at the same time. Default 65,536.
    pub resources_max: usize,
    /// Requests of this node that wait for one resource. Default 1,024.
    pub waiters_max: usize,
    /// Stamps that one record reserves: after a crash so many at most are skipped, and one record
    /// is synced for so many requests. Default 4,096.
    pub reserve: u64,
}

/// Why a node cannot start. No state was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// The configuration breaks a rule: the caller's fault.
    #[error("{field}: {rule}")]
    Config {
        /// The field.
        field: &'static str,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// The journal's records contradict each other: damage that its checksums did not show.
    #[error("record {at} contradicts the journal before it: {rule}")]
    Journal {
        /// The record.
        at: Ticket,
        /// The rule it breaks.
        rule: &'static str,
    },
}

impl Config {
    /// The defaults for these nodes.
    #[must_use]
    pub fn new(nodes: impl IntoIterator<Item = NodeId>) -> Self {
        Self {
            nodes: nodes.into_iter().collect(),
            retry_interval: Duration::from_millis(200),
            silent_after: Duration::from_secs(2),
            resources_max: 1 << 16,
            waiters_max: 1 << 10,
            reserve: 1 << 12,
        }
    }

    /// Checks every rule.
    ///
    /// # Errors
    /// [`Error::Config`] names the field and the rule it breaks.
    pub fn validate(&self, node: NodeId) -> Result<(), Error> {
        let unique: BTreeSet<_> = self.nodes.iter().collect();
        let ms = Duration::from_millis(1);
        let rules = [
            ("nodes", "holds 1 to 128 nodes", (1..=NODES_MAX).contains(&self.nodes.len())),
            ("nodes", "names no node twice", unique.len() == self.nodes.len()),
            ("nodes", "holds this node", unique.contains(&node)),
            ("retry_interval", "is at least 1 ms", self.retry_interval >= ms),
            (
                "silent_after",
                "is at least twice the retry interval",
                self.silent_after >= self.retry_interval.saturating_mul(2),
            ),
            ("resources_max", "is at least 1", self.resources_max >= 1),
            ("waiters_max", "is at least 1", self.waiters_max >= 1),
            ("reserve", "is between 1 and 2^32", (1..=1 << 32).contains(&self.reserve)),
        ];
        match rules.into_iter().find(|(_, _, kept)| !kept) {
            Some((field, rule, _)) => Err(Error::Config { field, rule }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_rule_is_named() {
        let good = Config::new([1, 2, 3].map(NodeId));
        assert_eq!(good.validate(NodeId(1)), Ok(()));
        type Break = (&'static str, fn(&mut Config));
        let breaks: [Break; 7] = [
            ("nodes", |c| c.nodes.clear()),
            ("nodes", |c| c.nodes.push(NodeId(1))),
            ("retry_interval", |c| c.retry_interval = Duration::ZERO),
            ("silent_after", |c| c.silent_after = c.retry_interval),
            ("resources_max", |c| c.resources_max = 0),
            ("waiters_max", |c| c.waiters_max = 0),
            ("reserve", |c| c.reserve = 0),
        ];
        for (want, change) in breaks {
            let mut bad = good.clone();
            change(&mut bad);
            let Err(Error::Config { field, .. }) = bad.validate(NodeId(1)) else {
                panic!("{want}")
            };
            assert_eq!(field, want);
        }
        assert!(good.validate(NodeId(9)).is_err());
    }
}
