//! How a replica is set up.

use quorate_transport::NodeId;
use thiserror::Error;

/// The configuration of one replica; the same on all of a group but for what is said otherwise.
#[derive(Clone, Debug)]
pub struct Config<S> {
    /// Of the Raft group.
    pub raft: quorate_raft::Config,
    /// The state machine as it is before the first entry.
    pub state: S,
    /// Sessions that are remembered; the least recently used makes room for a new one. Must be
    /// equal on all replicas. Default 4096.
    pub sessions_max: usize,
    /// Answers that are remembered a session, and so the commands that a client may have under
    /// way. Must be equal on all replicas. Default 256.
    pub answers_max: usize,
    /// Payload applied since the last snapshot that makes a new one, in bytes. Default 64 MiB.
    pub snapshot_bytes: u64,
    /// Queries that may wait for their index; more are refused. Default 65,536.
    pub queries_max: usize,
}

impl<S> Config<S> {
    /// The defaults for these voters.
    #[must_use]
    pub fn new(voters: impl IntoIterator<Item = NodeId>, state: S) -> Self {
        Self {
            raft: quorate_raft::Config::new(voters),
            state,
            sessions_max: 4096,
            answers_max: 256,
            snapshot_bytes: 64 << 20,
            queries_max: 1 << 16,
        }
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        let rules = [
            ("sessions_max", self.sessions_max >= 1),
            ("answers_max", self.answers_max >= 1),
            ("snapshot_bytes", self.snapshot_bytes >= 1),
            ("queries_max", self.queries_max >= 1),
        ];
        match rules.into_iter().find(|(_, kept)| !kept) {
            Some((field, _)) => Err(Error::Config { field, rule: "is at least 1" }),
            None => Ok(()),
        }
    }
}

/// Why a replica cannot start. No state was changed.
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
    /// Raft's own words.
    #[error(transparent)]
    Raft(#[from] quorate_raft::Error),
}
