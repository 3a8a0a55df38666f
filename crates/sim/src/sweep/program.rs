//! The program of a protocol's simulation: its flags, and one seed alone.

use std::process::ExitCode;

use super::{Least, Run, bench, golden, show, shrink, sweep};
use crate::limits::{self, Limits};
use crate::nemesis::Fault;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Arguments {
    pub(super) seeds: u64,
    pub(super) start: u64,
    pub(super) minutes: Option<u64>,
    /// One seed alone, with its story, or with what is left of it.
    pub(super) seed: Option<u64>,
    pub(super) trace: bool,
    pub(super) shrink: bool,
    /// A file of a failure made small, to be run again.
    pub(super) replay: Option<String>,
    /// The digests of so many seeds.
    pub(super) digest: Option<u64>,
    /// How fast it is, on one core.
    pub(super) bench: bool,
    /// How many seeds run at the same time.
    pub(super) threads: usize,
    /// Kinds of fault without effect.
    pub(super) masked: Vec<Fault>,
    /// The invariants that a run is judged by; all where `None`.
    pub(super) judges: Option<Vec<String>>,
    /// Where what a sweep came to is written for a program.
    pub(super) report: Option<String>,
}

impl Default for Arguments {
    fn default() -> Self {
        Self {
            seeds: 200,
            start: 0,
            minutes: None,
            seed: None,
            trace: false,
            shrink: false,
            replay: None,
            digest: None,
            bench: false,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            masked: Vec::new(),
            judges: None,
            report: None,
        }
    }
}

impl Arguments {
    /// What its runs leave out.
    pub(super) fn limits(&self) -> Limits {
        let (masked, judges) = (self.masked.clone(), self.judges.clone());
        Limits { masked, judges, ..Limits::default() }
    }
}

fn arguments(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments::default();
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64, String> {
            let text = words.next().ok_or(format!("{word} takes a number"))?;
            text.parse().map_err(|_| format!("{word} takes a number, not {text}"))
        };
        match word.as_str() {
            "--seeds" => arguments.seeds = number()?,
            "--start" => arguments.start = number()?,
            "--minutes" => arguments.minutes = Some(number()?),
            "--seed" => arguments.seed = Some(number()?),
            "--trace" => arguments.trace = true,
            "--shrink" => arguments.shrink = true,
            "--replay" => arguments.replay = Some(words.next().ok_or("--replay takes a file")?),
            "--digest" => arguments.digest = Some(number()?),
            "--threads" => arguments.threads = number()?.clamp(1, 256) as usize,
            "--bench" => arguments.bench = true,
            "--mask" => arguments.masked = kinds(&words.next().ok_or("--mask takes kinds")?)?,
            "--judge-by" => {
                let ids = words.next().ok_or("--judge-by takes ids of invariants")?;
                arguments.judges = Some(ids.split(',').map(str::to_owned).collect());
            }
            "--report" => arguments.report = Some(words.next().ok_or("--report takes a file")?),
            _ => return Err(format!("{word} is not known")),
        }
    }
    Ok(arguments)
}

/// Kinds of fault by name or class, with commas between.
pub(super) fn kinds(text: &str) -> Result<Vec<Fault>, String> {
    let all: Vec<Fault> = Fault::STRIKES.into_iter().chain(Fault::FOLLOW).collect();
    let mut kinds = Vec::new();
    for word in text.split(',') {
        let before = kinds.len();
        let named = |kind: &&Fault| kind.class() == word || format!("{kind:?}") == word;
        kinds.extend(all.iter().filter(named));
        if kinds.len() == before {
            return Err(format!("--mask: there is no fault `{word}`"));
        }
    }
    Ok(kinds)
}

