//! The bytes on disk: segment headers and frames, little-endian, each with a CRC-32C.
//!
//! A frame's checksum covers its owner, segment, offset and the checksum of the frame before it, so
//! that the same bytes are valid in one place of one history only.

use quorate_transport::{crc32c, crc32c_append};

use crate::error::Damage;

/// A place in the journal; later places compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// The sequence number of the segment, from 1.
    pub segment: u64,
    /// The byte in it.
    pub offset: u64,
}

/// Where a burst ends: durable once [`Wal::sync`](crate::Wal::sync) returned this or more.
pub type BurstEnd = Position;

/// The longest record, its frame flat.
pub const RECORD_BYTES_MAX: usize = quorate_transport::FRAME_BYTES_MAX;

pub(crate) const VERSION: u32 = 1;
/// The first frame of a segment begins here.
pub(crate) const HEADER_BYTES: u64 = 4096;
/// Frames begin at multiples of this.
pub(crate) const ALIGN: u64 = 8;
/// Bytes of a frame before its body.
pub(crate) const FRAME_HEAD: usize = 32;
/// Bytes of a record's body before its transport frame.
pub(crate) const RECORD_HEAD: usize = 24;
/// Bytes of one entry in a release frame.
pub(crate) const RELEASE_ENTRY: usize = 24;
/// Bytes of a commit frame, head included; it is its own burst when used as a mark.
pub(crate) const COMMIT_BYTES: u64 = (FRAME_HEAD + COMMIT_BODY) as u64;

const COMMIT_BODY: usize = 40;
const HEADER_USED: usize = 80;
const SEGMENT_MAGIC: [u8; 8] = *b"QUORWAL\0";
/// A frame begins with this, mixed with the seed of its segment: what a recycled segment held
/// before does not even look like a frame.
const FRAME_MAGIC: u32 = 0x5751_4652;

pub(crate) fn segment_name(sequence: u64) -> String {
    format!("journal-{sequence:016x}.wal")
}

pub(crate) fn spare_name(sequence: u64) -> String {
    format!("spare-{sequence:016x}.wal")
}

/// The sequence number in a name of the form `prefix-<16 hex digits>.wal`.
pub(crate) fn sequence_of(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?.strip_prefix('-')?.strip_suffix(".wal")?;
    let sequence = u64::from_str_radix(digits, 16).ok()?;
    (digits.len() == 16 && format!("{sequence:016x}") == digits).then_some(sequence)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a slice of four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a slice of eight bytes"))
}

/// The first page of a segment; durable before the segment has its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) version: u32,
    pub(crate) owner: u64,
    pub(crate) sequence: u64,
    /// Length of the file.
    pub(crate) len: u64,
    /// Where the segment before it ends, all of it durable.
    pub(crate) previous_end: u64,
    /// The checksum of the last frame before this segment.
    pub(crate) chain: u32,
    /// The oldest segment needed.
    pub(crate) first: u64,
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES as usize];
        out[..8].copy_from_slice(&SEGMENT_MAGIC);
        out[8..12].copy_from_slice(&self.version.to_le_bytes());
        out[16..24].copy_from_slice(&self.owner.to_le_bytes());
        out[24..32].copy_from_slice(&self.sequence.to_le_bytes());
        out[32..40].copy_from_slice(&self.len.to_le_bytes());
        out[40..48].copy_from_slice(&self.previous_end.to_le_bytes());
        out[48..52].copy_from_slice(&self.chain.to_le_bytes());
        out[56..64].copy_from_slice(&self.first.to_le_bytes());
        let checksum = Self::checksum(&out);
        out[12..16].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Any version's header: the layout of the first 80 bytes is for ever.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        if bytes.len() < HEADER_BYTES as usize {
            let (found, expected) = (bytes.len() as u64, HEADER_BYTES);
            return Err(Damage::FileLength { found, expected });
        }
        if bytes[..8] != SEGMENT_MAGIC {
            return Err(Damage::NoFrame);
        }
        if u32_at(bytes, 12) != Self::checksum(bytes) {
            return Err(Damage::Checksum);
        }
        Ok(Self {
            version: u32_at(bytes, 8),
            owner: u64_at(bytes, 16),
            sequence: u64_at(bytes, 24),
            len: u64_at(bytes, 32),
            previous_end: u64_at(bytes, 40),
            chain: u32_at(bytes, 48),
            first: u64_at(bytes, 56),
        })
    }

    fn checksum(bytes: &[u8]) -> u32 {
        crc32c_append(crc32c(&bytes[..12]), &bytes[16..HEADER_USED])
    }
}

/// What the checksums of one segment begin with.
pub(crate) fn seed(owner: u64, sequence: u64) -> u32 {
    let owner = crc32c(&owner.to_le_bytes());
    crc32c_append(owner, &sequence.to_le_bytes())
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Record = 1,
    Release = 2,
    Commit = 3,
}

/// A frame whose checksum holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawFrame<'a> {
    pub(crate) kind: Kind,
    pub(crate) checksum: u32,
    pub(crate) previous: u32,
    pub(crate) body: &'a [u8],
    /// Where the next frame begins.
    pub(crate) end: u64,
}

/// Appends the head of a frame, to be completed by [`seal_frame`].
pub(crate) fn put_frame_head(out: &mut impl bytes::BufMut, kind: Kind) {
    out.put_bytes(0, 12);
    out.put_u32_le(kind as u32);
    out.put_bytes(0, FRAME_HEAD - 16);
}

