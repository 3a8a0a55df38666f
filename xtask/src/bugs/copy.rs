//! A copy of the workspace to plant bugs in; files that did not change keep their times, so that
//! only what a bug touches is built again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::bank::Bug;
use crate::run::Cmd;
use crate::workspace::Workspace;

/// What a build needs.
const PARTS: &[&str] = &[
    ".cargo",
    "Cargo.lock",
    "Cargo.toml",
    "README.md",
    "rust-toolchain.toml",
    "benches",
    "crates",
    "xtask",
];

/// The copy and where it is built.
pub(super) struct Copy {
    from: PathBuf,
    /// Its root.
    pub(super) root: PathBuf,
    /// Its target directory.
    pub(super) target: PathBuf,
}

impl Copy {
    /// Makes a copy, or brings an earlier one up to date; each number has its own.
    pub(super) fn new(workspace: &Workspace, number: usize) -> Result<Self> {
        let folder = workspace.target.join("bugs").join(number.to_string());
        let from = workspace.root.clone();
        let copy = Self { from, root: folder.join("tree"), target: folder.join("target") };
        copy.restore()?;
        Ok(copy)
    }

    /// Takes every planted bug out again.
    pub(super) fn restore(&self) -> Result<()> {
        for part in PARTS {
            mirror(&self.from.join(part), &self.root.join(part))?;
        }
        Ok(())
    }

    /// Puts a simulator that was built here aside, under the name of a bug.
    pub(super) fn keep_program(&self, example: &str, name: &str) -> Result<PathBuf> {
        let suffix = std::env::consts::EXE_SUFFIX;
        let built = self.target.join("sim").join("examples").join(format!("{example}{suffix}"));
        let kept = self.target.join("kept");
        fs::create_dir_all(&kept)?;
        let kept = kept.join(format!("{name}{suffix}"));
        fs::copy(&built, &kept).with_context(|| format!("cannot copy {}", built.display()))?;
        Ok(kept)
    }

    /// Plants a bug.
    pub(super) fn apply(&self, bug: &Bug) -> Result<()> {
        // Else git would take the copy for a folder of the repository that it lies in.
        let above = self.root.parent().unwrap_or(&self.root);
        let apply = Cmd::new("git").env("GIT_CEILING_DIRECTORIES", above);
        let apply = apply.arg("-C").arg(&self.root).arg("apply").arg(&bug.path);
        apply.read().with_context(|| format!("{}: plant it anew in today's sources", bug.name))?;
        Ok(())
    }
}

/// Makes `to` the same as `from`, writing only what differs.
fn mirror(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        let new = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        if fs::read(to).is_ok_and(|old| old == new) {
            return Ok(());
        }
        fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
        fs::write(to, new)?;
        return Ok(());
    }
    fs::create_dir_all(to)?;
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        if name == "target" {
            continue;
        }
        mirror(&from.join(&name), &to.join(&name))?;
        names.insert(name);
    }
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if !names.contains(&entry.file_name()) {
            let path = entry.path();
            if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_has_what_the_original_has_and_writes_only_what_differs() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("inner")).unwrap();
        fs::write(from.join("inner/a"), "one").unwrap();
        fs::write(from.join("b"), "two").unwrap();
        mirror(&from, &to).unwrap();
        let written = || fs::metadata(to.join("b")).unwrap().modified().unwrap();
        let before = written();
        fs::write(to.join("inner/a"), "changed").unwrap();
        fs::write(to.join("stray"), "x").unwrap();
        mirror(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("inner/a")).unwrap(), "one");
        assert!(!to.join("stray").exists());
        assert_eq!(written(), before);
    }
}
