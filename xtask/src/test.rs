//! `test`: everything that must pass, cheapest first, with a summary at the end.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::run::{Cmd, say};
use crate::workspace::Workspace;
use crate::{docs, loom, no_std, outside, shuttle, tidy};

/// Tests over many seeds, too slow unoptimised: `(package, test, seeds)`.
///
/// Such a test reads `QUORATE_SEEDS` and runs a handful of seeds without it.
const SEEDS: &[(&str, &str, u64)] = &[
    ("quorate-sim", "sim", 200),
    ("quorate-raft", "sim", 200),
    ("quorate-raft", "explore", 1),
    ("quorate-raft", "laws", 5000),
    ("quorate-smr", "sim", 200),
    ("quorate-smr", "laws", 1000),
    ("quorate-dmutex", "sim", 300),
    ("quorate-dmutex", "laws", 2000),
    ("quorate-detector", "sim", 300),
    ("quorate-detector", "laws", 1000),
    ("quorate-election", "sim", 200),
    ("quorate-election", "laws", 1000),
    ("quorate-txn", "sim", 200),
    ("quorate-txn", "laws", 5000),
    ("quorate-clocks", "sim", 1000),
    ("quorate-wal", "crash", 20),
    ("quorate-wal", "snapshots", 10),
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Go on after a failing step; the exit code still tells
    #[arg(long)]
    keep_going: bool,
    /// Run only the steps whose name contains this
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

struct Step<'a> {
    name: String,
    work: Box<dyn Fn() -> Result<()> + 'a>,
}

struct Outcome {
    name: String,
    error: Option<anyhow::Error>,
    elapsed: Duration,
}

/// Runs the steps in order; fails if any failed.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let mut steps = steps(workspace);
    if let Some(only) = &args.only {
        steps.retain(|step| step.name.contains(only.as_str()));
    }
    let begin = now();
    let outcomes = run_steps(&steps, args.keep_going);
    summary(&outcomes, steps.len(), begin.elapsed());
    let failed = outcomes.iter().filter(|outcome| outcome.error.is_some()).count();
    if failed > 0 {
        bail!("{failed} of {} steps failed", steps.len());
    }
    Ok(())
}

fn steps(workspace: &Workspace) -> Vec<Step<'_>> {
    let cargo = |args: &'static [&'static str]| {
        move || workspace.cargo().args(args).args(workspace.all()).run()
    };
    let lints = ["--all-targets", "--all-features", "--", "-D", "warnings"];
    let mut steps = vec![
        step("format", || workspace.cargo().args(["fmt", "--all", "--check"]).run()),
        step("clippy", move || {
            workspace.cargo().arg("clippy").args(workspace.all()).args(lints).run()
        }),
        step("tidy", || {
            say("$", "cargo xtask tidy");
            tidy::run(workspace)
        }),
        step("tests", cargo(&["test", "--all-features", "--tests", "--examples"])),
    ];
    for &(package, test, seeds) in SEEDS.iter().filter(|(p, t, _)| workspace.has(p, "test", t)) {
        steps.push(step(&format!("seeds {package} {test}"), move || {
            seeds_command(workspace, package, test, seeds).run()
        }));
    }
    steps.push(step("doc tests", cargo(&["test", "--all-features", "--doc"])));
    steps.push(step("no_std", || no_std::run(workspace)));
    steps.push(step("outside", || outside::run(workspace)));
    steps.push(step("docs", || docs::command(workspace).run()));
    if loom::any(workspace) {
        steps.push(step("loom", || loom::run_all(workspace)));
    }
    steps.push(step("shuttle", || shuttle::run_all(workspace)));
    steps
}

fn seeds_command(workspace: &Workspace, package: &str, test: &str, seeds: u64) -> Cmd {
    let args = ["test", "--profile", "sim", "-p", package, "--all-features", "--test", test];
    let seeds = std::env::var("QUORATE_SEEDS").unwrap_or_else(|_| seeds.to_string());
    workspace.cargo().args(args).env("QUORATE_SEEDS", seeds)
}

fn step<'a>(name: &str, work: impl Fn() -> Result<()> + 'a) -> Step<'a> {
    Step { name: name.to_owned(), work: Box::new(work) }
}

fn run_steps(steps: &[Step<'_>], keep_going: bool) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        say(&format!("[{}/{}]", index + 1, steps.len()), &step.name);
        let begin = now();
        let error = (step.work)().err();
        let elapsed = begin.elapsed();
        let verdict = if error.is_some() { "FAILED" } else { "ok" };
        say("-", &format!("{}: {verdict}, {:.1} s", step.name, elapsed.as_secs_f64()));
        let stop = error.is_some() && !keep_going;
        outcomes.push(Outcome { name: step.name.clone(), error, elapsed });
        if stop {
            break;
        }
    }
    outcomes
}

fn summary(outcomes: &[Outcome], steps: usize, elapsed: Duration) {
    say("=", &format!("summary, {:.1} s in all", elapsed.as_secs_f64()));
    for outcome in outcomes {
        let seconds = outcome.elapsed.as_secs_f64();
        let verdict = if outcome.error.is_some() { "FAILED" } else { "ok" };
        eprintln!("  {verdict:<6} {seconds:>7.1} s  {}", outcome.name);
        if let Some(error) = &outcome.error {
            eprintln!("         {error:#}");
        }
    }
    if outcomes.len() < steps {
        eprintln!("  {} steps not run; `--keep-going` runs them too", steps - outcomes.len());
    }
}

#[expect(clippy::disallowed_methods, reason = "a tool that tells people how long a step took")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing_second() -> Vec<Step<'static>> {
        let fail = || bail!("planted");
        vec![step("a", || Ok(())), step("b", fail), step("c", || Ok(()))]
    }

    #[test]
    fn the_first_failure_stops_the_run() {
        let outcomes = run_steps(&failing_second(), false);
        assert_eq!(outcomes.len(), 2);
        assert!(outcomes[1].error.is_some());
    }

    #[test]
    fn keep_going_runs_the_rest_and_still_reports() {
        let outcomes = run_steps(&failing_second(), true);
        assert_eq!(outcomes.len(), 3);
        assert_eq!(outcomes.iter().filter(|outcome| outcome.error.is_some()).count(), 1);
    }
}
