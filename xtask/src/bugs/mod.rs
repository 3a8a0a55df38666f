//! `bugs`: known bugs, planted one by one in copies of the sources; how soon is each caught?

mod bank;
mod copy;
mod page;

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};

use crate::run::{Cmd, say};
use crate::sim::program_of;
use crate::workspace::Workspace;
use bank::{Bug, Verdict};
use copy::Copy;
use page::Page;

pub(crate) use bank::check as tidy;

/// Seeds a bug gets before it counts as not caught, and with `--quick`.
const SEEDS: (u64, u64) = (10_000, 300);
/// What the floors ask: so many of a hundred are caught at all, so many within this many seeds.
const CAUGHT: u64 = 95;
const SOON: (u64, u64) = (50, 500);
/// What is left of a failure made small: events in the middle, and at the most.
const SMALL: (u64, u64) = (30, 120);
/// So many copies at the most: each takes half a gigabyte.
const COPIES_MAX: usize = 4;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the bugs whose name contains one of these
    only: Vec<String>,
    /// At most 300 seeds each; writes nothing, and fails only where a patch does not apply or build
    #[arg(long)]
    quick: bool,
    /// Make each failure small too, and count the events left: two minutes each at the most
    #[arg(long)]
    shrink: bool,
    /// How many seeds each gets at the most
    #[arg(long)]
    seeds: Option<u64>,
}

/// Plants every bug in turn, one on each core; without `--quick` each row of `docs/bug-bank.md`
/// that it measured is written anew, and the floors must hold of the whole page.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let all = bank::read(&workspace.root)?;
    let is_wanted = |bug: &&Bug| {
        args.only.is_empty() || args.only.iter().any(|only| bug.name.contains(only.as_str()))
    };
    let wanted: Vec<&Bug> = all.iter().filter(is_wanted).collect();
    if wanted.is_empty() {
        bail!("no such bug in {}", bank::FOLDER);
    }
    let seeds = args.seeds.unwrap_or(if args.quick { SEEDS.1 } else { SEEDS.0 });
    let page = Mutex::new(Page::read(workspace, &all)?);
    let keep = |name: &str, verdict: &Verdict| match page.lock() {
        Ok(mut page) if !args.quick => page.put(name, verdict.clone()),
        _ => Ok(()),
    };
    let (fresh, stale) = plant_all(workspace, wanted, seeds, args.shrink, &keep)?;
    say("=", &Score::of(fresh.iter().map(Some)).to_string());
    if !stale.is_empty() {
        bail!("to be planted anew in today's sources: {}", stale.join(", "));
    }
    if args.quick {
        return Ok(());
    }
    let score = page.into_inner().map_err(|_| anyhow!("a copy failed"))?.score();
    say("=", &format!("of the whole bank: {score}"));
    score.check()
}

/// What the floors are about, over some bugs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Score {
    all: u64,
    caught: u64,
    soon: u64,
    /// By an outcome, by liveness, inside.
    by: [u64; 3],
    /// Failures made small: how many, and the events left in the middle and at the most.
    small: Option<(usize, u64, u64)>,
}

impl Score {
    /// Of verdicts; `None` for a bug that has not been run.
    fn of<'a>(verdicts: impl Iterator<Item = Option<&'a Verdict>>) -> Self {
        let (mut score, mut left) = (Self::default(), Vec::new());
        for verdict in verdicts {
            score.all += 1;
            let Some(Verdict::Caught { seeds, how, left: events, .. }) = verdict else { continue };
            score.caught += 1;
            score.soon += u64::from(*seeds <= SOON.1);
            score.by[*how as usize] += 1;
            left.extend(events);
        }
        let count = left.len();
        score.small = middle_and_most(left).map(|(median, most)| (count, median, most));
        score
    }

    fn check(&self) -> Result<()> {
        let Self { all, caught, soon, .. } = self;
        if let Some((_, median, most)) = self.small
            && (median > SMALL.0 || most > SMALL.1)
        {
            bail!("{} events may be left in the middle, and {} at the most", SMALL.0, SMALL.1);
        }
        if caught * 100 < all * CAUGHT || soon * 100 < all * SOON.0 {
            bail!("{CAUGHT} of 100 are to be caught, and {} within {} seeds", SOON.0, SOON.1);
        }
        Ok(())
    }
}

