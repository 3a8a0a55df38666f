//! A state machine on which applying a command twice shows, and its sequential model.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_sim::linearizability::Model;
use quorate_smr::{Outputs, RestoreError, StateMachine};

/// Sums by key; a command adds to one and is answered with the new sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    pub(crate) sums: BTreeMap<u64, u64>,
    /// The operations that were applied.
    pub(crate) seen: BTreeSet<u64>,
    /// One that was applied twice. (M1)
    pub(crate) doubled: Option<u64>,
}

/// What a client does.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Add { key: u64, value: u64 },
    Get { key: u64 },
}

impl Op {
    pub(crate) fn key(&self) -> u64 {
        match self {
            Self::Add { key, .. } | Self::Get { key } => *key,
        }
    }
}

pub(crate) fn command(number: u64, key: u64, value: u64) -> Vec<u8> {
    [number, key, value].iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub(crate) fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[8 * at..8 * at + 8].try_into().expect("eight bytes"))
}

impl StateMachine for Ledger {
    fn apply(&mut self, commands: &mut dyn Iterator<Item = &[u8]>, outputs: &mut Outputs) {
        for command in commands {
            let (number, key, value) = (word(command, 0), word(command, 1), word(command, 2));
            if !self.seen.insert(number) {
                self.doubled.get_or_insert(number);
            }
            let sum = self.sums.entry(key).or_default();
            *sum += value;
            outputs.push(&sum.to_le_bytes());
        }
    }

    fn query(&self, query: &[u8]) -> Bytes {
        let sum = self.sums.get(&word(query, 0)).copied().unwrap_or_default();
        Bytes::copy_from_slice(&sum.to_le_bytes())
    }

    fn snapshot(&self) -> Vec<Bytes> {
        let seen = self.seen.iter().copied();
        let sums = self.sums.iter().flat_map(|(key, sum)| [*key, *sum]);
        let all = [self.doubled.unwrap_or(u64::MAX), self.seen.len() as u64].into_iter();
        let bytes: Vec<u8> = all.chain(seen).chain(sums).flat_map(u64::to_le_bytes).collect();
        bytes.chunks(100).map(Bytes::copy_from_slice).collect()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        if !state.len().is_multiple_of(8) || state.len() < 16 {
            return Err(RestoreError);
        }
        let mut words = (0..state.len() / 8).map(|at| word(state, at));
        self.doubled = words.next().filter(|number| *number != u64::MAX);
        let count = words.next().ok_or(RestoreError)? as usize;
        self.seen = words.by_ref().take(count).collect();
        let sums: Vec<u64> = words.collect();
        self.sums = sums.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        Ok(())
    }
}

/// One sum, as if there were one copy.
pub(crate) struct Sums;

impl Model for Sums {
    type Key = u64;
    type State = u64;
    type Op = Op;
    type Output = u64;

    fn init() -> u64 {
        0
    }

    fn step(state: &u64, op: &Op, output: Option<&u64>) -> Option<u64> {
        let after = match op {
            Op::Add { value, .. } => state + value,
            Op::Get { .. } => *state,
        };
        output.is_none_or(|seen| *seen == after).then_some(after)
    }

    fn partition_key(op: &Op) -> u64 {
        op.key()
    }

    fn is_read(op: &Op) -> bool {
        matches!(op, Op::Get { .. })
    }
}
