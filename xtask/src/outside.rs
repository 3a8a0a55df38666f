//! The proof that a crate can be had alone: a crate outside the workspace that depends on it by
//! path, and on nothing else, runs the first example of its README.

use std::fs;

use anyhow::{Context, Result};

use crate::workspace::Workspace;

const CRATES: [&str; 2] = ["raft", "smr"];

/// Builds and runs them.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    CRATES.iter().try_for_each(|name| one(workspace, name))
}

fn one(workspace: &Workspace, name: &str) -> Result<()> {
    let readme = workspace.root.join("crates").join(name).join("README.md");
    let text = fs::read_to_string(&readme).context("cannot read the README")?;
    let example =
        first_example(&text).with_context(|| format!("no example in {}", readme.display()))?;
    let dir = workspace.target.join("outside").join(name);
    fs::create_dir_all(dir.join("src")).context("cannot make a crate outside")?;
    let path = workspace.root.join("crates").join(name);
    let manifest = format!(
        "[package]\nname = \"outside-{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [dependencies]\nquorate-{name} = {{ path = {path:?} }}\n\n[workspace]\n"
    );
    fs::write(dir.join("Cargo.toml"), manifest)?;
    fs::write(dir.join("src/main.rs"), format!("fn main() {{\n{example}}}\n"))?;
    // With our lock file it takes the versions that we ship.
    fs::copy(workspace.root.join("Cargo.lock"), dir.join("Cargo.lock"))?;
    let manifest = dir.join("Cargo.toml");
    let run = workspace.cargo().arg("run").arg("--manifest-path").arg(manifest);
    run.arg("--target-dir").arg(workspace.target.join("outside").join("target")).run()
}

/// The first block of Rust in a text.
fn first_example(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("```rust\n")?;
    rest.split_once("```").map(|(example, _)| example)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_block_of_rust_is_found_and_no_other() {
        let text = "a\n```sh\nx\n```\n```rust\nlet a = 1;\n```\n```rust\nlet b = 2;\n```\n";
        assert_eq!(first_example(text), Some("let a = 1;\n"));
        assert_eq!(first_example("```sh\nx\n```"), None);
    }
}
