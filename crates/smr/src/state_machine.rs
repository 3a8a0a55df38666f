//! What a user writes: a deterministic state machine over bytes.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use thiserror::Error;

use crate::changes::Block;

/// A deterministic state machine. Its state must follow from the commands alone: no clock, no
/// randomness, no hash map whose order shows.
pub trait StateMachine: Clone + Send + 'static {
    /// Applies commands in order, and pushes exactly one output for each.
    ///
    /// It is total: a command that makes no sense has an output that says so. What watchers are to
    /// see it tells with [`Outputs::change`]; a state machine that nobody watches need not.
    fn apply(&mut self, commands: &mut dyn Iterator<Item = &[u8]>, outputs: &mut Outputs);

    /// Answers a question without changing anything.
    fn query(&self, query: &[u8]) -> Bytes;

    /// The whole state as it is now, piece by piece, each less than 4 GiB long.
    ///
    /// Equal states make equal pieces, also where one was taken over from a snapshot: that is what
    /// audits compare.
    ///
    /// The replica stands still while this is called and while a piece is made, and works on in
    /// between: what is returned should be a copy that shares, such as that of a
    /// [`SharedMap`](crate::SharedMap), and pieces should be small.
    fn snapshot(&self) -> Pieces;

    /// Takes over a piece of a state: each that [`snapshot`](Self::snapshot) made, in order, into
    /// a state machine that has not applied anything.
    ///
    /// # Errors
    /// [`RestoreError`]: the bytes are no such piece. The replica stops.
    fn restore(&mut self, piece: &[u8]) -> Result<(), RestoreError>;
}

/// The bytes are not what this state machine's snapshot writes: another build's, or damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the snapshot is not a state of this state machine")]
pub struct RestoreError;

/// A state on its way out: an iterator over its pieces.
pub struct Pieces(Box<dyn Source>);

trait Source: Iterator<Item = Bytes> + Send {
    fn copy(&self) -> Box<dyn Source>;
}

impl<I: Iterator<Item = Bytes> + Clone + Send + 'static> Source for I {
    fn copy(&self) -> Box<dyn Source> {
        Box::new(self.clone())
    }
}

impl Pieces {
    /// These pieces, each made when it is asked for.
    pub fn new<I>(pieces: I) -> Self
    where
        I: IntoIterator<Item = Bytes, IntoIter: Clone + Send + 'static>,
    {
        Self(Box::new(pieces.into_iter()))
    }

    /// A state of one piece.
    #[must_use]
    pub fn one(piece: impl Into<Bytes>) -> Self {
        Self::new(Some(piece.into()))
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        self.0.next()
    }
}

impl Clone for Pieces {
    fn clone(&self) -> Self {
        Self(self.0.copy())
    }
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pieces").finish_non_exhaustive()
    }
}

/// Outputs of commands, written one after the other, and what watchers see of them.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    arena: Vec<u8>,
    ends: Vec<usize>,
    /// `None` where no changes are kept.
    pub(crate) changes: Option<Block>,
}

impl Outputs {
    /// Tells watchers that the command whose output comes next has changed `key`, and how, in
    /// parts that follow each other. It may be called several times for one command; the bytes are
    /// copied, and nothing else is done.
    ///
    /// Like an output it must follow from the commands alone, so that a watcher sees the same at
    /// every replica.
    pub fn change(&mut self, key: &[u8], parts: &[&[u8]]) {
        if let Some(changes) = &mut self.changes {
            changes.push(self.ends.len(), key, parts);
        }
    }

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

    /// A change was told of after the last output: nobody knows which command made it.
    pub(crate) fn is_astray(&self) -> bool {
        self.changes.as_ref().is_some_and(|changes| changes.is_beyond(self.count()))
    }

    pub(crate) fn get(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.arena[start..self.ends[at]]
    }
}
