//! The model of locks whose every grant carries a fence.

use std::fmt::Debug;
use std::marker::PhantomData;

use super::Model;

/// Locks by key, free at first; every key is a partition of its own.
///
/// Each grant of a lock carries a greater fence than all grants before it, so that whatever the
/// lock protects can refuse a holder that does not know yet that it lost the lock.
#[derive(Debug)]
pub struct FencedLock<K>(PhantomData<K>);

/// What happens to a [`FencedLock`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockOp<K> {
    /// A client wants it: answered [`LockOutput::Granted`], or [`LockOutput::Held`] while anybody
    /// has it, the client itself too.
    Acquire {
        /// Which lock.
        key: K,
        /// Who.
        client: u64,
    },
    /// A client gives it back: answered [`LockOutput::Released`].
    Release {
        /// Which lock.
        key: K,
        /// Who.
        client: u64,
        /// The fence of the grant that is given back.
        fence: u64,
    },
    /// Its lease has run out: whoever has it loses it. Answered [`LockOutput::Released`].
    Expire {
        /// Which lock.
        key: K,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockOutput {
    /// The client has the lock.
    Granted {
        /// Greater than that of every earlier grant.
        fence: u64,
    },
    /// Somebody has it.
    Held,
    /// Whether there was anything to give back: that grant, or any at all when a lease runs out.
    Released(bool),
}

/// A lock between two operations.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LockState {
    /// The greatest fence that is known to have been granted.
    last: u64,
    /// Who has it, and with which fence; `None` for a fence that nobody was told.
    held: Option<(u64, Option<u64>)>,
}

impl LockState {
    fn acquire(&self, client: u64, output: Option<&LockOutput>) -> Option<Self> {
        match (output, self.held) {
            (Some(LockOutput::Granted { fence }), None) if *fence > self.last => {
                Some(Self { last: *fence, held: Some((client, Some(*fence))) })
            }
            (None, None) => Some(Self { held: Some((client, None)), ..*self }),
            (None | Some(LockOutput::Held), Some(_)) => Some(self.clone()),
            _ => None,
        }
    }

    fn release(&self, client: u64, fence: u64, output: Option<&LockOutput>) -> Option<Self> {
        let holds = match self.held {
            Some((holder, Some(held))) => (holder, held) == (client, fence),
            // Only this grant can have had that fence, for it is greater than all before it.
            Some((holder, None)) => holder == client && fence > self.last,
            None => false,
        };
        let after =
            if holds { Self { last: self.last.max(fence), held: None } } else { self.clone() };
        output.is_none_or(|output| *output == LockOutput::Released(holds)).then_some(after)
    }

    fn expire(&self, output: Option<&LockOutput>) -> Option<Self> {
        let answer = LockOutput::Released(self.held.is_some());
        let after = Self { held: None, ..*self };
        output.is_none_or(|output| *output == answer).then_some(after)
    }
}

impl<K: Clone + Ord + Debug> Model for FencedLock<K> {
    type Key = K;
    type State = LockState;
    type Op = LockOp<K>;
    type Output = LockOutput;

    fn init() -> LockState {
        LockState::default()
    }

    fn step(state: &LockState, op: &LockOp<K>, output: Option<&LockOutput>) -> Option<LockState> {
        match op {
            LockOp::Acquire { client, .. } => state.acquire(*client, output),
            LockOp::Release { client, fence, .. } => state.release(*client, *fence, output),
            LockOp::Expire { .. } => state.expire(output),
        }
    }

    fn partition_key(op: &LockOp<K>) -> K {
        match op {
            LockOp::Acquire { key, .. } | LockOp::Release { key, .. } | LockOp::Expire { key } => {
                key.clone()
            }
        }
    }
}
