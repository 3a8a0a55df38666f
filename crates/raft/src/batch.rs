//! The log's unit: an immutable batch of entries with one encoding, shared by reference count.
//!
//! A batch is what the caller's arena becomes when it is frozen: `head, payload, entry ends`, in
//! one allocation, checksummed once on the leader. The same bytes go to every socket, into every
//! journal and to every state machine; an entry is a slice of them. A batch is never rewritten: a
//! [`View`] says which of its entries count.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use quorate_transport::{Attachment, Decoder, Encoder, WireError};

use crate::members::Members;
use crate::types::{Index, NUMBER_MAX, Term};

/// Bytes before the payload: term (u64), first index (u64), entry count (u32), payload length
/// (u32), kind (u8), zeros; little-endian.
const HEAD: usize = 32;
/// What a view takes in memory beside its payload and the ends of its entries: its place in the
/// log, the heads of its batch, and what an allocator adds.
const VIEW: usize = 192;

fn weight(payload: usize, count: usize) -> usize {
    VIEW + payload + 4 * count
}

/// Entries of one batch at most.
pub const BATCH_COUNT_MAX: usize = 1 << 20;

/// What the entries of a batch mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Commands of the state machine.
    Normal = 0,
    /// One empty entry, by which a new leader commits what came before it. [Raft §8]
    Noop = 1,
    /// One entry that holds the group's configuration from here on. [Raft §6]
    Members = 2,
}

/// Commands on their way into the log, written one after the other into one arena.
#[derive(Clone)]
pub struct Proposals {
    arena: Arena,
    count: usize,
    /// Where each command ends but the last, which ends where the payload does: one command alone
    /// needs no list.
    ends: Vec<u32>,
}

/// Where commands are written: a single short one in place, for it is copied into the next batch
/// soon; all else behind room for the head of a batch.
#[derive(Clone)]
enum Arena {
    Short(u8, [u8; SHORT]),
    Long(BytesMut),
}

/// Bytes of a command that take no allocation: what fits into the place of the other kind.
const SHORT: usize = 23;

impl Arena {
    fn payload(&self) -> &[u8] {
        match self {
            Self::Short(len, bytes) => &bytes[..usize::from(*len)],
            Self::Long(bytes) => &bytes[HEAD..],
        }
    }

    /// The arena with its head, with room for `more` bytes where it must be made.
    fn long(&mut self, more: usize) -> &mut BytesMut {
        if let Self::Short(..) = self {
            let payload = self.payload();
            let mut long = BytesMut::with_capacity(HEAD + payload.len() + more);
            long.put_bytes(0, HEAD);
            long.put_slice(payload);
            *self = Self::Long(long);
        }
        match self {
            Self::Long(bytes) => bytes,
            Self::Short(..) => unreachable!("it was made long"),
        }
    }
}

impl Default for Proposals {
    fn default() -> Self {
        Self::with_capacity(0, 0)
    }
}

impl fmt::Debug for Proposals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} commands, {} bytes]", self.count(), self.payload_len())
    }
}

impl Proposals {
    /// An arena that takes `count` commands of `bytes` bytes in all without growing.
    #[must_use]
    pub fn with_capacity(bytes: usize, count: usize) -> Self {
        let mut arena = Arena::Short(0, [0; SHORT]);
        if bytes > SHORT || count > 1 {
            arena.long(bytes + 4 * count);
        }
        Self { arena, count: 0, ends: Vec::with_capacity(count.saturating_sub(1)) }
    }

    /// A single command.
    #[must_use]
    pub fn one(command: &[u8]) -> Self {
        let mut one = Self::with_capacity(command.len(), 1);
        one.push(command);
        one
    }

    /// Copies a command into the arena.
    pub fn push(&mut self, command: &[u8]) {
        self.push_parts(&[command]);
    }

    /// Copies a command into the arena that is these parts, one after the other.
    #[inline]
    pub fn push_parts(&mut self, parts: &[&[u8]]) {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        self.begin();
        match &mut self.arena {
            Arena::Short(len, short) if self.count == 1 && bytes <= SHORT => {
                for part in parts {
                    let at = usize::from(*len);
                    short[at..at + part.len()].copy_from_slice(part);
                    *len += part.len() as u8;
                }
            }
            arena => {
                let long = arena.long(bytes + 4);
                parts.iter().for_each(|part| long.extend_from_slice(part));
            }
        }
    }

