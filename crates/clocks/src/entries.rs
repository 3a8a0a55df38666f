//! The entries of a vector: sorted by process, inline while they are few.

use alloc::vec::Vec;
use core::fmt;

use quorate_transport::{Incarnation, NodeId, Peer};

/// How many processes a vector holds without a heap.
pub const INLINE: usize = 8;

/// How many processes a vector holds at most.
pub const ENTRIES_MAX: usize = 1024;

/// A process and how many of its events are known: never zero in a vector.
pub(crate) type Entry = (Peer, u64);

const UNUSED: Entry = (Peer { node: NodeId(0), incarnation: Incarnation(0) }, 0);

#[derive(Clone)]
pub(crate) enum Entries {
    Inline { len: u8, slots: [Entry; INLINE] },
    Heap(Vec<Entry>),
}

impl Entries {
    pub(crate) const fn new() -> Self {
        Self::Inline { len: 0, slots: [UNUSED; INLINE] }
    }

    /// Room for `count` entries: no heap where they fit without.
    pub(crate) fn with_room(count: usize) -> Self {
        if count <= INLINE { Self::new() } else { Self::Heap(Vec::with_capacity(count)) }
    }

    pub(crate) fn as_slice(&self) -> &[Entry] {
        match self {
            Self::Inline { len, slots } => &slots[..usize::from(*len)],
            Self::Heap(entries) => entries,
        }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [Entry] {
        match self {
            Self::Inline { len, slots } => &mut slots[..usize::from(*len)],
            Self::Heap(entries) => entries,
        }
    }

    /// Inserts `entry` before the one at `at`; the caller keeps the order and the cap.
    pub(crate) fn insert(&mut self, at: usize, entry: Entry) {
        match self {
            Self::Inline { len, slots } if usize::from(*len) < INLINE => {
                slots.copy_within(at..usize::from(*len), at + 1);
                slots[at] = entry;
                *len += 1;
            }
            Self::Inline { slots, .. } => {
                let mut entries = Vec::with_capacity(2 * INLINE);
                entries.extend_from_slice(slots);
                entries.insert(at, entry);
                *self = Self::Heap(entries);
            }
            Self::Heap(entries) => entries.insert(at, entry),
        }
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        self.insert(self.as_slice().len(), entry);
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(node: u64) -> Entry {
        (Peer { node: NodeId(node), incarnation: Incarnation(1) }, 1)
    }

    #[test]
    fn an_entry_goes_where_it_is_told_however_many_there_are() {
        for len in 0..INLINE + 3 {
            for at in 0..=len {
                let (mut entries, mut expected) = (Entries::new(), Vec::new());
                for node in 0..len as u64 {
                    entries.push(entry(node));
                    expected.push(entry(node));
                }
                entries.insert(at, entry(99));
                expected.insert(at, entry(99));
                assert_eq!(entries.as_slice(), expected, "{len} {at}");
                assert_eq!(matches!(entries, Entries::Heap(_)), len >= INLINE);
            }
        }
    }
}
