//! `trace`: the golden interaction stories of the protocols.

use anyhow::Result;

use crate::run::say;
use crate::workspace::Workspace;

/// Where the stories are: one line for each `(package, test)`.
const TRACES: &[(&str, &str)] = &[
    ("quorate-raft", "trace"),
    ("quorate-dmutex", "trace"),
    ("quorate-txn", "trace"),
    ("quorate-detector", "trace"),
    ("quorate-election", "trace"),
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write what the code does now over the golden files, to be reviewed as a diff
    #[arg(long)]
    bless: bool,
}

/// Compares, or writes anew.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    for (package, test) in TRACES {
        workspace.require(package, "test", test)?;
        let cmd = workspace.cargo().args(["test", "-p", package, "--test", test]);
        if args.bless { cmd.env("QUORATE_BLESS", "1").run()? } else { cmd.run()? }
    }
    if args.bless {
        say("-", "blessed: review with `git diff -- 'crates/*/tests/traces'`");
    }
    Ok(())
}
