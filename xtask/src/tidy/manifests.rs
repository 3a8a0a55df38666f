//! What every package has beside its code: a README and the workspace's lints.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::tidy::Violation;
use crate::workspace::Package;

/// Checks the folder and the manifest of one package.
pub(super) fn check(root: &Path, package: &Package, found: &mut Vec<Violation>) -> Result<()> {
    let manifest = package.dir.join("Cargo.toml");
    let shown = manifest.strip_prefix(root).unwrap_or(&manifest);
    let mut report = |rule: &'static str, advice: &str| {
        let advice = advice.to_owned();
        found.push(Violation { file: shown.to_owned(), line: 1, rule, advice });
    };
    if package.is_crate(root) && !package.dir.join("README.md").is_file() {
        report("readme", "add README.md: what, guarantees, what it does not do, an example");
    }
    if !inherits_lints(&fs::read_to_string(&manifest)?) {
        report("lints", "add `[lints]` with `workspace = true`");
    }
    Ok(())
}

fn inherits_lints(manifest: &str) -> bool {
    let mut section = "";
    manifest.lines().map(str::trim).any(|line| {
        if line.starts_with('[') {
            section = line;
        }
        let compact: String = line.chars().filter(|c| !c.is_whitespace()).collect();
        let inherited = section == "[lints]" && compact == "workspace=true";
        inherited || compact == "lints.workspace=true"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lints_come_from_the_workspace() {
        assert!(inherits_lints("[lints]\nworkspace = true\n"));
        assert!(inherits_lints("lints.workspace = true\n[package]\n"));
        assert!(!inherits_lints("[package]\nversion.workspace = true\n"));
        assert!(!inherits_lints("[lints]\n[dependencies.a]\nworkspace = true\n"));
    }

    #[test]
    fn a_bare_folder_lacks_both() {
        let dir = std::env::temp_dir().join(format!("quorate-tidy-{}", std::process::id()));
        let krate = dir.join("crates").join("x");
        fs::create_dir_all(&krate).unwrap();
        fs::write(krate.join("Cargo.toml"), "[package]\n").unwrap();
        let (name, features, targets) = ("quorate-x".to_owned(), Vec::new(), Vec::new());
        let package = Package { name, dir: krate, features, targets, edges: Vec::new() };
        let mut found = Vec::new();
        check(&dir, &package, &mut found).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        let rules: Vec<_> = found.iter().map(|violation| violation.rule).collect();
        assert_eq!(rules, ["readme", "lints"]);
    }
}
