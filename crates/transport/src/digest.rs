//! What the explorer compares: a state boiled down to 128 bits, with ids renamed.

use alloc::vec::Vec;

use crate::ids::NodeId;

/// How node ids are to be read, so that states alike but for names are found to be one.
#[derive(Clone, Debug, Default)]
pub struct Rename {
    pairs: Vec<(NodeId, NodeId)>,
}

impl Rename {
    /// Every id stays as it is.
    #[must_use]
    pub fn identity() -> Self {
        Self::default()
    }

    /// The ids of `pairs` are read as their second half; others stay.
    #[must_use]
    pub fn new(pairs: Vec<(NodeId, NodeId)>) -> Self {
        Self { pairs }
    }

    /// The name to use for `node`.
    #[must_use]
    pub fn node(&self, node: NodeId) -> NodeId {
        self.pairs.iter().find(|(from, _)| *from == node).map_or(node, |(_, to)| *to)
    }
}

/// A 128-bit digest, the same on every target; not for adversaries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    low: u64,
    high: u64,
}

impl Default for Digest {
    fn default() -> Self {
        Self { low: 0x243f_6a88_85a3_08d3, high: 0x1319_8a2e_0370_7344 }
    }
}

impl Digest {
    /// Goes on from a value: its low and high half.
    #[must_use]
    pub fn resume(low: u64, high: u64) -> Self {
        Self { low, high }
    }

    /// Adds a number.
    pub fn u64(&mut self, value: u64) {
        let fold = |a: u64, b: u64| {
            let product = u128::from(a) * u128::from(b);
            (product as u64) ^ ((product >> 64) as u64)
        };
        self.low = fold(self.low ^ value, 0x9e37_79b9_7f4a_7c15);
        self.high = fold(self.high.rotate_left(23) ^ value, 0xd6e8_feb8_6659_fd93) ^ self.low;
    }

    /// Adds a flag.
    pub fn bool(&mut self, value: bool) {
        self.u64(if value { 0x7e57_ed0e } else { 0xfa15_e000 });
    }

    /// Adds an optional number, `None` being unlike every number.
    pub fn option(&mut self, value: Option<u64>) {
        self.bool(value.is_some());
        self.u64(value.unwrap_or(0));
    }

    /// Adds bytes with their length.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.u64(bytes.len() as u64);
        self.measured_bytes(bytes);
    }

    /// Adds bytes whose length is in what was added already: else one run of them could be taken
    /// for another that ends in zeros.
    pub fn measured_bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        words.iter().for_each(|word| self.u64(u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            // What is missing is zeros. Byte by byte: these few are not worth a call.
            self.u64(rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        }
    }

    /// The digest of all that was added.
    #[must_use]
    pub fn value(&self) -> u128 {
        (u128::from(self.high) << 64) | u128::from(self.low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_length_and_absence_tell_states_apart() {
        let of = |f: &dyn Fn(&mut Digest)| {
            let mut digest = Digest::default();
            f(&mut digest);
            digest.value()
        };
        let all = [
            of(&|_| ()),
            of(&|d| d.u64(0)),
            of(&|d| d.bytes(&[])),
            of(&|d| d.bytes(&[0])),
            of(&|d| d.bytes(&[0, 0])),
            of(&|d| d.option(None)),
            of(&|d| d.option(Some(0))),
            of(&|d| [1, 2].iter().for_each(|v| d.u64(*v))),
            of(&|d| [2, 1].iter().for_each(|v| d.u64(*v))),
        ];
        let mut unique = all.to_vec();
        unique.sort_unstable();
        unique.dedup();
        // an empty byte string is the number 0, its length
        assert_eq!(unique.len(), all.len() - 1);
    }
}
