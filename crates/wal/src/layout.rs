//! The bytes of a snapshot file: header page, the snapshot's bytes, one CRC-32C for each block.

use quorate_transport::{GroupId, Key, ProtocolId, SnapshotId, crc32c, crc32c_append};

use crate::error::Damage;
use crate::format::{HEADER_BYTES, u32_at, u64_at};

/// What a checksum of the table covers: the grain of verified reading.
pub(crate) const BLOCK_BYTES: u64 = 16 << 10;
/// How the names of finished snapshots begin.
pub(crate) const SNAPSHOT: &str = "snapshot";
/// How the names of those in the making begin.
pub(crate) const MAKING: &str = "making";

const MAGIC: [u8; 8] = *b"QUORSNAP";
const HEADER_USED: usize = 64;

pub(crate) fn snapshot_name(prefix: &str, key: Key, id: SnapshotId) -> String {
    let (protocol, group) = (key.protocol.0, key.group.0);
    format!("{prefix}-{protocol:04x}-{group:016x}-{:016x}-{:016x}.snap", id.index, id.term)
}

/// Whose snapshot has this name.
pub(crate) fn parse_name(name: &str, prefix: &str) -> Option<(Key, SnapshotId)> {
    let digits = name.strip_prefix(prefix)?.strip_prefix('-')?.strip_suffix(".snap")?;
    let mut parts = digits.split('-').map(|part| u64::from_str_radix(part, 16).ok());
    let mut next = || parts.next().flatten();
    let protocol = u16::try_from(next()?).ok()?;
    let key = Key { protocol: ProtocolId(protocol), group: GroupId(next()?) };
    let id = SnapshotId { index: next()?, term: next()? };
    (snapshot_name(prefix, key, id) == name).then_some((key, id))
}

/// What the checksum of a block begins with: it is valid in one place of one snapshot only.
pub(crate) fn block_seed(key: Key, id: SnapshotId, number: u64) -> u32 {
    let mut seed = u32::from(key.protocol.0);
    for part in [key.group.0, id.index, id.term, number] {
        seed = crc32c_append(seed, &part.to_le_bytes());
    }
    seed
}

/// The first page of a finished snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotHeader {
    pub(crate) version: u32,
    pub(crate) key: Key,
    pub(crate) id: SnapshotId,
    /// Bytes of the snapshot.
    pub(crate) len: u64,
    /// The CRC-32C of all of them.
    pub(crate) checksum: u32,
    /// The CRC-32C of the table.
    pub(crate) table: u32,
}

impl SnapshotHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES as usize];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&self.version.to_le_bytes());
        out[16..24].copy_from_slice(&u64::from(self.key.protocol.0).to_le_bytes());
        out[24..32].copy_from_slice(&self.key.group.0.to_le_bytes());
        out[32..40].copy_from_slice(&self.id.index.to_le_bytes());
        out[40..48].copy_from_slice(&self.id.term.to_le_bytes());
        out[48..56].copy_from_slice(&self.len.to_le_bytes());
        out[56..60].copy_from_slice(&self.checksum.to_le_bytes());
        out[60..64].copy_from_slice(&self.table.to_le_bytes());
        let checksum = Self::sum(&out);
        out[12..16].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Any version's header, from a whole page: the layout of its first 64 bytes is for ever.
    pub(crate) fn decode(page: &[u8]) -> Result<Self, Damage> {
        if page[..8] != MAGIC {
            return Err(Damage::NoFrame);
        }
        if u32_at(page, 12) != Self::sum(page) {
            return Err(Damage::Checksum);
        }
        let protocol = u16::try_from(u64_at(page, 16)).map_err(|_| Damage::Contents)?;
        Ok(Self {
            version: u32_at(page, 8),
            key: Key { protocol: ProtocolId(protocol), group: GroupId(u64_at(page, 24)) },
            id: SnapshotId { index: u64_at(page, 32), term: u64_at(page, 40) },
            len: u64_at(page, 48),
            checksum: u32_at(page, 56),
            table: u32_at(page, 60),
        })
    }

    fn sum(page: &[u8]) -> u32 {
        crc32c_append(crc32c(&page[..12]), &page[16..HEADER_USED])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_snapshots() {
        let (key, id) = (Key::new(0xfffe, 7), SnapshotId { index: 1 << 60, term: 3 });
        let name = snapshot_name(SNAPSHOT, key, id);
        assert_eq!(parse_name(&name, SNAPSHOT), Some((key, id)));
        assert_eq!(parse_name(&name, MAKING), None);
        assert_eq!(parse_name(&name.to_uppercase(), SNAPSHOT), None);
        for bad in ["snapshot-.snap", "snapshot-1-2-3-4.snap", "snapshot"] {
            assert_eq!(parse_name(bad, SNAPSHOT), None, "{bad}");
        }
    }

    #[test]
    fn every_flipped_bit_of_a_snapshot_header_is_noticed() {
        let (key, id) = (Key::new(1, 2), SnapshotId { index: 3, term: 4 });
        let header = SnapshotHeader { version: 1, key, id, len: 5, checksum: 6, table: 7 };
        let good = header.encode();
        assert_eq!(SnapshotHeader::decode(&good), Ok(header));
        for bit in 0..HEADER_USED * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(SnapshotHeader::decode(&bad).is_err(), "bit {bit}");
        }
    }
}
