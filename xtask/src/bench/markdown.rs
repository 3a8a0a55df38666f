//! The page of figures: tables from the record, and nothing that is not in it.

use std::fmt::Write as _;

use crate::bench::plot;
use crate::bench::record::{Record, Row, Run};
use crate::bench::subjects::{COMPARISONS, SUBJECTS, Subject, label};

const HEAD: &str = "# Benchmarks

<!-- Written by `cargo xtask bench` from benchmarks.json: change nothing here by hand. -->

Ratios say how many times as good ours is as the peer's: above 1 we are ahead. Both sides were
measured in the same run, in turns; a ratio is the median over the rounds, with the least and the
greatest in brackets. Absolute figures belong to the machine they were taken on.
";

/// The page, and the plots that it shows, by file name.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) markdown: String,
    pub(super) plots: Vec<(String, String)>,
}

/// Renders the last run of each comparison.
pub(super) fn render(record: &Record) -> Page {
    let mut page = Page { markdown: HEAD.to_owned(), plots: Vec::new() };
    for (name, heading) in COMPARISONS {
        let Some(run) = record.latest(name) else { continue };
        let Run { date, commit, cores, .. } = run;
        let _ = write!(
            page.markdown,
            "\n## {heading}\n\nMeasured on {date} at commit `{commit}`, on {cores} cores: \
             `cargo xtask bench {name}`.\n"
        );
        for subject in SUBJECTS.iter().filter(|subject| subject.comparison() == *name) {
            let rows: Vec<_> = run.rows.iter().filter(|row| row.subject == subject).collect();
            if !rows.is_empty() {
                section(subject, &rows, &mut page);
            }
        }
        for skipped in &run.skipped {
            let _ = write!(page.markdown, "\nNot measured: {}, {}.\n", skipped.what, skipped.why);
        }
    }
    page
}

fn section(subject: &Subject, rows: &[&Row], page: &mut Page) {
    let (title, unit) = (subject.title, subject.unit);
    let better = if subject.lower { "less" } else { "more" };
    let _ = write!(page.markdown, "\n### {title}\n\n{unit}, {better} is better. ");
    let _ = writeln!(page.markdown, "{}", subject.caption);
    if let Some(svg) = plot::draw(subject, rows) {
        let name = subject.svg();
        let _ = write!(page.markdown, "\n![{title}, {unit}](benchmarks/{name})\n");
        page.plots.push((name, svg));
    }
    page.markdown += "\n";
    table(subject, rows, &mut page.markdown);
}

/// One line for each set of parameters, one pair of columns for each peer.
fn table(subject: &Subject, rows: &[&Row], out: &mut String) {
    let peers = peers(rows);
    let mut head: Vec<String> = subject.params.iter().map(|param| label(param).into()).collect();
    head.push("quorate".into());
    if peers.is_empty() {
        head.push("least to greatest".into());
    }
    for peer in &peers {
        head.extend([(*peer).to_owned(), "ratio".into()]);
    }
    line(&head, out);
    line(&vec!["--:".into(); head.len()], out);
    let mut sets: Vec<&[u64]> = Vec::new();
    for row in rows {
        if !sets.contains(&row.params.as_slice()) {
            sets.push(&row.params);
        }
    }
    for params in sets {
        let of_set: Vec<_> = rows.iter().filter(|row| row.params == params).collect();
        let mut cells: Vec<String> = params.iter().map(u64::to_string).collect();
        cells.extend(of_set.first().map(|row| number(row.ours)));
        if peers.is_empty() {
            let [least, greatest] = of_set.first().map_or([0.0; 2], |row| row.spread);
            cells.push(format!("{} to {}", number(least), number(greatest)));
        }
        for peer in &peers {
            let row = of_set.iter().find(|row| row.peer() == Some(*peer));
            let beside = row.and_then(|row| row.beside.as_ref().map(|beside| (row, beside)));
            cells.extend(beside.map_or(["–".to_owned(), "–".to_owned()], |(row, beside)| {
                let [least, greatest] = row.spread.map(number);
                let ratio = number(beside.ratio);
                [number(beside.theirs), format!("**{ratio}** ({least} to {greatest})")]
            }));
        }
        line(&cells, out);
    }
}

fn line(cells: &[String], out: &mut String) {
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}

/// The peers, in the order in which they first appear.
pub(super) fn peers<'a>(rows: &[&'a Row]) -> Vec<&'a str> {
    let mut peers = Vec::new();
    for peer in rows.iter().filter_map(|row| row.peer()) {
        if !peers.contains(&peer) {
            peers.push(peer);
        }
    }
    peers
}

/// Three digits that mean something, and commas between thousands.
fn number(value: f64) -> String {
    match value {
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => {
            let digits = format!("{v:.0}");
            let mut out = String::new();
            for (at, digit) in digits.chars().enumerate() {
                if at > 0 && (digits.len() - at).is_multiple_of(3) {
                    out.push(',');
                }
                out.push(digit);
            }
            out
        }
    }
}

impl Row {
    pub(super) fn peer(&self) -> Option<&str> {
        self.beside.as_ref().map(|beside| beside.peer.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::record::tests::sample;

    #[test]
    fn numbers_keep_three_digits() {
        let cases = [
            (0.5, "0.50"),
            (9.994, "9.99"),
            (9.996, "10.0"),
            (99.96, "100"),
            (999.6, "1,000"),
            (1_234_567.0, "1,234,567"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_small_record_becomes_this_page() {
        let page = render(&Record::parse(&sample().to_string()).unwrap());
        let names: Vec<_> = page.plots.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["raft-propose.svg", "raft-nodes.svg", "cluster-puts.svg"]);
        if std::env::var_os("QUORATE_BLESS").is_some() {
            let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bench");
            std::fs::write(here.join("golden.md"), &page.markdown).unwrap();
            std::fs::write(here.join("golden.svg"), &page.plots[0].1).unwrap();
        } else {
            assert_eq!(page.markdown, include_str!("golden.md"));
            assert_eq!(page.plots[0].1, include_str!("golden.svg"));
        }
    }
}
