//! Applying what is committed: in order, each entry once, with the sessions' memory.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use quorate_raft::{Index, Kind, View};
use quorate_transport::Digest;

use crate::changes::History;
use crate::command::{Command, plain};
use crate::config::Config;
use crate::guard::{Panicked, guard};
use crate::session::{Known, Limits, SessionId, Sessions, Stamp};
use crate::state_machine::{Outputs, Pieces, RestoreError, StateMachine};
use crate::transit::{Loaded, Loading, Saving, Walk};

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
    /// Its session has expired: it was not used for `session_ttl` of log time, or was the least
    /// recently used of too many, or never was. The command was not applied now, and never will
    /// be; whether it was applied before is not known.
    Expired,
    /// It was written by another build and changed nothing.
    Strange,
}

/// The state machine, the sessions and the applied index: one state, saved and restored as one.
#[derive(Clone, Debug)]
pub(crate) struct Applier<S> {
    /// As before the first entry.
    initial: S,
    state: S,
    sessions: Sessions,
    applied: Index,
    digest: Digest,
    outputs: Outputs,
    /// Of this replica alone, and in no snapshot.
    history: History,
    /// Sessions that have expired by time, as this replica has seen it.
    expired: u64,
    audit: Option<Walk>,
    audited: bool,
}

/// Why nothing more can be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// An entry was skipped or came twice: a broken promise of the layer below.
    Gap { applied: Index, next: Index },
    /// The state machine has panicked in these entries.
    Panicked { first: Index, last: Index, what: String },
    /// It pushed so many outputs for these commands.
    Outputs { first: Index, last: Index, outputs: usize, commands: usize },
}

impl Stop {
    /// The rule that is broken, and how.
    pub(crate) fn report(&self) -> (&'static str, String) {
        match self {
            Self::Gap { applied, next } => {
                ("entries are applied without a gap", format!("{next} follows {applied}"))
            }
            Self::Panicked { first, last, what } => {
                (NO_PANIC, format!("in the entries {first} to {last}: {what}"))
            }
            Self::Outputs { first, last, outputs, commands } => (
                "a state machine pushes one output a command",
                format!("{outputs} of {commands}, in the entries {first} to {last}"),
            ),
        }
    }
}

/// The rule of who stops because the user's code panicked.
pub(crate) const NO_PANIC: &str = "a state machine does not panic";

impl<S: StateMachine> Applier<S> {
    pub(crate) fn new(config: &Config<S>) -> Self {
        Self {
            initial: config.state.clone(),
            state: config.state.clone(),
            sessions: Sessions::new(Limits::of(config)),
            expired: 0,
            audit: None,
            audited: true,
            applied: Index::ZERO,
            digest: Digest::default(),
            outputs: Outputs::default(),
            history: History::new(config.history_bytes_max),
        }
    }

    /// What watchers are shown.
    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    pub(crate) fn applied(&self) -> Index {
        self.applied
    }

    pub(crate) fn state(&self) -> &S {
        &self.state
    }

    pub(crate) fn sessions(&self) -> usize {
        self.sessions.count()
    }

    /// Log time.
    pub(crate) fn log_time(&self) -> Duration {
        Duration::from_millis(self.sessions.time())
    }

    pub(crate) fn expired(&self) -> u64 {
        self.expired
    }

    /// A digest of every entry since the log began and of what became of it: equal at equal
    /// indices, unless a state machine is not deterministic.
    pub(crate) fn digest(&self) -> u128 {
        self.digest.value()
    }

    pub(crate) fn query(&self, query: &[u8]) -> Result<Bytes, Panicked> {
        guard(|| self.state.query(query))
    }

    /// Applies a view. `outcome` hears of each entry that `wanted` asks for, in order.
    ///
    /// What it does depends on the entries alone, never on where one view ends and the next
    /// begins: that differs between replicas.
    pub(crate) fn apply(
        &mut self,
        view: &View,
        wanted: impl Fn(Index) -> bool,
        mut outcome: impl FnMut(Index, Outcome),
    ) -> Result<(), Stop> {
        if view.first() != self.applied.next() {
            return Err(Stop::Gap { applied: self.applied, next: view.first() });
        }
        let mut told = |index, known: &dyn Fn() -> Outcome| {
            if wanted(index) {
                outcome(index, known());
            }
        };
        if view.kind() == Kind::Normal && view.entries().all(|entry| plain(entry).is_some()) {
            return self.apply_plain(view, &mut told);
        }
        let mut group = Vec::with_capacity(view.count());
        let mut index = view.first();
        for entry in view.entries() {
            if view.kind() == Kind::Normal {
                self.one(index, entry, &mut group, &mut told)?;
            } else {
                self.digest.u64(index.0);
            }
            index = index.next();
        }
        self.flush(&mut group, &mut told)?;
        self.applied = view.last();
        Ok(())
    }

