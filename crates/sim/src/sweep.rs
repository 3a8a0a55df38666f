//! Many seeds of one protocol on all cores, or one seed again: what every simulation shares.
//!
//! A protocol gives a function from a seed to a [`Run`]. Its test calls [`seeds`], its example
//! `sim` is [`main`], and `cargo xtask sim` runs that.

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use quorate_transport::NodeId;

use crate::limits::{self, Choice};
use crate::marks;
use crate::nemesis::Fault;
use crate::world::{System, Violation, World};
use program::Arguments;

mod bench;
mod golden;
mod program;
mod sample;
mod shrink;

pub use program::{main, main_of};

/// What one seed came to.
#[derive(Clone, Debug)]
pub struct Run {
    /// The first invariant that broke.
    pub violation: Option<Violation>,
    /// What the protocol did, by name; operations first.
    pub work: Vec<(&'static str, u64)>,
    /// Faults that struck, by kind.
    pub kinds: BTreeMap<Fault, u64>,
    /// Those that struck at a time of their own: not what befell single frames.
    pub faults: u64,
    /// Events handled.
    pub events: u64,
    /// Nodes of the group.
    pub nodes: u64,
    /// What the application asked of machines on behalf of clients.
    pub asked: u64,
    /// Simulated time, in nanoseconds.
    pub nanos: u64,
    /// Of all that happened.
    pub digest: u128,
    /// What happened and might be left out, where it is written down.
    pub taken: Vec<(Choice, u64)>,
    /// The story, where it was recorded.
    pub trace: Vec<String>,
}

impl Run {
    /// Of a seed that nothing more is known of.
    #[must_use]
    pub fn failed(violation: Violation) -> Self {
        let (work, kinds, trace) = (Vec::new(), BTreeMap::new(), Vec::new());
        let (faults, events, nodes, asked, nanos, digest) = (0, 0, 0, 0, 0, 0);
        let violation = Some(violation);
        let taken = Vec::new();
        Self { violation, work, kinds, faults, events, nodes, asked, nanos, digest, taken, trace }
    }

    /// What came of a world.
    #[must_use]
    pub fn of<S: System>(
        world: &World<S>,
        violation: Option<Violation>,
        work: Vec<(&'static str, u64)>,
    ) -> Self {
        let kinds = world.faults();
        Self {
            violation,
            work,
            faults: Fault::STRIKES.iter().filter_map(|kind| kinds.get(kind)).sum(),
            kinds,
            events: world.counts().events,
            nodes: world.ids().len() as u64,
            asked: world.counts().asked,
            nanos: world.now(),
            digest: world.digest(),
            taken: world.taken().to_vec(),
            trace: world.trace().to_vec(),
        }
    }
}

/// What a seed does on average, at the least: a sweep of many that does less fails.
#[derive(Clone, Copy, Debug)]
pub struct Least {
    /// Simulated seconds.
    pub seconds: u64,
    /// Operations that were answered: the first that a [`Run`] names as its work.
    pub operations: u64,
    /// Faults that struck at a time of their own.
    pub faults: u64,
    /// New leaders after the first, where a run counts `leaders`.
    pub leader_changes: u64,
}

impl Default for Least {
    fn default() -> Self {
        Self { seconds: 30, operations: 100, faults: 10, leader_changes: 2 }
    }
}

/// From so many seeds on a sweep must have seen and done what is asked of it.
const MANY: u64 = 1_000;

/// What many seeds came to.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Seeds run.
    pub seeds: u64,
    /// Operations that were answered, in all.
    pub operations: u64,
    /// Work, by name: in all, and the least of a seed.
    pub work: BTreeMap<&'static str, (u64, u64)>,
    /// Faults in all.
    pub faults: u64,
    /// By kind.
    pub kinds: BTreeMap<Fault, u64>,
    /// The least faults of a seed.
    pub faults_least: u64,
    /// Events in all.
    pub events: u64,
    /// Simulated time in all, in nanoseconds.
    pub nanos: u64,
    /// What was seen sometime, and how often.
    pub marks: BTreeMap<&'static str, u64>,
    /// The lowest seed that failed, and why.
    pub failed: Option<(u64, Violation)>,
}

impl Totals {
    /// How much of `name` a seed did on average.
    ///
    /// # Panics
    /// No seed did any.
    #[must_use]
    pub fn mean(&self, name: &str) -> u64 {
        self.work[name].0 / self.seeds.max(1)
    }

