//! When which transaction wants attention.

use alloc::collections::BTreeSet;

use quorate_transport::Time;

use crate::types::TxnId;

/// In which role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Coordinator,
    Participant,
}

/// An ordered set: each transaction and role has at most one entry, which its owner remembers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers {
    due: BTreeSet<(Time, Role, TxnId)>,
}

impl Timers {
    pub(crate) fn set(&mut self, at: Time, role: Role, txn: TxnId) {
        self.due.insert((at, role, txn));
    }

    pub(crate) fn clear(&mut self, at: Time, role: Role, txn: TxnId) {
        self.due.remove(&(at, role, txn));
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.due.first().map(|(at, ..)| *at)
    }

    pub(crate) fn pop_due(&mut self, now: Time) -> Option<(Role, TxnId)> {
        let (at, role, txn) = *self.due.first()?;
        if at > now {
            return None;
        }
        self.due.pop_first();
        Some((role, txn))
    }
}
