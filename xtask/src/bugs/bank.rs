//! The patches, and what a run says of one.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::run::Cmd;
use crate::sim::program_of;

/// Where the patches are.
pub(super) const FOLDER: &str = "crates/sim/bugs";

/// Invariants that say what a user would notice: by their first words.
const OUTCOMES: &[&str] = &[
    "R1", "R4", "R5", "R6", "R7", "R8", "R26", "M", "D", "X", "E1", "E2", "E4", "E5", "AC", "T11",
    "K", "F",
];

/// Invariants that say what does not come to pass.
const LIVENESS: &[&str] = &["R29", "R30", "X3", "E3", "AC5", "F4"];

/// Of the laws of every machine: it can start again, and it answers.
const LAWS: &[&str] = &["law 3", "law 8"];

/// What the runs are judged by that look for a bug as a user would.
pub(super) fn seen_by_users() -> String {
    let ids = OUTCOMES.iter().chain(LIVENESS).chain(LAWS).copied();
    ids.collect::<Vec<_>>().join(",")
}

/// One known bug.
pub(super) struct Bug {
    /// The file's name, without its end.
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// What is wrong, in a sentence.
    pub(super) title: String,
    /// The class it is of, and who had it.
    pub(super) source: String,
    /// Whose seeds look for it.
    pub(super) protocol: String,
}

/// How a bug was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Something that a user would notice is wrong.
    Outcome,
    /// Something does not come to pass.
    Liveness,
    /// A rule inside is broken: an assertion, a halt, a number that may not fall.
    Inside,
}

/// What became of one.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    Caught {
        seeds: u64,
        how: How,
        what: String,
        took: Duration,
        /// Events that are left once it is made small, where it was.
        left: Option<u64>,
    },
    Missed {
        seeds: u64,
        took: Duration,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caught { seeds, how, what, took, left } => {
                let seconds = took.as_secs_f64();
                write!(f, "caught after {seeds} seeds, {seconds:.1} s, {how:?}: {what}")?;
                left.map_or(Ok(()), |left| write!(f, "; {left} events left"))
            }
            Self::Missed { seeds, took } => {
                write!(f, "NOT caught in {seeds} seeds, {:.1} s", took.as_secs_f64())
            }
        }
    }
}

/// All bugs, by name.
pub(super) fn read(root: &Path) -> Result<Vec<Bug>> {
    let folder = root.join(FOLDER);
    let entries = fs::read_dir(&folder).with_context(|| format!("no {FOLDER}"))?;
    let mut bugs = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "patch") {
            bugs.push(parse(&path)?);
        }
    }
    bugs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(bugs)
}

/// The patches that do not apply any more, each with what to say of it.
pub(crate) fn check(root: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut stale = Vec::new();
    for bug in read(root)? {
        let applies = Cmd::new("git").arg("-C").arg(root).args(["apply", "--check"]).arg(&bug.path);
        if applies.read().is_err() {
            let shown = bug.path.strip_prefix(root).unwrap_or(&bug.path).to_owned();
            stale.push((shown, "does not apply: plant the bug anew in today's sources".into()));
        }
    }
    Ok(stale)
}

fn parse(path: &Path) -> Result<Bug> {
    let text = fs::read_to_string(path)?;
    let shown = path.display();
    let head = |field: &str| -> Result<String> {
        let line = text.lines().take_while(|line| !line.starts_with("diff "));
        let mut found = line.filter_map(|line| line.strip_prefix(field)?.strip_prefix(": "));
        Ok(found.next().with_context(|| format!("{shown}: no line `{field}: …`"))?.to_owned())
    };
    let (title, source, protocol) = (head("bug")?, head("source")?, head("run")?);
    if program_of(&protocol).is_none() {
        bail!("{shown}: `run` names a protocol with seeds, not {protocol}");
    }
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Bug { name, path: path.to_owned(), title, source, protocol })
}

