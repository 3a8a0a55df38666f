//! A replica's state on its way into a snapshot and out of one, a bounded step at a time.
//!
//! A snapshot is a run of pieces, each after its length: first applied index, digest, log time and
//! number of sessions, then a session each, then whatever the state machine makes.

use alloc::sync::Arc;

use bytes::{Buf, BufMut, BytesMut};
use quorate_raft::{Contents, Index};
use quorate_transport::Digest;

use crate::session::{Session, SessionId, Sessions, number};
use crate::shared::IntoIter;
use crate::state_machine::{Pieces, RestoreError, StateMachine};

/// A chunk is handed on once it is this long.
const CHUNK_BYTES: usize = 256 << 10;
const LENGTH_BYTES: usize = 4;

/// A state as it was at one index, being written.
#[derive(Clone, Debug)]
pub(crate) struct Saving {
    index: Index,
    sessions: IntoIter<SessionId, Arc<Session>>,
    state: Pieces,
    chunk: BytesMut,
    contents: Contents,
    written: usize,
}

impl Saving {
    pub(crate) fn new(index: Index, digest: &Digest, sessions: &Sessions, state: Pieces) -> Self {
        let mut head = BytesMut::with_capacity(40);
        head.put_u64_le(index.0);
        let digest = digest.value();
        head.put_u64_le(digest as u64);
        head.put_u64_le((digest >> 64) as u64);
        head.put_u64_le(sessions.time());
        head.put_u64_le(sessions.count() as u64);
        let sessions = sessions.pieces();
        let chunk = BytesMut::new();
        let contents = Contents::default();
        let mut saving = Self { index, sessions, state, chunk, contents, written: 0 };
        saving.put(&head);
        saving
    }

    /// The last entry that it covers.
    pub(crate) fn index(&self) -> Index {
        self.index
    }

    /// Bytes so far.
    pub(crate) fn written(&self) -> usize {
        self.written
    }

    /// Writes on until it has written `bytes` more; true once there is nothing left.
    pub(crate) fn step(&mut self, bytes: usize) -> bool {
        let upto = self.written.saturating_add(bytes);
        while self.written < upto {
            let piece = match self.sessions.next() {
                Some((id, session)) => Some(session.encode(id)),
                None => self.state.next(),
            };
            let Some(piece) = piece else { return true };
            self.put(&piece);
        }
        false
    }

    /// All that was written.
    pub(crate) fn finish(mut self) -> Contents {
        self.contents.push(self.chunk.freeze());
        self.contents
    }

    /// What is left is dropped bit by bit, where it is large.
    pub(crate) fn into_rest(self) -> Pieces {
        self.state
    }

    fn put(&mut self, piece: &[u8]) {
        let len = u32::try_from(piece.len()).expect("a piece is less than 4 GiB long");
        if self.chunk.capacity() == 0 {
            self.chunk.reserve(CHUNK_BYTES + CHUNK_BYTES / 4);
        }
        self.chunk.put_u32_le(len);
        self.chunk.put_slice(piece);
        self.written += LENGTH_BYTES + piece.len();
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
}

impl<S: StateMachine> Loading<S> {
    /// `state` and `sessions` are as before the first entry.
    pub(crate) fn new(state: S, sessions: Sessions) -> Self {
        Self { state, sessions, head: None, rest: BytesMut::new(), read: 0 }
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
            let len = u32::from_le_bytes(*len) as usize;
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
            self.rest.advance(LENGTH_BYTES + len);
        }
        Ok(())
    }

    /// The whole of it, if nothing is missing.
    pub(crate) fn finish(self) -> Result<Loaded<S>, RestoreError> {
        let head = self.head.filter(|head| head.sessions == 0 && self.rest.is_empty());
        let Head { applied, digest, .. } = head.ok_or(RestoreError)?;
        Ok(Loaded { state: self.state, sessions: self.sessions, applied, digest })
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
