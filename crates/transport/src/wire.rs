//! The codec: typed messages and records to frames and back.
//!
//! A message frame's head is `version (u8), protocol (varint), group (varint), body`; a record's
//! is `version (u8), body`, its key and ticket being the journal's. A body is postcard; enums are
//! append-only. Raw bytes go as attachments and are never copied.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::frame::{Attachment, Attachments, Frame};
use crate::ids::Key;

/// The format that this build writes, and the only one it reads so far.
pub const WIRE_VERSION: u8 = 1;

/// Which of a transport's channels carries a message, so that a snapshot never delays a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// Votes, heartbeats, acknowledgements: small, and late is as bad as lost.
    Urgent = 0,
    /// Payload.
    Bulk = 1,
    /// State transfer.
    Snapshot = 2,
}

impl Class {
    /// All classes, most urgent first.
    pub const ALL: [Self; 3] = [Self::Urgent, Self::Bulk, Self::Snapshot];

    /// The class that travels as `byte`.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }
}

/// What can be a message or a record.
pub trait Wire: Sized {
    /// Which channel carries it; of no meaning for a record.
    fn class(&self) -> Class {
        Class::Urgent
    }

    /// Writes itself. What it writes must be what [`decode`](Self::decode) reads.
    fn encode(&self, to: &mut Encoder<'_>);

    /// Reads itself, checking every rule that concerns one value alone.
    ///
    /// # Errors
    /// [`WireError`]: the bytes are not such a value. A peer's or the disk's fault, never a panic.
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError>;
}

/// Why a frame is no message or record of this build: the sender's fault, or the disk's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// Written by a build of another format.
    #[error("format version {found}, this build reads {WIRE_VERSION}")]
    Version {
        /// The version it was written in.
        found: u8,
    },
    /// The body is not what its type asks for.
    #[error("the body of the {of} is malformed")]
    Body {
        /// The type that was read.
        of: &'static str,
    },
    /// The head names an attachment that is not there.
    #[error("attachment {0} is missing")]
    AttachmentMissing(usize),
    /// Bytes or attachments that nothing asked for.
    #[error("{bytes} bytes and {attachments} attachments are left over")]
    Trailing {
        /// Bytes of the head left.
        bytes: usize,
        /// Attachments left.
        attachments: usize,
    },
    /// A field breaks a rule of its type.
    #[error("{field}: {rule}")]
    Rule {
        /// The field.
        field: &'static str,
        /// The rule it breaks.
        rule: &'static str,
    },
}

/// Writes one frame.
#[derive(Debug)]
pub struct Encoder<'a> {
    head: &'a mut BytesMut,
    attachments: Attachments,
}

impl Encoder<'_> {
    /// Writes a value into the head.
    ///
    /// # Panics
    /// When the value's own `Serialize` fails, which derived ones do not.
    pub fn value<T: Serialize + ?Sized>(&mut self, value: &T) {
        struct Head<'a>(&'a mut BytesMut);
        impl postcard::ser_flavors::Flavor for Head<'_> {
            type Output = ();
            fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
                self.0.put_u8(byte);
                Ok(())
            }
            fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
                self.0.extend_from_slice(bytes);
                Ok(())
            }
            fn finalize(self) -> postcard::Result<()> {
                Ok(())
            }
        }
        postcard::serialize_with_flavor(value, Head(self.head)).expect("a derived Serialize");
    }

    /// Adds raw bytes beside the head.
    pub fn attach(&mut self, attachment: Attachment) {
        self.attachments.push(attachment);
    }
}

/// Reads one frame.
#[derive(Debug)]
pub struct Decoder<'a> {
    head: &'a [u8],
    attachments: &'a [Attachment],
    taken: usize,
}

impl Decoder<'_> {
    /// Reads a value from the head.
    ///
    /// # Errors
    /// [`WireError::Body`] when the bytes are no such value.
    pub fn value<T: DeserializeOwned>(&mut self, of: &'static str) -> Result<T, WireError> {
        let (value, rest) =
            postcard::take_from_bytes(self.head).map_err(|_| WireError::Body { of })?;
        self.head = rest;
        Ok(value)
    }

    /// Takes the next attachment; its checksum was verified where it arrived.
    ///
    /// # Errors
    /// [`WireError::AttachmentMissing`] when there is none left.
    pub fn attachment(&mut self) -> Result<Attachment, WireError> {
        let next = self.attachments.get(self.taken);
        let next = next.ok_or(WireError::AttachmentMissing(self.taken))?;
        self.taken += 1;
        Ok(next.clone())
    }

    fn finish(self) -> Result<(), WireError> {
        let (bytes, attachments) = (self.head.len(), self.attachments.len() - self.taken);
        if bytes == 0 && attachments == 0 {
            Ok(())
        } else {
            Err(WireError::Trailing { bytes, attachments })
        }
    }
}

