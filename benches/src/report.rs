//! What a comparison found, as the JSON that `cargo xtask bench` takes in.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};

use crate::measure::{median, spread};

/// What every comparison takes on its command line.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Write the rows to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Few and short rounds: shows that it works, not how fast it is
    #[arg(long)]
    pub quick: bool,
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Times.
    Lower,
    /// Rates.
    Higher,
}

impl Better {
    /// How many times as good `ours` is as `theirs`: above one where we are ahead.
    #[must_use]
    pub fn ratio(self, ours: f64, theirs: f64) -> f64 {
        match self {
            Self::Lower => theirs / ours,
            Self::Higher => ours / theirs,
        }
    }
}

/// A row of figures.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// What is measured; `cargo xtask bench` knows it by this name.
    pub name: &'static str,
    /// Which way is better.
    pub better: Better,
    /// At what sizes.
    pub params: &'a [(&'static str, u64)],
}

/// The rows so far.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Value>,
    skipped: Vec<Value>,
}

impl Report {
    /// Adds one row a peer; without peers, one row of ours alone. Values are by round.
    ///
    /// Returns the figures as one line of text.
    pub fn add(&mut self, subject: &Subject<'_>, ours: &[f64], peers: &[(&str, &[f64])]) -> String {
        let row = |peer: Value, theirs: Value, ratio: Value, spread: [f64; 2]| {
            let params: serde_json::Map<String, Value> = subject
                .params
                .iter()
                .map(|(name, value)| ((*name).to_owned(), json!(value)))
                .collect();
            json!({
                "subject": subject.name, "params": params, "peer": peer, "ours": median(ours),
                "theirs": theirs, "ratio": ratio, "spread": spread,
            })
        };
        let mut line = subject.name.to_owned();
        for (name, value) in subject.params {
            line += &format!("  {name} {value}");
        }
        line += &format!(":  quorate {}", Figure(median(ours)));
        if peers.is_empty() {
            self.rows.push(row(Value::Null, Value::Null, Value::Null, spread(ours)));
        }
        for (peer, theirs) in peers {
            let by_round = ours.iter().zip(*theirs);
            let ratios: Vec<_> =
                by_round.map(|(ours, theirs)| subject.better.ratio(*ours, *theirs)).collect();
            let (theirs, ratio, spread) = (median(theirs), median(&ratios), spread(&ratios));
            line += &format!(
                "  {peer} {} ({ratio:.2}x, {:.2} to {:.2})",
                Figure(theirs),
                spread[0],
                spread[1],
            );
            self.rows.push(row(json!(peer), json!(theirs), json!(ratio), spread));
        }
        line
    }

    /// Notes what was not measured, and why.
    pub fn skip(&mut self, what: &str, why: &str) {
        eprintln!("skipped: {what}: {why}");
        self.skipped.push(json!({ "what": what, "why": why }));
    }

    /// Writes the rows, where a file was asked for.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, to: Option<&Path>) -> anyhow::Result<()> {
        let Some(path) = to else { return Ok(()) };
        let value = json!({ "rows": self.rows, "skipped": self.skipped });
        std::fs::write(path, serde_json::to_vec_pretty(&value)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// A number with about as many digits as mean something.
struct Figure(f64);

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = if self.0 < 100.0 { 1 } else { 0 };
        write!(f, "{:.digits$}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_says_how_many_times_better_we_are() {
        assert_eq!(Better::Lower.ratio(10.0, 30.0), 3.0);
        assert_eq!(Better::Higher.ratio(30.0, 10.0), 3.0);
    }

    #[test]
    fn a_row_has_medians_and_the_spread_of_the_ratios_of_each_round() {
        let mut report = Report::default();
        let subject =
            Subject { name: "raft/propose", better: Better::Lower, params: &[("batch", 64)] };
        let line = report.add(&subject, &[10.0, 20.0, 10.0], &[("peer 1", &[30.0, 20.0, 40.0])]);
        assert_eq!(
            line,
            "raft/propose  batch 64:  quorate 10.0  peer 1 30.0 (3.00x, 1.00 to 4.00)"
        );
        assert_eq!(
            report.rows,
            [json!({
                "subject": "raft/propose", "params": { "batch": 64 }, "peer": "peer 1",
                "ours": 10.0, "theirs": 30.0, "ratio": 3.0, "spread": [1.0, 4.0],
            })]
        );
    }

    #[test]
    fn without_a_peer_the_spread_is_our_own() {
        let mut report = Report::default();
        report.add(
            &Subject { name: "raft/nodes", better: Better::Lower, params: &[] },
            &[10.0, 30.0, 20.0],
            &[],
        );
        assert_eq!(report.rows[0]["ours"], json!(20.0));
        assert_eq!(report.rows[0]["spread"], json!([10.0, 30.0]));
        assert_eq!(report.rows[0]["peer"], Value::Null);
    }
}