impl std::fmt::Display for Score {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { all, caught, soon, by: [outcome, liveness, inside], small } = self;
        write!(
            f,
            "{caught} of {all} caught ({CAUGHT} % is the floor), {soon} within {} seeds ({} % is \
             the floor); {outcome} by an outcome, {liveness} by liveness, {inside} inside",
            SOON.1, SOON.0,
        )?;
        let Some((count, median, most)) = small else { return Ok(()) };
        write!(
            f,
            "; {count} were made small: {median} events are left in the middle ({} is the floor), \
             {most} at the most ({})",
            SMALL.0, SMALL.1
        )
    }
}

/// The median of some counts, and the greatest.
fn middle_and_most(mut counts: Vec<u64>) -> Option<(u64, u64)> {
    counts.sort_unstable();
    Some((*counts.get(counts.len().checked_sub(1)? / 2)?, *counts.last()?))
}

/// Plants the bugs in as many copies as there are cores; each copy takes the next bug that is left;
/// then failures are made small, one by one.
/// What was found of each, which `keep` hears of at once, and the names of those that could not be
/// planted or built.
fn plant_all(
    workspace: &Workspace,
    mut bugs: Vec<&Bug>,
    seeds: u64,
    shrink: bool,
    keep: &(dyn Fn(&str, &Verdict) -> Result<()> + Sync),
) -> Result<(Vec<Verdict>, Vec<String>)> {
    // What is built for one bug serves the next of the same protocol.
    bugs.sort_by_key(|bug| (&bug.protocol, &bug.name));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let copies = cores.min(COPIES_MAX).min(bugs.len());
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = |number: usize| -> Result<()> {
        let copy = Copy::new(workspace, number)?;
        while let Some(bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let planted = plant(&copy, bug, seeds, shrink, cores / copies);
            let mut done = done.lock().map_err(|_| anyhow!("another copy failed"))?;
            let place = format!("[{}/{}] {}", done.len() + 1, bugs.len(), bug.name);
            match &planted {
                Ok((verdict, _)) => {
                    say("-", &format!("{place}: {verdict}"));
                    keep(&bug.name, verdict)?;
                }
                Err(error) => say("!", &format!("{place}: {error:#}")),
            }
            done.push(planted.map_err(|_| bug.name.clone()));
        }
        Ok(())
    };
    thread::scope(|scope| {
        let work = &work;
        let workers: Vec<_> = (0..copies).map(|number| scope.spawn(move || work(number))).collect();
        let mut joined = workers.into_iter().map(thread::ScopedJoinHandle::join);
        joined.try_for_each(|done| done.unwrap_or_else(|_| bail!("a copy panicked")))
    })?;
    let done = done.into_inner().map_err(|_| anyhow!("a copy failed"))?;
    let stale = done.iter().filter_map(|planted| planted.as_ref().err()).cloned().collect();
    let mut fresh = Vec::new();
    for (mut verdict, failure) in done.into_iter().flatten() {
        if let Some(failure) = failure {
            verdict = failure.made_small(verdict, cores)?;
            keep(&failure.name, &verdict)?;
        }
        fresh.push(verdict);
    }
    Ok((fresh, stale))
}

/// A failure that is to be made small once all seeds were run: there is so much time for it, on all
/// cores.
struct Failure {
    name: String,
    /// The simulator with the bug in it, and where it is run.
    program: PathBuf,
    folder: PathBuf,
    flags: Vec<String>,
}

impl Failure {
    fn made_small(&self, mut verdict: Verdict, cores: usize) -> Result<Verdict> {
        let run = Cmd::new(&self.program).within(&self.folder).env("RUST_BACKTRACE", "0");
        let run = run.arg("--shrink").args(&self.flags).args(["--threads", &cores.to_string()]);
        let (_, said) = run.outcome()?;
        if let Verdict::Caught { left, .. } = &mut verdict {
            *left = bank::left(&said);
            let left = left.map_or("an unknown number of".to_owned(), |left| left.to_string());
            say("-", &format!("{}: {left} events left", self.name));
        }
        let _ = fs::remove_file(&self.program); // the next run would write over it
        Ok(verdict)
    }
}

