//! Sessions: a command that is seen twice is applied once, and answered with the first answer.
//!
//! The table is part of the replicated state: every replica holds the same one at the same index,
//! and lets go of the same sessions, by the log alone: of the least recently used when there are
//! too many, and of those that were not used for long in log time.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quorate_raft::Index;

use crate::config::Config;
use crate::shared::{IntoIter, SharedMap};
use crate::state_machine::RestoreError;
use crate::ticker::tick_max;

/// A client's session: the index of the entry that opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Which command of which session this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The session.
    pub session: SessionId,
    /// The command's number, from 1; each is applied at most once, in whatever order they come.
    pub sequence: u64,
    /// The client has every answer up to this number: their memory can go.
    pub answered: u64,
}

/// What is remembered of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    used: Index,
    /// In log time.
    used_at: u64,
    /// Every number up to here was applied or given up; its answer is forgotten.
    floor: u64,
    /// `None` while the state machine has yet to say: the number is taken all the same.
    answers: BTreeMap<u64, Option<Bytes>>,
}

/// What the table knows of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Never seen, and taken by this look: apply it, then [`record`](Sessions::record) its answer.
    Fresh,
    /// Taken by an earlier look whose answer is not recorded yet: record it, then look again.
    Taken,
    /// Applied before, with this answer.
    Answered(Bytes),
    /// Applied or given up before; its answer is forgotten.
    Forgotten,
    /// The session has expired, or never was.
    Expired,
}

/// The sessions of a replica. A snapshot in the making shares them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sessions {
    all: SharedMap<SessionId, Arc<Session>>,
    by_use: BTreeSet<(Index, SessionId)>,
    /// Log time, in milliseconds.
    time: u64,
    limits: Limits,
}

/// How much is remembered, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) sessions_max: usize,
    pub(crate) answers_max: usize,
    /// In log time, in milliseconds.
    pub(crate) ttl: u64,
}

impl Limits {
    pub(crate) fn of<S>(config: &Config<S>) -> Self {
        // A use may be as much later than the log time it is stamped with as one tick counts.
        let ttl = config.session_ttl + tick_max(config.tick_interval);
        let Config { sessions_max, answers_max, .. } = *config;
        Self { sessions_max, answers_max, ttl: ttl.as_millis() as u64 }
    }
}

impl Sessions {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { all: SharedMap::new(), by_use: BTreeSet::new(), time: 0, limits }
    }

    /// A table of the same limits that holds none, at this log time.
    pub(crate) fn emptied(&self, time: u64) -> Self {
        Self { time, ..Self::new(self.limits) }
    }

    /// Log time, in milliseconds.
    pub(crate) fn time(&self) -> u64 {
        self.time
    }

    /// Log time goes on; sessions that were not used for too long expire. Says how many.
    pub(crate) fn pass(&mut self, millis: u64) -> u64 {
        self.time = self.time.saturating_add(millis);
        let mut expired = 0;
        // In the order of their last use, which is that of its time as well.
        while let Some((used, id)) = self.by_use.first().copied() {
            let lives = |session: &Arc<Session>| self.time - session.used_at <= self.limits.ttl;
            if self.all.get(&id).is_some_and(lives) {
                break;
            }
            self.by_use.remove(&(used, id));
            self.all.remove(&id);
            expired += 1;
        }
        expired
    }

    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    /// Opens a session; the least recently used makes room.
    pub(crate) fn open(&mut self, index: Index) -> SessionId {
        while self.all.len() >= self.limits.sessions_max
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.all.remove(&oldest);
        }
        let id = SessionId(index.0);
        let session =
            Session { used: index, used_at: self.time, floor: 0, answers: BTreeMap::new() };
        self.all.insert(id, Arc::new(session));
        self.by_use.insert((index, id));
        id
    }

    /// Looks a command up at its log index, which counts as a use.
    ///
    /// All that a command does to the table it does here, whenever its answer is recorded. So it
    /// depends on the log alone, and not on how many commands are applied in one call, which
    /// differs between replicas.
    pub(crate) fn look(&mut self, index: Index, stamp: Stamp) -> Known {
        let id = stamp.session;
        let Some(session) = self.all.get_mut(&id) else { return Known::Expired };
        let session = Arc::make_mut(session);
        self.by_use.remove(&(session.used, id));
        (session.used, session.used_at) = (index, self.time);
        self.by_use.insert((index, id));
        // Only answers that were given can be acknowledged: a wild number forgets no more.
        let answered = stamp.answered.min(stamp.sequence.saturating_sub(1));
        if answered > session.floor {
            session.floor = answered;
            while session.answers.first_key_value().is_some_and(|(first, _)| *first <= answered) {
                session.answers.pop_first();
            }
        }
        if stamp.sequence <= session.floor {
            return Known::Forgotten;
        }
        match session.answers.get(&stamp.sequence) {
            Some(Some(answer)) => return Known::Answered(answer.clone()),
            Some(None) => return Known::Taken,
            None => {}
        }
        session.answers.insert(stamp.sequence, None);
        while session.answers.len() > self.limits.answers_max
            && let Some((oldest, _)) = session.answers.pop_first()
        {
            session.floor = oldest;
        }
        Known::Fresh
    }

    /// Remembers the answer of a fresh command, unless it need not be remembered any more.
    pub(crate) fn record(&mut self, stamp: Stamp, answer: Bytes) {
        let Some(session) = self.all.get_mut(&stamp.session) else { return };
        if let Some(place) = Arc::make_mut(session).answers.get_mut(&stamp.sequence) {
            *place = Some(answer);
        }
    }

    /// All of them as they are now, oldest first.
    pub(crate) fn pieces(&self) -> IntoIter<SessionId, Arc<Session>> {
        self.all.clone().into_iter()
    }

    /// Takes over one session, as [`Session::encode`] wrote it; they come oldest first.
    pub(crate) fn restore(&mut self, mut piece: &[u8]) -> Result<(), RestoreError> {
        let from = &mut piece;
        let id = SessionId(number(from)?);
        let used = Index(number(from)?);
        let used_at = number(from)?;
        let floor = number(from)?;
        let mut answers = BTreeMap::new();
        while !from.is_empty() {
            let sequence = number(from)?;
            let len = usize::try_from(number(from)?).map_err(|_| RestoreError)?;
            let answer = from.get(..len).ok_or(RestoreError)?;
            answers.insert(sequence, Some(Bytes::copy_from_slice(answer)));
            from.advance(len);
        }
        let session = Session { used, used_at, floor, answers };
        let known = self.all.insert(id, Arc::new(session)).is_some();
        let fits = self.all.len() <= self.limits.sessions_max
            && used_at <= self.time
            && self.by_use.insert((used, id));
        if known || !fits { Err(RestoreError) } else { Ok(()) }
    }
}

