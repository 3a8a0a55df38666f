//! What is on the wire: a hello, its answer, then frames one way and pongs the other.
//!
//! All numbers are little-endian. The dialer sends a [`Hello`] of 45 bytes, the acceptor an
//! [`Answer`] of 29; both end in the CRC-32C of what stands before it. After an acceptance the
//! dialer sends frames, each its flat length (u32) and the flat frame; a length of 0 is a ping,
//! which the acceptor answers by one zero byte.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::checksum::crc32c;
use crate::frame::{Frame, FrameError};
use crate::ids::{ClusterId, Incarnation, NodeId, Peer};

/// Every hello and answer begins with it.
pub const MAGIC: [u8; 4] = *b"QRT1";
/// The oldest version of what follows the handshake that this build speaks.
pub const VERSION_MIN: u16 = 1;
/// The newest version of what follows the handshake that this build speaks.
pub const VERSION_MAX: u16 = 1;
/// The length of an encoded [`Hello`], in bytes: the same in all versions.
pub const HELLO_BYTES: usize = 45;
/// The length of an encoded [`Answer`], in bytes: the same in all versions.
pub const ANSWER_BYTES: usize = 29;
/// What answers a ping.
pub const PONG: u8 = 0;

/// A frame longer than this stays in the buffer it was read into; a shorter one with attachments
/// is copied out, so that it never pins the buffer.
const COPIED_BYTES_MAX: usize = 16 << 10;

/// Who dials whom, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The oldest version that the dialer speaks.
    pub version_min: u16,
    /// The newest version that the dialer speaks.
    pub version_max: u16,
    /// The class of what it will send; checked after the versions, for a newer one may have more.
    pub class: u8,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Which life of which node it is.
    pub from: Peer,
    /// Which node it means to reach.
    pub to: NodeId,
}

impl Hello {
    /// The hello on the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut out = [0; HELLO_BYTES];
        let mut to = &mut out[..];
        to.put_slice(&MAGIC);
        to.put_u16_le(self.version_min);
        to.put_u16_le(self.version_max);
        to.put_u8(self.class);
        to.put_u64_le(self.cluster.0);
        to.put_u64_le(self.from.node.0);
        to.put_u64_le(self.from.incarnation.0);
        to.put_u64_le(self.to.0);
        seal(&mut out);
        out
    }

    /// Reads a hello.
    ///
    /// # Errors
    /// [`Garbage`]: whoever is there does not speak this protocol.
    pub fn decode(bytes: &[u8; HELLO_BYTES]) -> Result<Self, Garbage> {
        let mut from = unseal(bytes)?;
        Ok(Self {
            version_min: from.get_u16_le(),
            version_max: from.get_u16_le(),
            class: from.get_u8(),
            cluster: ClusterId(from.get_u64_le()),
            from: Peer {
                node: NodeId(from.get_u64_le()),
                incarnation: Incarnation(from.get_u64_le()),
            },
            to: NodeId(from.get_u64_le()),
        })
    }
}

/// What the acceptor says to a [`Hello`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Why it refuses; nothing where it accepts.
    pub refusal: Option<Refusal>,
    /// The oldest version that the acceptor speaks.
    pub version_min: u16,
    /// The newest version that the acceptor speaks.
    pub version_max: u16,
    /// Which life of which node it is; of an older life's refusal, the newest life of the dialer
    /// that is known.
    pub peer: Peer,
}

impl Answer {
    /// The answer on the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; ANSWER_BYTES] {
        let mut out = [0; ANSWER_BYTES];
        let mut to = &mut out[..];
        to.put_slice(&MAGIC);
        to.put_u8(self.refusal.map_or(0, |refusal| refusal as u8));
        to.put_u16_le(self.version_min);
        to.put_u16_le(self.version_max);
        to.put_u64_le(self.peer.node.0);
        to.put_u64_le(self.peer.incarnation.0);
        seal(&mut out);
        out
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`Garbage`]: whoever is there does not speak this protocol.
    pub fn decode(bytes: &[u8; ANSWER_BYTES]) -> Result<Self, Garbage> {
        let mut from = unseal(bytes)?;
        let refusal = match from.get_u8() {
            0 => None,
            byte => Some(Refusal::from_byte(byte).ok_or(Garbage)?),
        };
        Ok(Self {
            refusal,
            version_min: from.get_u16_le(),
            version_max: from.get_u16_le(),
            peer: Peer {
                node: NodeId(from.get_u64_le()),
                incarnation: Incarnation(from.get_u64_le()),
            },
        })
    }
}

/// Not the handshake of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not the handshake of this protocol")]
pub struct Garbage;

fn seal(out: &mut [u8]) {
    let (body, checksum) = out.split_at_mut(out.len() - 4);
    checksum.copy_from_slice(&crc32c(body).to_le_bytes());
}

fn unseal(bytes: &[u8]) -> Result<&[u8], Garbage> {
    let (body, checksum) = bytes.split_at(bytes.len() - 4);
    match body.strip_prefix(&MAGIC) {
        Some(fields) if crc32c(body).to_le_bytes() == checksum => Ok(fields),
        _ => Err(Garbage),
    }
}

