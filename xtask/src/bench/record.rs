//! The file of all runs: versioned JSON, read strictly.

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};

use crate::bench::subjects::{COMPARISONS, SUBJECTS, Subject};

/// The version that is written and read.
const SCHEMA: u64 = 1;

/// Everything measured so far; the last run of a comparison is the one that counts.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// In the order they were made.
    pub(super) runs: Vec<Run>,
}

/// One run of one comparison.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) comparison: String,
    /// As `2026-11-25`.
    pub(super) date: String,
    /// Of our own code; ends in `-dirty` where that was not committed.
    pub(super) commit: String,
    pub(super) cores: u64,
    pub(super) rows: Vec<Row>,
    pub(super) skipped: Vec<Skipped>,
}

/// One figure of ours, beside one of a peer where there is one.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) subject: &'static Subject,
    /// In the order of the subject's.
    pub(super) params: Vec<u64>,
    pub(super) ours: f64,
    pub(super) beside: Option<Beside>,
    /// Of the ratio by round; without a peer, of our own figure.
    pub(super) spread: [f64; 2],
}

/// A peer's part of a row.
#[derive(Debug)]
pub(super) struct Beside {
    pub(super) peer: String,
    pub(super) theirs: f64,
    /// How many times as good ours is.
    pub(super) ratio: f64,
}

/// What could not be measured.
#[derive(Debug)]
pub(super) struct Skipped {
    pub(super) what: String,
    pub(super) why: String,
}

impl Record {
    /// Reads the file.
    ///
    /// # Errors
    /// The text is not JSON, or a field breaks its rule: the message names both.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).context("not JSON")?;
        let root = At { path: String::new(), value: &value };
        root.only(&["schema", "runs"])?;
        let schema = root.field("schema")?;
        ensure!(schema.value.as_u64() == Some(SCHEMA), schema.broken(&format!("be {SCHEMA}")));
        let runs = root.field("runs")?.items()?.iter().map(Run::parse).collect::<Result<_>>()?;
        Ok(Self { runs })
    }

    /// The last run of a comparison.
    pub(super) fn latest(&self, comparison: &str) -> Option<&Run> {
        self.runs.iter().rev().find(|run| run.comparison == comparison)
    }

    /// The file's text.
    pub(super) fn to_text(&self) -> String {
        let runs: Vec<_> = self.runs.iter().map(Run::to_value).collect();
        let value = json!({ "schema": SCHEMA, "runs": runs });
        format!("{value:#}\n")
    }
}

impl Run {
    /// Reads what a comparison wrote: `rows` and `skipped`.
    ///
    /// # Errors
    /// As [`Record::parse`].
    pub(super) fn rows(text: &str) -> Result<(Vec<Row>, Vec<Skipped>)> {
        let value: Value = serde_json::from_str(text).context("not JSON")?;
        let root = At { path: String::new(), value: &value };
        root.only(&["rows", "skipped"])?;
        Self::rows_of(&root)
    }

    fn rows_of(at: &At<'_>) -> Result<(Vec<Row>, Vec<Skipped>)> {
        let rows = at.field("rows")?.items()?.iter().map(Row::parse).collect::<Result<_>>()?;
        let skipped = at.field("skipped")?.items()?;
        Ok((rows, skipped.iter().map(Skipped::parse).collect::<Result<_>>()?))
    }

    fn parse(at: &At<'_>) -> Result<Self> {
        at.only(&["comparison", "date", "commit", "cores", "rows", "skipped"])?;
        let comparison = at.field("comparison")?;
        let known = COMPARISONS.iter().any(|(name, _)| comparison.value == *name);
        ensure!(known, comparison.broken("name a comparison"));
        let cores = at.field("cores")?;
        let (rows, skipped) = Self::rows_of(at)?;
        let run = Self {
            comparison: comparison.text()?,
            date: at.field("date")?.text()?,
            commit: at.field("commit")?.text()?,
            cores: cores.value.as_u64().ok_or_else(|| cores.broken("be a whole number"))?,
            rows,
            skipped,
        };
        match run.rows.iter().position(|row| row.subject.comparison() != run.comparison) {
            Some(n) => bail!("{}.rows[{n}].subject: belongs to another comparison", at.path),
            None => Ok(run),
        }
    }

    fn to_value(&self) -> Value {
        let skipped = self.skipped.iter();
        json!({
            "comparison": self.comparison, "date": self.date, "commit": self.commit,
            "cores": self.cores, "rows": self.rows.iter().map(Row::to_value).collect::<Vec<_>>(),
            "skipped": skipped.map(|s| json!({ "what": s.what, "why": s.why })).collect::<Vec<_>>(),
        })
    }
}

