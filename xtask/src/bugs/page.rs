//! `docs/bug-bank.md`, written by the command alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::Score;
use super::bank::{Bug, FOLDER, How, Verdict};
use crate::run::Cmd;
use crate::workspace::Workspace;

const HEAD: &str = "\
# Bug bank

<!-- Written by `cargo xtask bugs`: change nothing here by hand. -->

Bugs that implementations of these protocols have had, each planted in a copy of our sources, and
how many seeds of the simulator run until it is noticed. A simulator that does not notice them
proves nothing when it notices nothing in ours.

*Outcome*: a user would see it (two leaders of a term, a lost or different entry, a read of the
past, a history that is not linearizable, two holders of a lock, a transaction half committed).
*Liveness*: something promised does not come to pass. Seeds are judged by these alone, and a node
that stops itself is started again; only where all of them pass are they judged by all rules.
*Inside*: such a rule has noticed it, an assertion or a number that may not fall. *Events left*: of
the failure made small, faults, those of single frames too, and operations of clients before the
calm.
";

const COLUMNS: &str = "\
| patch | bug | class and source | seeds of | caught after | s | how | events left | by | commit |
|---|---|---|---|--:|--:|---|--:|---|---|
";

/// The page: what was measured now, and of other bugs what it said already.
pub(super) struct Page<'a> {
    path: PathBuf,
    bugs: &'a [Bug],
    commit: String,
    rows: BTreeMap<String, Row>,
}

/// A bug's row: what was found, and in which sources.
struct Row {
    verdict: Verdict,
    commit: String,
}

impl<'a> Page<'a> {
    /// Reads what it says.
    pub(super) fn read(workspace: &Workspace, bugs: &'a [Bug]) -> Result<Self> {
        let commit = Cmd::new("git").arg("-C").arg(&workspace.root);
        let commit = commit.args(["rev-parse", "--short", "HEAD"]).read()?;
        let commit = String::from_utf8_lossy(&commit).trim().to_owned();
        let path = workspace.root.join("docs/bug-bank.md");
        let text = fs::read_to_string(&path).unwrap_or_default();
        Ok(Self { path, bugs, commit, rows: text.lines().filter_map(read).collect() })
    }

    /// Writes one row anew: a run that is stopped keeps what it has.
    pub(super) fn put(&mut self, name: &str, verdict: Verdict) -> Result<()> {
        let before = self.rows.remove(name).map(|row| row.verdict);
        let verdict = with_what_was_left(verdict, before);
        self.rows.insert(name.to_owned(), Row { verdict, commit: self.commit.clone() });
        fs::write(&self.path, page(self.bugs, &self.rows))?;
        Ok(())
    }

    /// Of all bugs.
    pub(super) fn score(&self) -> Score {
        score(self.bugs, &self.rows)
    }
}

fn score(bugs: &[Bug], rows: &BTreeMap<String, Row>) -> Score {
    Score::of(bugs.iter().map(|bug| Some(&rows.get(&bug.name)?.verdict)))
}

/// A failure that was made small before is the same one as long as its seed and its words are.
fn with_what_was_left(verdict: Verdict, before: Option<Verdict>) -> Verdict {
    match (verdict, before) {
        (
            Verdict::Caught { seeds, how, what, took, left: None },
            Some(Verdict::Caught { seeds: seeds_before, what: what_before, left, .. }),
        ) if seeds == seeds_before && short(&what) == what_before => {
            Verdict::Caught { seeds, how, what, took, left }
        }
        (verdict, _) => verdict,
    }
}

fn short(what: &str) -> String {
    what.replace('|', "/").chars().take(60).collect::<String>().trim().to_owned()
}

