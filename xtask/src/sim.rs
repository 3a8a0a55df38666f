//! `sim`: many seeds of every protocol under the simulator, or one seed again.

mod digest;
mod ledger;

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::workspace::Workspace;

/// A protocol whose seeds are a program: an example of its package.
struct Program {
    name: &'static str,
    package: &'static str,
    example: &'static str,
    /// Of a hundred seeds of all protocols together, so many are its.
    share: u64,
}

const fn program(
    name: &'static str,
    package: &'static str,
    example: &'static str,
    share: u64,
) -> Program {
    Program { name, package, example, share }
}

const PROGRAMS: &[Program] = &[
    program("raft", "quorate-raft", "sim", 30),
    program("smr", "quorate-smr", "sim", 10),
    program("dmutex", "quorate-dmutex", "sim", 10),
    program("txn", "quorate-txn", "sim", 10),
    program("detector", "quorate-detector", "sim", 10),
    program("lease", "quorate-election", "sim_lease", 10),
    program("bully", "quorate-election", "sim_bully", 10),
    program("clocks", "quorate-clocks", "sim", 10),
];
/// Seeds of one protocol, and of all together, unless told otherwise.
const USUAL: (u64, u64) = (200, 2_000);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// One protocol: raft, smr, dmutex, txn, detector, lease, bully, clocks; all by default
    protocol: Option<String>,
    /// How many seeds to run: of one protocol, or of all together
    #[arg(long, conflicts_with = "seed")]
    seeds: Option<u64>,
    /// The first seed of the range
    #[arg(long, conflicts_with = "seed")]
    start: Option<u64>,
    /// Run this one seed again; its story with --trace behind `--`
    #[arg(long)]
    seed: Option<u64>,
    /// With --seed: leave out all that the failure does not need
    #[arg(long, requires = "seed")]
    shrink: bool,
    /// Run a failure again that --shrink wrote down
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "seeds", "start", "minutes"])]
    replay: Option<PathBuf>,
    /// Run so many seeds in a debug and in a release build: they must be the same runs
    #[arg(long, value_name = "SEEDS", conflicts_with_all = ["seed", "seeds", "start", "minutes"])]
    digest: Option<u64>,
    /// How fast it is: one core, five nodes, 50 operations a simulated second; raft by default
    #[arg(long, conflicts_with_all = ["seed", "minutes", "start", "mask", "ledger"])]
    bench: bool,
    /// Stop after so many minutes, whatever is left, of each protocol
    #[arg(long, conflicts_with = "seed")]
    minutes: Option<u64>,
    /// Kinds of fault that have no effect, by name or class: `N6,Pause`
    #[arg(long, value_name = "KINDS")]
    mask: Option<String>,
    /// Write what the sweeps came to into docs/simulation.md
    #[arg(long, conflicts_with_all = ["seed", "protocol", "mask"])]
    ledger: bool,
    /// Passed on to the simulator
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// Runs the simulator of one protocol, or of each.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let known = || PROGRAMS.iter().map(|program| program.name);
    // One seed, and a measurement, are of raft unless said.
    let one = args.seed.is_some() || args.bench || args.replay.is_some();
    let only = args.protocol.as_deref().or(one.then_some("raft"));
    if let Some(only) = only.filter(|only| !known().any(|name| name == *only)) {
        let known: Vec<_> = known().collect();
        bail!("no simulation of `{only}`; there is one of: {}", known.join(", "));
    }
    if let Some(seeds) = args.digest {
        let programs = PROGRAMS.iter().filter(|program| only.is_none_or(|o| o == program.name));
        return digest::run(workspace, &programs.collect::<Vec<_>>(), seeds);
    }
    let mut reports = Vec::new();
    for program in PROGRAMS.iter().filter(|program| only.is_none_or(|only| only == program.name)) {
        let report = report(workspace, program);
        workspace.require(program.package, "example", program.example)?;
        let cargo = workspace.cargo().args(["run", "--profile", "sim", "-p", program.package]);
        let cargo = cargo.args(["--example", program.example, "--"]);
        let cargo = cargo.args(flags(args, only.is_none().then_some(program.share)));
        let cargo = if one { cargo } else { cargo.arg("--report").arg(&report) };
        cargo.args(&args.rest).run()?;
        reports.push(report);
    }
    if args.ledger { ledger::write(workspace, &reports) } else { Ok(()) }
}

/// The package and the example of a protocol whose seeds are a program.
pub(crate) fn program_of(protocol: &str) -> Option<(&'static str, &'static str)> {
    let program = PROGRAMS.iter().find(|program| program.name == protocol)?;
    Some((program.package, program.example))
}

fn report(workspace: &Workspace, program: &Program) -> PathBuf {
    workspace.target.join(format!("sim-{}.txt", program.name))
}

fn flags(args: &Args, share: Option<u64>) -> Vec<String> {
    let seeds = match share {
        Some(share) => Some((args.seeds.unwrap_or(USUAL.1) * share / 100).max(1)),
        None if args.bench => args.seeds,
        None if args.replay.is_some() => None,
        None if args.seed.is_none() => Some(args.seeds.unwrap_or(USUAL.0)),
        None => None,
    };
    let given = [
        ("--seeds", seeds),
        ("--start", args.start),
        ("--seed", args.seed),
        ("--minutes", args.minutes),
    ];
    let given = given.into_iter().filter_map(|(flag, value)| Some((flag, value?)));
    let mut flags: Vec<String> =
        given.flat_map(|(flag, value)| [flag.to_owned(), value.to_string()]).collect();
    flags.extend(args.shrink.then(|| "--shrink".to_owned()));
    flags.extend(args.bench.then(|| "--bench".to_owned()));
    if let Some(path) = &args.replay {
        flags.extend(["--replay".to_owned(), path.display().to_string()]);
    }
    if let Some(kinds) = &args.mask {
        flags.extend(["--mask".to_owned(), kinds.clone()]);
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> Args {
        Args {
            protocol: None,
            seeds: None,
            start: None,
            seed: None,
            shrink: false,
            replay: None,
            digest: None,
            bench: false,
            minutes: None,
            mask: None,
            ledger: false,
            rest: Vec::new(),
        }
    }

    #[test]
    fn seeds_of_all_protocols_together_are_shared_out() {
        let shares: u64 = PROGRAMS.iter().map(|program| program.share).sum();
        assert_eq!(shares, 100);
        let all = Args { seeds: Some(20_000), ..args() };
        assert_eq!(flags(&all, Some(30)), ["--seeds", "6000"]);
        assert_eq!(flags(&all, None), ["--seeds", "20000"]);
    }

    #[test]
    fn only_the_flags_that_were_given_are_passed_on() {
        let one = Args { seed: Some(7), shrink: true, mask: Some("N6".into()), ..args() };
        assert_eq!(flags(&one, None), ["--seed", "7", "--shrink", "--mask", "N6"]);
        let bench = Args { bench: true, ..args() };
        assert_eq!(flags(&bench, None), ["--bench"]);
        let again = Args { replay: Some("a.txt".into()), ..args() };
        assert_eq!(flags(&again, None), ["--replay", "a.txt"]);
        let timed = Args { start: Some(5), minutes: Some(2), ..args() };
        assert_eq!(flags(&timed, None), ["--seeds", "200", "--start", "5", "--minutes", "2"]);
    }
}
