//! How a replica is set up.

use core::time::Duration;

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
    /// How long a session is remembered that is not used, in log time: time that leaders have
    /// served (see [`Status::log_time`](crate::Status::log_time)). It is never less, and up to four
    /// `tick_interval`s more. A client that is away for longer cannot learn what became of its last
    /// commands. Must be equal on all replicas. Default 1 h.
    pub session_ttl: Duration,
    /// How often a leader writes into the log how much time has passed, while there are sessions:
    /// each is an entry. Must be equal on all replicas. Default 10 s.
    pub tick_interval: Duration,
    /// How often a leader has all replicas compare their states, while commands come: each walks
    /// over its whole state, in the steps of a snapshot. Default 10 min.
    pub audit_interval: Duration,
    /// What is applied in one step, in bytes with 16 for each command, before messages and timers
    /// get their turn: it bounds how long a replica is deaf, whatever has become committed at once,
    /// to what the state machine takes for it. A slow state machine wants less. Default 1 MiB.
    pub apply_step_bytes: usize,
    /// Commands are applied on another thread, a step's worth at a time, while the replica goes on
    /// with all that needs no state: for a state machine whose commands may take long. A hand-over
    /// takes some ten microseconds, which commands that take less had better not pay. Default
    /// false: a step is applied between messages and timers.
    pub apply_apart: bool,
    /// What is applied since the last snapshot that makes a new one, in bytes with 16 for each
    /// command. A snapshot that was longer than this takes its own length in its place, so that a
    /// large state is not written over and over. Default 64 MiB.
    pub snapshot_bytes: u64,
    /// The most, counted likewise, that may be applied before a new snapshot begins, however long
    /// the last one was: what a restart has to apply again, and twice this is what the journal
    /// should have room for. Default 256 MiB.
    pub snapshot_bytes_max: u64,
    /// The longest time from the first command after a snapshot to the next one, however little was
    /// applied: what a restart has to apply again is never older. Default 1 h.
    pub snapshot_interval: Duration,
    /// What one step writes of a snapshot, in bytes, before anything else gets its turn. Larger
    /// ends sooner and makes commands wait longer. Default 256 KiB.
    pub snapshot_step_bytes: usize,
    /// The time from one step to the next. Together with `snapshot_step_bytes` it bounds what a
    /// snapshot takes of the processor and the disk. Default 1 ms.
    pub snapshot_step_interval: Duration,
    /// Queries that may wait for their index; more are refused. Default 65,536.
    pub queries_max: usize,
    /// Changes that are kept for watchers, in bytes with 24 for each: how far behind a watcher may
    /// be, or how long away, before it is told [`Compacted`](crate::Reply::Compacted). Twice of it
    /// is never taken. 0 keeps none, and refuses watchers. Default 4 MiB.
    pub history_bytes_max: usize,
    /// Watchers that may wait for a change; more are refused. Default 4096.
    pub watches_max: usize,
    /// How long an answer to a watcher grows, in bytes, before it ends with the changes of one
    /// entry. Default 256 KiB.
    pub watch_bytes_max: usize,
    /// How long a watcher may wait for a change before it is told that there was none: what a
    /// watcher that went away is remembered for. Default 60 s.
    pub watch_wait_max: Duration,
}

const MILLI: Duration = Duration::from_millis(1);