impl Session {
    /// The session as a piece of a snapshot.
    pub(crate) fn encode(&self, id: SessionId) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u64_le(id.0);
        out.put_u64_le(self.used.0);
        out.put_u64_le(self.used_at);
        out.put_u64_le(self.floor);
        for (sequence, answer) in &self.answers {
            let answer = answer.as_deref().expect("every answer is recorded between views");
            out.put_u64_le(*sequence);
            out.put_u64_le(answer.len() as u64);
            out.extend_from_slice(answer);
        }
        out.freeze()
    }
}

pub(crate) fn number(from: &mut &[u8]) -> Result<u64, RestoreError> {
    from.try_get_u64_le().map_err(|_| RestoreError)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(session: u64, sequence: u64, answered: u64) -> Stamp {
        Stamp { session: SessionId(session), sequence, answered }
    }

    fn sessions(sessions_max: usize, answers_max: usize) -> Sessions {
        Sessions::new(Limits { sessions_max, answers_max, ttl: 100 })
    }

    #[test]
    fn a_command_is_fresh_once_in_whatever_order_they_come() {
        let mut table = sessions(2, 10);
        table.open(Index(1));
        for sequence in [2, 1, 3] {
            assert_eq!(table.look(Index(2), stamp(1, sequence, 0)), Known::Fresh);
            table.record(stamp(1, sequence, 0), Bytes::from_static(b"first"));
        }
        let again = table.look(Index(3), stamp(1, 2, 0));
        assert_eq!(again, Known::Answered(Bytes::from_static(b"first")));
        assert_eq!(table.look(Index(4), stamp(1, 4, 3)), Known::Fresh);
        assert_eq!(table.look(Index(5), stamp(1, 2, 0)), Known::Forgotten);
    }

    #[test]
    fn the_least_recently_used_session_by_log_order_is_evicted() {
        let mut table = sessions(2, 10);
        table.open(Index(1));
        table.open(Index(2));
        table.look(Index(3), stamp(1, 1, 0));
        table.open(Index(4));
        assert_eq!(table.look(Index(5), stamp(2, 1, 0)), Known::Expired);
        assert_eq!(table.look(Index(5), stamp(1, 1, 0)), Known::Taken);
    }

    #[test]
    fn memory_of_answers_is_bounded_and_what_is_forgotten_is_not_applied_again() {
        let mut table = sessions(1, 2);
        table.open(Index(1));
        for sequence in 1..=3 {
            table.look(Index(2), stamp(1, sequence, 0));
            table.record(stamp(1, sequence, 0), Bytes::from_static(b""));
        }
        assert_eq!(table.look(Index(3), stamp(1, 1, 0)), Known::Forgotten);
    }

    #[test]
    fn the_table_survives_a_snapshot_and_cut_pieces_are_refused() {
        let mut table = sessions(3, 3);
        table.open(Index(1));
        table.pass(30);
        table.open(Index(9));
        table.look(Index(10), stamp(9, 1, 0));
        table.record(stamp(9, 1, 0), Bytes::from_static(b"answer"));
        let mut copy = table.emptied(table.time());
        for (id, session) in table.pieces() {
            let piece = session.encode(id);
            for len in 0..piece.len() {
                let cut = table.emptied(table.time()).restore(&piece[..len]);
                // After a whole answer it is a session with fewer of them.
                assert_eq!(cut.is_ok(), len == 32, "cut at {len}");
            }
            assert_eq!(copy.restore(&piece), Ok(()));
            assert_eq!(copy.restore(&piece), Err(RestoreError), "a session comes once");
        }
        assert_eq!(copy, table);
    }

    #[test]
    fn a_session_that_was_not_used_for_too_long_expires_and_is_never_used_again() {
        let mut table = sessions(9, 9);
        table.open(Index(1));
        table.open(Index(2));
        assert_eq!(table.pass(60), 0);
        assert_eq!(table.look(Index(3), stamp(1, 1, 0)), Known::Fresh);
        table.record(stamp(1, 1, 0), Bytes::new());
        assert_eq!(table.pass(40), 0, "100 ms are not too long");
        assert_eq!(table.pass(1), 1, "one of them");
        assert_eq!(table.look(Index(4), stamp(2, 1, 0)), Known::Expired);
        assert_eq!(table.pass(59), 0, "the other was used later");
        assert_eq!(table.pass(u64::MAX), 1, "and no time is too much");
        assert_eq!(table.look(Index(5), stamp(1, 1, 0)), Known::Expired, "not applied again");
        assert_eq!((table.count(), table.by_use.len()), (0, 0));
    }
}