impl Row {
    fn parse(at: &At<'_>) -> Result<Self> {
        at.only(&["subject", "params", "peer", "ours", "theirs", "ratio", "spread"])?;
        let name = at.field("subject")?;
        let subject = SUBJECTS.iter().find(|subject| name.value == subject.name);
        let subject = subject.ok_or_else(|| name.broken("name something that is measured"))?;
        let params = at.field("params")?;
        params.only(subject.params)?;
        let param = |name: &&str| {
            let param = params.field(name)?;
            param.value.as_u64().ok_or_else(|| param.broken("be a whole number"))
        };
        let [peer, theirs, ratio] = [at.field("peer")?, at.field("theirs")?, at.field("ratio")?];
        let beside = if peer.value.is_null() {
            ensure!(theirs.value.is_null(), theirs.broken("be null without a peer"));
            ensure!(ratio.value.is_null(), ratio.broken("be null without a peer"));
            None
        } else {
            let (theirs, ratio) = (theirs.positive()?, ratio.positive()?);
            Some(Beside { peer: peer.text()?, theirs, ratio })
        };
        let spread = at.field("spread")?;
        let ends = spread.items()?.iter().map(At::positive).collect::<Result<Vec<_>>>()?;
        let ours = at.field("ours")?.positive()?;
        let middle = beside.as_ref().map_or(ours, |beside| beside.ratio);
        let [least, greatest] = ends[..] else { bail!(spread.broken("be a pair")) };
        let around = least <= middle && middle <= greatest;
        ensure!(around, spread.broken("go from the least to the greatest, around the median"));
        let params = subject.params.iter().map(param).collect::<Result<_>>()?;
        Ok(Self { subject, params, ours, beside, spread: [least, greatest] })
    }

    fn to_value(&self) -> Value {
        let named = self.subject.params.iter().zip(&self.params);
        let params: serde_json::Map<String, Value> =
            named.map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let beside = self.beside.as_ref();
        json!({
            "subject": self.subject.name, "params": params, "ours": self.ours,
            "peer": beside.map(|beside| &beside.peer), "theirs": beside.map(|b| b.theirs),
            "ratio": beside.map(|beside| beside.ratio), "spread": self.spread,
        })
    }
}

impl Skipped {
    fn parse(at: &At<'_>) -> Result<Self> {
        at.only(&["what", "why"])?;
        Ok(Self { what: at.field("what")?.text()?, why: at.field("why")?.text()? })
    }
}

/// A value and where in the file it is.
struct At<'a> {
    path: String,
    value: &'a Value,
}

impl<'a> At<'a> {
    fn broken(&self, rule: &str) -> anyhow::Error {
        let place = if self.path.is_empty() { "the file" } else { &self.path };
        anyhow!("{place}: must {rule}")
    }

    fn child(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn field(&self, name: &str) -> Result<At<'a>> {
        let value = self.value.get(name);
        let path = self.child(name);
        Ok(At { value: value.ok_or_else(|| anyhow!("{path}: must be there"))?, path })
    }

    fn only(&self, names: &[&str]) -> Result<()> {
        let object = self.value.as_object().ok_or_else(|| self.broken("be an object"))?;
        match object.keys().find(|key| !names.contains(&key.as_str())) {
            Some(key) => bail!("{}: must not be there", self.child(key)),
            None => Ok(()),
        }
    }

