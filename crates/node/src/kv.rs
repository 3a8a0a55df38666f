//! The replicated map: commands, queries, snapshots, all over plain bytes.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quorate_smr::{Outputs, Pieces, RestoreError, SharedMap, StateMachine};

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 4096;
/// The longest value, in bytes; of a swap, both values together.
pub const VALUE_BYTES_MAX: usize = 512 << 10;
/// The longest command, in bytes.
pub const COMMAND_BYTES_MAX: usize = HEAD_BYTES + KEY_BYTES_MAX + SWAP_BYTES + VALUE_BYTES_MAX;
/// Pairs of one page of a listing at most.
pub const LIST_MAX: usize = 1000;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const SWAP: u8 = 3;
const GET: u8 = 1;
const LIST: u8 = 2;
/// Kind and length of the key.
const HEAD_BYTES: usize = 3;
/// Which values a swap has, and the length of the one that must be there.
const SWAP_BYTES: usize = 5;
const EXPECTS: u8 = 1;
const SETS: u8 = 2;

/// A map from keys to values.
#[derive(Clone, Debug, Default)]
pub struct Map {
    pairs: SharedMap<Pair, ()>,
}

/// A key and its value in one allocation, as the command that put them has them. Ordered by key
/// alone.
#[derive(Clone, Debug)]
struct Pair(Arc<[u8]>);

impl Pair {
    fn key(&self) -> &[u8] {
        &self.0[HEAD_BYTES..self.key_end()]
    }

    fn value(&self) -> &[u8] {
        &self.0[self.key_end()..]
    }

    fn key_end(&self) -> usize {
        HEAD_BYTES + u16::from_le_bytes([self.0[1], self.0[2]]) as usize
    }
}

impl Borrow<[u8]> for Pair {
    fn borrow(&self) -> &[u8] {
        self.key()
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Pair {}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(other.key())
    }
}

/// The command that sets a key.
pub fn put(key: &[u8], value: &[u8]) -> Bytes {
    let mut out = head(PUT, key, value.len());
    out.put_slice(value);
    out.freeze()
}

/// The command that removes a key.
pub fn delete(key: &[u8]) -> Bytes {
    head(DELETE, key, 0).freeze()
}

/// The beginning of a command, with room for so many bytes more.
fn head(kind: u8, key: &[u8], more: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(HEAD_BYTES + key.len() + more);
    out.put_u8(kind);
    out.put_u16_le(key.len() as u16);
    out.put_slice(key);
    out
}

/// The command that sets or removes a key if it has the `expected` value, or is not there where
/// that is `None`.
pub fn compare_and_set(key: &[u8], expected: Option<&[u8]>, value: Option<&[u8]>) -> Bytes {
    let has = |value: Option<&[u8]>, flag| if value.is_some() { flag } else { 0 };
    let flags = has(expected, EXPECTS) | has(value, SETS);
    let (expected, value) = (expected.unwrap_or_default(), value.unwrap_or_default());
    let mut out = head(SWAP, key, SWAP_BYTES + expected.len() + value.len());
    out.put_u8(flags);
    out.put_u32_le(expected.len() as u32);
    out.put_slice(expected);
    out.put_slice(value);
    out.freeze()
}

/// The query for a key's value.
pub fn get(key: &[u8]) -> Bytes {
    [&[GET], key].concat().into()
}

/// The value in the answer to [`get`].
pub fn value(answer: &Bytes) -> Option<Bytes> {
    (answer.first() == Some(&1)).then(|| answer.slice(1..))
}

/// What a watcher is told of a key: the value that was put, or `None` where it was removed.
pub fn changed(change: &Bytes) -> Option<Bytes> {
    (change.first() == Some(&PUT)).then(|| change.slice(1..))
}

/// The query for one page of the keys that begin with `prefix`, after `after`.
pub fn list(prefix: &[u8], after: Option<&[u8]>) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(LIST);
    out.put_u16_le(prefix.len() as u16);
    out.put_slice(prefix);
    out.put_u8(u8::from(after.is_some()));
    out.put_slice(after.unwrap_or_default());
    out.freeze()
}

