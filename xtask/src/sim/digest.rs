//! The same seed is the same run in debug and release builds.

use anyhow::{Result, bail};

use super::Program;
use crate::run::say;
use crate::workspace::Workspace;

/// The builds that are compared.
const PROFILES: [&str; 2] = ["dev", "release"];

/// Runs a few seeds of each protocol in either profile, and compares.
pub(super) fn run(workspace: &Workspace, programs: &[&Program], seeds: u64) -> Result<()> {
    for program in programs {
        let mut said = Vec::new();
        for profile in PROFILES {
            let cargo = workspace.cargo().args(["run", "--quiet", "--profile", profile]);
            let cargo = cargo.args(["-p", program.package, "--example", program.example, "--"]);
            said.push(cargo.args(["--digest".to_owned(), seeds.to_string()]).read()?);
        }
        let [debug, release] = [0, 1].map(|at| digests(&String::from_utf8_lossy(&said[at])));
        if debug.len() as u64 != seeds {
            bail!("{}: {} digests of {seeds} seeds", program.name, debug.len());
        }
        if let Some((one, other)) = difference(&debug, &release) {
            bail!("law 2: a run is another in release:\n{one}\n{other}");
        }
        say("-", &format!("{}: {seeds} seeds are the same in debug and release", program.name));
    }
    Ok(())
}

fn digests(said: &str) -> Vec<String> {
    said.lines().filter(|line| line.starts_with("digest ")).map(str::to_owned).collect()
}

/// The first lines that are not the same; an empty one where there is none.
fn difference(one: &[String], other: &[String]) -> Option<(String, String)> {
    let line = |lines: &[String], at: usize| lines.get(at).cloned().unwrap_or_default();
    let pairs = (0..one.len().max(other.len())).map(|at| (line(one, at), line(other, at)));
    pairs.into_iter().find(|(one, other)| one != other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_differs_is_named() {
        let said = "digest raft 0 ab 7 9\nnoise\ndigest raft 1 cd 8 9\n";
        let one = digests(said);
        assert_eq!(one.len(), 2);
        assert_eq!(difference(&one, &one.clone()), None);
        let other = digests(&said.replace("cd", "ce"));
        let (a, b) = difference(&one, &other).unwrap();
        assert!(a.contains("cd") && b.contains("ce"));
        assert!(difference(&one, &one[..1]).is_some());
    }
}
