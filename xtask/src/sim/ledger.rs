//! What sweeps came to, into the tables of `docs/simulation.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::run::{Cmd, say};
use crate::workspace::Workspace;

const PAGE: &str = "docs/simulation.md";
/// The tables are between these; nothing there is written by hand.
const BEGIN: &str = "<!-- sweeps: written by `cargo xtask sim --ledger` -->";
const END: &str = "<!-- /sweeps -->";
/// The rows of the ledger go on behind this.
const LEDGER: &str =
    "| commit | seeds | simulated hours | faults | marks |\n|---|--:|--:|--:|--:|\n";

/// What one protocol's sweep came to, as it wrote it down.
#[derive(Debug, Default, PartialEq)]
struct Report {
    protocol: String,
    numbers: BTreeMap<String, f64>,
    /// Name, sum, least.
    work: Vec<(String, u64, u64)>,
    /// By kind: class and count.
    faults: BTreeMap<String, (String, u64)>,
    marks: BTreeMap<String, u64>,
}

/// Reads the reports and writes the page's tables anew, with one row more in the ledger.
pub(super) fn write(workspace: &Workspace, reports: &[PathBuf]) -> Result<()> {
    let mut all = Vec::new();
    for path in reports {
        let text = fs::read_to_string(path).with_context(|| format!("no {}", path.display()))?;
        all.push(parse(&text));
    }
    let commit = Cmd::new("git").arg("-C").arg(&workspace.root);
    let commit = commit.args(["rev-parse", "--short", "HEAD"]).read()?;
    let commit = String::from_utf8_lossy(&commit).trim().to_owned();
    let path = workspace.root.join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("no {PAGE}"))?;
    let page = renew(&page, &tables(&all), &row(&commit, &all))
        .with_context(|| format!("{PAGE} has no `{BEGIN}` … `{END}` and ledger"))?;
    fs::write(&path, page)?;
    say("-", &format!("wrote {PAGE}"));
    Ok(())
}

fn parse(text: &str) -> Report {
    let mut report = Report::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse().ok()).unwrap_or(0);
        match words.as_slice() {
            ["protocol", name] => (*name).clone_into(&mut report.protocol),
            ["work", _, _, name @ ..] => report.work.push((name.join(" "), number(1), number(2))),
            ["fault", class, kind, _] => {
                report.faults.insert((*kind).to_owned(), ((*class).to_owned(), number(3)));
            }
            ["mark", _, name @ ..] => {
                report.marks.insert(name.join(" "), number(1));
            }
            [name, value] => {
                report.numbers.insert((*name).to_owned(), value.parse().unwrap_or(0.0));
            }
            _ => {}
        }
    }
    report
}

fn tables(all: &[Report]) -> String {
    let mut text = String::from(
        "| protocol | seeds | simulated s a seed | faults a seed | work a seed | events/s | \
         simulated s a second |\n|---|--:|--:|--:|---|--:|--:|\n",
    );
    for report in all {
        let number = |name: &str| report.numbers.get(name).copied().unwrap_or(0.0);
        let (seeds, wall) = (number("seeds").max(1.0), number("wall").max(0.1));
        let work = |(name, sum, _): &(String, u64, u64)| format!("{} {name}", sum / seeds as u64);
        let work: Vec<_> = report.work.iter().map(work).collect();
        let _ = writeln!(
            text,
            "| {} | {seeds:.0} | {:.1} | {:.0} | {} | {:.0} | {:.0} |",
            report.protocol,
            number("nanos") / 1e9 / seeds,
            number("faults") / seeds,
            work.join(", "),
            number("events") / wall,
            number("nanos") / 1e9 / wall,
        );
    }
    text += "\nFaults by kind, how often each struck in this run:\n\n";
    let names: Vec<&str> = all.iter().map(|report| report.protocol.as_str()).collect();
    let _ = writeln!(text, "| class | kind | {} |", names.join(" | "));
    let _ = writeln!(text, "|---|---|{}", "--:|".repeat(names.len()));
    let mut kinds: Vec<(&String, &String)> = Vec::new();
    for (kind, (class, _)) in all.iter().flat_map(|report| &report.faults) {
        kinds.push((class, kind));
    }
    kinds.sort_by_key(|(class, kind)| (place(class), (*kind).clone()));
    kinds.dedup();
    for (class, kind) in kinds {
        let count = |report: &Report| report.faults.get(kind).map_or(0, |(_, count)| *count);
        let counts: Vec<_> = all.iter().map(|report| count(report).to_string()).collect();
        let _ = writeln!(text, "| {class} | {kind} | {} |", counts.join(" | "));
    }
    text
}

/// `N2` before `N10`; the network first.
fn place(class: &str) -> (usize, u32) {
    let letter = class.get(..1).and_then(|letter| "NPDCO".find(letter)).unwrap_or(9);
    (letter, class.get(1..).and_then(|number| number.parse().ok()).unwrap_or(99))
}

fn row(commit: &str, all: &[Report]) -> String {
    let sum =
        |name: &str| -> f64 { all.iter().filter_map(|report| report.numbers.get(name)).sum() };
    let marks: usize = all.iter().map(|report| report.marks.len()).sum();
    let hours = sum("nanos") / 3.6e12;
    format!("| {commit} | {:.0} | {hours:.0} | {:.0} | {marks} |\n", sum("seeds"), sum("faults"))
}

/// The page with new tables, and the row at the top of the ledger.
fn renew(page: &str, tables: &str, row: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    let (middle, ledger) = after.split_once(LEDGER)?;
    Some(format!("{before}{BEGIN}\n\n{tables}\n{END}{middle}{LEDGER}{row}{ledger}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "protocol raft\nseeds 2\nfailed 0\nfaults 60\nevents 900\n\
        nanos 68000000000\nwall 2.0\nwork 40 15 operations\nfault N10 TailDrop 3\n\
        fault N2 Duplicate 5\nmark 4 a leader was cut off\n";

    #[test]
    fn a_report_becomes_tables_and_a_row() {
        let all = [parse(REPORT)];
        let tables = tables(&all);
        assert!(tables.contains("| raft | 2 | 34.0 | 30 | 20 operations | 450 | 34 |"), "{tables}");
        let (two, ten) = (tables.find("| N2 | Duplicate | 5 |"), tables.find("| N10 | TailDrop"));
        assert!(two.is_some() && two < ten, "{tables}");
        let page = format!("prose {BEGIN} old {END}\nmore\n{LEDGER}| old | 1 | 1 | 1 | 1 |\n");
        let page = renew(&page, &tables, &row("abc", &all)).unwrap();
        assert!(page.contains("| abc | 2 | 0 | 60 | 1 |\n| old | 1"), "{page}");
        assert!(!page.contains(" old <!--") && page.starts_with("prose "));
    }
}