    /// As any other view, but that nothing need be gathered: no session has a say in it.
    fn apply_plain(
        &mut self,
        view: &View,
        told: &mut impl FnMut(Index, &dyn Fn() -> Outcome),
    ) -> Result<(), Stop> {
        let first = view.first();
        let place = |at: usize| Index(first.0 + at as u64);
        let mut commands = view.entries().filter_map(plain);
        let outputs = self.call((first, view.last()), view.count(), &mut commands, place)?;
        for (at, entry) in view.entries().enumerate() {
            let output = outputs.get(at);
            self.note(place(at), entry, DONE, output);
            told(place(at), &|| Outcome::Done(Bytes::copy_from_slice(output)));
        }
        self.outputs = outputs;
        self.applied = view.last();
        Ok(())
    }

    /// The state machine applies `count` commands of these entries, which stand at `place`.
    fn call(
        &mut self,
        (first, last): (Index, Index),
        count: usize,
        commands: &mut dyn Iterator<Item = &[u8]>,
        place: impl Fn(usize) -> Index,
    ) -> Result<Outputs, Stop> {
        self.audited = false;
        let mut outputs = core::mem::take(&mut self.outputs);
        outputs.clear();
        outputs.changes = self.history.lend();
        guard(|| self.state.apply(commands, &mut outputs))
            .map_err(|Panicked(what)| Stop::Panicked { first, last, what })?;
        let (commands, count) = (count, outputs.count());
        if commands != count || outputs.is_astray() {
            return Err(Stop::Outputs { first, last, outputs: count, commands });
        }
        if let Some(changes) = outputs.changes.take() {
            self.history.give_back(changes, place);
        }
        Ok(outputs)
    }

