//! The model of a map from keys to values, and of its smallest kind, one register.

use std::fmt::Debug;
use std::marker::PhantomData;

use super::Model;

/// A map, empty at first; every key is a partition of its own.
#[derive(Debug)]
pub struct Map<K, V>(PhantomData<(K, V)>);

/// A map with one key.
pub type Register<V> = Map<(), V>;

/// What a client asks of a [`Map`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MapOp<K, V> {
    /// Reads: answered [`MapOutput::Value`].
    Get {
        /// Where.
        key: K,
    },
    /// Writes, whatever was there: answered [`MapOutput::Done`].
    Put {
        /// Where.
        key: K,
        /// What.
        value: V,
    },
    /// Removes, whether or not there was anything: answered [`MapOutput::Done`].
    Delete {
        /// Where.
        key: K,
    },
    /// Writes `value` if the map holds `expected`: answered [`MapOutput::Swapped`].
    CompareAndSet {
        /// Where.
        key: K,
        /// What must be there; `None` for nothing.
        expected: Option<V>,
        /// What is there afterwards.
        value: V,
    },
}

/// What a client of a [`Map`] is answered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MapOutput<V> {
    /// What was read; `None` for nothing.
    Value(Option<V>),
    /// It took effect.
    Done,
    /// Whether it took effect.
    Swapped(bool),
}

impl<K, V> Model for Map<K, V>
where
    K: Clone + Ord + Debug,
    V: Clone + Ord + Debug,
{
    type Key = K;
    type State = Option<V>;
    type Op = MapOp<K, V>;
    type Output = MapOutput<V>;

    fn init() -> Option<V> {
        None
    }

    fn step(
        state: &Option<V>,
        op: &MapOp<K, V>,
        output: Option<&MapOutput<V>>,
    ) -> Option<Option<V>> {
        let (answer, after) = match op {
            MapOp::Get { .. } => {
                // Without a copy of the value in the answer: reads are most of a history.
                let seen = match output {
                    Some(MapOutput::Value(seen)) => seen == state,
                    Some(_) => false,
                    None => true,
                };
                return seen.then(|| state.clone());
            }
            MapOp::Put { value, .. } => (MapOutput::Done, Some(value)),
            MapOp::Delete { .. } => (MapOutput::Done, None),
            MapOp::CompareAndSet { expected, value, .. } => {
                let swapped = expected == state;
                (MapOutput::Swapped(swapped), if swapped { Some(value) } else { state.as_ref() })
            }
        };
        output.is_none_or(|output| *output == answer).then(|| after.cloned())
    }

    fn partition_key(op: &MapOp<K, V>) -> K {
        match op {
            MapOp::Get { key }
            | MapOp::Put { key, .. }
            | MapOp::Delete { key }
            | MapOp::CompareAndSet { key, .. } => key.clone(),
        }
    }

    fn is_read(op: &MapOp<K, V>) -> bool {
        matches!(op, MapOp::Get { .. })
    }

    fn feeds(op: &MapOp<K, V>, observer: &MapOp<K, V>, observed: &MapOutput<V>) -> bool {
        let left = match op {
            MapOp::Get { .. } => return false,
            MapOp::Put { value, .. } | MapOp::CompareAndSet { value, .. } => Some(value),
            MapOp::Delete { .. } => None,
        };
        match (observer, observed) {
            (MapOp::Get { .. }, MapOutput::Value(seen)) => seen.as_ref() == left,
            (MapOp::CompareAndSet { expected, .. }, MapOutput::Swapped(swapped)) => {
                (expected.as_ref() == left) == *swapped
            }
            _ => false,
        }
    }
}