    /// How many commands it holds.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// True without a command.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of all commands.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        match &self.arena {
            Arena::Short(len, _) => usize::from(*len),
            Arena::Long(bytes) => bytes.len() - HEAD,
        }
    }

    /// Bytes of memory that it will take in the log.
    pub(crate) fn weight(&self) -> usize {
        weight(self.payload_len(), self.count)
    }

    /// Takes over the commands of `other`, in order.
    pub(crate) fn append(&mut self, other: &Self) {
        if other.is_empty() {
            return;
        }
        self.begin();
        let offset = self.payload_len() as u32;
        let payload = other.arena.payload();
        self.arena.long(payload.len() + 8).extend_from_slice(payload);
        self.ends.extend(other.ends.iter().map(|end| end + offset));
        self.count += other.count - 1;
    }

    /// Makes the batch: fills the head in, adds the ends, computes the checksum.
    pub(crate) fn freeze(mut self, first: Index, term: Term, kind: Kind) -> Batch {
        let payload_len = self.end();
        let arena = self.arena.long(4);
        let count = self.count as u32;
        let mut head = &mut arena[..HEAD];
        head.put_u64_le(term.0);
        head.put_u64_le(first.0);
        head.put_u32_le(count);
        head.put_u32_le(payload_len);
        head.put_u8(kind as u8);
        arena.reserve(4 * count as usize);
        self.ends.iter().for_each(|end| arena.put_u32_le(*end));
        arena.put_u32_le(payload_len);
        let data = Attachment::new(core::mem::take(arena).freeze());
        Batch(Arc::new(Inner { data, first, term, kind, count, payload_len }))
    }

    /// Notes where the command before ends: one more follows.
    fn begin(&mut self) {
        if self.count > 0 {
            self.ends.push(self.end());
        }
        self.count += 1;
    }

    fn end(&self) -> u32 {
        u32::try_from(self.payload_len()).expect("an arena stays below 4 GiB")
    }
}

/// An immutable run of entries of one term; clones share it.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch(Arc<Inner>);

#[derive(PartialEq, Eq)]
struct Inner {
    data: Attachment,
    first: Index,
    term: Term,
    kind: Kind,
    count: u32,
    payload_len: u32,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.0.first.0 + u64::from(self.0.count) - 1;
        write!(f, "{:?}..{last}@{:?}", self.0.first, self.0.term)?;
        match self.0.kind {
            Kind::Normal => Ok(()),
            Kind::Noop => write!(f, " noop"),
            Kind::Members => write!(f, " members"),
        }
    }
}

impl Batch {
    /// The empty entry of a new leader.
    pub(crate) fn noop(first: Index, term: Term) -> Self {
        Proposals::one(&[]).freeze(first, term, Kind::Noop)
    }

    /// The entry of a new configuration.
    pub(crate) fn members(first: Index, term: Term, members: &Members) -> Self {
        Proposals::one(&members.to_bytes()).freeze(first, term, Kind::Members)
    }

