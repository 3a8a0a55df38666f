//! A set of word sequences: the configurations that a search has visited.

/// An open-addressing table over one arena; the hash is fixed, equality is exact.
///
/// Two allocations in all, so that millions of configurations stay cheap.
pub(super) struct Seen {
    /// Each entry: its length, then its words.
    words: Vec<u64>,
    /// Where an entry begins, plus one; 0 is free. The length is a power of two.
    slots: Vec<usize>,
    len: usize,
}

impl Seen {
    pub(super) fn new() -> Self {
        Self { words: Vec::new(), slots: vec![0; 64], len: 0 }
    }

    /// Adds `key`; whether it is new.
    pub(super) fn insert(&mut self, key: &[u64]) -> bool {
        if self.len * 4 >= self.slots.len() * 3 {
            self.grow();
        }
        let slot = self.find(key);
        if self.slots[slot] != 0 {
            return false;
        }
        self.slots[slot] = self.words.len() + 1;
        self.words.push(key.len() as u64);
        self.words.extend_from_slice(key);
        self.len += 1;
        true
    }

    /// The slot of `key`, or the free one where it belongs.
    fn find(&self, key: &[u64]) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = hash(key) as usize & mask;
        while self.slots[slot] != 0 && self.entry(self.slots[slot] - 1) != key {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn entry(&self, at: usize) -> &[u64] {
        let begin = at + 1;
        &self.words[begin..begin + self.words[at] as usize]
    }

    fn grow(&mut self) {
        let doubled = vec![0; self.slots.len() * 2];
        let old = std::mem::replace(&mut self.slots, doubled);
        for taken in old.into_iter().filter(|taken| *taken != 0) {
            let slot = self.find(self.entry(taken - 1));
            self.slots[slot] = taken;
        }
    }
}

fn hash(key: &[u64]) -> u64 {
    let mix = |hash: u64, word: &u64| {
        let mixed = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 32)
    };
    key.iter().fold(key.len() as u64, mix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_new_once() {
        let mut seen = Seen::new();
        for round in [true, false] {
            for word in 0..1000 {
                assert_eq!(seen.insert(&[word]), round);
                assert_eq!(seen.insert(&[word, 0]), round);
                assert_eq!(seen.insert(&[0, word, 1]), round);
            }
        }
        assert!(seen.insert(&[]));
    }
}