/// Reads what a sweep printed.
pub(super) fn judge(said: &str, seeds: u64, took: Duration) -> Verdict {
    for line in said.lines() {
        if let Some((seed, what)) = failure(line) {
            return Verdict::Caught { seeds: seed + 1, how: how(&what), what, took, left: None };
        }
    }
    // A panic ends the sweep at once, and does not say at which seed: it is among those begun.
    if let Some(at) = said.find("panicked at") {
        let passed = said.lines().filter_map(passed).max().unwrap_or(0);
        let what = said[at..].lines().nth(1).unwrap_or("").trim().to_owned();
        let how = if what.is_empty() { How::Inside } else { how(&what) };
        return Verdict::Caught { seeds: passed + 100, how, what, took, left: None };
    }
    Verdict::Missed { seeds, took }
}

/// `raft: seed 56 FAILED: n1 at 3.5 s: what`.
fn failure(line: &str) -> Option<(u64, String)> {
    let (seed, what) = line.split_once(": seed ")?.1.split_once(" FAILED: ")?;
    let what = what.split_once(" s: ").map_or(what, |(_, what)| what);
    Some((seed.parse().ok()?, what.to_owned()))
}

/// `raft: seed 56: 12 events left of 3150: …`.
pub(super) fn left(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains(" events left of "))?;
    let (before, _) = line.split_once(" events left of ")?;
    before.rsplit(' ').next()?.parse().ok()
}

/// `raft: 300 seeds passed after 9 s`.
fn passed(line: &str) -> Option<u64> {
    line.split_once(": ")?.1.split_once(" seeds passed after")?.0.parse().ok()
}

fn how(what: &str) -> How {
    let id = what.split([' ', ':', ',']).next().unwrap_or("");
    let is = |known: &&&str| {
        let whole = known.ends_with(|c: char| c.is_ascii_digit());
        id == **known || !whole && id.strip_prefix(**known).is_some_and(is_number)
    };
    if LIVENESS.contains(&id) || LAWS.iter().any(|law| what.starts_with(law)) {
        How::Liveness
    } else if OUTCOMES.iter().find(is).is_some() {
        How::Outcome
    } else {
        How::Inside
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caught(said: &str) -> (u64, How, String) {
        match judge(said, 10, Duration::ZERO) {
            Verdict::Caught { seeds, how, what, .. } => (seeds, how, what),
            Verdict::Missed { .. } => panic!("{said}"),
        }
    }

    #[test]
    fn what_is_left_of_a_failure_is_read() {
        assert_eq!(left("# 12 events left of 3150: 2 strikes"), Some(12));
        assert_eq!(left("raft: seed 5 does not fail"), None);
    }

    #[test]
    fn what_a_sweep_prints_is_understood() {
        let (seeds, how, what) = caught(
            "raft: 100 seeds passed after 3 s\nraft: seed 56 FAILED: n1 at 3.5 s: R5 leader",
        );
        assert_eq!((seeds, how, &*what), (57, How::Outcome, "R5 leader"));
        let (seeds, how, _) =
            caught("thread panicked at a.rs:\nassertion failed: the log has no gap");
        assert_eq!((seeds, how), (100, How::Inside));
        assert_eq!(caught("smr: seed 0 FAILED: n1 at 1.0 s: M3 not linearizable").1, How::Outcome);
        assert_eq!(caught("raft: seed 0 FAILED: n1 at 1.0 s: R29 a node").1, How::Liveness);
        assert_eq!(caught("raft: seed 0 FAILED: n1 at 1.0 s: law 3: no").1, How::Liveness);
        assert_eq!(caught("dmutex: seed 0 FAILED: n1 at 1.0 s: X3 2 requests").1, How::Liveness);
        assert_eq!(caught("dmutex: seed 0 FAILED: n1 at 1.0 s: X1 n1 and n2").1, How::Outcome);
        assert_eq!(caught("bully: seed 0 FAILED: n1 at 1.0 s: E3, E4 not all").1, How::Liveness);
        assert_eq!(caught("raft: seed 0 FAILED: n1 at 1.0 s: R11 or R13: term").1, How::Inside);
        assert_eq!(caught("raft: seed 0 FAILED: n1 at 1.0 s: R14 applied 3").1, How::Inside);
        assert_eq!(caught("raft: seed 0 FAILED: n1 at 1.0 s: R26 a read").1, How::Outcome);
        let passed = judge("raft: 300 seeds passed after 9 s", 300, Duration::ZERO);
        assert!(matches!(passed, Verdict::Missed { seeds: 300, .. }));
    }
}