/// The pairs in the answer to [`list`].
pub fn pairs(mut answer: Bytes) -> Vec<(Bytes, Bytes)> {
    let mut pairs = Vec::new();
    while answer.len() >= 6 {
        let key_len = answer.get_u16_le() as usize;
        let value_len = answer.get_u32_le() as usize;
        if answer.len() < key_len + value_len {
            break;
        }
        let key = answer.split_to(key_len);
        pairs.push((key, answer.split_to(value_len)));
    }
    pairs
}

impl Map {
    fn one(&mut self, command: &[u8], outputs: &mut Outputs) -> u8 {
        match split(command) {
            Some((PUT, key, value)) => {
                outputs.change(key, &[&[PUT], value]);
                u8::from(self.pairs.insert(Pair(command.into()), ()).is_some())
            }
            Some((DELETE, key, _)) => u8::from(self.remove(key, outputs)),
            Some((SWAP, key, rest)) => match values(rest) {
                Some((expected, value)) => u8::from(self.swap(key, expected, value, outputs)),
                None => b'?',
            },
            _ => b'?',
        }
    }

    fn remove(&mut self, key: &[u8], outputs: &mut Outputs) -> bool {
        let existed = self.pairs.remove(key).is_some();
        if existed {
            outputs.change(key, &[&[DELETE]]);
        }
        existed
    }

    /// Whether the key had the expected value, and has the other one now.
    fn swap(
        &mut self,
        key: &[u8],
        expected: Option<&[u8]>,
        value: Option<&[u8]>,
        outputs: &mut Outputs,
    ) -> bool {
        if self.value(key) != expected {
            return false;
        }
        match value {
            Some(value) => {
                outputs.change(key, &[&[PUT], value]);
                self.pairs.insert(Pair(put(key, value)[..].into()), ());
            }
            None => drop(self.remove(key, outputs)),
        }
        true
    }

    fn value(&self, key: &[u8]) -> Option<&[u8]> {
        let (pair, ()) = self.pairs.range(Bound::Included(key)).next()?;
        (pair.key() == key).then(|| pair.value())
    }

    fn page(&self, query: &[u8]) -> Bytes {
        let mut out = BytesMut::new();
        let Some((_, prefix, rest)) = split(query) else { return out.freeze() };
        let start = match rest.split_first() {
            Some((1, after)) => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let range = self.pairs.range(start).map(|(pair, ())| (pair.key(), pair.value()));
        for (key, value) in range.take_while(|(key, _)| key.starts_with(prefix)).take(LIST_MAX) {
            put_pair(&mut out, key, value);
            if out.len() > VALUE_BYTES_MAX {
                break;
            }
        }
        out.freeze()
    }
}

/// Kind, key and what follows it.
fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let (key, rest) = rest.split_at_checked(u16::from_le_bytes(*len) as usize)?;
    Some((*kind, key, rest))
}

/// What a key must have, and what it is to have; `None` for nothing.
type Swap<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

/// The values of a swap.
fn values(rest: &[u8]) -> Option<Swap<'_>> {
    let (flags, rest) = rest.split_first()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (expected, value) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    let sets = flags & SETS != 0;
    let well_formed = flags & !(EXPECTS | SETS) == 0
        && (flags & EXPECTS != 0 || expected.is_empty())
        && (sets || value.is_empty());
    let expected = (flags & EXPECTS != 0).then_some(expected);
    well_formed.then_some((expected, sets.then_some(value)))
}

fn put_pair(out: &mut BytesMut, key: &[u8], value: &[u8]) {
    out.put_u16_le(key.len() as u16);
    out.put_u32_le(value.len() as u32);
    out.put_slice(key);
    out.put_slice(value);
}

impl StateMachine for Map {
    fn apply(&mut self, commands: &mut dyn Iterator<Item = &[u8]>, outputs: &mut Outputs) {
        for command in commands {
            let existed = self.one(command, outputs);
            outputs.push(&[existed]);
        }
    }

    fn query(&self, query: &[u8]) -> Bytes {
        match query.split_first() {
            Some((&GET, key)) => match self.value(key) {
                Some(value) => [&[1], value].concat().into(),
                None => Bytes::from_static(&[0]),
            },
            Some((&LIST, _)) => self.page(query),
            _ => Bytes::new(),
        }
    }

