//! `tidy`: checks on the source itself. Each violation says where, which rule, and what to do.

mod edges;
mod forbidden;
mod invariants;
mod manifests;
mod shape;
mod source;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::tidy::source::Source;
use crate::workspace::{Package, Workspace};

/// Folders of a package that hold Rust code, and whether all of it is test code.
const FOLDERS: &[(&str, bool)] =
    &[("src", false), ("tests", true), ("examples", false), ("benches", false)];

/// One finding.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    file: PathBuf,
    line: usize,
    rule: &'static str,
    advice: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, rule, advice } = self;
        write!(f, "{}:{line}: {rule}: {advice}", file.display())
    }
}

/// Checks the whole workspace; prints every violation, then fails if there was one.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let mut found = Vec::new();
    for package in &workspace.packages {
        for source in sources(workspace, package)? {
            shape::check(&source, &mut found);
            forbidden::check(package.short(), &source, &mut found);
        }
        manifests::check(&workspace.root, package, &mut found)?;
    }
    let page = workspace.root.join(edges::PAGE);
    let text = fs::read_to_string(&page).with_context(|| format!("no {}", edges::PAGE))?;
    edges::check(&text, &workspace.packages, &mut found);
    invariants::check(&workspace.root, &mut found)?;
    for (file, advice) in crate::bugs::tidy(&workspace.root)? {
        found.push(Violation { file, line: 1, rule: "bugs", advice });
    }
    found.sort();
    for violation in &found {
        println!("{violation}");
    }
    if !found.is_empty() {
        bail!("tidy found {} violations", found.len());
    }
    Ok(())
}

fn sources(workspace: &Workspace, package: &Package) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for (folder, is_test) in FOLDERS {
        for path in rust_files(&package.dir.join(folder))? {
            let text = fs::read_to_string(&path)?;
            let shown = path.strip_prefix(&workspace.root).unwrap_or(&path).to_owned();
            let inner = path.strip_prefix(&package.dir).unwrap_or(&path).to_owned();
            sources.push(Source::new(shown, inner, &text, *is_test));
        }
    }
    Ok(sources)
}

/// Every `.rs` file below `dir`, in order; none where there is no such folder.
fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let (mut folders, mut files) = (vec![dir.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        if !folder.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
