//! `bench`: comparisons with peers, the page that is written from them, and criterion.

mod markdown;
mod plot;
mod record;
mod subjects;

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::bench::record::{Record, Run};
use crate::build::release_binary;
use crate::run::{Cmd, say};
use crate::workspace::Workspace;

/// The package with the benchmarks.
const PACKAGE: &str = "quorate-benches";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to measure; all of it by default
    #[arg(value_enum)]
    what: Vec<What>,
    /// Few and short rounds, written below `target/bench` in place of `docs`: shows that it works
    #[arg(long)]
    quick: bool,
    /// How often each side's leader is killed in the fail-over of `cluster`
    #[arg(long, value_name = "N")]
    kills: Option<usize>,
    /// Measure nothing; write the page and the plots anew from `docs/benchmarks.json`
    #[arg(long, conflicts_with_all = ["what", "quick", "kills"])]
    render: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// The Raft core, in memory, beside omnipaxos and raft-rs; then `system` and `driver` as well
    Raft,
    /// The first rows of `raft` again with the system's allocator, on all sides
    System,
    /// A cluster in one process beside openraft; what entries cost in memory and at a restart
    Driver,
    /// The journal with fsync, beside raft-engine and the limit of the disk
    Wal,
    /// Clocks and metrics beside uhlc, prometheus-client and hdrhistogram; messages and forced
    /// writes of mutual exclusion and two-phase commit beside the formulas
    Systems,
    /// Three server processes, beside etcd where there is one in PATH: throughput, latency,
    /// fail-over
    Cluster,
    /// Timings of single functions by criterion; printed, not recorded
    Criterion,
}

impl What {
    const ALL: [Self; 5] = [Self::Raft, Self::Wal, Self::Systems, Self::Cluster, Self::Criterion];

    /// What is measured for it, in order: all rows of Raft in one run.
    fn parts(self) -> &'static [Self] {
        match self {
            Self::Raft => &[Self::Raft, Self::System, Self::Driver],
            Self::System => &[Self::System],
            Self::Driver => &[Self::Driver],
            Self::Wal => &[Self::Wal],
            Self::Systems => &[Self::Systems],
            Self::Cluster => &[Self::Cluster],
            Self::Criterion => &[Self::Criterion],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Raft => "raft",
            Self::System => "system",
            Self::Driver => "driver",
            Self::Wal => "wal",
            Self::Systems => "systems",
            Self::Cluster => "cluster",
            Self::Criterion => "criterion",
        }
    }
}

/// Where the record and the page are.
struct Place {
    json: PathBuf,
    page: PathBuf,
    plots: PathBuf,
}

impl Place {
    fn new(directory: &Path) -> Self {
        Self {
            json: directory.join("benchmarks.json"),
            page: directory.join("benchmarks.md"),
            plots: directory.join("benchmarks"),
        }
    }

    fn read(&self) -> Result<Record> {
        let shown = self.json.display();
        match std::fs::read_to_string(&self.json) {
            Ok(text) => Record::parse(&text).with_context(|| format!("{shown}")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Record::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {shown}")),
        }
    }

    fn write(&self, record: &Record) -> Result<()> {
        let page = markdown::render(record);
        std::fs::create_dir_all(&self.plots)?;
        std::fs::write(&self.json, record.to_text())?;
        std::fs::write(&self.page, page.markdown)?;
        for (name, svg) in page.plots {
            std::fs::write(self.plots.join(name), svg)?;
        }
        say("-", &format!("wrote {} and {}", self.json.display(), self.page.display()));
        Ok(())
    }
}

/// Measures what was asked for, one after the other, and records each as soon as it is there.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let scratch = workspace.target.join("bench");
    std::fs::create_dir_all(&scratch)?;
    let place = match args.quick {
        true => Place::new(&scratch),
        false => Place::new(&workspace.root.join("docs")),
    };
    let mut record = place.read()?;
    if args.render {
        return place.write(&record);
    }
    if workspace.package(PACKAGE).is_none() {
        bail!("there is no package `{PACKAGE}`");
    }
    let what = if args.what.is_empty() { &What::ALL[..] } else { &args.what };
    for what in what.iter().flat_map(|what| what.parts()) {
        if *what == What::Criterion {
            workspace.cargo().args(["bench", "-p", PACKAGE, "--benches"]).run()?;
            continue;
        }
        let rows = scratch.join(format!("{}-rows.json", what.name()));
        compare(workspace, args, *what, &rows)?;
        record.runs.push(taken(workspace, *what, &rows)?);
        place.write(&record)?;
    }
    Ok(())
}