    /// Reads a batch that came from a peer or a disk, its checksum already verified.
    ///
    /// # Errors
    /// [`WireError::Rule`]: its lengths, ends or numbers contradict each other.
    pub fn decode(data: Attachment) -> Result<Self, WireError> {
        let rule = |rule| WireError::Rule { field: "batch", rule };
        let bytes = data.bytes();
        if bytes.len() < HEAD {
            return Err(rule("has a whole head"));
        }
        let number = |at: usize| {
            u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes are eight bytes"))
        };
        let small = |at: usize| {
            u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes are four bytes"))
        };
        let (term, first) = (Term(number(0)), Index(number(8)));
        let (count, payload_len) = (small(16), small(20));
        let kind = match bytes[24] {
            0 => Kind::Normal,
            1 => Kind::Noop,
            2 => Kind::Members,
            _ => return Err(rule("is of a known kind")),
        };
        let most = if kind == Kind::Members { 1 } else { BATCH_COUNT_MAX };
        if count == 0 || count as usize > most {
            return Err(rule("holds 1 to 2^20 entries, or one configuration"));
        }
        if first == Index::ZERO || first.0 > NUMBER_MAX || term.0 > NUMBER_MAX {
            return Err(rule("has an index from 1 and numbers up to 2^62"));
        }
        let want = HEAD as u64 + u64::from(payload_len) + 4 * u64::from(count);
        if bytes.len() as u64 != want {
            return Err(rule("is as long as its lengths say"));
        }
        if kind == Kind::Members {
            Members::from_bytes(&bytes[HEAD..HEAD + payload_len as usize])?;
        }
        let inner = Inner { data, first, term, kind, count, payload_len };
        let batch = Self(Arc::new(inner));
        let mut last = 0;
        for entry in 0..count as usize {
            let end = batch.end(entry);
            if end < last {
                return Err(rule("has entry ends in order"));
            }
            last = end;
        }
        if last != payload_len as usize {
            return Err(rule("ends with its last entry"));
        }
        Ok(batch)
    }

    /// The term of its entries.
    #[must_use]
    pub fn term(&self) -> Term {
        self.0.term
    }

    /// The encoded bytes, as they travel.
    #[must_use]
    pub fn encoded(&self) -> &Attachment {
        &self.0.data
    }

    fn payload_len(&self) -> usize {
        self.0.payload_len as usize
    }

    fn entry(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.end(at - 1) };
        &self.0.data.bytes()[HEAD + start..HEAD + self.end(at)]
    }

    fn end(&self, at: usize) -> usize {
        let at = HEAD + self.payload_len() + 4 * at;
        let end = self.0.data.bytes()[at..at + 4].try_into().expect("four bytes are four bytes");
        u32::from_le_bytes(end) as usize
    }
}

/// Some consecutive entries of a batch: at least one.
#[derive(Clone, PartialEq, Eq)]
pub struct View {
    batch: Batch,
    /// Here and not only in the batch: they are asked for at every step.
    first: Index,
    last: Index,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.batch)?;
        if self.count() < self.batch.0.count as usize {
            write!(f, " only {}..={}", self.first(), self.last())?;
        }
        Ok(())
    }
}

impl From<Batch> for View {
    fn from(batch: Batch) -> Self {
        let first = batch.0.first;
        Self { first, last: Index(first.0 + u64::from(batch.0.count) - 1), batch }
    }
}

impl View {
    /// The index of its first entry.
    #[must_use]
    pub fn first(&self) -> Index {
        self.first
    }

    /// The index of its last entry.
    #[must_use]
    pub fn last(&self) -> Index {
        self.last
    }

    /// The term of all its entries.
    #[must_use]
    pub fn term(&self) -> Term {
        self.batch.0.term
    }

