//! A replica's state on its way into a snapshot and out of one, a bounded step at a time.
//!
//! A snapshot is a run of pieces, each after its length: first applied index, digest, log time and
//! number of sessions, then a session each, then whatever the state machine makes. The digest of
//! all pieces ends it.

use alloc::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quorate_raft::{Contents, Index};
use quorate_transport::Digest;

use crate::session::{Session, SessionId, Sessions, number};
use crate::shared::IntoIter;
use crate::state_machine::{Pieces, RestoreError, StateMachine};

/// A chunk is handed on once it is this long.
const CHUNK_BYTES: usize = 256 << 10;
const LENGTH_BYTES: usize = 4;
/// In place of a length: the digest of all pieces follows, and nothing else.
const END: u32 = u32::MAX;
const END_BYTES: usize = LENGTH_BYTES + 16;

/// The pieces of a state as it was at one index, and their digest.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    index: Index,
    head: Option<Bytes>,
    sessions: IntoIter<SessionId, Arc<Session>>,
    state: Pieces,
    digest: Digest,
    walked: usize,
}

impl Walk {
    pub(crate) fn new(index: Index, digest: &Digest, sessions: &Sessions, state: Pieces) -> Self {
        let mut head = BytesMut::with_capacity(40);
        head.put_u64_le(index.0);
        head.put_u128_le(digest.value());
        head.put_u64_le(sessions.time());
        head.put_u64_le(sessions.count() as u64);
        let (head, sessions) = (Some(head.freeze()), sessions.pieces());
        Self { index, head, sessions, state, digest: Digest::default(), walked: 0 }
    }

    /// The last entry that it covers.
    pub(crate) fn index(&self) -> Index {
        self.index
    }

    /// Bytes so far, with what a snapshot adds.
    pub(crate) fn walked(&self) -> usize {
        self.walked
    }

    /// The digest of the pieces so far.
    pub(crate) fn digest(&self) -> u128 {
        self.digest.value()
    }

    fn next(&mut self) -> Option<Bytes> {
        let piece = match self.head.take() {
            Some(head) => head,
            None => match self.sessions.next() {
                Some((id, session)) => session.encode(id),
                None => self.state.next()?,
            },
        };
        self.digest.bytes(&piece);
        self.walked += LENGTH_BYTES + piece.len();
        Some(piece)
    }

    /// Walks on over `bytes` more; true once there is nothing left.
    pub(crate) fn step(&mut self, bytes: usize) -> bool {
        let upto = self.walked.saturating_add(bytes);
        while self.walked < upto {
            if self.next().is_none() {
                return true;
            }
        }
        false
    }

    /// What is left is dropped bit by bit, where it is large.
    pub(crate) fn into_rest(self) -> Pieces {
        self.state
    }
}

/// A state as it was at one index, being written.
#[derive(Clone, Debug)]
pub(crate) struct Saving {
    walk: Walk,
    chunk: BytesMut,
    contents: Contents,
}

impl Saving {
    pub(crate) fn new(walk: Walk) -> Self {
        Self { walk, chunk: BytesMut::new(), contents: Contents::default() }
    }

    /// The last entry that it covers.
    pub(crate) fn index(&self) -> Index {
        self.walk.index
    }

    /// Bytes so far.
    pub(crate) fn written(&self) -> usize {
        self.walk.walked
    }

    /// Writes on until it has written `bytes` more; true once there is nothing left.
    pub(crate) fn step(&mut self, bytes: usize) -> bool {
        let upto = self.written().saturating_add(bytes);
        while self.written() < upto {
            let Some(piece) = self.walk.next() else { return true };
            self.put(&piece);
        }
        false
    }

    /// All that was written.
    pub(crate) fn finish(mut self) -> Contents {
        self.chunk.put_u32_le(END);
        self.chunk.put_u128_le(self.walk.digest());
        self.contents.push(self.chunk.freeze());
        self.contents
    }

    /// What is left is dropped bit by bit, where it is large.
    pub(crate) fn into_rest(self) -> Pieces {
        self.walk.state
    }

