//! `docs`: rustdoc, with warnings denied.

use anyhow::Result;

use crate::run::Cmd;
use crate::workspace::Workspace;

/// Builds the documentation of our own crates.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    command(workspace).run()
}

/// The command line alone, for `test`.
pub(crate) fn command(workspace: &Workspace) -> Cmd {
    let cargo = workspace.cargo().args(["doc", "--no-deps", "--all-features"]);
    cargo.args(workspace.all()).env("RUSTDOCFLAGS", "-D warnings")
}
