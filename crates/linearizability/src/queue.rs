//! The model of queues: first in, first out.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::marker::PhantomData;

use super::Model;

/// Queues by key, empty at first; every key is a partition of its own.
#[derive(Debug)]
pub struct Queue<K, V>(PhantomData<(K, V)>);

/// What a client asks of a [`Queue`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QueueOp<K, V> {
    /// Puts a value behind all others: answered [`QueueOutput::Done`].
    Enqueue {
        /// Where.
        key: K,
        /// What.
        value: V,
    },
    /// Takes the value before all others: answered [`QueueOutput::Value`].
    Dequeue {
        /// Where.
        key: K,
    },
}

/// What a client of a [`Queue`] is answered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QueueOutput<V> {
    /// It took effect.
    Done,
    /// What was taken; `None` from an empty queue.
    Value(Option<V>),
}

impl<K, V> Model for Queue<K, V>
where
    K: Clone + Ord + Debug,
    V: Clone + Ord + Debug,
{
    type Key = K;
    type State = VecDeque<V>;
    type Op = QueueOp<K, V>;
    type Output = QueueOutput<V>;

    fn init() -> Self::State {
        VecDeque::new()
    }

    fn step(
        state: &Self::State,
        op: &Self::Op,
        output: Option<&Self::Output>,
    ) -> Option<Self::State> {
        let mut after = state.clone();
        let answer = match op {
            QueueOp::Enqueue { value, .. } => {
                after.push_back(value.clone());
                QueueOutput::Done
            }
            QueueOp::Dequeue { .. } => QueueOutput::Value(after.pop_front()),
        };
        output.is_none_or(|output| *output == answer).then_some(after)
    }

    fn partition_key(op: &Self::Op) -> K {
        match op {
            QueueOp::Enqueue { key, .. } | QueueOp::Dequeue { key } => key.clone(),
        }
    }
}