fn page(bugs: &[Bug], rows: &BTreeMap<String, Row>) -> String {
    let score = score(bugs, rows);
    let mut text = format!("{HEAD}\n{score}.\nThe patches are in `{FOLDER}`.\n\n{COLUMNS}");
    for bug in bugs {
        let Bug { name, title, source, protocol, .. } = bug;
        let _ = write!(text, "| {name} | {title} | {source} | {protocol} | ");
        let _ = match rows.get(name) {
            Some(Row { verdict: Verdict::Caught { seeds, how, what, took, left }, commit }) => {
                let (how, took) = (format!("{how:?}").to_lowercase(), took.as_secs_f64());
                let left = left.map(|left| left.to_string()).unwrap_or_default();
                let what = short(what);
                writeln!(text, "{seeds} | {took:.1} | {how} | {left} | {what} | {commit} |")
            }
            Some(Row { verdict: Verdict::Missed { seeds, took }, commit }) => {
                let took = took.as_secs_f64();
                writeln!(text, "**not** in {seeds} | {took:.1} | | | | {commit} |")
            }
            None => writeln!(text, "not run yet | | | | | |"),
        };
    }
    text
}

/// Reads a row back.
fn read(line: &str) -> Option<(String, Row)> {
    let cells: Vec<&str> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
    let [name, _, _, _, seeds, took, how, left, what, commit, ..] = cells[..] else { return None };
    let took = Duration::try_from_secs_f64(took.parse().ok()?).ok()?;
    let how = match how {
        "outcome" => Some(How::Outcome),
        "liveness" => Some(How::Liveness),
        "inside" => Some(How::Inside),
        _ => None,
    };
    let verdict = match how {
        Some(how) => {
            let (seeds, left) = (seeds.parse().ok()?, left.parse().ok());
            Verdict::Caught { seeds, how, what: what.to_owned(), took, left }
        }
        None => Verdict::Missed { seeds: seeds.strip_prefix("**not** in ")?.parse().ok()?, took },
    };
    Some((name.to_owned(), Row { verdict, commit: commit.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bug(name: &str) -> Bug {
        Bug {
            name: name.into(),
            path: name.into(),
            title: "t".into(),
            source: "s".into(),
            protocol: "raft".into(),
        }
    }

    fn caught(seeds: u64, what: &str, left: Option<u64>) -> Verdict {
        let (how, took) = (How::Outcome, Duration::from_secs(2));
        Verdict::Caught { seeds, how, what: what.to_owned(), took, left }
    }

    fn row(verdict: Verdict) -> Row {
        Row { verdict, commit: "abc".into() }
    }

    #[test]
    fn the_page_counts_what_was_caught_and_names_what_was_not() {
        let missed = Verdict::Missed { seeds: 9, took: Duration::from_secs(3) };
        let rows = [("one", caught(7, "R5 a|b", Some(5))), ("two", missed)];
        let rows = rows.map(|(name, verdict)| (name.to_owned(), row(verdict))).into();
        let text = page(&[bug("one"), bug("two"), bug("three")], &rows);
        assert!(text.contains("1 of 3 caught"), "{text}");
        assert!(text.contains("| one | t | s | raft | 7 | 2.0 | outcome | 5 | R5 a/b | abc |"));
        assert!(text.contains("| two | t | s | raft | **not** in 9 | 3.0 | | | | abc |"), "{text}");
        assert!(text.contains("| three | t | s | raft | not run yet | | | | | |"), "{text}");
    }

    #[test]
    fn what_the_page_says_is_read_back() {
        let bugs = [bug("one"), bug("two"), bug("three")];
        let missed = Verdict::Missed { seeds: 9, took: Duration::from_secs(3) };
        let rows = [("one", caught(7, "R5 a|b", Some(5))), ("two", missed)];
        let rows = rows.map(|(name, verdict)| (name.to_owned(), row(verdict))).into();
        let text = page(&bugs, &rows);
        let again: BTreeMap<String, Row> = text.lines().filter_map(read).collect();
        assert_eq!(again.len(), 2);
        assert_eq!(page(&bugs, &again), text);
    }

    #[test]
    fn what_was_left_of_a_failure_stays_as_long_as_it_is_the_same() {
        let before = || Some(caught(7, "R5 x", Some(5)));
        let left = |now| match with_what_was_left(now, before()) {
            Verdict::Caught { left, .. } => left,
            Verdict::Missed { .. } => None,
        };
        assert_eq!(left(caught(7, "R5 x", None)), Some(5));
        assert_eq!(left(caught(7, "R5 x", Some(4))), Some(4));
        assert_eq!(left(caught(8, "R5 x", None)), None);
        assert_eq!(left(caught(7, "R6 x", None)), None);
    }
}
