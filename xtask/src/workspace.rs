//! What cargo says about the workspace: its packages, their targets and edges.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run::Cmd;

/// Packages that pull heavy peers in: left out of every command over the whole workspace.
const HEAVY: &[&str] = &["benches", "quorate-benches"];

/// The packages of the workspace, as `cargo metadata --no-deps` lists them.
pub(crate) struct Workspace {
    /// The folder of the root `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Where cargo builds to, `CARGO_TARGET_DIR` included.
    pub(crate) target: PathBuf,
    /// Every member.
    pub(crate) packages: Vec<Package>,
}

/// One member.
pub(crate) struct Package {
    /// The full name: `quorate-raft`.
    pub(crate) name: String,
    /// Its folder.
    pub(crate) dir: PathBuf,
    /// Its features, `default` left out.
    pub(crate) features: Vec<String>,
    /// `(kind, name)`: `("test", "loom")`, `("bin", "quorate")`, `("lib", ..)`.
    pub(crate) targets: Vec<(String, String)>,
    /// What it depends on inside the workspace.
    pub(crate) edges: Vec<Edge>,
}

/// One dependency on another member.
#[derive(Debug)]
pub(crate) struct Edge {
    /// The full name of what is depended on.
    pub(crate) to: String,
    /// Only tests, examples and benches see it.
    pub(crate) dev: bool,
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn load() -> Result<Self> {
        let here = std::env::current_dir()?;
        let bytes = Cmd::cargo(&here)
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .read()
            .context("cannot read the workspace")?;
        Self::from_metadata(&serde_json::from_slice(&bytes)?)
    }

    fn from_metadata(metadata: &Value) -> Result<Self> {
        let mut packages = list(metadata, "packages").map(package).collect::<Result<Vec<_>>>()?;
        let names: Vec<String> = packages.iter().map(|p| p.name.clone()).collect();
        for package in &mut packages {
            package.edges.retain(|edge| names.contains(&edge.to));
        }
        packages.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            root: text(metadata, "workspace_root")?.into(),
            target: text(metadata, "target_directory")?.into(),
            packages,
        })
    }

    /// Cargo, in the root.
    pub(crate) fn cargo(&self) -> Cmd {
        Cmd::cargo(&self.root)
    }

    /// `--workspace`, less the packages that are too heavy for every day.
    pub(crate) fn all(&self) -> Vec<String> {
        let heavy = self.packages.iter().filter(|package| package.is_heavy());
        let excluded = heavy.flat_map(|package| ["--exclude".to_owned(), package.name.clone()]);
        std::iter::once("--workspace".to_owned()).chain(excluded).collect()
    }

    /// The member of that name, if there is one.
    pub(crate) fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }

    /// Whether member `package` has a target of that kind and name.
    pub(crate) fn has(&self, package: &str, kind: &str, target: &str) -> bool {
        self.package(package)
            .is_some_and(|found| found.targets.iter().any(|(k, name)| k == kind && name == target))
    }

    /// Fails, naming what is missing, unless the member has that target.
    pub(crate) fn require(&self, package: &str, kind: &str, target: &str) -> Result<()> {
        if !self.has(package, kind, target) {
            bail!("there is no {kind} `{target}` in package `{package}` yet");
        }
        Ok(())
    }
}

impl Package {
    /// `raft` for `quorate-raft`, and the whole name for a tool.
    pub(crate) fn short(&self) -> &str {
        short(&self.name)
    }

    /// Whether commands over the whole workspace leave it out.
    pub(crate) fn is_heavy(&self) -> bool {
        HEAVY.contains(&self.name.as_str())
    }

    /// Whether it lives in `crates/`.
    pub(crate) fn is_crate(&self, root: &Path) -> bool {
        self.dir.parent() == Some(&root.join("crates"))
    }
}

/// A package's name without our prefix.
pub(crate) fn short(name: &str) -> &str {
    name.strip_prefix("quorate-").unwrap_or(name)
}

fn package(value: &Value) -> Result<Package> {
    let manifest = PathBuf::from(text(value, "manifest_path")?);
    let features = value.get("features").and_then(Value::as_object);
    let mut targets = Vec::new();
    for target in list(value, "targets") {
        for kind in list(target, "kind").filter_map(Value::as_str) {
            targets.push((kind.to_owned(), text(target, "name")?.to_owned()));
        }
    }
    let edge = |dependency: &Value| -> Result<Edge> {
        let dev = dependency.get("kind").and_then(Value::as_str) == Some("dev");
        Ok(Edge { to: text(dependency, "name")?.to_owned(), dev })
    };
    Ok(Package {
        name: text(value, "name")?.to_owned(),
        dir: manifest.parent().context("a manifest has a folder")?.to_owned(),
        features: features
            .map(|map| map.keys().filter(|name| *name != "default").cloned().collect())
            .unwrap_or_default(),
        targets,
        edges: list(value, "dependencies").map(edge).collect::<Result<_>>()?,
    })
}

fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str> {
    value.get(field).and_then(Value::as_str).with_context(|| format!("no `{field}` in metadata"))
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_becomes_packages_targets_and_inner_edges() {
        let metadata = serde_json::json!({
            "workspace_root": "/w", "target_directory": "/t",
            "packages": [
                { "name": "quorate-raft", "manifest_path": "/w/crates/raft/Cargo.toml",
                  "features": { "default": [], "tokio": [] },
                  "targets": [{ "kind": ["test"], "name": "sim" }],
                  "dependencies": [
                      { "name": "quorate-benches", "kind": null }, { "name": "serde" } ] },
                { "name": "quorate-benches", "manifest_path": "/w/benches/Cargo.toml",
                  "targets": [], "dependencies": [{ "name": "quorate-raft", "kind": "dev" }] },
            ],
        });
        let workspace = Workspace::from_metadata(&metadata).unwrap();
        assert_eq!(workspace.all(), ["--workspace", "--exclude", "quorate-benches"]);
        assert!(workspace.has("quorate-raft", "test", "sim"));
        assert!(workspace.require("quorate-raft", "example", "sim").is_err());
        let raft = workspace.package("quorate-raft").unwrap();
        assert_eq!((raft.short(), raft.features.as_slice()), ("raft", &["tokio".to_owned()][..]));
        assert_eq!((raft.edges.len(), raft.edges[0].dev), (1, false));
        assert!(raft.is_crate(&workspace.root));
        assert!(workspace.package("quorate-benches").unwrap().edges[0].dev);
    }
}
