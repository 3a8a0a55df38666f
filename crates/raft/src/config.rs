//! How a Raft node is set up.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

use quorate_transport::{NodeId, Time};

use crate::error::Error;
use crate::members::MEMBERS_MAX;

/// The configuration of one node; the same on all nodes of a group but for what is said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The voters that found the group, this node among them; the same on all of them. Nobody on a
    /// node that joins later: it waits until a leader has taken it in. What the log says of the
    /// members counts for more, as soon as it says something.
    pub voters: Vec<NodeId>,
    /// How often a leader tells its followers that it lives. A third of `election_timeout_min` or
    /// less, so that one lost heartbeat ends no leadership. Default 50 ms.
    pub heartbeat_interval: Duration,
    /// Heartbeats go out at whole multiples of `heartbeat_interval` of the node's own clock, sooner
    /// than else but never later: all groups of one host wake it once an interval, and their
    /// heartbeats to one peer leave in one write. For hosts of many groups. Default false.
    pub heartbeats_together: bool,
    /// The least silence after which a follower asks for votes, and how long a voter stays true to
    /// a leader it has heard. Several round trips plus a slow sync; shorter fails over sooner and
    /// more often for nothing. Default 300 ms.
    pub election_timeout_min: Duration,
    /// The greatest such silence; the wider the span, the fewer split votes. Default 600 ms.
    pub election_timeout_max: Duration,
    /// When the connection to the leader was closed, followers ask for votes one after the other,
    /// this far apart, in the order of `voters`: long enough for one election, so that they do not
    /// split the vote. Default 10 ms.
    pub link_down_stagger: Duration,
    /// How much longer this node waits before it campaigns, so that others are preferred as
    /// leaders; it may differ from node to node. Where the others are down it costs that time.
    /// Default 0.
    pub campaign_delay: Duration,
    /// A leader whose own disk or state machine has made no progress for so long hands over and
    /// steps down, though its network works. More than a slow sync takes. Default 2 s.
    pub progress_timeout: Duration,
    /// How far apart the rates of any two clocks of the group may be, in millionths: declaring it
    /// switches lease reads on, which answer without a round of heartbeats, from a lease that a
    /// majority has given. It must be the same on all nodes. A wrong bound makes reads stale and
    /// does nothing else; a clock that stops while a node sleeps breaks any bound. With leases a
    /// closed connection and `Request::ForgetLeader` no longer hasten an election, and a node that
    /// starts gives no vote for `election_timeout_min`. Default none; at most 500,000. [Raft
    /// thesis §6.4.1]
    pub clock_drift_ppm: Option<u32>,
    /// How far what is applied here may lie behind, in entries, for a follower to answer reads;
    /// past it they are refused at once. Default 10,000.
    pub read_lag_max: u64,
    /// How long an unanswered append may be under way before it is sent again. Default 150 ms.
    pub resend_after: Duration,
    /// Payload of one batch at most, and so of one proposal, in bytes. Default 1 MiB.
    pub batch_bytes_max: usize,
    /// Entries of one message at most, in encoded bytes, but always one batch; more follow in the
    /// next message. Default 1 MiB.
    pub append_bytes_max: usize,
    /// Entries sent to one follower and not yet acknowledged, in bytes; at least two batches, so
    /// that a batch is never split. It is the most: a window grows from 256 KiB while answers come
    /// quickly, and shrinks when they queue or something is lost. Default 8 MiB.
    pub window_bytes_max: usize,
    /// Appends sent to one follower and not yet acknowledged. Default 256.
    pub window_count_max: usize,
    /// Memory of what a leader takes in beyond what is committed, in bytes; past it proposals are
    /// refused as busy, but one at a time. Beside its payload an entry counts 4 bytes, and a batch
    /// of entries 192, here and in the two limits below. Default 64 MiB.
    pub uncommitted_bytes_max: usize,
    /// Memory of what is emitted as committed and not yet reported as applied, in bytes; past it
    /// no more is emitted, and proposals are refused. Default 64 MiB.
    pub unapplied_bytes_max: usize,
    /// Reads that wait for a round of heartbeats at most. Default 65,536 ranges.
    pub reads_max: usize,
    /// Memory of compacted entries that are kept for slow followers, in bytes; one that is
    /// slower gets a snapshot. While one gets a snapshot, what follows that is kept too, up to the
    /// length of the snapshot and `uncommitted_bytes_max`, or four times this. Default 16 MiB.
    pub keep_bytes_max: usize,
    /// Bytes of one piece of a snapshot. Default 256 KiB.
    pub snapshot_chunk_bytes: usize,
}

impl Config {
    /// The defaults for a node that joins a group later.
    #[must_use]
    pub fn joining() -> Self {
        Self::new([])
    }