/// Plants one bug, builds the simulator of its protocol, runs seeds, and takes the bug out again.
/// Runs are judged by what a user would notice, and by the rules inside only where all pass.
#[allow(clippy::disallowed_methods, reason = "how long a bug takes to be caught")]
fn plant(
    copy: &Copy,
    bug: &Bug,
    seeds: u64,
    shrink: bool,
    threads: usize,
) -> Result<(Verdict, Option<Failure>)> {
    copy.restore()?;
    copy.apply(bug)?;
    let Some((package, example)) = program_of(&bug.protocol) else {
        bail!("{}: there are no seeds of {}", bug.name, bug.protocol);
    };
    let cargo = |word: &str| {
        let example = ["--quiet", "--profile", "sim", "-p", package, "--example", example];
        Cmd::cargo(&copy.root)
            .arg(word)
            .args(example)
            .env("CARGO_TARGET_DIR", &copy.target)
            // A bug is a few lines: only what they touch is built again, and nobody debugs it.
            .env("CARGO_PROFILE_SIM_INCREMENTAL", "true")
            .env("CARGO_PROFILE_SIM_CODEGEN_UNITS", "64")
            .env("CARGO_PROFILE_SIM_DEBUG", "false")
            .env("RUST_BACKTRACE", "0")
    };
    let run = |flags: &[&str], threads: usize| {
        cargo("run").arg("--").args(flags).args(["--threads", &threads.to_string()]).outcome()
    };
    cargo("build").read()?;
    let begun = Instant::now();
    let users = bank::seen_by_users();
    let mut judged = &["--judge-by", &users][..];
    let count = seeds.to_string();
    let (_, said) = run(&[&["--seeds", &count], judged].concat(), threads)?;
    let mut verdict = bank::judge(&said, seeds, begun.elapsed());
    if matches!(verdict, Verdict::Missed { .. }) {
        judged = &[];
        let (_, said) = run(&["--seeds", &count], threads)?;
        verdict = bank::judge(&said, seeds, begun.elapsed());
    }
    let mut failure = None;
    if let Verdict::Caught { seeds, .. } = &verdict
        && shrink
    {
        let seed = (*seeds - 1).to_string();
        let flags = [&["--seed", &seed], judged].concat();
        let flags = flags.into_iter().map(str::to_owned).collect();
        let (program, folder) = (copy.keep_program(example, &bug.name)?, copy.root.clone());
        failure = Some(Failure { name: bug.name.clone(), program, folder, flags });
    }
    copy.restore()?;
    Ok((verdict, failure))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::bank::How;
    use super::*;

    #[test]
    fn the_middle_of_an_even_number_is_the_lower() {
        assert_eq!(middle_and_most(vec![]), None);
        assert_eq!(middle_and_most(vec![7]), Some((7, 7)));
        assert_eq!(middle_and_most(vec![9, 1, 4, 6]), Some((4, 9)));
    }

    fn score(seeds: &[u64], left: Option<u64>, not: usize) -> Score {
        let (how, took) = (How::Outcome, Duration::ZERO);
        let caught = |seeds: &u64| {
            let (seeds, what) = (*seeds, String::new());
            Verdict::Caught { seeds, how, what, took, left }
        };
        let caught: Vec<Verdict> = seeds.iter().map(caught).collect();
        Score::of(caught.iter().map(Some).chain((0..not).map(|_| None)))
    }

    #[test]
    fn each_floor_can_be_missed() {
        score(&[500; 19], Some(30), 1).check().unwrap();
        assert!(score(&[500; 18], Some(30), 1).check().is_err(), "94 %");
        assert!(score(&[501; 20], Some(30), 0).check().is_err(), "none soon");
        assert!(score(&[500; 20], Some(31), 0).check().is_err(), "31 left in the middle");
        let mut one_is_great = score(&[500; 20], Some(30), 0);
        one_is_great.small = Some((20, 30, 121));
        assert!(one_is_great.check().is_err(), "121 left of one");
    }
}
