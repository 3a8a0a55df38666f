#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod lock;
mod map;
mod queue;
mod search;
mod seen;
mod session;
mod shrink;

use std::collections::BTreeMap;
use std::fmt;

use quorate_transport::Time;

pub use self::lock::{FencedLock, LockOp, LockOutput, LockState};
pub use self::map::{Map, MapOp, MapOutput, Register};
pub use self::queue::{Queue, QueueOp, QueueOutput};
use self::search::{Outcome, Search};
pub use self::session::{SessionOp, SessionOutput, SessionState, Sessions};

/// What an object does when operations come one at a time.
pub trait Model {
    /// Operations with different keys never affect each other, and are checked apart.
    type Key: Clone + Ord + fmt::Debug;
    /// The object, for one key.
    type State: Clone + Ord;
    /// What a client asked for.
    type Op: Clone + fmt::Debug;
    /// What it was answered.
    type Output: Clone + fmt::Debug;

    /// The object before the first operation.
    fn init() -> Self::State;

    /// The object after `op` answered `output`; `None` where it cannot answer that in this state.
    ///
    /// Without an output nobody knows what was answered: then any answer will do.
    fn step(
        state: &Self::State,
        op: &Self::Op,
        output: Option<&Self::Output>,
    ) -> Option<Self::State>;

    /// The part of the object that `op` is about.
    fn partition_key(op: &Self::Op) -> Self::Key;

    /// Whether `op` never changes the object, so that it says nothing without its output.
    fn is_read(op: &Self::Op) -> bool {
        let _ = op;
        false
    }

    /// Whether what `observer` saw may be owed to `op`, which a counterexample then keeps.
    ///
    /// Else "read 1" alone would be the smallest counterexample to every stale read of 1. The
    /// default keeps all that is not a read: always sound, seldom small.
    fn feeds(op: &Self::Op, observer: &Self::Op, observed: &Self::Output) -> bool {
        let _ = (observer, observed);
        !Self::is_read(op)
    }
}

/// One operation of a history.
pub struct Operation<M: Model> {
    /// Who asked; for the reader of a counterexample only.
    pub client: u64,
    /// When it was called, on a clock that all clients share.
    pub called: Time,
    /// When it returned, and with what; `None` where that is not known (a timeout, a crash).
    ///
    /// Such an operation may take effect at any time after its call, or never. One that is known
    /// not to have happened does not belong in a history.
    pub returned: Option<(Time, M::Output)>,
    /// What was asked.
    pub op: M::Op,
}

/// How much work a check may do, in steps of the model; memory grows with it, by some 50 bytes a
/// step at most unless very many operations are open at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Calls of [`Model::step`] over all partitions; shrinking may use as many again.
    pub steps_max: u64,
}

/// What a check found.
#[derive(Debug)]
pub enum Verdict<M: Model> {
    /// There is an order that explains every output.
    Ok,
    /// There is none.
    Illegal(Counterexample<M>),
    /// The budget ran out before either was shown. This is not a pass.
    Unknown,
}

/// Operations of one key that no order explains.
pub struct Counterexample<M: Model> {
    /// The key.
    pub key: M::Key,
    /// By time of call. Leaving out any one makes the rest explainable, or takes away what another
    /// one's output may be owed to, as far as the budget allowed to try.
    pub operations: Vec<Operation<M>>,
}

/// Checks a history, in any order, against its model.
///
/// Operations that touch, one called at the very time when the other returned, count as concurrent.
///
/// # Panics
///
/// Where an operation returned before it was called, or the history has 2^30 operations or more.
#[must_use]
pub fn check<M: Model>(history: &[Operation<M>], budget: Budget) -> Verdict<M> {
    let mut partitions: BTreeMap<M::Key, Vec<&Operation<M>>> = BTreeMap::new();
    for operation in history {
        operation.assert_order();
        if operation.returned.is_some() || !M::is_read(&operation.op) {
            partitions.entry(M::partition_key(&operation.op)).or_default().push(operation);
        }
    }
    let (mut steps_left, mut unknown) = (budget.steps_max, false);
    for (key, operations) in partitions {
        let mut search = Search::<M>::new(&operations);
        match search.run(&mut steps_left) {
            Outcome::Legal => {}
            Outcome::OutOfBudget => unknown = true,
            Outcome::Illegal { stuck_at } => {
                drop(search);
                let operations = shrink::shrink(&operations, stuck_at, budget.steps_max);
                return Verdict::Illegal(Counterexample { key, operations });
            }
        }
    }
    if unknown { Verdict::Unknown } else { Verdict::Ok }
}

impl<M: Model> Operation<M> {
    /// An operation that was answered.
    pub fn returned(client: u64, called: Time, at: Time, op: M::Op, output: M::Output) -> Self {
        Self { client, called, returned: Some((at, output)), op }
    }

    /// An operation nobody knows the end of: it may take effect at any time, or never.
    pub fn indeterminate(client: u64, called: Time, op: M::Op) -> Self {
        Self { client, called, returned: None, op }
    }

    fn output(&self) -> Option<&M::Output> {
        self.returned.as_ref().map(|(_, output)| output)
    }

    fn assert_order(&self) {
        if let Some((at, _)) = &self.returned {
            assert!(self.called <= *at, "returned before it was called: {self:?}");
        }
    }
}

impl Default for Budget {
    /// Ten million steps: some seconds, and at most about half a gigabyte.
    fn default() -> Self {
        Self { steps_max: 10_000_000 }
    }
}

impl<M: Model> Clone for Operation<M> {
    fn clone(&self) -> Self {
        let Self { client, called, returned, op } = self;
        Self { client: *client, called: *called, returned: returned.clone(), op: op.clone() }
    }
}

impl<M: Model> fmt::Debug for Operation<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<M: Model> fmt::Display for Operation<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, called, returned, op } = self;
        match returned {
            Some((at, output)) => {
                write!(f, "client {client} [{called:?} .. {at:?}] {op:?} -> {output:?}")
            }
            None => write!(f, "client {client} [{called:?} .. ] {op:?} -> ?"),
        }
    }
}

impl<M: Model> fmt::Debug for Counterexample<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<M: Model> fmt::Display for Counterexample<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no order explains these operations on key {:?}:", self.key)?;
        self.operations.iter().try_for_each(|operation| write!(f, "\n  {operation}"))
    }
}
