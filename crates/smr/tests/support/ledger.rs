//! A state machine on which applying a command twice shows, and its sequential model.

use bytes::Bytes;
use quorate_sim::linearizability::Model;
use quorate_smr::{Outputs, Pieces, RestoreError, SharedMap, StateMachine};

/// Sums by key; a command adds to one and is answered with the new sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    pub(crate) sums: SharedMap<u64, u64>,
    /// The operations that were applied.
    pub(crate) seen: SharedMap<u64, ()>,
    /// One that was applied twice. (M1)
    pub(crate) doubled: Option<u64>,
    /// Commands that were applied, which no output shows.
    pub(crate) count: u64,
    /// A planted bug: this replica counts one of them twice.
    pub(crate) miscounts: bool,
    /// What watchers must have been told of, by its place.
    pub(crate) log: SharedMap<u64, Made>,
}

/// A change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    /// Its place among all changes.
    pub(crate) place: u64,
    /// The operation that made it.
    pub(crate) number: u64,
    pub(crate) key: u64,
    pub(crate) sum: u64,
}

/// How many changes a command tells of: mostly one.
pub(crate) fn changes(value: u64) -> u64 {
    match value % 10 {
        0 => 0,
        9 => 2,
        _ => 1,
    }
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
            self.count += 1 + u64::from(self.miscounts && self.count == 50);
            if self.seen.insert(number, ()).is_some() {
                self.doubled.get_or_insert(number);
            }
            let sum = value + self.sums.get(&key).copied().unwrap_or_default();
            self.sums.insert(key, sum);
            for _ in 0..changes(value) {
                let made = Made { place: 1 + self.log.len() as u64, number, key, sum };
                self.log.insert(made.place, made);
                let words = [made.place, number, key, sum].map(u64::to_le_bytes).concat();
                outputs.change(&key.to_le_bytes(), &[&words]);
            }
            outputs.push(&sum.to_le_bytes());
        }
    }

    fn query(&self, query: &[u8]) -> Bytes {
        let sum = self.sums.get(&word(query, 0)).copied().unwrap_or_default();
        Bytes::copy_from_slice(&sum.to_le_bytes())
    }

    fn snapshot(&self) -> Pieces {
        let words = |words: &[u64]| -> Bytes {
            words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>().into()
        };
        let doubled = self.doubled.into_iter().map(move |number| words(&[0, number]));
        let seen = self.seen.clone().into_iter().map(move |(number, ())| words(&[1, number]));
        let sums = self.sums.clone().into_iter().map(move |(key, sum)| words(&[2, key, sum]));
        let log = self
            .log
            .clone()
            .into_iter()
            .map(move |(place, made)| words(&[3, place, made.number, made.key, made.sum]));
        let count = Some(words(&[4, self.count])).into_iter();
        Pieces::new(count.chain(doubled).chain(seen).chain(sums).chain(log))
    }

    fn restore(&mut self, piece: &[u8]) -> Result<(), RestoreError> {
        let words: Vec<u64> = (0..piece.len() / 8).map(|at| word(piece, at)).collect();
        match words[..] {
            [0, number] => self.doubled = Some(number),
            [1, number] => drop(self.seen.insert(number, ())),
            [2, key, sum] => drop(self.sums.insert(key, sum)),
            [3, place, number, key, sum] => {
                self.log.insert(place, Made { place, number, key, sum });
            }
            [4, count] => self.count = count,
            _ => return Err(RestoreError),
        }
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