    fn one<'a>(
        &mut self,
        index: Index,
        entry: &'a [u8],
        group: &mut Vec<Fresh<'a>>,
        told: &mut impl FnMut(Index, &dyn Fn() -> Outcome),
    ) -> Result<(), Stop> {
        let known = match Command::decode(entry) {
            Command::Plain(command) => {
                group.push(Fresh { index, stamp: None, entry, command });
                return Ok(());
            }
            Command::Stamped(stamp, command) => {
                let mut known = self.sessions.look(index, stamp);
                if known == Known::Taken {
                    self.flush(group, told)?; // its first answer is needed now
                    known = self.sessions.look(index, stamp);
                }
                match known {
                    Known::Fresh => {
                        group.push(Fresh { index, stamp: Some(stamp), entry, command });
                        return Ok(());
                    }
                    Known::Answered(answer) => Outcome::Done(answer),
                    Known::Expired => Outcome::Expired,
                    Known::Forgotten | Known::Taken => Outcome::Forgotten,
                }
            }
            Command::Tick(millis) => {
                self.flush(group, told)?; // what comes before it is older than what comes after
                self.expired += self.sessions.pass(millis);
                self.note(index, entry, 6, &[]);
                return Ok(());
            }
            Command::Audit => {
                self.flush(group, told)?;
                self.note(index, entry, 7, &[]);
                self.audit = Some(self.walk(index)?);
                self.audited = true;
                return Ok(());
            }
            Command::Open => Outcome::Opened(self.sessions.open(index)),
            Command::Strange => Outcome::Strange,
        };
        self.audited = false;
        self.flush(group, told)?; // outcomes are told, and digested, in the order of the log
        let (kind, output) = match &known {
            Outcome::Done(output) => (DONE, &output[..]),
            Outcome::Opened(_) => (2, &[][..]),
            Outcome::Forgotten => (3, &[][..]),
            Outcome::Expired => (4, &[][..]),
            Outcome::Strange => (5, &[][..]),
        };
        self.note(index, entry, kind, output);
        told(index, &|| known.clone());
        Ok(())
    }

    /// Applies the commands gathered so far, in one call.
    fn flush(
        &mut self,
        group: &mut Vec<Fresh<'_>>,
        told: &mut impl FnMut(Index, &dyn Fn() -> Outcome),
    ) -> Result<(), Stop> {
        let [first, ..] = &group[..] else { return Ok(()) };
        let span = (first.index, group[group.len() - 1].index);
        let mut commands = group.iter().map(|fresh| fresh.command);
        let outputs = self.call(span, group.len(), &mut commands, |place| group[place].index)?;
        for (at, fresh) in group.drain(..).enumerate() {
            let output = outputs.get(at);
            self.note(fresh.index, fresh.entry, DONE, output);
            if let Some(stamp) = fresh.stamp {
                let output = Bytes::copy_from_slice(output);
                self.sessions.record(stamp, output.clone());
                told(fresh.index, &|| Outcome::Done(output.clone()));
            } else {
                told(fresh.index, &|| Outcome::Done(Bytes::copy_from_slice(output)));
            }
        }
        self.outputs = outputs;
        Ok(())
    }

    /// Adds an entry and what became of it to the digest.
    fn note(&mut self, index: Index, entry: &[u8], kind: u64, output: &[u8]) {
        // Kinds are few and an entry is far shorter than 256 MiB: one word for all but the bytes.
        let lengths = (kind << 60) ^ ((entry.len() as u64) << 32) ^ output.len() as u64;
        self.digest.u64(index.0);
        self.digest.u64(lengths);
        self.digest.measured_bytes(entry);
        self.digest.measured_bytes(output);
    }

    /// Begins to walk over everything as it is now: sessions, applied index, digest and state.
    fn walk(&self, index: Index) -> Result<Walk, Stop> {
        let state = guard(|| self.state.snapshot());
        let panicked = |Panicked(what)| Stop::Panicked { first: index, last: index, what };
        Ok(Walk::new(index, &self.digest, &self.sessions, state.map_err(panicked)?))
    }

    /// Begins to write everything as it is now.
    pub(crate) fn save(&self) -> Result<Saving, Stop> {
        Ok(Saving::new(self.walk(self.applied)?))
    }

    /// The audit that the last entries have asked for.
    pub(crate) fn take_audit(&mut self) -> Option<Walk> {
        self.audit.take()
    }

    /// Whether nothing but time and audits has been applied since the last audit.
    pub(crate) fn is_audited(&self) -> bool {
        self.audited
    }

    /// Begins to read a state; until it is [taken over](Self::take_over) nothing changes.
    pub(crate) fn load(&self) -> Loading<S> {
        Loading::new(self.initial.clone(), self.sessions.emptied(0))
    }

    /// Takes over a state that must be that of `index`; gives the former one back in pieces, for
    /// what drops it at once may take long, and an audit of the new one with what it must come to.
    pub(crate) fn take_over(
        &mut self,
        index: Index,
        loading: Loading<S>,
    ) -> Result<Taken, RestoreError> {
        let Loaded { state, sessions, applied, digest, pieces } = loading.finish()?;
        if applied != index {
            return Err(RestoreError);
        }
        let former = guard(|| self.state.snapshot()).map_err(|_| RestoreError)?;
        (self.state, self.sessions) = (state, sessions);
        (self.applied, self.digest) = (applied, digest);
        self.history.begin_after(applied);
        let audit = self.walk(applied).map_err(|_| RestoreError)?;
        Ok(Taken { former, audit, pieces })
    }
}

/// A state was taken over.
pub(crate) struct Taken {
    pub(crate) former: Pieces,
    pub(crate) audit: Walk,
    /// What the audit must come to.
    pub(crate) pieces: u128,
}

/// What the digest holds of a command that was applied, now or before.
const DONE: u64 = 1;

