//! What watchers see: the changes that commands made, kept for a while in the order of the log.
//!
//! The history is a replica's own: where it begins differs from replica to replica, what it says
//! of an index does not.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};
use quorate_raft::Index;
use quorate_transport::Digest;

/// One change, as the state machine told of it with [`Outputs::change`](crate::Outputs::change).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The entry of the log whose command made it; a command may make several.
    pub index: Index,
    /// What was changed.
    pub key: Bytes,
    /// How.
    pub change: Bytes,
}

/// Which changes a watcher wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// All of them.
    #[default]
    All,
    /// Those of one key.
    Key(Bytes),
    /// Those of keys that begin so.
    Prefix(Bytes),
}

impl Filter {
    /// Whether changes of this key are wanted.
    #[must_use]
    pub fn wants(&self, key: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::Key(only) => key == only,
            Self::Prefix(prefix) => key.starts_with(prefix),
        }
    }
}

/// Changes one after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Block {
    bytes: Vec<u8>,
    marks: Vec<Mark>,
    /// The place of the last change of the group that is being applied.
    fresh: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    /// While commands are being applied: how many of them came before.
    index: u64,
    key_len: usize,
    end: usize,
}

impl Block {
    /// Adds a change made by the command at this place of its group.
    pub(crate) fn push(&mut self, place: usize, key: &[u8], parts: &[&[u8]]) {
        self.bytes.extend_from_slice(key);
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.fresh = Some(place);
        self.marks.push(Mark { index: place as u64, key_len: key.len(), end: self.bytes.len() });
    }

    /// Whether the last change has this place or a later one.
    pub(crate) fn is_beyond(&self, place: usize) -> bool {
        self.fresh.is_some_and(|last| last >= place)
    }

    fn size(&self) -> usize {
        self.bytes.len() + self.marks.len() * size_of::<Mark>()
    }

    fn last(&self) -> Index {
        Index(self.marks.last().map_or(0, |mark| mark.index))
    }
}

/// The changes of late, up to what is applied.
#[derive(Clone, Debug)]
pub(crate) struct History {
    sealed: VecDeque<Arc<Block>>,
    sealed_bytes: usize,
    open: Block,
    /// Marks of the open block that have their index.
    numbered: usize,
    /// Changes up to here are gone.
    floor: Index,
    bytes_max: usize,
}

/// What a watcher is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Everything that is wanted up to here is among them.
    pub(crate) upto: Index,
    pub(crate) changes: Vec<Change>,
}

/// The history is made of this many blocks, when it is full.
const BLOCKS: usize = 16;

