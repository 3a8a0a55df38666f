//! What a run leaves out, though all else is drawn as if it happened: how a failure is made small.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use quorate_transport::{NodeId, Rng};

use crate::nemesis::Fault;

/// Something that happens in a run and may be left out, one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Choice {
    /// A fault that strikes at a time of its own.
    Strike,
    /// An operation of a client, before the calm.
    Ask,
    /// What befalls a single frame.
    Frame(Fault),
}

/// What this thread's runs leave out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Kinds of fault without effect.
    pub(crate) masked: Vec<Fault>,
    /// Of these choices nothing happens but what is listed, by number.
    pub(crate) only: BTreeMap<Choice, BTreeSet<u64>>,
    /// The invariants that end a run, by id, or a family of ids by what stands before the number;
    /// all where `None`.
    pub(crate) judges: Option<Vec<String>>,
    /// Nodes that never start.
    pub(crate) absent: BTreeSet<NodeId>,
    /// Operations of clients beyond so many a simulated second: they wait.
    pub(crate) pace: Option<u64>,
    /// The same, before the calm alone.
    pub(crate) chaos_pace: Option<u64>,
    /// Another luck under the same faults; 0 is the usual one.
    pub(crate) salt: u64,
    /// A run is over then, in nanoseconds of true time, whatever has happened.
    pub(crate) until: Option<u64>,
    /// The calm comes then at the latest, in nanoseconds of true time.
    pub(crate) calm_at: Option<u64>,
    /// Faults strike so many times as often; 0 is the usual.
    pub(crate) hurry: u64,
    /// Only so much of what was drawn happens, in a million: of strikes, of operations, of what
    /// befalls single frames.
    pub(crate) shares: Option<[u32; 3]>,
    /// Workloads lower what they count up to.
    pub(crate) small: bool,
    /// A run is over when more than so much has happened.
    pub(crate) most: Option<usize>,
    /// Runs write down what happened.
    pub(crate) record: bool,
}

impl Limits {
    /// Whether a run ends with this violation; else it is passed over, and the run goes on.
    pub(crate) fn ends(&self, what: &str) -> bool {
        let Some(judges) = &self.judges else { return true };
        judges.iter().any(|known| {
            let Some(rest) = what.strip_prefix(&**known) else { return false };
            let family = !known.ends_with(|c: char| c.is_ascii_digit());
            let number = rest.bytes().take_while(u8::is_ascii_digit).count();
            let ends = rest[number..].bytes().next().is_none_or(|byte| b" :,".contains(&byte));
            ends && (number > 0) == family
        })
    }
}

thread_local! {
    static LIMITS: RefCell<Limits> = RefCell::default();
    /// What happened in the last run that is over, where it was written down.
    static TAKEN: RefCell<Vec<(Choice, u64)>> = RefCell::default();
}

/// What happened in this thread's last run: also where it ended in a panic.
pub(crate) fn last_taken() -> Vec<(Choice, u64)> {
    TAKEN.take()
}

/// Sets what this thread's runs leave out from now on.
pub(crate) fn limit(limits: Limits) {
    LIMITS.set(limits);
}

/// What this thread's runs leave out.
pub(crate) fn limits() -> Limits {
    LIMITS.with_borrow(Limits::clone)
}

/// True in runs that look for a small failure: a workload should then lower what it counts up to
/// before something happens, such as the commands between two snapshots.
#[must_use]
pub fn is_small() -> bool {
    LIMITS.with_borrow(|limits| limits.small)
}

/// What happens in one run, and what is left out of it.
#[derive(Clone, Debug)]
pub struct Choices {
    limits: Limits,
    taken: Vec<(Choice, u64)>,
}

impl Default for Choices {
    fn default() -> Self {
        Self { limits: limits(), taken: Vec::new() }
    }
}

impl Drop for Choices {
    fn drop(&mut self) {
        if self.limits.record {
            TAKEN.set(std::mem::take(&mut self.taken));
        }
    }
}

impl Choices {
    /// Whether what was drawn happens; `number` is its place among all of its kind.
    pub fn happens(&mut self, choice: Choice, number: u64) -> bool {
        let Self { limits, taken } = self;
        if limits.only.get(&choice).is_some_and(|only| !only.contains(&number)) {
            return false;
        }
        if let Some(shares) = limits.shares {
            let (share, sort) = match choice {
                Choice::Strike => (shares[0], 0),
                Choice::Ask => (shares[1], 1),
                Choice::Frame(fault) => (shares[2], 2 + fault as u64),
            };
            if !Rng::new(limits.salt).fork(sort).fork(number).chance_ppm(share) {
                return false;
            }
        }
        if let Choice::Frame(fault) = choice
            && limits.masked.contains(&fault)
        {
            return false;
        }
        if limits.record {
            taken.push((choice, number));
        }
        true
    }

    /// True where a kind of fault has no effect.
    #[must_use]
    pub fn is_masked(&self, fault: Fault) -> bool {
        self.limits.masked.contains(&fault)
    }

    /// What happened so far, where it is written down.
    #[must_use]
    pub fn taken(&self) -> &[(Choice, u64)] {
        &self.taken
    }

    /// More has happened than is of use.
    pub(crate) fn are_too_many(&self) -> bool {
        self.limits.most.is_some_and(|most| self.taken.len() > most)
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_judged_by_what_is_listed() {
        let judges = ["R1", "M", "law 8"].map(str::to_owned).to_vec();
        let limits = Limits { judges: Some(judges), ..Limits::default() };
        let ends = |what: &str| limits.ends(what) && Limits::default().ends(what);
        assert!(["R1 two leaders", "M3, M4: no", "law 8: n1"].into_iter().all(ends));
        for what in ["R14 applied 3", "Most", "M not", "law 1: a timer", "halted: R1", ""] {
            assert!(!ends(what), "{what}");
        }
    }

    #[test]
    fn only_what_is_listed_happens_and_is_written_down() {
        let loss = Choice::Frame(Fault::Loss);
        limit(Limits {
            masked: vec![Fault::Late],
            only: BTreeMap::from([(loss, BTreeSet::from([3]))]),
            record: true,
            ..Limits::default()
        });
        let mut choices = Choices::default();
        limit(Limits::default());
        assert!(!choices.happens(loss, 2) && choices.happens(loss, 3));
        assert!(choices.happens(Choice::Strike, 2));
        assert!(!choices.happens(Choice::Frame(Fault::Late), 2) && choices.is_masked(Fault::Late));
        assert_eq!(choices.taken(), [(loss, 3), (Choice::Strike, 2)]);
        assert_eq!(Choices::default().limits(), &Limits::default());
        drop(choices);
        assert_eq!(last_taken(), [(loss, 3), (Choice::Strike, 2)]);
    }

    #[test]
    fn a_share_of_each_sort_happens_and_the_same_again() {
        let shares = Some([0, 100_000, 1_000_000]);
        limit(Limits { shares, record: true, most: Some(2_999), ..Limits::default() });
        let run = || {
            let mut choices = Choices::default();
            for number in 0..3_000 {
                assert!(!choices.happens(Choice::Strike, number));
                choices.happens(Choice::Ask, number);
                assert!(choices.happens(Choice::Frame(Fault::Loss), number));
            }
            assert!(choices.are_too_many());
            choices.taken().iter().filter(|(choice, _)| *choice == Choice::Ask).count()
        };
        let (asked, again) = (run(), run());
        limit(Limits::default());
        assert!((200..400).contains(&asked) && asked == again, "{asked} {again}");
    }
}
