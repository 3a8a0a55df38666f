//! What a user writes: a deterministic state machine over bytes.

use alloc::vec::Vec;

use bytes::Bytes;
use thiserror::Error;

/// A deterministic state machine. Its state must follow from the commands alone: no clock, no
/// randomness, no hash map whose order shows.
pub trait StateMachine: Clone + Send + 'static {
    /// Applies commands in order, and pushes exactly one output for each.
    ///
    /// It is total: a command that makes no sense has an output that says so.
    fn apply(&mut self, commands: &mut dyn Iterator<Item = &[u8]>, outputs: &mut Outputs);

    /// Answers a question without changing anything.
    fn query(&self, query: &[u8]) -> Bytes;

    /// The whole state, in pieces.
    fn snapshot(&self) -> Vec<Bytes>;

    /// Takes over a state that [`snapshot`](Self::snapshot) wrote, its pieces joined.
    ///
    /// # Errors
    /// [`RestoreError`]: the bytes are no such state. The replica stops.
    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError>;
}

/// The bytes are not what this state machine's snapshot writes: another build's, or damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the snapshot is not a state of this state machine")]
pub struct RestoreError;

/// Outputs of commands, written one after the other.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    arena: Vec<u8>,
    ends: Vec<usize>,
}

impl Outputs {
    /// The next command's output.
    pub fn push(&mut self, output: &[u8]) {
        self.arena.extend_from_slice(output);
        self.ends.push(self.arena.len());
    }

    pub(crate) fn clear(&mut self) {
        self.arena.clear();
        self.ends.clear();
    }

    pub(crate) fn count(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.arena[start..self.ends[at]]
    }
}