    fn items(&self) -> Result<Vec<At<'a>>> {
        let items = self.value.as_array().ok_or_else(|| self.broken("be a list"))?;
        let item = |(n, value)| At { path: format!("{}[{n}]", self.path), value };
        Ok(items.iter().enumerate().map(item).collect())
    }

    fn text(&self) -> Result<String> {
        self.value.as_str().map(str::to_owned).ok_or_else(|| self.broken("be a text"))
    }

    fn positive(&self) -> Result<f64> {
        let number = self.value.as_f64().filter(|number| *number > 0.0);
        number.ok_or_else(|| self.broken("be a number above zero"))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A small record with a panel, two peers, a row alone and something skipped.
    pub(in crate::bench) fn sample() -> Value {
        let row = |subject: &str, params: Value, peer: Value, figures: [f64; 3]| {
            let [ours, theirs, ratio] = figures;
            json!({
                "subject": subject, "params": params, "peer": peer, "ours": ours,
                "theirs": theirs, "ratio": ratio, "spread": [ratio * 0.9, ratio * 1.1],
            })
        };
        let propose = |payload: u64, batch: u64, peer: &str, figures: [f64; 3]| {
            row("raft/propose", json!({ "payload": payload, "batch": batch }), json!(peer), figures)
        };
        json!({ "schema": 1, "runs": [
            { "comparison": "raft", "date": "2026-01-02", "commit": "abc1234", "cores": 2,
              "skipped": [], "rows": [
                propose(16, 1, "first 1.0", [400.0, 800.0, 2.0]),
                propose(16, 1, "second 2.0", [400.0, 2000.0, 5.0]),
                propose(16, 64, "first 1.0", [20.0, 300.0, 15.0]),
                propose(16, 64, "second 2.0", [20.0, 1600.0, 80.0]),
                { "subject": "raft/nodes", "params": { "batch": 1, "nodes": 3 }, "peer": null,
                  "ours": 350.5, "theirs": null, "ratio": null, "spread": [340.0, 360.0] },
              ] },
            { "comparison": "cluster", "date": "2026-01-03", "commit": "def5678", "cores": 8,
              "skipped": [{ "what": "etcd", "why": "no etcd in PATH" }],
              "rows": [
                { "subject": "cluster/puts", "params": { "clients": 1000 }, "peer": null,
                  "ours": 123456.7, "theirs": null, "ratio": null, "spread": [120000, 130000] },
              ] },
        ] })
    }

    /// The error that a change of the sample makes.
    fn broken(change: impl Fn(&mut Value)) -> String {
        let mut value = sample();
        change(&mut value);
        Record::parse(&value.to_string()).expect_err("a broken record").to_string()
    }

    #[test]
    fn what_is_written_can_be_read_and_written_again() {
        let text = Record::parse(&sample().to_string()).unwrap().to_text();
        assert_eq!(Record::parse(&text).unwrap().to_text(), text);
    }

    #[test]
    fn the_last_run_of_a_comparison_counts() {
        let mut value = sample();
        let mut again = value["runs"][0].clone();
        again["commit"] = json!("new");
        value["runs"].as_array_mut().unwrap().push(again);
        let record = Record::parse(&value.to_string()).unwrap();
        assert_eq!(record.latest("raft").unwrap().commit, "new");
        assert_eq!(record.latest("cluster").unwrap().commit, "def5678");
        assert!(record.latest("wal").is_none());
    }

    #[test]
    fn an_error_names_the_field_and_its_rule() {
        type Change = fn(&mut Value);
        let cases: &[(Change, &str)] = &[
            (|v| v["schema"] = json!(2), "schema: must be 1"),
            (|v| v["runs"] = json!({}), "runs: must be a list"),
            (|v| v["note"] = json!(1), "note: must not be there"),
            (|v| *v = json!(3), "the file: must be an object"),
            (
                |v| v["runs"][0]["comparison"] = json!("rust"),
                "runs[0].comparison: must name a comparison",
            ),
            (
                |v| v["runs"][0]["comparison"] = json!("wal"),
                "runs[0].rows[0].subject: belongs to another comparison",
            ),
            (|v| v["runs"][0]["cores"] = json!("2"), "runs[0].cores: must be a whole number"),
            (|v| v["runs"][0]["date"] = json!(5), "runs[0].date: must be a text"),
            (
                |v| v["runs"][0]["rows"][1]["subject"] = json!("x"),
                "runs[0].rows[1].subject: must name something that is measured",
            ),
            (
                |v| v["runs"][0]["rows"][1]["ours"] = json!(0),
                "runs[0].rows[1].ours: must be a number above zero",
            ),
            (
                |v| v["runs"][0]["rows"][1]["params"]["size"] = json!(1),
                "runs[0].rows[1].params.size: must not be there",
            ),
            (
                |v| v["runs"][0]["rows"][1]["params"] = json!({ "payload": 1 }),
                "runs[0].rows[1].params.batch: must be there",
            ),
            (
                |v| v["runs"][0]["rows"][4]["theirs"] = json!(1.0),
                "runs[0].rows[4].theirs: must be null without a peer",
            ),
            (
                |v| v["runs"][0]["rows"][4]["ratio"] = json!(1.0),
                "runs[0].rows[4].ratio: must be null without a peer",
            ),
            (
                |v| v["runs"][0]["rows"][0]["spread"] = json!([1.0]),
                "runs[0].rows[0].spread: must be a pair",
            ),
            (
                |v| v["runs"][0]["rows"][0]["spread"] = json!([3.0, 4.0]),
                "runs[0].rows[0].spread: must go from the least to the greatest, \
                 around the median",
            ),
            (
                |v| v["runs"][1]["skipped"][0] = json!({ "what": "etcd" }),
                "runs[1].skipped[0].why: must be there",
            ),
        ];
        for (change, message) in cases {
            assert_eq!(broken(change), *message);
        }
        assert_eq!(Record::parse("{").unwrap_err().to_string(), "not JSON");
    }
}
