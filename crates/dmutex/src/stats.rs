//! What a node has seen and where it stands.

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests sent to peers for the first time.
    pub requests_sent: u64,
    /// Permissions sent.
    pub permissions_sent: u64,
    /// Requests put off until this node has left.
    pub deferred: u64,
    /// Requests sent again for want of an answer.
    pub requests_again: u64,
    /// Times a resource was entered.
    pub granted: u64,
    /// Requests whose patience ended.
    pub timed_out: u64,
    /// Requests refused because of a limit.
    pub busy: u64,
    /// Words of former lives or for former requests, ignored.
    pub stale: u64,
    /// Messages ignored: from strangers, or with stamps that no honest node reaches.
    pub refused: u64,
}

/// Where a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// True once every peer has answered this life's first question.
    pub joined: bool,
    /// The logical clock.
    pub clock: u64,
    /// Resources held.
    pub held: usize,
    /// Resources asked for and not held.
    pub wanted: usize,
    /// Counters since the start.
    pub stats: Stats,
}
