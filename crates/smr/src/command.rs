//! How a command stands in the log.

use core::time::Duration;

use quorate_raft::Proposals;

use crate::session::{SessionId, Stamp};

const PLAIN: u8 = 0;
const STAMPED: u8 = 1;
const OPEN: u8 = 2;
const TICK: u8 = 3;
const AUDIT: u8 = 4;
const STAMP_BYTES: usize = 25;
const TICK_BYTES: usize = 9;

/// An entry of the log, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command<'a> {
    Plain(&'a [u8]),
    Stamped(Stamp, &'a [u8]),
    Open,
    /// So many milliseconds have passed on the leader.
    Tick(u64),
    /// All replicas digest their state as it is here.
    Audit,
    /// Written by another build: it changes nothing, on every replica alike.
    Strange,
}

/// A command without a session, if the entry is one.
pub(crate) fn plain(entry: &[u8]) -> Option<&[u8]> {
    entry.split_first().filter(|(kind, _)| **kind == PLAIN).map(|(_, command)| command)
}

impl<'a> Command<'a> {
    pub(crate) fn decode(entry: &'a [u8]) -> Self {
        let number = |at: usize| {
            let bytes = entry[at..at + 8].try_into().expect("eight bytes are eight bytes");
            u64::from_le_bytes(bytes)
        };
        match entry.first() {
            Some(&PLAIN) => Self::Plain(&entry[1..]),
            Some(&STAMPED) if entry.len() >= STAMP_BYTES => {
                let (session, sequence, answered) = (SessionId(number(1)), number(9), number(17));
                Self::Stamped(Stamp { session, sequence, answered }, &entry[STAMP_BYTES..])
            }
            Some(&OPEN) => Self::Open,
            Some(&AUDIT) if entry.len() == 1 => Self::Audit,
            Some(&TICK) if entry.len() == TICK_BYTES => Self::Tick(number(1)),
            _ => Self::Strange,
        }
    }
}

/// Commands on their way into the log, written straight into the arena that becomes a batch.
#[derive(Clone, Debug, Default)]
pub struct Commands {
    pub(crate) proposals: Proposals,
}

impl Commands {
    /// An arena for `count` commands of `bytes` bytes in all.
    #[must_use]
    pub fn with_capacity(bytes: usize, count: usize) -> Self {
        Self { proposals: Proposals::with_capacity(bytes + STAMP_BYTES * count, count) }
    }

    /// One command without a session: whoever retries it may see it applied twice.
    #[must_use]
    pub fn one(command: &[u8]) -> Self {
        let mut commands = Self { proposals: Proposals::with_capacity(1 + command.len(), 1) };
        commands.push(command);
        commands
    }

    /// Adds a command without a session.
    pub fn push(&mut self, command: &[u8]) {
        self.proposals.push_parts(&[&[PLAIN], command]);
    }

    /// Adds a command that is applied once however often it is sent.
    pub fn push_stamped(&mut self, stamp: Stamp, command: &[u8]) {
        let mut head = [STAMPED; STAMP_BYTES];
        head[1..9].copy_from_slice(&stamp.session.0.to_le_bytes());
        head[9..17].copy_from_slice(&stamp.sequence.to_le_bytes());
        head[17..].copy_from_slice(&stamp.answered.to_le_bytes());
        self.proposals.push_parts(&[&head, command]);
    }

    /// Adds the opening of a session.
    pub fn push_open(&mut self) {
        self.proposals.push(&[OPEN]);
    }

    /// The passing of time, which only the replica itself tells of.
    pub(crate) fn tick(passed: Duration) -> Self {
        let mut commands = Self::with_capacity(TICK_BYTES, 1);
        let millis = passed.as_millis() as u64;
        commands.proposals.push_parts(&[&[TICK], &millis.to_le_bytes()]);
        commands
    }

    /// The beginning of an audit.
    pub(crate) fn audit() -> Self {
        let mut commands = Self::with_capacity(1, 1);
        commands.proposals.push(&[AUDIT]);
        commands
    }

    /// How many commands it holds.
    #[must_use]
    pub fn count(&self) -> usize {
        self.proposals.count()
    }

    /// Bytes in the log that it will take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.proposals.payload_len()
    }
}