    fn snapshot(&self) -> Pieces {
        // A pair is the command that puts it.
        let piece = |(pair, ()): (Pair, ())| Bytes::copy_from_slice(&pair.0);
        Pieces::new(self.pairs.clone().into_iter().map(piece))
    }

    fn restore(&mut self, piece: &[u8]) -> Result<(), RestoreError> {
        match split(piece) {
            Some((PUT, ..)) if self.pairs.insert(Pair(piece.into()), ()).is_none() => Ok(()),
            _ => Err(RestoreError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> Map {
        let mut map = Map::default();
        let commands = [put(b"a/1", b"one"), put(b"a/2", b""), put(b"b", b"two"), delete(b"b")];
        map.apply(&mut commands.iter().map(|c| &c[..]), &mut Outputs::default());
        map
    }

    fn all(map: &Map) -> Vec<&[u8]> {
        map.pairs.iter().map(|(pair, ())| &pair.0[..]).collect()
    }

    #[test]
    fn what_was_put_is_there_and_what_was_deleted_is_not() {
        let map = filled();
        assert_eq!(value(&map.query(&get(b"a/1"))), Some(Bytes::from_static(b"one")));
        assert_eq!(value(&map.query(&get(b"a/2"))), Some(Bytes::new()));
        assert_eq!(value(&map.query(&get(b"b"))), None);
        let page = pairs(map.query(&list(b"a/", None)));
        assert_eq!(page.len(), 2);
        assert_eq!(pairs(map.query(&list(b"a/", Some(b"a/1")))).len(), 1);
    }

    #[test]
    fn a_swap_happens_where_the_key_is_as_expected_and_nothing_else_does() {
        let mut map = filled();
        let (one, new) = (Some(&b"one"[..]), Some(&b"new"[..]));
        for (command, done) in [
            (compare_and_set(b"a/1", Some(b"two"), new), false),
            (compare_and_set(b"a/1", None, new), false),
            (compare_and_set(b"a/1", one, new), true),
            (compare_and_set(b"a/1", one, None), false),
            (compare_and_set(b"a/2", None, new), false),
            (compare_and_set(b"a/2", Some(b""), None), true),
            (compare_and_set(b"b", Some(b""), new), false),
            (compare_and_set(b"b", None, None), true),
            (compare_and_set(b"b", None, Some(b"")), true),
        ] {
            assert_eq!(map.one(&command, &mut Outputs::default()), u8::from(done), "{command:?}");
        }
        assert_eq!(all(&map), [&put(b"a/1", b"new")[..], &put(b"b", b"")]);
        let mut bad = compare_and_set(b"b", Some(b""), None).to_vec();
        bad.push(1);
        for bad in
            [&bad[..], &bad[..6], &[SWAP, 0, 0, 4, 0, 0, 0, 0], &[SWAP, 0, 0, 0, 1, 0, 0, 0, 1]]
        {
            assert_eq!(map.one(bad, &mut Outputs::default()), b'?', "{bad:?}");
        }
    }

    #[test]
    fn a_change_says_what_was_put_or_that_it_is_gone() {
        assert_eq!(changed(&Bytes::from_static(&[PUT, b'x'])), Some(Bytes::from_static(b"x")));
        assert_eq!(changed(&Bytes::from_static(&[PUT])), Some(Bytes::new()));
        assert_eq!(changed(&Bytes::from_static(&[DELETE])), None);
    }

    #[test]
    fn a_snapshot_restores_the_map_and_what_is_no_pair_is_refused() {
        let map = filled();
        let mut copy = Map::default();
        assert_eq!(map.snapshot().try_for_each(|piece| copy.restore(&piece)), Ok(()));
        assert_eq!(all(&copy), all(&map));
        let again = map.snapshot().next().expect("it holds a pair");
        for piece in [&again[..], &[], &[PUT, 9, 0], &delete(b"x")] {
            assert_eq!(copy.restore(piece), Err(RestoreError));
        }
    }

    #[test]
    fn commands_and_queries_that_make_no_sense_change_nothing() {
        let mut map = filled();
        for bytes in [&[][..], &[9], &[PUT, 200, 0, 1], &[LIST]] {
            map.apply(&mut [bytes].into_iter(), &mut Outputs::default());
            map.query(bytes);
        }
        assert_eq!(all(&map), all(&filled()));
    }
}