/// A command that is to be applied with the others of its group.
struct Fresh<'a> {
    index: Index,
    stamp: Option<Stamp>,
    entry: &'a [u8],
    command: &'a [u8],
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use bytes::{BufMut, BytesMut};
    use quorate_raft::Batch;
    use quorate_transport::Attachment;

    use super::*;
    use crate::session::number;

    /// Adds up its commands; its output is the sum so far, so that applying twice shows.
    #[derive(Clone, Debug, Default, PartialEq)]
    struct Sum(u64);

    impl StateMachine for Sum {
        fn apply(&mut self, commands: &mut dyn Iterator<Item = &[u8]>, outputs: &mut Outputs) {
            for command in commands {
                self.0 += command.iter().map(|byte| u64::from(*byte)).sum::<u64>();
                outputs.push(&self.0.to_le_bytes());
            }
        }
        fn query(&self, _: &[u8]) -> Bytes {
            Bytes::copy_from_slice(&self.0.to_le_bytes())
        }
        fn snapshot(&self) -> Pieces {
            Pieces::one(self.query(&[]))
        }
        fn restore(&mut self, mut piece: &[u8]) -> Result<(), RestoreError> {
            self.0 = number(&mut piece)?;
            Ok(())
        }
    }

    fn stamp(session: u64, sequence: u64) -> Stamp {
        Stamp { session: SessionId(session), sequence, answered: 0 }
    }

    /// What Raft would emit for these commands: its own encoding, made by hand.
    fn view(first: u64, kind: u8, entries: &[Vec<u8>]) -> View {
        let payload = entries.concat();
        let mut bytes = BytesMut::new();
        bytes.put_u64_le(1);
        bytes.put_u64_le(first);
        bytes.put_u32_le(entries.len() as u32);
        bytes.put_u32_le(payload.len() as u32);
        bytes.put_u8(kind);
        bytes.put_bytes(0, 7);
        bytes.put_slice(&payload);
        let mut end = 0;
        for entry in entries {
            end += entry.len() as u32;
            bytes.put_u32_le(end);
        }
        Batch::decode(Attachment::new(bytes.freeze())).unwrap().into()
    }

    #[derive(Clone, Copy)]
    enum Say {
        Open,
        Plain(u8),
        Stamped(Stamp, u8),
        Tick(u64),
    }

    fn entry(say: Say) -> Vec<u8> {
        match say {
            Say::Open => vec![2],
            Say::Plain(byte) => vec![0, byte],
            Say::Tick(millis) => [&[3][..], &millis.to_le_bytes()].concat(),
            Say::Stamped(stamp, byte) => {
                let mut entry = vec![1];
                for number in [stamp.session.0, stamp.sequence, stamp.answered] {
                    entry.put_u64_le(number);
                }
                entry.push(byte);
                entry
            }
        }
    }

    fn applier(sessions_max: usize, answers_max: usize) -> Applier<Sum> {
        let session_ttl = Duration::from_millis(300);
        let tick_interval = Duration::from_millis(50);
        let config = Config::new([], Sum::default());
        let config = Config { sessions_max, answers_max, session_ttl, tick_interval, ..config };
        Applier::new(&config)
    }

    fn feed(applier: &mut Applier<Sum>, said: &[Say]) -> Vec<Outcome> {
        let entries: Vec<_> = said.iter().map(|say| entry(*say)).collect();
        let mut outcomes = Vec::new();
        let view = view(applier.applied().next().0, 0, &entries);
        applier.apply(&view, |_| true, |_, outcome| outcomes.push(outcome)).unwrap();
        outcomes
    }

    fn saved(mut saving: Saving, step: usize) -> Vec<u8> {
        while !saving.step(step) {}
        saving.finish().chunks().concat()
    }

    fn sum(sum: u64) -> Outcome {
        Outcome::Done(Bytes::copy_from_slice(&sum.to_le_bytes()))
    }

    #[test]
    fn a_command_seen_twice_is_applied_once_and_answered_with_the_first_answer() {
        let first = Say::Stamped(stamp(1, 1), 5);
        for cut in 1..5 {
            let said = [Say::Open, first, Say::Plain(7), first, Say::Stamped(stamp(1, 2), 1)];
            let mut applier = applier(4, 4);
            let mut outcomes = feed(&mut applier, &said[..cut]);
            outcomes.extend(feed(&mut applier, &said[cut..]));
            let want = [Outcome::Opened(SessionId(1)), sum(5), sum(12), sum(5), sum(13)];
            assert_eq!(outcomes, want, "views cut at {cut}");
        }
    }

    #[test]
    fn where_views_end_changes_nothing() {
        let mut rng = quorate_transport::Rng::new(1);
        for round in 0..300 {
            let mut said = vec![Say::Open, Say::Open];
            for _ in 0..60 {
                let answered = rng.below(3);
                let sequence = 1 + rng.below(9);
                let stamp = Stamp { answered, ..stamp(1 + rng.below(4), sequence) };
                said.push(match rng.below(12) {
                    0 => Say::Open,
                    1 => Say::Plain(1),
                    2 => Say::Tick(rng.below(200)),
                    _ => Say::Stamped(stamp, rng.below(200) as u8),
                });
            }
            let (mut whole, mut cut) = (applier(2, 2), applier(2, 2));
            let want = feed(&mut whole, &said);
            let (mut outcomes, mut rest) = (Vec::new(), &said[..]);
            while !rest.is_empty() {
                let len = 1 + rng.below(rest.len().min(9) as u64) as usize;
                outcomes.extend(feed(&mut cut, &rest[..len]));
                rest = &rest[len..];
            }
            assert_eq!(outcomes, want, "round {round}");
            assert_eq!((cut.digest(), &cut.sessions), (whole.digest(), &whole.sessions));
            assert_eq!(saved(cut.save().unwrap(), 1), saved(whole.save().unwrap(), 1 << 20));
        }
    }

    #[test]
    fn a_restored_replica_remembers_what_was_applied() {
        let mut one = applier(4, 4);
        feed(&mut one, &[Say::Open, Say::Stamped(stamp(1, 1), 5), Say::Stamped(stamp(1, 3), 6)]);
        let mut two = applier(4, 4);
        let mut saving = one.save().unwrap();
        saving.step(1);
        let mut later = one.clone();
        feed(&mut later, &[Say::Stamped(stamp(1, 1), 5), Say::Stamped(stamp(1, 2), 9)]);
        let mut loading = two.load();
        for byte in saved(saving, 1) {
            loading.feed(&[byte]).unwrap();
        }
        two.take_over(one.applied(), loading).unwrap();
        assert_eq!((two.applied(), two.digest()), (one.applied(), one.digest()));
        let said = [1, 2, 3].map(|sequence| Say::Stamped(stamp(1, sequence), 100));
        let outcomes = feed(&mut two, &said);
        assert_eq!(outcomes, [sum(5), sum(111), sum(11)]);
        assert_eq!(outcomes, feed(&mut one, &said));
        assert_eq!((&two.state, two.digest()), (&one.state, one.digest()));
    }

    #[test]
    fn a_snapshot_that_is_cut_or_of_another_index_is_refused() {
        let mut one = applier(4, 4);
        feed(&mut one, &[Say::Open, Say::Stamped(stamp(1, 1), 5)]);
        let bytes = saved(one.save().unwrap(), 100);
        for len in 0..=bytes.len() {
            let mut two = applier(4, 4);
            let mut loading = two.load();
            loading.feed(&bytes[..len]).unwrap();
            let taken = two.take_over(Index(2), loading).is_ok();
            assert_eq!(taken, len == bytes.len(), "cut at {len}");
        }
        let mut loading = one.load();
        loading.feed(&bytes).unwrap();
        assert!(one.take_over(Index(3), loading).is_err());
        assert_eq!((one.applied(), one.state.0), (Index(2), 5));
    }

    #[test]
    fn a_gap_or_an_entry_that_comes_again_is_refused_and_changes_nothing() {
        let mut applier = applier(4, 4);
        feed(&mut applier, &[Say::Plain(1), Say::Plain(2)]);
        let before = (applier.digest(), applier.state.clone());
        for first in [1, 2, 4, 9] {
            let view = view(first, 0, &[entry(Say::Plain(9))]);
            let gap = applier.apply(&view, |_| true, |_, _| panic!("nothing is applied"));
            assert_eq!(gap, Err(Stop::Gap { applied: Index(2), next: Index(first) }));
        }
        assert_eq!((applier.digest(), applier.state.clone()), before);
    }

    #[test]
    fn an_empty_entry_of_a_leader_moves_the_index_alone() {
        let mut applier = applier(4, 4);
        let noop = view(1, 1, &[Vec::new()]);
        applier.apply(&noop, |_| true, |_, _| panic!("it has no outcome")).unwrap();
        assert_eq!((applier.applied(), applier.state.0), (Index(1), 0));
    }

    #[test]
    fn a_state_machine_that_differs_shows_in_the_digest() {
        let (mut one, mut two) = (applier(4, 4), applier(4, 4));
        two.state.0 = 1;
        feed(&mut one, &[Say::Plain(1)]);
        feed(&mut two, &[Say::Plain(1)]);
        assert_ne!(one.digest(), two.digest());
    }

    #[test]
    fn what_another_build_wrote_changes_nothing() {
        let mut applier = applier(4, 4);
        let strange = view(1, 0, &[vec![], vec![9, 9], vec![1, 2, 3]]);
        let mut outcomes = Vec::new();
        applier.apply(&strange, |_| true, |_, outcome| outcomes.push(outcome)).unwrap();
        assert_eq!(outcomes, vec![Outcome::Strange; 3]);
        assert_eq!(applier.state.0, 0);
    }
}