/// Why a handshake was refused; both sides see and count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
#[repr(u8)]
pub enum Refusal {
    /// The versions that the two speak do not overlap: upgrade the older.
    #[error("no version in common")]
    Version = 1,
    /// The dialer is of another cluster: an address is wrong.
    #[error("another cluster")]
    WrongCluster = 2,
    /// Another node listens where the dialer was sent: an address is wrong.
    #[error("another node than the one dialed")]
    WrongNode = 3,
    /// The dialer is not in the acceptor's address book.
    #[error("the dialer is unknown")]
    UnknownPeer = 4,
    /// There is no such class.
    #[error("no such class")]
    BadClass = 5,
    /// A newer life of the node is known: this one should be dead.
    #[error("a newer life of the node is known")]
    OlderIncarnation = 6,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Version,
        Self::WrongCluster,
        Self::WrongNode,
        Self::UnknownPeer,
        Self::BadClass,
        Self::OlderIncarnation,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        let at = usize::from(byte).checked_sub(1)?;
        Self::ALL.get(at).copied()
    }
}

/// What stands at the front of the bytes that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Answer it.
    Ping,
    /// A verified frame.
    Frame(Frame),
}

/// Why a stream of frames cannot go on: the sender's fault, or the network's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SplitError {
    /// A length is over the cap; nothing was allocated for it.
    #[error("a frame of {bytes} bytes is over the cap of {max}")]
    OverCap {
        /// The length.
        bytes: usize,
        /// The cap.
        max: usize,
    },
    /// What has the length of a frame is none.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Takes the first piece off `buffer`, if all of it is there.
///
/// # Errors
/// [`SplitError`]: the stream cannot go on.
pub fn split(buffer: &mut BytesMut, frame_bytes_max: usize) -> Result<Option<Piece>, SplitError> {
    let Some((length, rest)) = buffer.split_first_chunk() else {
        return Ok(None);
    };
    let bytes = u32::from_le_bytes(*length) as usize;
    if bytes > frame_bytes_max {
        let max = frame_bytes_max;
        return Err(SplitError::OverCap { bytes, max });
    }
    if rest.len() < bytes {
        return Ok(None);
    }
    buffer.advance(length.len());
    if bytes == 0 {
        return Ok(Some(Piece::Ping));
    }
    let has_attachments = buffer.get(8).is_some_and(|count| *count > 0);
    let flat = if has_attachments && bytes < COPIED_BYTES_MAX {
        let flat = Bytes::copy_from_slice(&buffer[..bytes]);
        buffer.advance(bytes);
        flat
    } else {
        buffer.split_to(bytes).freeze()
    };
    Ok(Some(Piece::Frame(Frame::from_flat(&flat)?)))
}

/// Puts the length and the prefix of `frame` into `out`; the attachments' bytes follow.
pub fn put_prefix(frame: &Frame, out: &mut BytesMut) {
    let bytes = u32::try_from(frame.flat_len()).expect("the cap of a frame is under 4 GiB");
    out.put_u32_le(bytes);
    frame.put_prefix(out);
}

/// Puts a ping into `out`.
pub fn put_ping(out: &mut BytesMut) {
    out.put_u32_le(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_comes_back_and_no_flipped_bit_passes() {
        let from = Peer { node: NodeId(3), incarnation: Incarnation(9) };
        let hello = Hello {
            version_min: 1,
            version_max: 4,
            class: 2,
            cluster: ClusterId(7),
            from,
            to: NodeId(1),
        };
        let bytes = hello.encode();
        assert_eq!(Hello::decode(&bytes), Ok(hello));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Hello::decode(&bad), Err(Garbage));
        }
        for refusal in Refusal::ALL.map(Some).into_iter().chain([None]) {
            let answer = Answer { refusal, version_min: 1, version_max: 1, peer: from };
            assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
        }
    }

    #[test]
    fn a_stream_is_split_wherever_it_is_cut() {
        let mut frame = Frame { head: Bytes::from_static(b"head"), ..Frame::default() };
        let attachment = crate::Attachment::new(Bytes::from_static(b"attached"));
        frame.attachments.push(attachment);
        let mut stream = BytesMut::new();
        put_ping(&mut stream);
        stream.put_u32_le(frame.flat_len() as u32);
        frame.put_flat(&mut stream);
        let mut buffer = BytesMut::new();
        let mut pieces = Vec::new();
        for byte in stream {
            buffer.put_u8(byte);
            pieces.extend(split(&mut buffer, 1000).unwrap());
        }
        assert_eq!(pieces, [Piece::Ping, Piece::Frame(frame)]);
        assert!(buffer.is_empty());
        buffer.put_u32_le(u32::MAX);
        let error = split(&mut buffer, 1000).unwrap_err();
        assert!(matches!(error, SplitError::OverCap { max: 1000, .. }));
    }
}
