//! Tables of open addressing, keyed by digests: a search asks them at every event.

/// A set of digests. What is 0 counts as 1.
pub(super) struct Set {
    slots: Vec<u128>,
    len: usize,
}

impl Set {
    pub(super) fn new() -> Self {
        Self { slots: vec![0; 1 << 10], len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds `key`; whether it is new.
    pub(super) fn insert(&mut self, key: u128) -> bool {
        if self.len * 4 >= self.slots.len() * 3 {
            let doubled = vec![0; self.slots.len() * 2];
            for old in std::mem::replace(&mut self.slots, doubled) {
                if old != 0 {
                    let slot = self.find(old);
                    self.slots[slot] = old;
                }
            }
        }
        let key = key.max(1);
        let slot = self.find(key);
        let is_new = self.slots[slot] == 0;
        self.slots[slot] = key;
        self.len += usize::from(is_new);
        is_new
    }

    /// The slot of `key`, or the free one where it belongs.
    fn find(&self, key: u128) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = spread(key) & mask;
        while self.slots[slot] != 0 && self.slots[slot] != key {
            slot = (slot + 1) & mask;
        }
        slot
    }
}

/// Numbers by digest.
pub(super) struct Numbers {
    keys: Set,
    numbers: Vec<u32>,
}

impl Numbers {
    pub(super) fn new() -> Self {
        let keys = Set::new();
        Self { numbers: vec![0; keys.slots.len()], keys }
    }

    pub(super) fn get(&self, key: u128) -> Option<u32> {
        let slot = self.keys.find(key.max(1));
        (self.keys.slots[slot] != 0).then(|| self.numbers[slot])
    }

    /// Gives a key its number.
    pub(super) fn insert(&mut self, key: u128, number: u32) {
        let before = self.keys.slots.len();
        if (self.keys.len + 1) * 4 >= before * 3 {
            let old: Vec<_> = self.keys.slots.iter().copied().zip(self.numbers.drain(..)).collect();
            self.keys = Set { slots: vec![0; before * 2], len: 0 };
            self.numbers = vec![0; before * 2];
            for (key, number) in old.into_iter().filter(|(key, _)| *key != 0) {
                self.put(key, number);
            }
        }
        self.put(key, number);
    }

    fn put(&mut self, key: u128, number: u32) {
        self.keys.insert(key);
        let slot = self.keys.find(key.max(1));
        self.numbers[slot] = number;
    }
}

fn spread(key: u128) -> usize {
    let mixed = (key as u64 ^ (key >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 32)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_new_once_and_keeps_its_number() {
        let (mut set, mut numbers) = (Set::new(), Numbers::new());
        for round in [true, false] {
            for key in 0..20_000u32 {
                let digest = u128::from(key + 1) << 70 | u128::from(key);
                assert_eq!(set.insert(digest), round);
                assert_eq!(numbers.get(digest), (!round).then_some(key));
                if round {
                    numbers.insert(digest, key);
                }
            }
        }
        assert_eq!(set.len(), 20_000);
        assert_eq!((numbers.get(0), set.insert(0), set.insert(1)), (None, true, false));
    }
}
