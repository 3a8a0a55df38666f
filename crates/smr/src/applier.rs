//! Applying what is committed: in order, each entry once, with the sessions' memory.

use alloc::vec::Vec;

use bytes::{BufMut, Bytes, BytesMut};
use quorate_raft::{Index, Kind, View};
use quorate_transport::Digest;

use crate::command::Command;
use crate::session::{Known, SessionId, Sessions, Stamp, number};
use crate::state_machine::{Outputs, RestoreError, StateMachine};

/// What became of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was applied, now or when it came first: this is the state machine's output.
    Done(Bytes),
    /// It opened this session.
    Opened(SessionId),
    /// It was applied or given up before, and its output is forgotten: the client has said that it
    /// had the answer, or has sent too many others since.
    Forgotten,
    /// Its session was evicted, or never was; it was not applied now. Whether it was applied
    /// before the eviction is not known.
    Expired,
    /// It was written by another build and changed nothing.
    Strange,
}

/// The state machine, the sessions and the applied index: one state, saved and restored as one.
#[derive(Clone, Debug)]
pub(crate) struct Applier<S> {
    state: S,
    sessions: Sessions,
    applied: Index,
    digest: Digest,
    outputs: Outputs,
}

/// An entry was skipped or came twice: a broken promise of the layer below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) applied: Index,
    pub(crate) next: Index,
}

impl<S: StateMachine> Applier<S> {
    pub(crate) fn new(state: S, sessions_max: usize, answers_max: usize) -> Self {
        Self {
            state,
            sessions: Sessions::new(sessions_max, answers_max),
            applied: Index::ZERO,
            digest: Digest::default(),
            outputs: Outputs::default(),
        }
    }

    pub(crate) fn applied(&self) -> Index {
        self.applied
    }

    pub(crate) fn sessions(&self) -> usize {
        self.sessions.count()
    }

    /// A digest of every entry applied since the log began: equal at equal indices.
    pub(crate) fn digest(&self) -> u128 {
        self.digest.value()
    }

    pub(crate) fn query(&self, query: &[u8]) -> Bytes {
        self.state.query(query)
    }

    /// Applies a view. `outcome` hears of each entry, in order; outputs are copied out for those
    /// that `wanted` asks for.
    pub(crate) fn apply(
        &mut self,
        view: &View,
        wanted: impl Fn(Index) -> bool,
        mut outcome: impl FnMut(Index, Outcome),
    ) -> Result<(), Gap> {
        if view.first() != self.applied.next() {
            return Err(Gap { applied: self.applied, next: view.first() });
        }
        let mut group = Group::default();
        let mut index = view.first();
        for entry in view.entries() {
            self.digest.u64(index.0);
            self.digest.bytes(entry);
            if view.kind() == Kind::Normal {
                self.one(index, entry, &mut group, &wanted, &mut outcome);
            }
            index = index.next();
        }
        self.flush(&mut group, &wanted, &mut outcome);
        self.applied = view.last();
        Ok(())
    }

    fn one<'a>(
        &mut self,
        index: Index,
        entry: &'a [u8],
        group: &mut Group<'a>,
        wanted: &impl Fn(Index) -> bool,
        outcome: &mut impl FnMut(Index, Outcome),
    ) {
        let (stamp, command) = match Command::decode(entry) {
            Command::Plain(command) => (None, command),
            Command::Stamped(stamp, command) => (Some(stamp), command),
            other => {
                self.flush(group, wanted, outcome);
                let result = match other {
                    Command::Open => Outcome::Opened(self.sessions.open(index)),
                    _ => Outcome::Strange,
                };
                return outcome(index, result);
            }
        };
        if let Some(stamp) = stamp {
            if group.holds(stamp) {
                self.flush(group, wanted, outcome); // its first answer is needed now
            }
            let result = match self.sessions.look(index, stamp) {
                Known::Fresh => None,
                Known::Answered(answer) => Some(Outcome::Done(answer)),
                Known::Forgotten => Some(Outcome::Forgotten),
                Known::Expired => Some(Outcome::Expired),
            };
            if let Some(result) = result {
                self.flush(group, wanted, outcome);
                return outcome(index, result);
            }
        }
        group.0.push((index, stamp, command));
    }

    /// Applies the commands gathered so far, in one call.
    fn flush(
        &mut self,
        group: &mut Group<'_>,
        wanted: &impl Fn(Index) -> bool,
        outcome: &mut impl FnMut(Index, Outcome),
    ) {
        if group.0.is_empty() {
            return;
        }
        self.outputs.clear();
        let mut commands = group.0.iter().map(|(_, _, command)| *command);
        self.state.apply(&mut commands, &mut self.outputs);
        assert!(
            self.outputs.count() == group.0.len(),
            "a state machine pushes one output a command"
        );
        for (at, (index, stamp, _)) in group.0.drain(..).enumerate() {
            if stamp.is_none() && !wanted(index) {
                continue;
            }
            let output = Bytes::copy_from_slice(self.outputs.get(at));
            if let Some(stamp) = stamp {
                self.sessions.record(stamp, output.clone());
            }
            outcome(index, Outcome::Done(output));
        }
    }

    /// Everything, in pieces: sessions, applied index and digest first.
    pub(crate) fn snapshot(&self) -> Vec<Bytes> {
        let mut head = BytesMut::new();
        head.put_u64_le(self.applied.0);
        let digest = self.digest.value();
        head.put_u64_le(digest as u64);
        head.put_u64_le((digest >> 64) as u64);
        self.sessions.encode(&mut head);
        let mut chunks = alloc::vec![head.freeze()];
        chunks.extend(self.state.snapshot());
        chunks
    }

    /// Takes over what [`snapshot`](Self::snapshot) wrote, its pieces joined.
    pub(crate) fn restore(&mut self, mut from: &[u8]) -> Result<(), RestoreError> {
        let applied = Index(number(&mut from)?);
        let digest = Digest::resume(number(&mut from)?, number(&mut from)?);
        let mut sessions = self.sessions.clone();
        sessions.decode(&mut from)?;
        self.state.restore(from)?;
        (self.applied, self.digest, self.sessions) = (applied, digest, sessions);
        Ok(())
    }
}

#[derive(Default)]
struct Group<'a>(Vec<(Index, Option<Stamp>, &'a [u8])>);

impl Group<'_> {
    fn holds(&self, stamp: Stamp) -> bool {
        let name = |stamp: Stamp| (stamp.session, stamp.sequence);
        self.0.iter().any(|(_, held, _)| held.is_some_and(|held| name(held) == name(stamp)))
    }
}
