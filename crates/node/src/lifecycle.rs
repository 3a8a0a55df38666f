//! The lives of nodes: this one's, and the others' as it sees them.

use std::fmt;

use quorate_detector::Status;

/// Where this node stands.
///
/// ```text
///   Active ──▶ Stopping ──▶ Stopped
///      └──── journal or snapshots failed ────▶ Failed
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// It serves.
    Active,
    /// It takes no more requests; what was appended reaches the disk.
    Stopping,
    /// It has come to an orderly end.
    Stopped,
    /// It stopped itself because going on could break a promise; why.
    Failed(String),
}

impl fmt::Display for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Active => f.write_str("active"),
            Self::Stopping => f.write_str("stopping"),
            Self::Stopped => f.write_str("stopped"),
            Self::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

/// What this node thinks of a member, by the classic three names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It speaks, or has not been silent for long.
    Active,
    /// Silent for longer than expected: slow, paused, cut off or dead.
    Suspended,
    /// Silent for so long that it counts as failed, until it speaks again.
    Failed,
}

impl From<Status> for Standing {
    fn from(status: Status) -> Self {
        match status {
            Status::Alive => Self::Active,
            Status::Suspect => Self::Suspended,
            Status::Failed => Self::Failed,
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Failed => "failed",
        })
    }
}
