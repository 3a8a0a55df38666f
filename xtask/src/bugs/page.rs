//! `docs/bug-bank.md`, written by the command alone.

use std::fmt::Write as _;
use std::fs;

use anyhow::Result;

use super::bank::{Bug, FOLDER, How, Verdict};
use super::{CAUGHT, SMALL, SOON};
use crate::run::{Cmd, say};
use crate::workspace::Workspace;

const HEAD: &str = "\
# Bug bank

<!-- Written by `cargo xtask bugs`: change nothing here by hand. -->

Bugs that implementations of these protocols have had, each planted in a copy of our sources, and
how many seeds of the simulator run until it is noticed. A simulator that does not notice them
proves nothing when it notices nothing in ours.

*Outcome*: a user would see it (two leaders of a term, a lost or different entry, a history that
is not linearizable, two holders of a lock, a transaction half committed). *Liveness*: something
promised does not come to pass. *Inside*: a rule within is broken first, an assertion or a number
that may not fall.
";

pub(super) fn write(workspace: &Workspace, rows: &[(&Bug, Verdict)], seeds_max: u64) -> Result<()> {
    let commit = Cmd::new("git").arg("-C").arg(&workspace.root);
    let commit = commit.args(["rev-parse", "--short", "HEAD"]).read()?;
    let text = page(String::from_utf8_lossy(&commit).trim(), rows, seeds_max);
    let path = workspace.root.join("docs/bug-bank.md");
    fs::write(&path, text)?;
    say("-", &format!("wrote {}", path.display()));
    Ok(())
}

fn page(commit: &str, rows: &[(&Bug, Verdict)], seeds_max: u64) -> String {
    let caught: Vec<u64> = rows.iter().filter_map(|(_, verdict)| verdict.seeds()).collect();
    let soon = caught.iter().filter(|seeds| **seeds <= SOON.1).count();
    let by = |wanted: How| {
        let is = |verdict: &Verdict| match verdict {
            Verdict::Caught { how, .. } => *how == wanted,
            Verdict::Missed { .. } => false,
        };
        rows.iter().filter(|(_, verdict)| is(verdict)).count()
    };
    let (all, caught, bound) = (rows.len(), caught.len(), SOON.1);
    let (outcome, liveness, inside) = (by(How::Outcome), by(How::Liveness), by(How::Inside));
    let mut text = format!(
        "{HEAD}\nAt commit `{commit}`, at most {seeds_max} seeds each: {caught} of {all} caught \
         ({CAUGHT} % is the floor), {soon} within {bound} seeds ({} % is the floor); {outcome} by \
         an outcome, {liveness} by liveness, {inside} inside.\nThe patches are in `{FOLDER}`.\n\n",
        SOON.0,
    );
    let left = rows.iter().filter_map(|(_, verdict)| verdict.left()).collect();
    if let Some((median, most)) = super::middle_and_most(left) {
        let (floor, ceiling) = SMALL;
        let _ = writeln!(
            text,
            "Made small, a failure has {median} events left in the middle ({floor} is the floor) \
             and {most} at the most ({ceiling}): faults, those of single frames too, and \
             operations of clients before the calm.\n"
        );
    }
    text.push_str(
        "| patch | bug | class and source | seeds | caught after | s | how | events left | by |\n",
    );
    text.push_str("|---|---|---|---|--:|--:|---|--:|---|\n");
    for (bug, verdict) in rows {
        let Bug { name, title, source, protocol, .. } = bug;
        let _ = write!(text, "| {name} | {title} | {source} | {protocol} | ");
        let _ = match verdict {
            Verdict::Caught { seeds, how, what, took, left } => {
                let what: String = what.replace('|', "/").chars().take(60).collect();
                let (how, took) = (format!("{how:?}").to_lowercase(), took.as_secs_f64());
                let left = left.map(|left| left.to_string()).unwrap_or_default();
                writeln!(text, "{seeds} | {took:.1} | {how} | {left} | {what} |")
            }
            Verdict::Missed { took, .. } => {
                writeln!(text, "**not** | {:.0} | | | |", took.as_secs_f64())
            }
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_page_counts_what_was_caught_and_names_what_was_not() {
        let bug = |name: &str| Bug {
            name: name.into(),
            path: name.into(),
            title: "t".into(),
            source: "s".into(),
            protocol: "raft".into(),
        };
        let (one, two) = (bug("one"), bug("two"));
        let took = Duration::from_secs(2);
        let what = "R5 a|b".to_owned();
        let how = How::Outcome;
        let caught = Verdict::Caught { seeds: 7, how, what, took, left: Some(5) };
        let text = page("abc", &[(&one, caught), (&two, Verdict::Missed { seeds: 9, took })], 9);
        assert!(text.contains("1 of 2 caught"), "{text}");
        assert!(text.contains("| one | t | s | raft | 7 | 2.0 | outcome | 5 | R5 a/b |"), "{text}");
        assert!(text.contains("| two | t | s | raft | **not** | 2 | | | |"), "{text}");
    }
}