/// Encodes a message for the machine `key` of a peer. `scratch` is reused from frame to frame, so
/// that a burst of heads shares one allocation.
pub fn encode_message<M: Wire>(key: Key, message: &M, scratch: &mut BytesMut) -> Frame {
    scratch.put_u8(WIRE_VERSION);
    let mut encoder = Encoder { head: scratch, attachments: Attachments::None };
    encoder.value(&key);
    message.encode(&mut encoder);
    let attachments = encoder.attachments;
    Frame { head: split(scratch), attachments }
}

/// Which machine a message frame is for.
///
/// # Errors
/// [`WireError`] when the head is of another version or names no key.
pub fn message_key(frame: &Frame) -> Result<Key, WireError> {
    read_key(&frame.head).map(|(key, _)| key)
}

/// Decodes a message frame, whose key the caller has looked at.
///
/// # Errors
/// [`WireError`] when the frame is no such message.
pub fn decode_message<M: Wire>(frame: &Frame) -> Result<M, WireError> {
    let (_, body) = read_key(&frame.head)?;
    decode_body(body, frame)
}

/// Encodes a record for the journal.
pub fn encode_record<R: Wire>(record: &R, scratch: &mut BytesMut) -> Frame {
    scratch.put_u8(WIRE_VERSION);
    let mut encoder = Encoder { head: scratch, attachments: Attachments::None };
    record.encode(&mut encoder);
    let attachments = encoder.attachments;
    Frame { head: split(scratch), attachments }
}

/// Decodes a record of the journal.
///
/// # Errors
/// [`WireError`] when the frame is no such record.
pub fn decode_record<R: Wire>(frame: &Frame) -> Result<R, WireError> {
    decode_body(read_version(&frame.head)?, frame)
}

fn split(scratch: &mut BytesMut) -> Bytes {
    let head = scratch.split().freeze();
    if scratch.capacity() < 64 {
        scratch.reserve(4096);
    }
    head
}

fn read_version(head: &[u8]) -> Result<&[u8], WireError> {
    match head.split_first() {
        Some((&WIRE_VERSION, body)) => Ok(body),
        Some((&found, _)) => Err(WireError::Version { found }),
        None => Err(WireError::Body { of: "envelope" }),
    }
}

fn read_key(head: &[u8]) -> Result<(Key, &[u8]), WireError> {
    postcard::take_from_bytes(read_version(head)?).map_err(|_| WireError::Body { of: "envelope" })
}

fn decode_body<T: Wire>(body: &[u8], frame: &Frame) -> Result<T, WireError> {
    let mut from = Decoder { head: body, attachments: frame.attachments.as_slice(), taken: 0 };
    let value = T::decode(&mut from)?;
    from.finish()?;
    Ok(value)
}

/// The record of a machine that has nothing to remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRecord {}

impl Wire for NoRecord {
    fn encode(&self, _: &mut Encoder<'_>) {
        match *self {}
    }

    fn decode(_: &mut Decoder<'_>) -> Result<Self, WireError> {
        Err(WireError::Rule { field: "record", rule: "this machine keeps none" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Note(u32, Bytes);

    impl Wire for Note {
        fn encode(&self, to: &mut Encoder<'_>) {
            to.value(&self.0);
            to.attach(Attachment::new(self.1.clone()));
        }
        fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
            Ok(Self(from.value("note")?, from.attachment()?.bytes().clone()))
        }
    }

    #[test]
    fn a_message_keeps_its_key_and_an_attachment_is_not_copied() {
        let note = Note(300, Bytes::from_static(b"payload"));
        let key = Key::new(9, 1 << 40);
        let frame = encode_message(key, &note, &mut BytesMut::new());
        assert_eq!(message_key(&frame), Ok(key));
        let read: Note = decode_message(&frame).unwrap();
        assert_eq!(read, note);
        assert_eq!(read.1.as_ptr(), note.1.as_ptr());
    }

    #[test]
    fn other_versions_missing_parts_and_leftovers_are_refused() {
        let note = Note(3, Bytes::from_static(b"x"));
        let good = encode_record(&note, &mut BytesMut::new());
        assert_eq!(decode_record::<Note>(&good), Ok(note));

        let mut old = good.clone();
        old.head = Bytes::from_static(&[9, 3]);
        assert_eq!(decode_record::<Note>(&old), Err(WireError::Version { found: 9 }));

        let mut bare = good.clone();
        bare.attachments = Attachments::None;
        assert_eq!(decode_record::<Note>(&bare), Err(WireError::AttachmentMissing(0)));

        let mut long = good;
        long.head = Bytes::from_static(&[WIRE_VERSION, 3, 0]);
        let left = WireError::Trailing { bytes: 1, attachments: 0 };
        assert_eq!(decode_record::<Note>(&long), Err(left));
    }
}