    fn put(&mut self, piece: &[u8]) {
        let len = u32::try_from(piece.len()).ok().filter(|len| *len < END);
        let len = len.expect("a piece is less than 4 GiB long");
        if self.chunk.capacity() == 0 {
            self.chunk.reserve(CHUNK_BYTES + CHUNK_BYTES / 4);
        }
        self.chunk.put_u32_le(len);
        self.chunk.put_slice(piece);
        if self.chunk.len() >= CHUNK_BYTES {
            let full = core::mem::take(&mut self.chunk);
            self.contents.push(full.freeze());
        }
    }
}

/// A state being read, in chunks cut anywhere.
#[derive(Clone, Debug)]
pub(crate) struct Loading<S> {
    state: S,
    sessions: Sessions,
    head: Option<Head>,
    /// What does not make a whole piece yet.
    rest: BytesMut,
    read: usize,
    /// Of the pieces so far.
    pieces: Digest,
    /// Nothing may follow: the digest was there, and right.
    ended: bool,
}

#[derive(Clone, Debug)]
struct Head {
    applied: Index,
    digest: Digest,
    /// Log time.
    time: u64,
    /// Sessions that are still to come.
    sessions: u64,
}

/// A state that was read.
pub(crate) struct Loaded<S> {
    pub(crate) state: S,
    pub(crate) sessions: Sessions,
    pub(crate) applied: Index,
    pub(crate) digest: Digest,
    /// Of all its pieces.
    pub(crate) pieces: u128,
}

impl<S: StateMachine> Loading<S> {
    /// `state` and `sessions` are as before the first entry.
    pub(crate) fn new(state: S, sessions: Sessions) -> Self {
        let (rest, pieces) = (BytesMut::new(), Digest::default());
        Self { state, sessions, head: None, rest, read: 0, pieces, ended: false }
    }

    /// Bytes so far.
    pub(crate) fn read(&self) -> usize {
        self.read
    }

    /// Takes over the pieces that are whole by now.
    pub(crate) fn feed(&mut self, chunk: &[u8]) -> Result<(), RestoreError> {
        self.read += chunk.len();
        self.rest.extend_from_slice(chunk);
        while let Some(len) = self.rest.first_chunk::<LENGTH_BYTES>() {
            let len = u32::from_le_bytes(*len);
            if len == END {
                return self.end();
            }
            let len = len as usize;
            let Some(piece) = self.rest.get(LENGTH_BYTES..LENGTH_BYTES.saturating_add(len)) else {
                break;
            };
            match &mut self.head {
                None => {
                    let head = Head::decode(piece)?;
                    self.sessions = self.sessions.emptied(head.time);
                    self.head = Some(head);
                }
                Some(head) if head.sessions > 0 => {
                    head.sessions -= 1;
                    self.sessions.restore(piece)?;
                }
                Some(_) => self.state.restore(piece)?,
            }
            self.pieces.bytes(piece);
            self.rest.advance(LENGTH_BYTES + len);
        }
        Ok(())
    }

    /// Compares what was read with the digest at its end, once that is all there.
    fn end(&mut self) -> Result<(), RestoreError> {
        let bytes = self.rest.get(LENGTH_BYTES..END_BYTES);
        let Some(digest) = bytes.and_then(|bytes| bytes.first_chunk()) else { return Ok(()) };
        let right = u128::from_le_bytes(*digest) == self.pieces.value();
        if !right || self.rest.len() > END_BYTES {
            return Err(RestoreError);
        }
        self.ended = true;
        Ok(())
    }

    /// The whole of it, if nothing is missing.
    pub(crate) fn finish(self) -> Result<Loaded<S>, RestoreError> {
        let head = self.head.filter(|head| head.sessions == 0 && self.ended);
        let Head { applied, digest, .. } = head.ok_or(RestoreError)?;
        let pieces = self.pieces.value();
        Ok(Loaded { state: self.state, sessions: self.sessions, applied, digest, pieces })
    }
}

impl Head {
    fn decode(mut from: &[u8]) -> Result<Self, RestoreError> {
        let from = &mut from;
        let applied = Index(number(from)?);
        let digest = Digest::resume(number(from)?, number(from)?);
        let (time, sessions) = (number(from)?, number(from)?);
        if from.is_empty() {
            Ok(Self { applied, digest, time, sessions })
        } else {
            Err(RestoreError)
        }
    }
}