    /// The defaults for these voters.
    #[must_use]
    pub fn new(voters: impl IntoIterator<Item = NodeId>) -> Self {
        Self {
            voters: voters.into_iter().collect(),
            heartbeat_interval: Duration::from_millis(50),
            heartbeats_together: false,
            election_timeout_min: Duration::from_millis(300),
            election_timeout_max: Duration::from_millis(600),
            link_down_stagger: Duration::from_millis(10),
            campaign_delay: Duration::ZERO,
            progress_timeout: Duration::from_secs(2),
            clock_drift_ppm: None,
            read_lag_max: 10_000,
            resend_after: Duration::from_millis(150),
            batch_bytes_max: 1 << 20,
            append_bytes_max: 1 << 20,
            window_bytes_max: 8 << 20,
            window_count_max: 256,
            uncommitted_bytes_max: 64 << 20,
            unapplied_bytes_max: 64 << 20,
            reads_max: 1 << 16,
            keep_bytes_max: 16 << 20,
            snapshot_chunk_bytes: 256 << 10,
        }
    }

    /// When a leader acts again that wants to after `wait`.
    pub(crate) fn leader_due(&self, now: Time, wait: Duration) -> Time {
        if !self.heartbeats_together {
            return now + wait;
        }
        let every = self.heartbeat_interval.as_nanos() as u64;
        Time::from_nanos(((now + wait).as_nanos() / every).saturating_mul(every).max(1))
    }

    /// Checks every rule.
    ///
    /// # Errors
    /// [`Error::Config`] names the field and the rule it breaks.
    pub fn validate(&self, node: NodeId) -> Result<(), Error> {
        let unique: BTreeSet<_> = self.voters.iter().collect();
        let ms = Duration::from_millis(1);
        let rules = [
            ("voters", "holds 31 nodes at most", self.voters.len() <= MEMBERS_MAX),
            ("voters", "names no node twice", unique.len() == self.voters.len()),
            (
                "voters",
                "holds this node, or nobody where it joins",
                unique.is_empty() || unique.contains(&node),
            ),
            ("heartbeat_interval", "is at least 1 ms", self.heartbeat_interval >= ms),
            (
                "election_timeout_min",
                "is at least twice the heartbeat interval",
                self.election_timeout_min >= self.heartbeat_interval * 2,
            ),
            (
                "election_timeout_max",
                "is not below election_timeout_min",
                self.election_timeout_max >= self.election_timeout_min,
            ),
            ("campaign_delay", "is below one minute", self.campaign_delay < 60_000 * ms),
            (
                "progress_timeout",
                "is not below election_timeout_min",
                self.progress_timeout >= self.election_timeout_min,
            ),
            (
                "clock_drift_ppm",
                "is at most a half",
                self.clock_drift_ppm.is_none_or(|ppm| ppm <= 500_000),
            ),
            ("resend_after", "is at least 1 ms", self.resend_after >= ms),
            (
                "batch_bytes_max",
                "is between 1 KiB and 16 MiB",
                (1 << 10..=16 << 20).contains(&self.batch_bytes_max),
            ),
            (
                "window_bytes_max",
                "holds two batches",
                self.window_bytes_max / 2 >= self.batch_bytes_max,
            ),
            ("window_count_max", "is at least 1", self.window_count_max >= 1),
            (
                "uncommitted_bytes_max",
                "holds a batch",
                self.uncommitted_bytes_max >= self.batch_bytes_max,
            ),
            (
                "unapplied_bytes_max",
                "holds a batch",
                self.unapplied_bytes_max >= self.batch_bytes_max,
            ),
            ("reads_max", "is at least 1", self.reads_max >= 1),
            (
                "snapshot_chunk_bytes",
                "is between 1 byte and 16 MiB",
                (1..=16 << 20).contains(&self.snapshot_chunk_bytes),
            ),
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
        let node = NodeId(1);
        let good = Config::new([node, NodeId(2), NodeId(3)]);
        assert_eq!(good.validate(node), Ok(()));
        type Break = (&'static str, fn(&mut Config));
        let breaks: [Break; 9] = [
            ("voters", |c| c.voters = (1..=32).map(NodeId).collect()),
            ("voters", |c| c.voters.push(NodeId(1))),
            ("election_timeout_min", |c| c.heartbeat_interval = Duration::from_secs(1)),
            ("election_timeout_max", |c| c.election_timeout_max = Duration::ZERO),
            ("campaign_delay", |c| c.campaign_delay = Duration::MAX),
            ("progress_timeout", |c| c.progress_timeout = Duration::ZERO),
            ("clock_drift_ppm", |c| c.clock_drift_ppm = Some(500_001)),
            ("window_bytes_max", |c| c.window_bytes_max = 1),
            ("snapshot_chunk_bytes", |c| c.snapshot_chunk_bytes = 0),
        ];
        for (want, change) in breaks {
            let mut bad = good.clone();
            change(&mut bad);
            let Err(Error::Config { field, .. }) = bad.validate(node) else { panic!("{want}") };
            assert_eq!(field, want);
        }
        assert!(good.validate(NodeId(9)).is_err());
    }
}