/// Runs one comparison, which writes its rows to a file.
fn compare(workspace: &Workspace, args: &Args, what: What, rows: &Path) -> Result<()> {
    let (bin, features) = match what {
        What::System => ("raft", Some("raft,system-allocator")),
        What::Cluster => ("cluster", None),
        other => (other.name(), Some(other.name())),
    };
    let bin = format!("compare-{bin}");
    let mut run = workspace.cargo().args(["run", "--release", "-p", PACKAGE, "--bin", &bin]);
    if let Some(features) = features {
        run = run.args(["--features", features]);
    }
    run = run.arg("--").arg("--json").arg(rows);
    if args.quick {
        run = run.arg("--quick");
    }
    if what == What::Cluster {
        let release = workspace.target.join("release");
        let binary = |name: &str| release.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        release_binary(workspace)?;
        run = run.arg("--quorate").arg(binary("quorate"));
        if Cmd::new("etcd").arg("--version").read().is_ok() {
            let load = ["--bin", "etcd-load", "--features", "etcd"];
            workspace.cargo().args(["build", "--release", "-p", PACKAGE]).args(load).run()?;
            run = run.arg("--etcd-load").arg(binary("etcd-load"));
        }
        if let Some(kills) = args.kills {
            run = run.arg("--kills").arg(kills.to_string());
        }
    }
    if !matches!(what, What::Raft | What::System) {
        run = run.arg("--directory").arg(&workspace.target);
    }
    run.run()
}

/// The run whose rows are in that file, with when and where it was made.
fn taken(workspace: &Workspace, what: What, rows: &Path) -> Result<Run> {
    let text = std::fs::read_to_string(rows)?;
    let (rows, skipped) =
        Run::rows(&text).with_context(|| format!("in what `{}` wrote", what.name()))?;
    let git = |args: &[&str]| -> Result<String> {
        let root = workspace.root.display().to_string();
        let output = Cmd::new("git").args(["-C", &root]).args(args).read()?;
        Ok(String::from_utf8_lossy(&output).trim().to_owned())
    };
    // The page and the record of an earlier comparison of this run are no change of the code.
    let changed = git(&["status", "--porcelain", "--", ".", ":!docs"])?;
    let dirty = if changed.is_empty() { "" } else { "-dirty" };
    Ok(Run {
        comparison: what.name().to_owned(),
        date: today(),
        commit: git(&["rev-parse", "--short", "HEAD"])? + dirty,
        cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64),
        rows,
        skipped,
    })
}

#[expect(clippy::disallowed_methods, reason = "a record says when it was made")]
fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    date(since.as_secs() / 86_400)
}

/// The date so many days after 1970-01-01.
fn date(days: u64) -> String {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut year, mut left) = (1970, days);
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates_across_leap_years() {
        let cases = [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_453, "2025-12-31"),
            (20_454, "2026-01-01"),
        ];
        for (days, text) in cases {
            assert_eq!(date(days), text);
        }
    }

    #[test]
    fn the_committed_page_and_plots_are_what_the_committed_record_renders() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        let place = Place::new(&docs);
        let record = place.read().unwrap();
        if record.runs.is_empty() {
            return;
        }
        let page = markdown::render(&record);
        assert_eq!(std::fs::read_to_string(&place.page).unwrap(), page.markdown);
        for (name, svg) in page.plots {
            assert_eq!(std::fs::read_to_string(place.plots.join(&name)).unwrap(), svg, "{name}");
        }
    }
}
