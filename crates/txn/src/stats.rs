//! What a machine has seen.

/// Counters of one life, and two gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Transactions begun here.
    pub begun: u64,
    /// Transactions begun here that committed.
    pub committed: u64,
    /// Transactions begun here that aborted.
    pub aborted: u64,
    /// Requests refused at a limit or for a broken rule.
    pub rejected: u64,
    /// Prepares answered no because a limit was reached.
    pub refused: u64,
    /// Messages that made no sense, or came from a stranger or too late.
    pub ignored: u64,
    /// Questions answered "aborted" because nothing was known of the transaction.
    pub presumed: u64,
    /// Messages sent again.
    pub resent: u64,
    /// Questions asked about transactions in doubt.
    pub inquiries: u64,
    /// Transactions that are in doubt now: prepared, outcome unknown.
    pub in_doubt: u64,
    /// Of these, those that everybody was asked about in vain: their locks are held.
    pub blocked: u64,
}
