//! Why a node cannot start.

use quorate_transport::{SnapshotId, Ticket};
use thiserror::Error;

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
    #[error(
        "record {at} contradicts the journal before it: {rule}; remove this node from its group, \
         and add it again with an empty data directory"
    )]
    Journal {
        /// The record.
        at: Ticket,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// The journal names a snapshot that the store does not hold.
    #[error(
        "the journal names snapshot {}@{}, which is missing; remove this node from its group, and \
         add it again with an empty data directory",
        .0.index,
        .0.term
    )]
    SnapshotMissing(SnapshotId),
}
