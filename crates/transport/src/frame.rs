//! What travels: a small encoded head, and raw attachments that are never copied.
//!
//! The same frame goes to every socket and, as a record, into every journal. An attachment
//! carries its checksum with it, computed once where the bytes were made; whoever reads bytes
//! from a wire or a disk verifies it once, before a machine sees them.

use alloc::vec::Vec;
use core::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::checksum::crc32c;

/// Raw bytes with their CRC-32C.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Attachment {
    bytes: Bytes,
    checksum: u32,
}

impl Attachment {
    /// Computes the checksum: once, where the bytes are made.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        let checksum = crc32c(&bytes);
        Self { bytes, checksum }
    }

    /// Believes the checksum; [`verify`](Self::verify) tells whether it is right.
    #[must_use]
    pub fn unverified(bytes: Bytes, checksum: u32) -> Self {
        Self { bytes, checksum }
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The CRC-32C of the bytes, as their maker computed it.
    #[must_use]
    pub fn checksum(&self) -> u32 {
        self.checksum
    }

    /// True when the bytes are what their maker wrote.
    #[must_use]
    pub fn verify(&self) -> bool {
        crc32c(&self.bytes) == self.checksum
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes, crc {:08x}]", self.bytes.len(), self.checksum)
    }
}

/// The attachments of a frame; none and one need no heap.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Attachments {
    /// No attachment.
    #[default]
    None,
    /// One, as most have that have any.
    One(Attachment),
    /// Two or more.
    Many(Vec<Attachment>),
}

impl Attachments {
    /// Adds one at the end.
    pub fn push(&mut self, attachment: Attachment) {
        *self = match core::mem::take(self) {
            Self::None => Self::One(attachment),
            Self::One(first) => Self::Many(alloc::vec![first, attachment]),
            Self::Many(mut all) => {
                all.push(attachment);
                Self::Many(all)
            }
        };
    }

    /// All of them, in order.
    #[must_use]
    pub fn as_slice(&self) -> &[Attachment] {
        match self {
            Self::None => &[],
            Self::One(one) => core::slice::from_ref(one),
            Self::Many(all) => all,
        }
    }
}

/// One encoded message or record.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Frame {
    /// The encoded head: small.
    pub head: Bytes,
    /// Raw bytes that the head speaks of.
    pub attachments: Attachments,
}

/// Why bytes are no frame: the sender's fault, or the disk's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The bytes end before the frame does.
    #[error("the frame ends after {have} bytes, its lengths say {want}")]
    Short {
        /// Bytes at hand.
        have: usize,
        /// Bytes that the lengths ask for.
        want: usize,
    },
    /// Bytes are left over.
    #[error("{0} bytes follow the end of the frame")]
    Trailing(usize),
    /// A length is over its cap.
    #[error("{field} is {value}, over the cap of {max}")]
    OverCap {
        /// Which length.
        field: &'static str,
        /// What it says.
        value: usize,
        /// What it may say.
        max: usize,
    },
    /// The prefix or head was changed on its way.
    #[error("the head's checksum does not match")]
    HeadChecksum,
    /// An attachment was changed on its way.
    #[error("the checksum of attachment {0} does not match")]
    AttachmentChecksum(usize),
}

/// The most attachments one frame may have.
pub const ATTACHMENTS_MAX: usize = 255;
/// The longest head.
pub const HEAD_BYTES_MAX: usize = 1 << 20;
/// The longest flat frame by default, attachments included.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

const FIXED: usize = 4 + 4 + 1;
const PER_ATTACHMENT: usize = 8;

impl Frame {
    /// The length of this frame when flat, in bytes.
    #[must_use]
    pub fn flat_len(&self) -> usize {
        let attachments = self.attachments.as_slice();
        let bytes: usize = attachments.iter().map(|a| a.bytes.len()).sum();
        FIXED + PER_ATTACHMENT * attachments.len() + self.head.len() + bytes
    }