/// Fills in body length and covered length once they are known.
pub(crate) fn set_frame_lengths(frame: &mut [u8], body: u32, covered: u32) {
    frame[16..20].copy_from_slice(&body.to_le_bytes());
    frame[20..24].copy_from_slice(&covered.to_le_bytes());
}

/// Gives a frame its place: returns its checksum, the next one's `previous`.
pub(crate) fn seal_frame(frame: &mut [u8], seed: u32, previous: u32, offset: u64) -> u32 {
    frame[..4].copy_from_slice(&(FRAME_MAGIC ^ seed).to_le_bytes());
    frame[8..12].copy_from_slice(&previous.to_le_bytes());
    frame[24..32].copy_from_slice(&offset.to_le_bytes());
    let checksum = crc32c_append(seed, &frame[8..]);
    frame[4..8].copy_from_slice(&checksum.to_le_bytes());
    checksum
}

/// The frame at `offset` of a segment, whose covered part is at most `covered_max` bytes.
pub(crate) fn frame_at(
    segment: &[u8],
    seed: u32,
    offset: u64,
    covered_max: usize,
) -> Result<RawFrame<'_>, Damage> {
    let start = usize::try_from(offset).map_err(|_| Damage::Length)?;
    let rest = segment.get(start..).unwrap_or_default();
    if rest.len() < FRAME_HEAD || u32_at(rest, 0) != FRAME_MAGIC ^ seed {
        return Err(Damage::NoFrame);
    }
    let kind = match u32_at(rest, 12) {
        1 => Kind::Record,
        2 => Kind::Release,
        3 => Kind::Commit,
        _ => return Err(Damage::Checksum),
    };
    let (body_len, covered) = (u32_at(rest, 16) as usize, u32_at(rest, 20) as usize);
    let end = FRAME_HEAD.saturating_add(body_len);
    if covered > body_len || covered > covered_max || end > rest.len() {
        return Err(Damage::Length);
    }
    let checksum = u32_at(rest, 4);
    let found = crc32c_append(seed, &rest[8..FRAME_HEAD + covered]);
    if found != checksum || u64_at(rest, 24) != offset {
        return Err(Damage::Checksum);
    }
    let end = (offset + end as u64).next_multiple_of(ALIGN);
    Ok(RawFrame {
        kind,
        checksum,
        previous: u32_at(rest, 8),
        body: &rest[FRAME_HEAD..][..body_len],
        end,
    })
}

/// Closes a burst, or stands alone as a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    /// Everything before this was durable when the commit was written.
    pub(crate) synced: Position,
    /// The oldest segment needed once this commit is durable.
    pub(crate) first: u64,
    /// Where its burst begins.
    pub(crate) start: u64,
    /// How many frames the burst has before its commit.
    pub(crate) frames: u32,
}

impl Commit {
    pub(crate) fn put(&self, out: &mut impl bytes::BufMut) {
        out.put_u64_le(self.synced.segment);
        out.put_u64_le(self.synced.offset);
        out.put_u64_le(self.first);
        out.put_u64_le(self.start);
        out.put_u32_le(self.frames);
        out.put_u32_le(0);
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, Damage> {
        if body.len() != COMMIT_BODY {
            return Err(Damage::Contents);
        }
        Ok(Self {
            synced: Position { segment: u64_at(body, 0), offset: u64_at(body, 8) },
            first: u64_at(body, 16),
            start: u64_at(body, 24),
            frames: u32_at(body, 32),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_valid_in_one_place_of_one_segment_only() {
        let mut frame = Vec::new();
        put_frame_head(&mut frame, Kind::Release);
        frame.extend_from_slice(&[7; 16]);
        set_frame_lengths(&mut frame, 16, 16);
        let mut segment = vec![0; 4096 + 128];
        seal_frame(&mut frame, seed(9, 3), 77, 4096);
        segment[4096..4096 + frame.len()].copy_from_slice(&frame);
        let read = frame_at(&segment, seed(9, 3), 4096, 64).unwrap();
        assert_eq!((read.kind, read.previous, read.end), (Kind::Release, 77, 4096 + 48));
        let checksum = |seed| frame_at(&segment, seed, 4096, 64).map(|f| f.end);
        assert_eq!(checksum(seed(9, 4)), Err(Damage::NoFrame), "another generation");
        assert_eq!(checksum(seed(8, 3)), Err(Damage::NoFrame), "another owner");
        segment.copy_within(4096..4096 + 48, 4096 + 48);
        let moved = frame_at(&segment, seed(9, 3), 4096 + 48, 64).map(|f| f.end);
        assert_eq!(moved, Err(Damage::Checksum), "another offset");
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let (version, owner, sequence, len) = (VERSION, 5, 6, 8192);
        let header =
            Header { version, owner, sequence, len, previous_end: 4500, chain: 3, first: 2 };
        let good = header.encode();
        assert_eq!(Header::decode(&good), Ok(header));
        for bit in 0..HEADER_USED * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn only_our_own_names_are_names() {
        assert_eq!(sequence_of(&segment_name(0xab), "journal"), Some(0xab));
        assert_eq!(sequence_of(&spare_name(1), "spare"), Some(1));
        for bad in ["journal-1.wal", "journal-00000000000000AB.wal", "journal-+000000000000001.wal"]
        {
            assert_eq!(sequence_of(bad, "journal"), None, "{bad}");
        }
    }
}
