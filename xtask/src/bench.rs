//! `bench`: the comparison with peers, and the criterion benchmarks.

use std::ffi::OsString;

use anyhow::{Result, bail};

use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run the criterion benchmarks only
    #[arg(long, conflicts_with = "compare")]
    criterion: bool,
    /// Run the comparison with peers only
    #[arg(long)]
    compare: bool,
    /// Passed on: to the comparison, or with `--criterion` to criterion
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// Runs one or both.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let Some(benches) = workspace.packages.iter().find(|package| package.is_heavy()) else {
        bail!("there is no package `quorate-benches` yet");
    };
    let name = benches.name.as_str();
    if !args.criterion {
        workspace.require(name, "bin", "compare")?;
        let compare = ["run", "--release", "-p", name, "--bin", "compare", "--"];
        workspace.cargo().args(compare).args(&args.rest).run()?;
    }
    if !args.compare {
        let bench = workspace.cargo().args(["bench", "-p", name, "--benches"]);
        let rest: &[OsString] = if args.criterion { &args.rest } else { &[] };
        if rest.is_empty() { bench.run()? } else { bench.arg("--").args(rest).run()? }
    }
    Ok(())
}
