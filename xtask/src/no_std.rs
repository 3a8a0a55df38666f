//! The proof that the cores need no std: a static library with a panic handler of its own.

use std::fs;

use anyhow::{Context, Result};

use crate::workspace::Workspace;

/// Builds the probe: it fails as soon as a core, or anything below it, brings std in.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let dir = workspace.root.join("xtask").join("no_std");
    // The probe is a workspace of its own; with our lock file it links the versions we ship.
    fs::copy(workspace.root.join("Cargo.lock"), dir.join("Cargo.lock"))
        .context("cannot copy Cargo.lock to the probe")?;
    let build = ["build", "--manifest-path", "xtask/no_std/Cargo.toml", "--target-dir"];
    workspace.cargo().args(build).arg(workspace.target.join("no_std")).run()
}
