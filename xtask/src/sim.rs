//! `sim`: many seeds under the simulator, or one again.

use std::ffi::OsString;

use anyhow::Result;

use crate::workspace::Workspace;

/// Where the simulator's program is.
const PACKAGE: &str = "quorate-raft";
const EXAMPLE: &str = "sim";
const SIM: [&str; 8] = ["run", "--profile", "sim", "-p", PACKAGE, "--example", EXAMPLE, "--"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many seeds to run
    #[arg(long, conflicts_with = "seed")]
    seeds: Option<u64>,
    /// The first seed of the range
    #[arg(long, conflicts_with = "seed")]
    start: Option<u64>,
    /// Run this one seed, and show its story
    #[arg(long)]
    seed: Option<u64>,
    /// Stop after so many minutes, whatever is left
    #[arg(long, conflicts_with = "seed")]
    minutes: Option<u64>,
    /// Passed on to the simulator
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// Runs the simulator with these flags.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    workspace.require(PACKAGE, "example", EXAMPLE)?;
    workspace.cargo().args(SIM).args(flags(args)).args(&args.rest).run()
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
        let (seed, rest) = (None, Vec::new());
        let args = Args { seeds: Some(3), start: None, seed, minutes: Some(2), rest };
        assert_eq!(flags(&args), ["--seeds", "3", "--minutes", "2"]);
    }
}
