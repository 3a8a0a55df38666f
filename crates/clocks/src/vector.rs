//! Vector clocks: the exact shape of happened-before.

use core::cmp::Ordering;
use core::fmt;

use quorate_transport::{Decoder, Encoder, Peer, Wire, WireError};

use crate::entries::{ENTRIES_MAX, Entries, Entry};
use crate::error::Error;

/// How two events, or two vectors, stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Causality {
    /// The same.
    Equal,
    /// The first happened before the second.
    Before,
    /// The second happened before the first.
    After,
    /// Neither knew of the other.
    Concurrent,
}

/// How many events of each process are known. [Fidge 1988, Mattern 1989]
///
/// A process is one life of a node ([`Peer`]), so a restarted node issues no count twice, nodes
/// come and go, and the vector has no fixed length. An entry is never zero: absent says the same,
/// and two forms of one value would break the order.
#[derive(Clone)]
pub struct VectorClock {
    /// Ascending by process, no zero.
    entries: Entries,
}

impl VectorClock {
    /// The vector that knows of no event.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Entries::new() }
    }

    /// Counts an event of `own`, local or a send; gives its number. The vector is then the event's
    /// stamp.
    ///
    /// # Errors
    /// [`Error::CounterExhausted`], [`Error::VectorFull`]; nothing is changed.
    pub fn tick(&mut self, own: Peer) -> Result<u64, Error> {
        match self.find(own) {
            Ok(at) => {
                let count = &mut self.entries.as_mut_slice()[at].1;
                *count = count.checked_add(1).ok_or(Error::CounterExhausted(own))?;
                Ok(*count)
            }
            Err(_) if self.len() == ENTRIES_MAX => Err(Error::VectorFull(ENTRIES_MAX + 1)),
            Err(at) => {
                self.entries.insert(at, (own, 1));
                Ok(1)
            }
        }
    }

    /// Counts the receipt by `own` of a message stamped `other`; gives the receipt's number.
    ///
    /// # Errors
    /// [`Error::OwnCounterAhead`] when the stamp claims events that `own` has not had, and as
    /// [`merge`](Self::merge) and [`tick`](Self::tick); nothing is changed.
    pub fn receive(&mut self, own: Peer, other: &Self) -> Result<u64, Error> {
        let (claimed, had) = (other.count(own), self.count(own));
        if claimed > had {
            return Err(Error::OwnCounterAhead { own, claimed, had });
        }
        if had == u64::MAX {
            return Err(Error::CounterExhausted(own));
        }
        let len = self.len_merged(other);
        // The event itself may need one more.
        self.merge_into(other, len, len + usize::from(had == 0))?;
        self.tick(own)
    }

    /// Learns all that `other` knows: the least upper bound of both.
    ///
    /// # Errors
    /// [`Error::VectorFull`]; nothing is changed.
    pub fn merge(&mut self, other: &Self) -> Result<(), Error> {
        let len = self.len_merged(other);
        self.merge_into(other, len, len)
    }

    /// How the event stamped `self` stands to the one stamped `other`.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Causality {
        let (mut less, mut greater) = (false, false);
        let both = walk(self.slice(), other.slice(), |_, ours, theirs| {
            less |= ours < theirs;
            greater |= ours > theirs;
            (less && greater).then_some(Causality::Concurrent)
        });
        both.unwrap_or(match (less, greater) {
            (true, _) => Causality::Before,
            (_, true) => Causality::After,
            _ => Causality::Equal,
        })
    }

    /// Whether `self` knows all that `other` knows: the later of both, or the same.
    #[must_use]
    pub fn dominates(&self, other: &Self) -> bool {
        self.len() >= other.len()
            && walk(self.slice(), other.slice(), |_, ours, theirs| (ours < theirs).then_some(()))
                .is_none()
    }

    /// How many events of `of` are known.
    #[must_use]
    pub fn count(&self, of: Peer) -> u64 {
        self.find(of).map_or(0, |at| self.slice()[at].1)
    }

    /// The processes that have had events, ascending, and how many.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Peer, u64)> + '_ {
        self.slice().iter().copied()
    }

    /// How many processes have had events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slice().len()
    }

    /// Whether no event is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn slice(&self) -> &[Entry] {
        self.entries.as_slice()
    }

    fn find(&self, of: Peer) -> Result<usize, usize> {
        self.slice().binary_search_by_key(&of, |(peer, _)| *peer)
    }

    /// How many processes either side names.
    fn len_merged(&self, other: &Self) -> usize {
        let mut len = 0;
        let _: Option<()> = walk(self.slice(), other.slice(), |_, _, _| {
            len += 1;
            None
        });
        len
    }

    /// Merges into `len` entries, unless `needed` are more than a vector holds.
    fn merge_into(&mut self, other: &Self, len: usize, needed: usize) -> Result<(), Error> {
        if needed > ENTRIES_MAX {
            return Err(Error::VectorFull(needed));
        }
        if len == self.len() {
            self.raise(other);
            return Ok(());
        }
        let mut merged = Entries::with_room(len);
        let _: Option<()> = walk(self.slice(), other.slice(), |peer, ours, theirs| {
            merged.push((peer, ours.max(theirs)));
            None
        });
        self.entries = merged;
        Ok(())
    }

    /// Merges a vector that names no process which this one does not, in place.
    fn raise(&mut self, other: &Self) {
        let mut ours = self.entries.as_mut_slice().iter_mut();
        for (peer, theirs) in other.slice() {
            if let Some((_, count)) = ours.find(|(ours, _)| ours == peer) {
                *count = (*count).max(*theirs);
            }
        }
    }
}

