//! The burst being collected: heads staged in one reused buffer, large attachments by reference.

use std::io::IoSlice;

use bytes::{BufMut, Bytes, BytesMut};
use quorate_transport::{Frame, Key, Ticket};

use crate::format::{
    ALIGN, COMMIT_BYTES, Commit, FRAME_HEAD, Kind, RECORD_HEAD, RELEASE_ENTRY, put_frame_head,
    seal_frame, set_frame_lengths,
};

/// Shorter attachments are copied: a slice of its own in the vectored write would cost more.
const INLINE_MAX: usize = 2048;

/// Consecutive records of one machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) key: Key,
    pub(crate) last: Ticket,
    /// Where its first frame begins, counted from the start of the burst.
    pub(crate) at: u64,
}

#[derive(Debug)]
struct Staged {
    /// Counted from the start of the burst.
    at: u64,
    start: usize,
    covered: usize,
}

#[derive(Debug)]
struct Shared {
    /// How much of the staging buffer goes before it.
    cut: usize,
    bytes: Bytes,
}

/// Frames that will be written at once.
#[derive(Debug, Default)]
pub(crate) struct Burst {
    staging: BytesMut,
    shared: Vec<Shared>,
    shared_bytes: u64,
    frames: Vec<Staged>,
    runs: Vec<Run>,
}

impl Burst {
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Bytes so far, without the commit.
    pub(crate) fn len(&self) -> u64 {
        self.staging.len() as u64 + self.shared_bytes
    }

    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Adds a record whose sizes are within the caps.
    pub(crate) fn push_record(&mut self, key: Key, ticket: Ticket, frame: &Frame) {
        let at = self.len();
        let start = self.begin(Kind::Record);
        self.staging.put_u64_le(key.group.0);
        self.staging.put_u64_le(u64::from(key.protocol.0));
        self.staging.put_u64_le(ticket.0);
        frame.put_prefix(&mut self.staging);
        let covered = self.staging.len() - start - FRAME_HEAD;
        for attachment in frame.attachments.as_slice() {
            let bytes = attachment.bytes();
            if bytes.len() <= INLINE_MAX {
                self.staging.extend_from_slice(bytes);
            } else {
                self.shared_bytes += bytes.len() as u64;
                self.shared.push(Shared { cut: self.staging.len(), bytes: bytes.clone() });
            }
        }
        self.end(at, start, RECORD_HEAD + frame.flat_len(), covered);
        match self.runs.last_mut() {
            Some(run) if run.key == key => run.last = ticket,
            _ => self.runs.push(Run { key, last: ticket, at }),
        }
    }

    /// Adds what machines have released.
    pub(crate) fn push_releases(&mut self, releases: impl Iterator<Item = (Key, Ticket)>) {
        let at = self.len();
        let start = self.begin(Kind::Release);
        for (key, upto) in releases {
            self.staging.put_u64_le(key.group.0);
            self.staging.put_u64_le(u64::from(key.protocol.0));
            self.staging.put_u64_le(upto.0);
        }
        let body = self.staging.len() - start - FRAME_HEAD;
        self.end(at, start, body, body);
    }

    /// The length of a burst of this and `releases` entries, commit included.
    pub(crate) fn len_with(&self, releases: usize) -> u64 {
        let body = match releases {
            0 => 0,
            some => (FRAME_HEAD + RELEASE_ENTRY * some) as u64,
        };
        self.len() + body + COMMIT_BYTES
    }

    /// Closes the burst with `commit` and gives every frame its place; returns the new chain.
    pub(crate) fn seal(&mut self, seed: u32, chain: u32, mut commit: Commit) -> u32 {
        commit.frames = u32::try_from(self.frames.len()).expect("a frame has 32 bytes at least");
        let at = self.len();
        let start = self.begin(Kind::Commit);
        commit.put(&mut self.staging);
        let body = COMMIT_BYTES as usize - FRAME_HEAD;
        self.end(at, start, body, body);
        let mut chain = chain;
        for frame in &self.frames {
            let bytes = &mut self.staging[frame.start..][..FRAME_HEAD + frame.covered];
            chain = seal_frame(bytes, seed, chain, commit.start + frame.at);
        }
        chain
    }

    /// The bytes in the order in which they go to disk.
    pub(crate) fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut slices = Vec::with_capacity(2 * self.shared.len() + 1);
        let mut from = 0;
        for shared in &self.shared {
            if shared.cut > from {
                slices.push(IoSlice::new(&self.staging[from..shared.cut]));
            }
            slices.push(IoSlice::new(&shared.bytes));
            from = shared.cut;
        }
        slices.push(IoSlice::new(&self.staging[from..]));
        slices
    }

    /// Forgets all frames and keeps the buffers.
    pub(crate) fn clear(&mut self) {
        self.staging.clear();
        self.shared.clear();
        self.shared_bytes = 0;
        self.frames.clear();
        self.runs.clear();
    }

    fn begin(&mut self, kind: Kind) -> usize {
        let start = self.staging.len();
        put_frame_head(&mut self.staging, kind);
        start
    }

    fn end(&mut self, at: u64, start: usize, body: usize, covered: usize) {
        // The caps on a record, and on machines a node can hold, keep both far below 4 GiB.
        let (body32, covered32) = (body as u32, covered as u32);
        set_frame_lengths(&mut self.staging[start..], body32, covered32);
        let padding = self.len().next_multiple_of(ALIGN) - self.len();
        self.staging.put_bytes(0, padding as usize);
        self.frames.push(Staged { at, start, covered });
    }
}
