//! `chaos`: the release binary, as real processes under faults.

use std::ffi::OsString;

use anyhow::Result;

use crate::build::release_binary;
use crate::run::Cmd;
use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Passed on to `quorate-chaos`: --seconds, --minutes, --seed, --nodes, --net, --self-test, …
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// Builds the binary and what torments it, and becomes the latter.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    release_binary(workspace)?;
    // The judge has much to compute, and is not what is under test.
    let build = ["build", "--profile", "sim", "-p", "quorate-chaos"];
    workspace.cargo().args(build).run()?;
    let suffix = std::env::consts::EXE_SUFFIX;
    let chaos = workspace.target.join("sim").join(format!("quorate-chaos{suffix}"));
    let binary = workspace.target.join("release").join(format!("quorate{suffix}"));
    Cmd::new(chaos).arg("--binary").arg(binary).args(&args.rest).become_it()
}
