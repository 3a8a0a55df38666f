//! `fuzz`: random and mutated bytes for everything that decodes.

use anyhow::{Result, bail};

use crate::run::say;
use crate::workspace::Workspace;

/// `(crate, test)`: each test reads `QUORATE_FUZZ_ITERATIONS` and runs a few by itself.
const TARGETS: &[(&str, &str)] = &[
    ("transport", "fuzz"),
    ("wal", "fuzz"),
    ("raft", "fuzz"),
    ("smr", "fuzz"),
    ("txn", "fuzz"),
    ("driver", "fuzz"),
    ("node", "fuzz"),
    ("dmutex", "fuzz"),
    ("detector", "fuzz"),
    ("election", "fuzz"),
    ("clocks", "fuzz"),
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// One crate only: transport, wal, raft, smr, txn, driver, node, dmutex, detector, election,
    /// clocks
    target: Option<String>,
    /// How many inputs for each decoder
    #[arg(long, default_value_t = 1_000_000)]
    iterations: u64,
}

/// Runs one target, or all that exist.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if let Some(only) = &args.target
        && !TARGETS.iter().any(|(name, _)| name == only)
    {
        let known: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        bail!("no fuzz target in `{only}`; there are in: {}", known.join(", "));
    }
    for (name, test) in TARGETS {
        if args.target.as_deref().is_some_and(|only| only != *name) {
            continue;
        }
        let package = format!("quorate-{name}");
        if !workspace.has(&package, "test", test) {
            say("-", &format!("no test `{test}` in `{package}` yet: skipped"));
            continue;
        }
        let run = ["test", "--release", "-p", &package, "--all-features", "--test", test];
        let cmd = workspace.cargo().args(run);
        cmd.env("QUORATE_FUZZ_ITERATIONS", args.iterations.to_string()).run()?;
    }
    Ok(())
}
