//! `demo`: a local cluster, from a release build.

use std::ffi::OsString;

use anyhow::Result;

use crate::build::release_binary;
use crate::run::Cmd;
use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Passed on to `quorate demo`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// Builds the binary and becomes it.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    release_binary(workspace)?;
    let name = format!("quorate{}", std::env::consts::EXE_SUFFIX);
    let binary = workspace.target.join("release").join(name);
    Cmd::new(binary).arg("demo").args(&args.rest).become_it()
}