    /// What its entries mean.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.batch.0.kind
    }

    /// The configuration that it is, if it is one.
    #[must_use]
    pub fn members(&self) -> Option<Members> {
        if self.kind() != Kind::Members {
            return None;
        }
        let bytes = self.entries().next()?;
        // It was looked at when it was read, or written here.
        Members::from_bytes(bytes).ok()
    }

    /// How many entries it shows.
    #[must_use]
    pub fn count(&self) -> usize {
        (self.last.0 - self.first.0) as usize + 1
    }

    /// How many entries of the batch it leaves out in front.
    fn skip(&self) -> usize {
        (self.first.0 - self.batch.0.first.0) as usize
    }

    /// Bytes of its entries.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        if self.count() == self.batch.0.count as usize {
            return self.batch.0.payload_len as usize;
        }
        let skip = self.skip();
        let start = if skip == 0 { 0 } else { self.batch.end(skip - 1) };
        self.batch.end(skip + self.count() - 1) - start
    }

    /// Bytes of memory that it takes in the log, as if what it leaves out were not there.
    pub(crate) fn weight(&self) -> usize {
        weight(self.payload_len(), self.count())
    }

    /// Each entry in order. The entry of a [`Kind::Noop`] is empty and means nothing.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let (skip, take) = (self.skip(), self.count());
        let (payload, ends) = self.batch.0.data.bytes()[HEAD..].split_at(self.batch.payload_len());
        let mut start = if skip == 0 { 0 } else { self.batch.end(skip - 1) };
        let (ends, _) = ends[4 * skip..4 * (skip + take)].as_chunks();
        ends.iter().map(move |end| {
            let end = u32::from_le_bytes(*end) as usize;
            let entry = &payload[start..end];
            start = end;
            entry
        })
    }

    /// The entry at `index`, as bytes that share the batch's memory.
    #[must_use]
    pub fn entry(&self, index: Index) -> Option<Bytes> {
        if index < self.first() || index > self.last() {
            return None;
        }
        let entry = self.batch.entry((index.0 - self.batch.0.first.0) as usize);
        Some(self.batch.0.data.bytes().slice_ref(entry))
    }

    /// The part from `first` to `last`; `None` where nothing is left.
    #[must_use]
    pub fn slice(&self, first: Index, last: Index) -> Option<Self> {
        let (first, last) = (self.first.max(first), self.last.min(last));
        (first <= last).then(|| Self { batch: self.batch.clone(), first, last })
    }

    /// The part from `first` on; `None` where nothing is left.
    #[must_use]
    pub fn from_index(&self, first: Index) -> Option<Self> {
        self.slice(first, self.last())
    }

    /// The part up to `last`; `None` where nothing is left.
    #[must_use]
    pub fn upto_index(&self, last: Index) -> Option<Self> {
        self.slice(self.first(), last)
    }

    /// The bytes it takes to send it.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.batch.0.data.bytes().len()
    }

    /// The batch it is a view of.
    #[must_use]
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    pub(crate) fn encode(&self, to: &mut Encoder<'_>) {
        to.value(&(self.skip() as u32, self.count() as u32));
        to.attach(self.batch.0.data.clone());
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let (skip, take): (u32, u32) = from.value("view")?;
        let batch = Batch::decode(from.attachment()?)?;
        let shown = u64::from(skip) + u64::from(take);
        if take == 0 || shown > u64::from(batch.0.count) {
            return Err(WireError::Rule { field: "view", rule: "shows entries of its batch" });
        }
        let first = Index(batch.0.first.0 + u64::from(skip));
        Ok(Self { batch, first, last: Index(first.0 + u64::from(take) - 1) })
    }
}

/// Consecutive views; none and one need no heap.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Views {
    /// No view.
    #[default]
    None,
    /// One view.
    One(View),
    /// Two or more, each beginning where the one before ends.
    Many(Vec<View>),
}

impl fmt::Debug for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

/// Views of one message at most.
pub(crate) const VIEWS_MAX: usize = 128;

impl Views {
    /// All views in order.
    #[must_use]
    pub fn as_slice(&self) -> &[View] {
        match self {
            Self::None => &[],
            Self::One(one) => core::slice::from_ref(one),
            Self::Many(all) => all,
        }
    }

    /// Adds a view at the end.
    pub fn push(&mut self, view: View) {
        *self = match core::mem::take(self) {
            Self::None => Self::One(view),
            Self::One(first) => Self::Many(alloc::vec![first, view]),
            Self::Many(mut all) => {
                all.push(view);
                Self::Many(all)
            }
        };
    }

    /// The last index, where there is one.
    #[must_use]
    pub fn last(&self) -> Option<Index> {
        self.as_slice().last().map(View::last)
    }

    pub(crate) fn encode(&self, to: &mut Encoder<'_>) {
        to.value(&(self.as_slice().len() as u8));
        self.as_slice().iter().for_each(|view| view.encode(to));
    }

    /// Reads views and checks that each begins where the one before ends.
    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let count: u8 = from.value("views")?;
        let rule = |rule| Err(WireError::Rule { field: "views", rule });
        if usize::from(count) > VIEWS_MAX {
            return rule("are at most 128");
        }
        let mut views = Self::None;
        for _ in 0..count {
            let view = View::decode(from)?;
            if views.last().is_some_and(|last| view.first() != last.next()) {
                return rule("follow each other without a gap");
            }
            if views.as_slice().last().is_some_and(|before| before.term() > view.term()) {
                return rule("have terms that never fall");
            }
            views.push(view);
        }
        Ok(views)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn batch(first: u64, commands: &[&[u8]]) -> Batch {
        let mut proposals = Proposals::default();
        commands.iter().for_each(|command| proposals.push(command));
        proposals.freeze(Index(first), Term(3), Kind::Normal)
    }