/// Calls `each` with every process of either side and its counts on both, ascending, until it
/// answers.
fn walk<T>(
    mut ours: &[Entry],
    mut theirs: &[Entry],
    mut each: impl FnMut(Peer, u64, u64) -> Option<T>,
) -> Option<T> {
    loop {
        let answer = match (ours.split_first(), theirs.split_first()) {
            (None, None) => return None,
            // The usual case first: vectors of one group name the same processes.
            (Some(((a, mine), rest)), Some(((b, other), others))) if a == b => {
                (ours, theirs) = (rest, others);
                each(*a, *mine, *other)
            }
            (Some(((a, mine), rest)), Some(((b, _), _))) if a < b => {
                ours = rest;
                each(*a, *mine, 0)
            }
            (Some(((a, mine), rest)), None) => {
                ours = rest;
                each(*a, *mine, 0)
            }
            (_, Some(((b, other), others))) => {
                theirs = others;
                each(*b, 0, *other)
            }
        };
        if answer.is_some() {
            return answer;
        }
    }
}

impl Default for VectorClock {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for VectorClock {
    fn eq(&self, other: &Self) -> bool {
        self.slice() == other.slice()
    }
}

impl Eq for VectorClock {}

impl PartialOrd for VectorClock {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.compare(other) {
            Causality::Equal => Some(Ordering::Equal),
            Causality::Before => Some(Ordering::Less),
            Causality::After => Some(Ordering::Greater),
            Causality::Concurrent => None,
        }
    }
}

impl fmt::Debug for VectorClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl fmt::Display for VectorClock {
    /// `[n1:3 n2:1]`; the life of a node is named after its first: `n1.2:3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (at, (peer, count)) in self.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            match peer.incarnation.0 {
                0 | 1 => write!(f, "{space}{}:{count}", peer.node)?,
                life => write!(f, "{space}{}.{life}:{count}", peer.node)?,
            }
        }
        f.write_str("]")
    }
}

/// On the wire: the number of entries, then each, ascending. Read back only if no entry is zero,
/// none is doubled or out of order, and there are at most [`ENTRIES_MAX`].
impl Wire for VectorClock {
    fn encode(&self, to: &mut Encoder<'_>) {
        to.value(&(self.len() as u64));
        for entry in self.iter() {
            to.value(&entry);
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let rule = |rule| WireError::Rule { field: "vector", rule };
        let count: u64 = from.value("vector")?;
        if count > ENTRIES_MAX as u64 {
            return Err(rule("has at most 1024 entries"));
        }
        let mut entries = Entries::new();
        for _ in 0..count {
            let (peer, events): Entry = from.value("vector entry")?;
            if events == 0 {
                return Err(rule("has no zero entry"));
            }
            if entries.as_slice().last().is_some_and(|(last, _)| *last >= peer) {
                return Err(rule("is ascending and names no process twice"));
            }
            entries.push((peer, events));
        }
        Ok(Self { entries })
    }
}
