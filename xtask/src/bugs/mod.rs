//! `bugs`: known bugs, planted one by one in a copy of the sources; how soon is each caught?

mod bank;
mod copy;
mod page;

use std::time::Instant;

use anyhow::{Result, bail};

use crate::run::{Cmd, say};
use crate::sim::program_of;
use crate::workspace::Workspace;
use bank::{Bug, Verdict};
use copy::Copy;

pub(crate) use bank::check as tidy;

/// Seeds a bug gets before it counts as not caught, and with `--quick`.
const SEEDS: (u64, u64) = (10_000, 300);
/// What the floors ask: so many of a hundred are caught at all, so many within this many seeds.
const CAUGHT: u64 = 95;
const SOON: (u64, u64) = (50, 500);
/// What is left of a failure made small: events in the middle, and at the most.
const SMALL: (u64, u64) = (30, 120);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the bugs whose name contains this
    only: Option<String>,
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

/// Plants every bug in turn; all of them, without `--quick`, write `docs/bug-bank.md`.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let mut bugs = bank::read(&workspace.root)?;
    if let Some(only) = &args.only {
        bugs.retain(|bug| bug.name.contains(only.as_str()));
    }
    if bugs.is_empty() {
        bail!("no such bug in {}", bank::FOLDER);
    }
    let seeds = args.seeds.unwrap_or(if args.quick { SEEDS.1 } else { SEEDS.0 });
    let copy = Copy::new(workspace)?;
    let mut rows = Vec::new();
    for (number, bug) in bugs.iter().enumerate() {
        let verdict = plant(&copy, bug, seeds, args.shrink)?;
        say("-", &format!("[{}/{}] {}: {verdict}", number + 1, bugs.len(), bug.name));
        rows.push((bug, verdict));
    }
    let count = |test: &dyn Fn(&Verdict) -> bool| {
        rows.iter().filter(|(_, verdict)| test(verdict)).count() as u64
    };
    let (all, caught) = (rows.len() as u64, count(&|verdict| verdict.seeds().is_some()));
    let soon = count(&|verdict| verdict.seeds().is_some_and(|seeds| seeds <= SOON.1));
    say("=", &format!("{caught} of {all} caught within {seeds} seeds, {soon} within {}", SOON.1));
    let left: Vec<u64> = rows.iter().filter_map(|(_, verdict)| verdict.left()).collect();
    if let Some((median, most)) = middle_and_most(left) {
        say(
            "=",
            &format!("made small: {median} events are left in the middle, {most} at the most"),
        );
    }
    if args.quick || args.only.is_some() {
        return Ok(());
    }
    page::write(workspace, &rows, seeds)?;
    let left = rows.iter().filter_map(|(_, verdict)| verdict.left()).collect();
    if middle_and_most(left).is_some_and(|(median, most)| median > SMALL.0 || most > SMALL.1) {
        bail!("{} events may be left in the middle, and {} at the most", SMALL.0, SMALL.1);
    }
    if caught * 100 < all * CAUGHT || soon * 100 < all * SOON.0 {
        bail!("{CAUGHT} of 100 are to be caught, and {} within {} seeds", SOON.0, SOON.1);
    }
    Ok(())
}

/// The median of some counts, and the greatest.
fn middle_and_most(mut counts: Vec<u64>) -> Option<(u64, u64)> {
    counts.sort_unstable();
    Some((*counts.get(counts.len().checked_sub(1)? / 2)?, *counts.last()?))
}

/// Plants one bug, builds the simulator of its protocol, runs seeds, and takes the bug out again.
#[allow(clippy::disallowed_methods, reason = "how long a bug takes to be caught")]
fn plant(copy: &Copy, bug: &Bug, seeds: u64, shrink: bool) -> Result<Verdict> {
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
    cargo("build").read()?;
    let begun = Instant::now();
    let (_, said) = cargo("run").args(["--", "--seeds", &seeds.to_string()]).outcome()?;
    let mut verdict = bank::judge(&said, seeds, begun.elapsed());
    if let Verdict::Caught { seeds, left, .. } = &mut verdict
        && shrink
    {
        let seed = (*seeds - 1).to_string();
        let (_, said) = cargo("run").args(["--", "--seed", &seed, "--shrink"]).outcome()?;
        *left = bank::left(&said);
    }
    copy.restore()?;
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use super::middle_and_most;

    #[test]
    fn the_middle_of_an_even_number_is_the_lower() {
        assert_eq!(middle_and_most(vec![]), None);
        assert_eq!(middle_and_most(vec![7]), Some((7, 7)));
        assert_eq!(middle_and_most(vec![9, 1, 4, 6]), Some((4, 9)));
    }
}
