//! `build`: the release binary, then each crate and each feature alone.

use anyhow::Result;

use crate::run::say;
use crate::workspace::Workspace;

/// Builds all of it; stops at the first failure.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    if workspace.has("quorate-node", "bin", "quorate") {
        release_binary(workspace)?;
    } else {
        say("-", "no binary `quorate` in package `quorate-node` yet: skipped");
    }
    for package in workspace.packages.iter().filter(|package| !package.is_heavy()) {
        let check = || workspace.cargo().args(["check", "-p", &package.name]);
        check().run()?;
        if package.features.is_empty() {
            continue;
        }
        check().arg("--no-default-features").run()?;
        for feature in &package.features {
            check().args(["--no-default-features", "--features", feature]).run()?;
        }
        check().arg("--all-features").run()?;
    }
    Ok(())
}

/// Builds the `quorate` binary as users get it.
pub(crate) fn release_binary(workspace: &Workspace) -> Result<()> {
    workspace.require("quorate-node", "bin", "quorate")?;
    workspace.cargo().args(["build", "--release", "-p", "quorate-node", "--bin", "quorate"]).run()
}