    /// How many faults struck a seed on average.
    #[must_use]
    pub fn mean_faults(&self) -> u64 {
        self.faults / self.seeds.max(1)
    }

    /// Those of `marks` that were never seen.
    #[must_use]
    pub fn unseen(&self, marks: &[&'static str]) -> Vec<&'static str> {
        marks.iter().copied().filter(|mark| !self.marks.contains_key(mark)).collect()
    }

    /// Why many seeds tested less than it seems: marks never seen, averages below the least. Of
    /// fewer than a thousand seeds nothing is said.
    #[must_use]
    pub fn lacks(&self, marks: &[&'static str], least: Least) -> Vec<String> {
        if self.seeds < MANY {
            return Vec::new();
        }
        let mut lacks: Vec<_> =
            self.unseen(marks).iter().map(|mark| format!("never seen: {mark}")).collect();
        let mut mean = |name: &str, sum: u64, least: u64| {
            if sum < least * self.seeds {
                let mean = sum as f64 / self.seeds as f64;
                lacks.push(format!("a seed has {mean:.1} {name} on average, {least} is the least"));
            }
        };
        mean("simulated seconds", self.nanos / 1_000_000_000, least.seconds);
        mean("operations", self.operations, least.operations);
        mean("faults", self.faults, least.faults);
        if let Some((leaders, _)) = self.work.get("leaders") {
            let changes = leaders.saturating_sub(self.seeds);
            mean("changes of leader", changes, least.leader_changes);
        }
        lacks
    }

    fn add(&mut self, seed: u64, run: Run) {
        self.faults_least =
            if self.seeds == 0 { run.faults } else { self.faults_least.min(run.faults) };
        self.seeds += 1;
        self.faults += run.faults;
        self.events += run.events;
        self.nanos += run.nanos;
        self.operations += run.work.first().map_or(0, |(_, count)| *count);
        for (name, count) in run.work {
            let (sum, least) = self.work.entry(name).or_insert((0, u64::MAX));
            *sum += count;
            *least = count.min(*least);
        }
        for (kind, count) in run.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        for (name, count) in marks::take() {
            *self.marks.entry(name).or_default() += count;
        }
        if let Some(violation) = run.violation
            && self.failed.as_ref().is_none_or(|(first, _)| seed < *first)
        {
            self.failed = Some((seed, violation));
        }
    }

    /// The same for a program: a line each, the first word says what of.
    fn report(&self, protocol: &str, wall: f64) -> String {
        let Self { seeds, faults, events, nanos, .. } = self;
        let failed = u64::from(self.failed.is_some());
        let mut text = format!(
            "protocol {protocol}\nseeds {seeds}\nfailed {failed}\nfaults {faults}\n\
             events {events}\nnanos {nanos}\nwall {wall:.1}\n"
        );
        for (name, (sum, least)) in &self.work {
            text += &format!("work {sum} {least} {name}\n");
        }
        for (kind, count) in &self.kinds {
            text += &format!("fault {} {kind:?} {count}\n", kind.class());
        }
        for (mark, count) in &self.marks {
            text += &format!("mark {count} {mark}\n");
        }
        text
    }

    fn print(&self, protocol: &str, wall: f64) {
        let seeds = self.seeds.max(1);
        let mut line = format!(
            "{protocol}: {} seeds in {wall:.1} s; a seed on average: {:.1} simulated s, {} faults \
             (least {})",
            self.seeds,
            self.nanos as f64 / 1e9 / seeds as f64,
            self.mean_faults(),
            self.faults_least
        );
        for (name, (sum, least)) in &self.work {
            line += &format!(", {} {name} (least {least})", sum / seeds);
        }
        println!("{line}");
        println!(
            "{protocol}: {:.0} events and {:.0} simulated seconds a second of wall time",
            self.events as f64 / wall,
            self.nanos as f64 / 1e9 / wall
        );
        let kind = |(kind, count): (&Fault, &u64)| format!("{} {kind:?} {count}", kind.class());
        let kinds: Vec<_> = self.kinds.iter().map(kind).collect();
        println!("{protocol}: {} kinds of fault: {}", kinds.len(), kinds.join(", "));
        for (name, count) in &self.marks {
            println!("{protocol}: seen {count} times: {name}");
        }
    }
}

/// How many seeds a test runs: `QUORATE_SEEDS`, or `default`.
#[must_use]
pub fn count(default: u64) -> u64 {
    std::env::var("QUORATE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs seeds 0 to `count` on all cores, and prints what they came to.
///
/// # Panics
/// An invariant broke: the message has the seed. Or many seeds did less than [`Least`].
pub fn seeds(protocol: &str, count: u64, run: impl Fn(u64, bool) -> Run + Sync) -> Totals {
    seeds_of(protocol, Least::default(), count, run)
}

/// The same for a protocol whose seeds are no worlds, or do less.
///
/// # Panics
/// As [`seeds`].
pub fn seeds_of(
    protocol: &str,
    least: Least,
    count: u64,
    run: impl Fn(u64, bool) -> Run + Sync,
) -> Totals {
    let arguments = Arguments { seeds: count, ..Arguments::default() };
    let totals = sweep(protocol, &arguments, &run);
    if let Some((seed, violation)) = &totals.failed {
        panic!("seed {seed}: {violation}\nreplay: cargo xtask sim {protocol} --seed {seed}");
    }
    let lacks = totals.lacks(&[], least);
    assert!(lacks.is_empty(), "{protocol} tested less than it seems: {lacks:?}");
    totals
}

/// Runs again every seed of a `seeds.txt`, in which lines that begin with `#` say nothing.
///
/// # Panics
/// An invariant broke again.
pub fn again(list: &str, run: impl Fn(u64, bool) -> Run) {
    for line in list.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let seed = line.split([' ', ':']).next().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| panic!("`{line}` does not begin with a seed"));
        if let Some(violation) = run(seed, false).violation {
            panic!("seed {seed}: {violation}; the line: {line}");
        }
    }
}

/// A seed is the same run every time, recorded or not.
///
/// # Panics
/// One is not.
pub fn repeatable(count: u64, run: impl Fn(u64, bool) -> Run) {
    for seed in 0..count {
        let (one, two) = (run(seed, false), run(seed, true));
        assert_eq!((one.digest, one.events), (two.digest, two.events), "seed {seed}");
    }
}

/// One seed in a line, and whether it failed.
fn show(protocol: &str, seed: u64, run: &Run) -> String {
    let work: String = run.work.iter().map(|(name, count)| format!("{count} {name}, ")).collect();
    let seconds = run.nanos as f64 / 1e9;
    let (events, faults, digest) = (run.events, run.faults, run.digest);
    let mut line = format!(
        "{protocol}: seed {seed}: {seconds:.0} simulated s, {events} events, {work}{faults} \
         faults, digest {digest:032x}"
    );
    if let Some(violation) = &run.violation {
        line += &format!("\n{protocol}: seed {seed} FAILED: {violation}");
    }
    line
}

/// Of so many seeds one is run twice, and must be the same run.
const ONE_IN: u64 = 100;
const NOBODY: Violation = Violation { at: 0, node: NodeId(0), what: String::new() };

/// One seed; a panic is a violation like others.
fn caught(seed: u64, trace: bool, run: &(impl Fn(u64, bool) -> Run + Sync)) -> Run {
    panic::catch_unwind(AssertUnwindSafe(|| run(seed, trace))).unwrap_or_else(|what| {
        let text = what.downcast_ref::<String>().map(String::as_str);
        let text = text.or(what.downcast_ref::<&str>().copied()).unwrap_or("without a word");
        let violation = Violation { what: format!("panicked: {text}"), ..NOBODY };
        Run { taken: limits::last_taken(), ..Run::failed(violation) }
    })
}

#[allow(clippy::disallowed_methods, reason = "a tool's own stopwatch, not a protocol's")]
fn sweep(
    protocol: &str,
    arguments: &Arguments,
    run: &(impl Fn(u64, bool) -> Run + Sync),
) -> Totals {
    let begun = std::time::Instant::now();
    let next = AtomicU64::new(arguments.start);
    let failed = AtomicBool::new(false);
    let totals = Mutex::new(Totals::default());
    let end = arguments.minutes.map_or(arguments.start + arguments.seeds, |_| u64::MAX);
    let is_late =
        || arguments.minutes.is_some_and(|minutes| begun.elapsed().as_secs() >= 60 * minutes);
    let run_again = run;
    let work = || {
        limits::limit(arguments.limits());
        let _ = marks::take();
        while !failed.load(Ordering::Relaxed) && !is_late() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                break;
            }
            let mut run = caught(seed, false, run);
            if seed.is_multiple_of(ONE_IN) && run.violation.is_none() {
                let again = caught(seed, false, run_again);
                if (again.digest, again.events) != (run.digest, run.events) {
                    run.violation =
                        Some(Violation { what: "law 2: two runs differ".into(), ..NOBODY });
                }
            }
            if run.violation.is_some() {
                failed.store(true, Ordering::Relaxed);
            }
            let mut totals = totals.lock().expect("no panic while it is held");
            totals.add(seed, run);
            if totals.seeds.is_multiple_of(100) && totals.failed.is_none() {
                let seconds = begun.elapsed().as_secs_f64();
                println!("{protocol}: {} seeds passed after {seconds:.0} s", totals.seeds);
            }
        }
    };
    std::thread::scope(|scope| (0..arguments.threads).for_each(|_| drop(scope.spawn(work))));
    let totals = totals.into_inner().expect("no panic while it was held");
    let wall = begun.elapsed().as_secs_f64();
    totals.print(protocol, wall);
    if let Some(path) = &arguments.report {
        let written = std::fs::write(path, totals.report(protocol, wall));
        written.unwrap_or_else(|error| panic!("cannot write {path}: {error}"));
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seed: u64, fails: u64) -> Run {
        let violation =
            (seed == fails).then(|| Violation { at: 5, node: NodeId(1), what: "X1 broken".into() });
        let work = vec![("operations", 10 + seed)];
        let (kinds, trace) = (BTreeMap::new(), Vec::new());
        Run {
            violation,
            work,
            kinds,
            faults: seed,
            events: 7,
            nodes: 3,
            asked: 2,
            nanos: 9,
            digest: 1,
            taken: Vec::new(),
            trace,
        }
    }

    #[test]
    fn every_seed_is_run_once_and_counted() {
        let totals = seeds("test", 9, |seed, _| run(seed, u64::MAX));
        assert_eq!((totals.seeds, totals.faults, totals.faults_least), (9, 36, 0));
        assert_eq!(totals.work["operations"], (126, 10));
        assert_eq!((totals.mean("operations"), totals.mean_faults()), (14, 4));
    }

    #[test]
    fn what_was_never_seen_is_named() {
        let totals = seeds("test", 2, |seed, _| {
            marks::hit("one");
            run(seed, u64::MAX)
        });
        assert_eq!(totals.unseen(&["one", "two"]), ["two"]);
    }

    #[test]
    fn many_seeds_that_did_little_are_told_of() {
        let mut totals = Totals {
            seeds: MANY,
            nanos: MANY * 30_000_000_000,
            operations: MANY * 100,
            faults: MANY * 10,
            ..Totals::default()
        };
        totals.work.insert("leaders", (MANY * 3, 1));
        assert_eq!(totals.lacks(&[], Least::default()), [""; 0]);
        let mut little = totals.clone();
        (little.nanos, little.operations, little.faults) = (0, 99_999, 9_000);
        little.work.insert("leaders", (MANY, 1));
        let lacks = little.lacks(&["one"], Least::default());
        assert_eq!(lacks.len(), 5, "{lacks:?}");
        assert_eq!(lacks[0], "never seen: one");
        assert_eq!(lacks[2], "a seed has 100.0 operations on average, 100 is the least");
        little.seeds = MANY - 1;
        assert_eq!(little.lacks(&["one"], Least::default()), [""; 0]);
    }

    #[test]
    #[should_panic(expected = "seed 6: ")]
    fn a_seed_that_fails_is_named() {
        seeds("test", 9, |seed, _| run(seed, 6));
    }

    #[test]
    #[should_panic(expected = "seed 3: ")]
    fn a_seed_that_failed_once_may_not_fail_again() {
        again("# seed: why\n3: that\n", |seed, _| run(seed, 3));
    }
}
