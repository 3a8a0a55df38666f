//! `explore`: every reachable state of a small cluster, breadth first.

use std::ffi::OsString;

use anyhow::{Result, bail};

use crate::workspace::Workspace;

/// Protocols with an explorer: an example named `explore` in each of these packages.
const EXPLORERS: &[(&str, &str)] = &[("raft", "quorate-raft"), ("txn", "quorate-txn")];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which protocol: raft, txn
    protocol: String,
    /// Passed on to the explorer, `--help` included
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// Runs the explorer of one protocol.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let Some((_, package)) = EXPLORERS.iter().find(|(name, _)| *name == args.protocol) else {
        let known: Vec<&str> = EXPLORERS.iter().map(|(name, _)| *name).collect();
        bail!("no explorer for `{}`; there is one for: {}", args.protocol, known.join(", "));
    };
    workspace.require(package, "example", "explore")?;
    let explore = ["run", "--profile", "sim", "-p", package, "--example", "explore", "--"];
    workspace.cargo().args(explore).args(&args.rest).run()
}