/// The program `sim` of a protocol: a sweep over seeds, or one seed with its story. A long sweep
/// that never saw one of `marks`, or did less than [`Least`], fails: it tested less than it seems.
pub fn main(
    protocol: &str,
    marks: &[&'static str],
    run: impl Fn(u64, bool) -> Run + Sync,
) -> ExitCode {
    main_of(protocol, marks, Least::default(), run)
}

/// The same for a protocol whose seeds are no worlds, or do less.
pub fn main_of(
    protocol: &str,
    marks: &[&'static str],
    least: Least,
    run: impl Fn(u64, bool) -> Run + Sync,
) -> ExitCode {
    match arguments(std::env::args().skip(1)) {
        Ok(arguments @ Arguments { seed: Some(seed), shrink: true, threads, .. }) => {
            shrink::main(protocol, seed, arguments.limits(), threads, &run)
        }
        Ok(Arguments { replay: Some(path), trace, .. }) => {
            golden::main(protocol, &path, trace, &run)
        }
        Ok(Arguments { digest: Some(count), .. }) => digests(protocol, count, run),
        Ok(Arguments { bench: true, seeds, .. }) => bench::main(protocol, seeds, run),
        Ok(arguments @ Arguments { seed: Some(seed), trace, .. }) => {
            limits::limit(arguments.limits());
            one(protocol, seed, trace, run)
        }
        Ok(arguments) => {
            let totals = sweep(protocol, &arguments, &run);
            let Some((seed, violation)) = &totals.failed else {
                let lacks = totals.lacks(marks, least);
                lacks.iter().for_each(|what| println!("{protocol}: {what}"));
                return if lacks.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
            };
            println!("{protocol}: seed {seed} FAILED: {violation}");
            println!("replay: cargo xtask sim {protocol} --seed {seed} -- --trace, or --shrink");
            ExitCode::FAILURE
        }
        Err(what) => {
            eprintln!("{what}");
            eprintln!(
                "usage: sim [--seeds N] [--start K] [--minutes M] [--mask KINDS] [--judge-by IDS] \
                 [--report FILE] [--threads N]"
            );
            eprintln!(
                "       sim --seed S [--trace | --shrink] [--mask KINDS] [--judge-by IDS] \
                 [--threads N]"
            );
            eprintln!("       sim --replay FILE [--trace]");
            eprintln!("       sim --digest N");
            eprintln!("       sim --bench [--seeds N]");
            ExitCode::from(2)
        }
    }
}

/// Prints what tells whether two builds run a seed alike.
fn digests(protocol: &str, count: u64, run: impl Fn(u64, bool) -> Run) -> ExitCode {
    for seed in 0..count {
        let Run { digest, events, nanos, .. } = run(seed, false);
        println!("digest {protocol} {seed} {digest:032x} {events} {nanos}");
    }
    ExitCode::SUCCESS
}

/// Lines of the story that are shown of a seed that failed, unless all are asked for.
const LAST_LINES: usize = 60;

fn one(protocol: &str, seed: u64, trace: bool, run: impl Fn(u64, bool) -> Run) -> ExitCode {
    let run = run(seed, true);
    if trace || run.violation.is_some() {
        let skip = if trace { 0 } else { run.trace.len().saturating_sub(LAST_LINES) };
        run.trace.iter().skip(skip).for_each(|line| println!("{line}"));
    }
    println!("{}", show(protocol, seed, &run));
    if run.violation.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_or_the_wrong_one_is_named() {
        let read = |text: &str| arguments(text.split_whitespace().map(str::to_owned));
        let want = Arguments { seeds: 5, start: 7, ..Arguments::default() };
        assert_eq!(read("--seeds 5 --start 7"), Ok(want));
        assert_eq!(read("--seeds x"), Err("--seeds takes a number, not x".into()));
        assert_eq!(read("--seed"), Err("--seed takes a number".into()));
        assert_eq!(read("--mask N6,Kill").unwrap().masked, [Fault::OneWay, Fault::Kill]);
        let ids = ["R1", "M"].map(str::to_owned).to_vec();
        assert_eq!(read("--judge-by R1,M").unwrap().limits().judges, Some(ids));
        assert_eq!(read("--mask N6,N0"), Err("--mask: there is no fault `N0`".into()));
        assert_eq!(read("--sed 1"), Err("--sed is not known".into()));
    }
}