impl History {
    /// Keeps about so many bytes; none for 0.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            sealed: VecDeque::new(),
            sealed_bytes: 0,
            open: Block::default(),
            numbered: 0,
            floor: Index::ZERO,
            bytes_max,
        }
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.bytes_max > 0
    }

    /// Changes up to here are gone.
    pub(crate) fn floor(&self) -> Index {
        self.floor
    }

    /// The first index whose changes are all here.
    pub(crate) fn first(&self) -> Index {
        self.floor.next()
    }

    /// Where the commands of a group write theirs; [`give_back`](Self::give_back) follows.
    pub(crate) fn lend(&mut self) -> Option<Block> {
        self.is_kept().then(|| core::mem::take(&mut self.open))
    }

    /// A group was applied; `index` says where in the log the command of a place stands.
    pub(crate) fn give_back(&mut self, block: Block, index: impl Fn(usize) -> Index) {
        self.open = block;
        self.open.fresh = None;
        for mark in &mut self.open.marks[self.numbered..] {
            mark.index = index(mark.index as usize).0;
        }
        self.numbered = self.open.marks.len();
        // Between groups, so that the changes of one command are never in two blocks.
        if self.open.size() >= self.bytes_max.div_ceil(BLOCKS) {
            self.seal();
        }
    }

    fn seal(&mut self) {
        let full = core::mem::take(&mut self.open);
        (self.open.bytes, self.open.marks) =
            (Vec::with_capacity(full.bytes.len()), Vec::with_capacity(full.marks.len()));
        self.numbered = 0;
        self.sealed_bytes += full.size();
        self.sealed.push_back(Arc::new(full));
        while self.sealed_bytes > self.bytes_max && self.sealed.len() > 1 {
            let Some(oldest) = self.sealed.pop_front() else { break };
            self.sealed_bytes -= oldest.size();
            self.floor = oldest.last();
        }
    }

    /// The state was taken over as of an index: what led there is not known.
    pub(crate) fn begin_after(&mut self, index: Index) {
        *self = Self { floor: index, ..Self::new(self.bytes_max) };
    }

    /// The wanted changes after one index and up to another, as many as fit in about `bytes_max`,
    /// and always all of one index.
    ///
    /// # Errors
    /// The first index whose changes are all here, where some of those asked for are gone.
    pub(crate) fn read(
        &self,
        (after, upto): (Index, Index),
        filter: &Filter,
        bytes_max: usize,
    ) -> Result<Found, Index> {
        if after < self.floor {
            return Err(self.first());
        }
        let (mut bytes, mut wanted) = (BytesMut::new(), Vec::<(u64, usize, usize)>::new());
        let mut end = upto;
        let sealed = self.sealed.partition_point(|block| block.last() <= after);
        let blocks = self.sealed.range(sealed..).map(|block| &**block).chain([&self.open]);
        'all: for block in blocks {
            let first = block.marks.partition_point(|mark| mark.index <= after.0);
            let mut start = first.checked_sub(1).map_or(0, |before| block.marks[before].end);
            for mark in &block.marks[first..] {
                let (key, change) = block.bytes[start..mark.end].split_at(mark.key_len);
                start = mark.end;
                if !filter.wants(key) {
                    continue;
                }
                let last = wanted.last().map(|(index, ..)| *index);
                if bytes.len() >= bytes_max
                    && let Some(last) = last.filter(|last| *last != mark.index)
                {
                    end = Index(last);
                    break 'all;
                }
                bytes.extend_from_slice(key);
                bytes.extend_from_slice(change);
                wanted.push((mark.index, mark.key_len, change.len()));
            }
        }
        let mut bytes = bytes.freeze();
        let change = |(index, key_len, len)| Change {
            index: Index(index),
            key: bytes.split_to(key_len),
            change: bytes.split_to(len),
        };
        Ok(Found { upto: end, changes: wanted.into_iter().map(change).collect() })
    }

    pub(crate) fn digest(&self, into: &mut Digest) {
        into.u64(self.floor.0);
        into.u64(self.sealed_bytes as u64);
        into.u64(self.open.size() as u64);
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    /// One group of commands a call: for each its index and the keys that it changes.
    fn note(history: &mut History, group: &[(u64, &[&[u8]])]) {
        let Some(mut block) = history.lend() else { return };
        for (place, (index, keys)) in group.iter().enumerate() {
            keys.iter().for_each(|key| block.push(place, key, &[&index.to_le_bytes()]));
        }
        history.give_back(block, |place| Index(group[place].0));
    }

    fn read(history: &History, after: u64, filter: &Filter, bytes_max: usize) -> (u64, Vec<u64>) {
        let found = history.read((Index(after), Index(100)), filter, bytes_max).unwrap();
        for change in &found.changes {
            assert_eq!(change.change, change.index.0.to_le_bytes()[..]);
            assert!(filter.wants(&change.key));
        }
        (found.upto.0, found.changes.iter().map(|change| change.index.0).collect())
    }

    #[test]
    fn changes_come_in_the_order_of_the_log_from_where_one_asks() {
        let mut history = History::new(1 << 20);
        note(&mut history, &[(1, &[b"a"]), (2, &[]), (4, &[b"ab", b"b"])]);
        note(&mut history, &[(7, &[b"abc"])]);
        let all = &Filter::All;
        assert_eq!(read(&history, 0, all, 1000), (100, vec![1, 4, 4, 7]));
        assert_eq!(read(&history, 1, all, 1000), (100, vec![4, 4, 7]));
        assert_eq!(read(&history, 6, all, 1000), (100, vec![7]));
        assert_eq!(read(&history, 7, all, 1000), (100, vec![]));
        let (key, prefix) = (Bytes::from_static(b"ab"), Bytes::from_static(b"ab"));
        assert_eq!(read(&history, 0, &Filter::Key(key), 1000), (100, vec![4]));
        assert_eq!(read(&history, 0, &Filter::Prefix(prefix), 1000), (100, vec![4, 7]));
    }

    #[test]
    fn an_answer_that_is_full_ends_between_two_indices() {
        let mut history = History::new(1 << 20);
        note(&mut history, &[(1, &[b"a"]), (4, &[b"a", b"b"]), (5, &[b"c"])]);
        assert_eq!(read(&history, 0, &Filter::All, 1), (1, vec![1]));
        assert_eq!(read(&history, 1, &Filter::All, 1), (4, vec![4, 4]));
        assert_eq!(read(&history, 4, &Filter::All, 1), (100, vec![5]));
    }

    #[test]
    fn what_is_gone_is_said_to_be_gone_and_memory_is_bounded() {
        let mut history = History::new(1600);
        for index in 1..=1000 {
            note(&mut history, &[(index, &[b"key"])]);
            assert!(history.sealed_bytes + history.open.size() <= 1800, "at {index}");
            let first = history.first().0;
            assert_eq!(read(&history, index - 1, &Filter::All, 1000).1, [index]);
            let kept = read(&history, first - 1, &Filter::All, 1 << 20).1;
            assert_eq!(kept, (first..=index).collect::<Vec<_>>());
            if let Some(before) = (first - 1).checked_sub(1) {
                let gone = history.read((Index(before), Index(index)), &Filter::All, 1);
                assert_eq!(gone, Err(Index(first)));
            }
        }
        assert!(history.first().0 > 900);
        history.begin_after(Index(2000));
        assert_eq!(history.read((Index(1999), Index(2000)), &Filter::All, 1), Err(Index(2001)));
        assert_eq!(read(&history, 2000, &Filter::All, 1), (100, vec![]));
    }

    #[test]
    fn where_nothing_is_kept_nothing_is_written() {
        let mut history = History::new(0);
        assert!(history.lend().is_none() && !history.is_kept());
        note(&mut history, &[(1, &[b"key"])]);
        assert_eq!(history.open.size(), 0);
    }
}
