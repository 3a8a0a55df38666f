//! `sim`: many seeds of every protocol under the simulator, or one seed again.

use std::ffi::OsString;

use anyhow::{Result, bail};

use crate::workspace::Workspace;

/// Protocols whose seeds are a program with flags of its own, the example `sim` of the package.
const PROGRAMS: &[(&str, &str)] = &[
    ("raft", "quorate-raft"),
    ("smr", "quorate-smr"),
    ("dmutex", "quorate-dmutex"),
    ("txn", "quorate-txn"),
];
/// Protocols whose seeds are the test `sim` of the package, and how many are usual; it reads
/// `QUORATE_SEEDS`.
const TESTS: &[(&str, &str, u64)] = &[
    ("detector", "quorate-detector", 200),
    ("election", "quorate-election", 200),
    ("clocks", "quorate-clocks", 1000),
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// One protocol: raft, smr, dmutex, txn, detector, election, clocks; all of them by default
    protocol: Option<String>,
    /// How many seeds to run of each
    #[arg(long, conflicts_with = "seed")]
    seeds: Option<u64>,
    /// The first seed of the range
    #[arg(long, conflicts_with = "seed")]
    start: Option<u64>,
    /// Run this one seed of one protocol again; its story with --trace behind `--`
    #[arg(long)]
    seed: Option<u64>,
    /// Stop after so many minutes, whatever is left, of each protocol
    #[arg(long, conflicts_with = "seed")]
    minutes: Option<u64>,
    /// Passed on to the simulator
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// Runs the simulator of one protocol, or of each.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let known =
        || PROGRAMS.iter().map(|(name, _)| *name).chain(TESTS.iter().map(|(name, ..)| *name));
    let only = args.protocol.as_deref();
    if let Some(only) = only.filter(|only| !known().any(|name| name == *only)) {
        let known: Vec<_> = known().collect();
        bail!("no simulation of `{only}`; there is one of: {}", known.join(", "));
    }
    // One seed, a range or a time only the programs take; one seed is of raft unless said.
    let narrow = args.seed.is_some() || args.start.is_some() || args.minutes.is_some();
    if narrow && let Some((name, ..)) = TESTS.iter().find(|(name, ..)| only == Some(*name)) {
        bail!("--seed, --start and --minutes are not for {name}: give it --seeds");
    }
    let only = if args.seed.is_some() { only.or(Some("raft")) } else { only };
    for (name, package) in PROGRAMS {
        if only.is_none_or(|only| only == *name) {
            workspace.require(package, "example", "sim")?;
            let example = ["run", "--profile", "sim", "-p", package, "--example", "sim", "--"];
            workspace.cargo().args(example).args(flags(args)).args(&args.rest).run()?;
        }
    }
    for (name, package, usual) in TESTS.iter().filter(|_| !narrow) {
        if only.is_none_or(|only| only == *name) {
            workspace.require(package, "test", "sim")?;
            let test = ["test", "--profile", "sim", "-p", package, "--test", "sim"];
            let seeds = args.seeds.unwrap_or(*usual).to_string();
            let shown = ["--", "--nocapture"];
            workspace.cargo().args(test).args(shown).env("QUORATE_SEEDS", seeds).run()?;
        }
    }
    Ok(())
}

fn flags(args: &Args) -> Vec<String> {
    let given = [
        ("--seeds", args.seeds),
        ("--start", args.start),
        ("--seed", args.seed),
        ("--minutes", args.minutes),
    ];
    let given = given.into_iter().filter_map(|(flag, value)| Some((flag, value?)));
    given.flat_map(|(flag, value)| [flag.to_owned(), value.to_string()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_flags_that_were_given_are_passed_on() {
        let (protocol, seed, rest) = (None, None, Vec::new());
        let args = Args { protocol, seeds: Some(3), start: None, seed, minutes: Some(2), rest };
        assert_eq!(flags(&args), ["--seeds", "3", "--minutes", "2"]);
    }
}