    #[test]
    fn a_batch_has_one_encoding_and_its_entries_are_slices_of_it() {
        let made = batch(5, &[b"one", b"", b"three"]);
        let read = Batch::decode(made.encoded().clone()).unwrap();
        assert_eq!(read, made);
        let view = View::from(read);
        assert_eq!(view.entries().collect::<Vec<_>>(), [&b"one"[..], b"", b"three"]);
        let third = view.entry(Index(7)).unwrap();
        assert!(made.encoded().bytes().as_ptr_range().contains(&third.as_ptr()));
        assert_eq!((view.first(), view.last(), view.payload_len()), (Index(5), Index(7), 8));
    }

    #[test]
    fn a_view_is_cut_at_either_end_and_never_empty() {
        let view = View::from(batch(5, &[b"a", b"bb", b"ccc"]));
        let tail = view.from_index(Index(6)).unwrap();
        assert_eq!((tail.first(), tail.last(), tail.payload_len()), (Index(6), Index(7), 5));
        let middle = tail.upto_index(Index(6)).unwrap();
        assert_eq!(middle.entries().collect::<Vec<_>>(), [b"bb"]);
        assert_eq!(view.from_index(Index(8)), None);
        assert_eq!(view.upto_index(Index(4)), None);
        assert_eq!(view.from_index(Index(1)), Some(view.clone()));
        assert_eq!(view.upto_index(Index(99)), Some(view));
    }

    #[test]
    fn every_changed_byte_of_the_head_or_ends_is_refused_or_read_alike() {
        let good = batch(5, &[b"one", b"two"]);
        let bytes = good.encoded().bytes();
        for at in (0..HEAD).chain(HEAD + 6..bytes.len()) {
            for change in [1u8, 0x80, 0xff] {
                let mut bad = bytes.to_vec();
                bad[at] ^= change;
                if let Ok(read) = Batch::decode(Attachment::new(Bytes::from(bad))) {
                    let view = View::from(read);
                    assert_eq!(view.entries().map(<[u8]>::len).sum::<usize>(), view.payload_len());
                }
            }
        }
        for len in 0..bytes.len() {
            assert!(Batch::decode(Attachment::new(bytes.slice(..len))).is_err());
        }
    }

    #[test]
    fn commands_are_what_was_written_wherever_they_lie() {
        let bytes: Vec<u8> = (0..60).collect();
        for first in [0, 1, SHORT - 1, SHORT, SHORT + 1, 40] {
            for second in [0, 1, SHORT, SHORT + 1, 60] {
                let mut one = Proposals::with_capacity(first, 1);
                one.push_parts(&[&bytes[..first / 2], &bytes[first / 2..first]]);
                assert_eq!(matches!(one.arena, Arena::Short(..)), first <= SHORT);
                assert_eq!((one.count(), one.payload_len()), (1, first));
                let mut both = one.clone();
                both.push(&bytes[..second]);
                let mut joined = one;
                joined.append(&Proposals::one(&bytes[..second]));
                for proposals in [both, joined] {
                    let view = View::from(proposals.freeze(Index(1), Term(1), Kind::Normal));
                    let entries: Vec<_> = view.entries().collect();
                    assert_eq!(entries, [&bytes[..first], &bytes[..second]]);
                }
            }
        }
        assert_eq!(size_of::<Proposals>(), 64, "a short one takes no room of its own");
    }

    #[test]
    fn arenas_are_joined_in_order() {
        let mut first = Proposals::one(b"ab");
        first.append(&Proposals::one(b"c"));
        let view = View::from(first.freeze(Index(1), Term(1), Kind::Normal));
        assert_eq!(view.entries().collect::<Vec<_>>(), vec![&b"ab"[..], b"c"]);
    }
}
