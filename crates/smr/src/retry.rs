//! Whether asking again is safe.

use crate::applier::Outcome;
use crate::request::{Rejection, Reply};

/// What asking again may do, of a request that was not answered as wished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Retry {
    /// Nothing was done, and nothing will be: asking again is safe, here or elsewhere.
    Safe,
    /// It was done or not. Asking again may do it twice, unless it is the same command of the same
    /// session.
    Unsafe,
    /// Nothing was done, and asking again in the same words is in vain.
    Never,
}

impl Reply {
    /// Whether asking again is safe; `None` for what was done.
    #[must_use]
    pub fn retry(&self) -> Option<Retry> {
        match self {
            Self::Rejected(rejection) => Some(rejection.retry()),
            Self::Unknown => Some(Retry::Unsafe),
            Self::Compacted { .. } => Some(Retry::Never),
            Self::Applied { .. }
            | Self::Answer { .. }
            | Self::ReadIndex { .. }
            | Self::Changes { .. }
            | Self::Digest { .. }
            | Self::Audited { .. }
            | Self::Transferred
            | Self::MembersChanged { .. } => None,
        }
    }
}

impl Rejection {
    /// Whether asking again is safe: [`Safe`](Retry::Safe) or [`Never`](Retry::Never), for nothing
    /// was done.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::NotLeader { .. }
            | Self::Busy
            | Self::NotFresh
            | Self::TransferFailed
            | Self::Changing
            | Self::Cancelled => Retry::Safe,
            Self::Size | Self::NoHistory | Self::BadChange { .. } => Retry::Never,
        }
    }
}

impl Outcome {
    /// Whether sending the command again, in a new session where its own is gone, is safe; `None`
    /// for what was done.
    #[must_use]
    pub fn retry(&self) -> Option<Retry> {
        match self {
            Self::Done(_) | Self::Opened(_) => None,
            Self::Forgotten | Self::Expired => Some(Retry::Unsafe),
            Self::Strange => Some(Retry::Never),
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_raft::Index;

    use super::*;

    #[test]
    fn every_refusal_says_whether_asking_again_is_safe() {
        for (reply, want) in [
            (Reply::Rejected(Rejection::NotLeader { leader: None }), Some(Retry::Safe)),
            (Reply::Rejected(Rejection::Busy), Some(Retry::Safe)),
            (Reply::Rejected(Rejection::NotFresh), Some(Retry::Safe)),
            (Reply::Rejected(Rejection::TransferFailed), Some(Retry::Safe)),
            (Reply::Rejected(Rejection::Changing), Some(Retry::Safe)),
            (Reply::Rejected(Rejection::BadChange { rule: "" }), Some(Retry::Never)),
            (Reply::MembersChanged { index: Index(1) }, None),
            (Reply::Rejected(Rejection::Size), Some(Retry::Never)),
            (Reply::Rejected(Rejection::NoHistory), Some(Retry::Never)),
            (Reply::Compacted { first: Index(1) }, Some(Retry::Never)),
            (Reply::Unknown, Some(Retry::Unsafe)),
            (Reply::Transferred, None),
        ] {
            assert_eq!(reply.retry(), want, "{reply:?}");
        }
        assert_eq!(
            Outcome::Expired.retry(),
            Some(Retry::Unsafe),
            "it may have been applied before"
        );
        assert_eq!(Outcome::Strange.retry(), Some(Retry::Never));
        assert_eq!(Outcome::Done(bytes::Bytes::new()).retry(), None);
    }
}