impl<S> Config<S> {
    /// The defaults for these voters.
    #[must_use]
    pub fn new(voters: impl IntoIterator<Item = NodeId>, state: S) -> Self {
        Self {
            raft: quorate_raft::Config::new(voters),
            state,
            sessions_max: 4096,
            answers_max: 256,
            session_ttl: Duration::from_secs(3600),
            tick_interval: Duration::from_secs(10),
            audit_interval: Duration::from_secs(600),
            apply_step_bytes: 1 << 20,
            apply_apart: false,
            snapshot_bytes: 64 << 20,
            snapshot_bytes_max: 256 << 20,
            snapshot_interval: Duration::from_secs(3600),
            snapshot_step_bytes: 256 << 10,
            snapshot_step_interval: Duration::from_millis(1),
            queries_max: 1 << 16,
            history_bytes_max: 4 << 20,
            watches_max: 4096,
            watch_bytes_max: 256 << 10,
            watch_wait_max: Duration::from_secs(60),
        }
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        let one = "is at least 1";
        let rules = [
            ("sessions_max", one, self.sessions_max >= 1),
            ("answers_max", one, self.answers_max >= 1),
            (
                "session_ttl",
                "is between 1 ms and a year",
                (MILLI..=Duration::from_secs(365 * 86_400)).contains(&self.session_ttl),
            ),
            (
                "tick_interval",
                "is at least 1 ms and at most session_ttl",
                (MILLI..=self.session_ttl).contains(&self.tick_interval),
            ),
            (
                "audit_interval",
                "is between 1 ms and a year",
                (MILLI..=Duration::from_secs(365 * 86_400)).contains(&self.audit_interval),
            ),
            ("apply_step_bytes", one, self.apply_step_bytes >= 1),
            ("snapshot_bytes", one, self.snapshot_bytes >= 1),
            (
                "snapshot_bytes_max",
                "is not below snapshot_bytes",
                self.snapshot_bytes_max >= self.snapshot_bytes,
            ),
            (
                "snapshot_interval",
                "is between 1 ms and a year",
                (MILLI..=Duration::from_secs(365 * 86_400)).contains(&self.snapshot_interval),
            ),
            ("snapshot_step_bytes", one, self.snapshot_step_bytes >= 1),
            (
                "snapshot_step_interval",
                "is between 1 us and 1 s",
                (Duration::from_micros(1)..=Duration::from_secs(1))
                    .contains(&self.snapshot_step_interval),
            ),
            ("queries_max", one, self.queries_max >= 1),
            ("watches_max", one, self.watches_max >= 1),
            ("watch_bytes_max", one, self.watch_bytes_max >= 1),
            (
                "watch_wait_max",
                "is at most an hour",
                self.watch_wait_max <= Duration::from_secs(3600),
            ),
        ];
        match rules.into_iter().find(|(_, _, kept)| !kept) {
            Some((field, rule, _)) => Err(Error::Config { field, rule }),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_rule_is_named() {
        let good = Config::new([NodeId(1)], ());
        assert_eq!(good.validate(), Ok(()));
        type Break = (&'static str, fn(&mut Config<()>));
        let breaks: [Break; 18] = [
            ("sessions_max", |c| c.sessions_max = 0),
            ("answers_max", |c| c.answers_max = 0),
            ("session_ttl", |c| c.session_ttl = Duration::ZERO),
            ("session_ttl", |c| c.session_ttl = Duration::MAX),
            ("tick_interval", |c| c.tick_interval = Duration::ZERO),
            ("tick_interval", |c| c.tick_interval = c.session_ttl + Duration::from_millis(1)),
            ("audit_interval", |c| c.audit_interval = Duration::ZERO),
            ("apply_step_bytes", |c| c.apply_step_bytes = 0),
            ("snapshot_bytes", |c| c.snapshot_bytes = 0),
            ("snapshot_bytes_max", |c| c.snapshot_bytes_max = c.snapshot_bytes - 1),
            ("snapshot_interval", |c| c.snapshot_interval = Duration::ZERO),
            ("snapshot_step_bytes", |c| c.snapshot_step_bytes = 0),
            ("snapshot_step_interval", |c| c.snapshot_step_interval = Duration::ZERO),
            ("snapshot_step_interval", |c| c.snapshot_step_interval = Duration::MAX),
            ("queries_max", |c| c.queries_max = 0),
            ("watches_max", |c| c.watches_max = 0),
            ("watch_bytes_max", |c| c.watch_bytes_max = 0),
            ("watch_wait_max", |c| c.watch_wait_max = Duration::MAX),
        ];
        for (want, change) in breaks {
            let mut bad = good.clone();
            change(&mut bad);
            let Err(Error::Config { field, .. }) = bad.validate() else { panic!("{want}") };
            assert_eq!(field, want);
        }
    }
}