    /// Writes the prefix and head: everything but the attachments' bytes, which follow it as they
    /// are (in one vectored write, say).
    ///
    /// Layout, little-endian: CRC-32C of what follows up to the end of the head (u32), head length
    /// (u32), attachment count (u8), per attachment its length and CRC-32C (u32 each), head.
    ///
    /// # Panics
    /// When the frame breaks [`ATTACHMENTS_MAX`], [`HEAD_BYTES_MAX`], or an attachment is 4 GiB:
    /// the encoder's own caps lie far below.
    pub fn put_prefix(&self, out: &mut BytesMut) {
        let attachments = self.attachments.as_slice();
        assert!(attachments.len() <= ATTACHMENTS_MAX, "too many attachments in a frame");
        assert!(self.head.len() <= HEAD_BYTES_MAX, "the head of a frame is too long");
        let start = out.len();
        out.put_u32_le(0);
        out.put_u32_le(self.head.len() as u32);
        out.put_u8(attachments.len() as u8);
        for attachment in attachments {
            let len = u32::try_from(attachment.bytes.len()).expect("an attachment under 4 GiB");
            out.put_u32_le(len);
            out.put_u32_le(attachment.checksum);
        }
        out.extend_from_slice(&self.head);
        let checksum = crc32c(&out[start + 4..]);
        out[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
    }

    /// The whole frame in one buffer.
    pub fn put_flat(&self, out: &mut BytesMut) {
        out.reserve(self.flat_len());
        self.put_prefix(out);
        for attachment in self.attachments.as_slice() {
            out.extend_from_slice(&attachment.bytes);
        }
    }

    /// Reads a flat frame and verifies every checksum; attachments are slices of `flat`, except
    /// those smaller than a quarter of it, which are copied so that they do not pin it.
    ///
    /// # Errors
    /// [`FrameError`]: the bytes are not a frame that `put_flat` wrote. Nothing is allocated
    /// beyond the bytes at hand.
    pub fn from_flat(flat: &Bytes) -> Result<Self, FrameError> {
        let short = |want| FrameError::Short { have: flat.len(), want };
        if flat.len() < FIXED {
            return Err(short(FIXED));
        }
        let mut cursor: &[u8] = flat;
        let checksum = cursor.get_u32_le();
        let head_len = cursor.get_u32_le() as usize;
        let count = cursor.get_u8() as usize;
        if head_len > HEAD_BYTES_MAX {
            return Err(FrameError::OverCap {
                field: "head length",
                value: head_len,
                max: HEAD_BYTES_MAX,
            });
        }
        let head_start = FIXED + PER_ATTACHMENT * count;
        let head_end = head_start + head_len;
        if flat.len() < head_end {
            return Err(short(head_end));
        }
        if crc32c(&flat[4..head_end]) != checksum {
            return Err(FrameError::HeadChecksum);
        }
        let mut attachments = Attachments::None;
        let mut at = head_end;
        for number in 0..count {
            let len = cursor.get_u32_le() as usize;
            let checksum = cursor.get_u32_le();
            let end = at.saturating_add(len);
            if flat.len() < end {
                return Err(short(end));
            }
            let bytes = if len < flat.len() / 4 {
                Bytes::copy_from_slice(&flat[at..end])
            } else {
                flat.slice(at..end)
            };
            let attachment = Attachment::unverified(bytes, checksum);
            if !attachment.verify() {
                return Err(FrameError::AttachmentChecksum(number));
            }
            attachments.push(attachment);
            at = end;
        }
        if at != flat.len() {
            return Err(FrameError::Trailing(flat.len() - at));
        }
        let head = Bytes::copy_from_slice(&flat[head_start..head_end]);
        Ok(Self { head, attachments })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn frame(sizes: &[usize]) -> Frame {
        let mut attachments = Attachments::None;
        for size in sizes {
            attachments.push(Attachment::new(Bytes::from(alloc::vec![7; *size])));
        }
        Frame { head: Bytes::from_static(b"head"), attachments }
    }

    fn flat(frame: &Frame) -> Bytes {
        let mut out = BytesMut::new();
        frame.put_flat(&mut out);
        assert_eq!(out.len(), frame.flat_len());
        out.freeze()
    }

    #[test]
    fn a_frame_comes_back_as_it_was() {
        for sizes in [&[][..], &[0], &[5], &[1, 100_000], &[3, 3, 3]] {
            let one = frame(sizes);
            assert_eq!(Frame::from_flat(&flat(&one)), Ok(one));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let good = flat(&frame(&[9, 30]));
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.to_vec();
                bad[at] ^= 1 << bit;
                assert!(Frame::from_flat(&Bytes::from(bad)).is_err(), "byte {at} bit {bit}");
            }
            assert!(Frame::from_flat(&good.slice(..at)).is_err(), "cut at {at}");
        }
        let mut long = good.to_vec();
        long.push(0);
        assert_eq!(Frame::from_flat(&Bytes::from(long)), Err(FrameError::Trailing(1)));
    }

    #[test]
    fn a_small_attachment_does_not_pin_a_large_buffer() {
        let both = flat(&frame(&[10, 10_000]));
        let read = Frame::from_flat(&both).unwrap();
        let range = both.as_ptr_range();
        let inside = |a: &Attachment| range.contains(&a.bytes().as_ptr());
        let [small, large] = read.attachments.as_slice() else { panic!("two attachments") };
        assert!(!inside(small));
        assert!(inside(large));
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut rng = Rng::new(3);
        for _ in 0..20_000 {
            let len = rng.below(64) as usize;
            let bytes: Vec<u8> = (0..len).map(|_| rng.next_u64() as u8).collect();
            assert!(Frame::from_flat(&Bytes::from(bytes)).is_err());
        }
    }
}
