//! How a node is set up.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

use quorate_transport::NodeId;

use crate::error::Error;

/// Nodes of one group at most.
pub const NODES_MAX: usize = 64;

/// The configuration of one node; limits and nodes are the same on all nodes of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// All nodes that may coordinate or take part, this one among them.
    pub nodes: Vec<NodeId>,
    /// How long a coordinator waits for votes before it aborts. Longer tolerates slower
    /// applications and holds their locks longer. Default 5 s.
    pub prepare_timeout: Duration,
    /// How long before an unanswered prepare or commit is sent again; doubles each time up to
    /// `resend_max`. A few round trips plus a slow sync. Default 200 ms.
    pub resend_after: Duration,
    /// How long a participant waits for an outcome before it asks; doubles each time up to
    /// `resend_max`. Default 500 ms.
    pub inquire_after: Duration,
    /// The longest pause between two attempts. Default 5 s.
    pub resend_max: Duration,
    /// Transactions open at a coordinator: undecided, or committed and not acknowledged by all.
    /// Past it a new one is refused. Default 65,536.
    pub open_max: usize,
    /// Transactions that a participant holds open; past it it votes no. Default 65,536.
    pub held_max: usize,
    /// How far the newest transaction of a coordinator may be ahead of its oldest undecided one:
    /// what participants remember of closed transactions is bounded by it. Default 65,536.
    pub window_max: usize,
    /// Payload for one participant, in bytes. Default 1 MiB.
    pub payload_bytes_max: usize,
}

impl Config {
    /// The defaults for these nodes.
    #[must_use]
    pub fn new(nodes: impl IntoIterator<Item = NodeId>) -> Self {
        Self {
            nodes: nodes.into_iter().collect(),
            prepare_timeout: Duration::from_secs(5),
            resend_after: Duration::from_millis(200),
            inquire_after: Duration::from_millis(500),
            resend_max: Duration::from_secs(5),
            open_max: 1 << 16,
            held_max: 1 << 16,
            window_max: 1 << 16,
            payload_bytes_max: 1 << 20,
        }
    }

    /// Checks every rule.
    ///
    /// # Errors
    /// [`Error::Config`] names the field and the rule it breaks.
    pub fn validate(&self, node: NodeId) -> Result<(), Error> {
        let unique: BTreeSet<_> = self.nodes.iter().collect();
        let ms = Duration::from_millis(1);
        let longest = self.resend_after.max(self.inquire_after);
        let rules = [
            ("nodes", "holds 1 to 64 nodes", (1..=NODES_MAX).contains(&self.nodes.len())),
            ("nodes", "names no node twice", unique.len() == self.nodes.len()),
            ("nodes", "holds this node", unique.contains(&node)),
            ("prepare_timeout", "is at least 1 ms", self.prepare_timeout >= ms),
            ("resend_after", "is at least 1 ms", self.resend_after >= ms),
            ("inquire_after", "is at least 1 ms", self.inquire_after >= ms),
            ("resend_max", "is not below the first pause", self.resend_max >= longest),
            ("open_max", "is at least 1", self.open_max >= 1),
            ("held_max", "is at least 1", self.held_max >= 1),
            ("window_max", "is at least 1", self.window_max >= 1),
            ("payload_bytes_max", "is at most 16 MiB", self.payload_bytes_max <= 16 << 20),
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
        let good = Config::new([1, 2].map(NodeId));
        assert_eq!(good.validate(NodeId(1)), Ok(()));
        type Break = (&'static str, fn(&mut Config));
        let breaks: [Break; 9] = [
            ("nodes", |c| c.nodes.clear()),
            ("nodes", |c| c.nodes.push(NodeId(1))),
            ("prepare_timeout", |c| c.prepare_timeout = Duration::ZERO),
            ("resend_after", |c| c.resend_after = Duration::ZERO),
            ("resend_max", |c| c.inquire_after = Duration::from_secs(9)),
            ("open_max", |c| c.open_max = 0),
            ("held_max", |c| c.held_max = 0),
            ("window_max", |c| c.window_max = 0),
            ("payload_bytes_max", |c| c.payload_bytes_max = usize::MAX),
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
