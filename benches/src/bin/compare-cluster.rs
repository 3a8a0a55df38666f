//! Rows P4, P5 and P16: three processes on loopback with fsync on, and a load generator in a
//! fourth; where there is an etcd, three of it under the same load, in turns.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use quorate_benches::cluster::{Cluster, Load, Work};
use quorate_benches::progress::Progress;
use quorate_benches::report::{Better, Options, Report, Subject};

const VALUE_BYTES: u64 = 256;
const PUT_CLIENTS: [u64; 4] = [1, 64, 256, 1000];
const READ_CLIENTS: [u64; 3] = [1, 64, 1000];

/// Compare a whole cluster with etcd
#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
    /// The server to measure
    #[arg(long, default_value = "target/release/quorate")]
    quorate: PathBuf,
    /// The load generator for etcd; without it only ours is measured
    #[arg(long)]
    etcd_load: Option<PathBuf>,
    /// Where the data goes; removed afterwards
    #[arg(long, default_value = "target")]
    directory: PathBuf,
    /// How often each leader is killed
    #[arg(long)]
    kills: Option<usize>,
}

/// Both sides.
struct Sides {
    ours: Cluster,
    peer: Option<(String, Cluster)>,
}

impl Sides {
    fn start(cli: &Cli, directory: &Path, report: &mut Report) -> anyhow::Result<Self> {
        let ours = Cluster::quorate(&std::path::absolute(&cli.quorate)?, directory)?;
        let peer = match (&cli.etcd_load, etcd_version()) {
            (Some(load), Some(version)) => {
                let load = std::path::absolute(load)?;
                Some((format!("etcd {version}"), Cluster::etcd(&load, directory)?))
            }
            (_, None) => {
                report.skip("etcd", "no etcd in PATH");
                None
            }
            (None, Some(_)) => {
                report.skip("etcd", "no load generator for it was given");
                None
            }
        };
        Ok(Self { ours, peer })
    }

    /// Both sides under the same load, in turns.
    fn load(&self, rounds: usize, work: Work) -> anyhow::Result<[Vec<Load>; 2]> {
        let mut loads = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            loads[0].push(self.ours.bench(work)?);
            if let Some((_, peer)) = &self.peer {
                loads[1].push(peer.bench(work)?);
            }
        }
        Ok(loads)
    }

    /// Both sides lose their leader, in turns; gaps in milliseconds.
    fn fail_over(&mut self, kills: usize, table: &Path) -> anyhow::Result<[Vec<f64>; 2]> {
        let mut gaps = [Vec::new(), Vec::new()];
        for _ in 0..kills {
            gaps[0].push(self.ours.fail_over(table)?.as_secs_f64() * 1e3);
            if let Some((_, peer)) = &mut self.peer {
                gaps[1].push(peer.fail_over(table)?.as_secs_f64() * 1e3);
            }
        }
        Ok(gaps)
    }

    fn add(&self, subject: &Subject<'_>, values: [&[f64]; 2], report: &mut Report) -> String {
        let peer = self.peer.iter().map(|(name, _)| (name.as_str(), values[1]));
        report.add(subject, values[0], &peer.collect::<Vec<_>>())
    }
}

fn etcd_version() -> Option<String> {
    let output = Command::new("etcd").arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next()?.strip_prefix("etcd Version: ").map(str::to_owned)
}

/// Rows for a load generator that writes each once.
fn write_table(path: &Path, rows: usize) -> anyhow::Result<()> {
    let value = "x".repeat(VALUE_BYTES as usize);
    let mut text = String::with_capacity(rows * (VALUE_BYTES as usize + 16));
    for row in 0..rows {
        writeln!(text, "row/{row:07}\t{value}")?;
    }
    Ok(std::fs::write(path, text)?)
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let quick = cli.options.quick;
    let (rounds, seconds, rows) = if quick { (1, 1, 20_000) } else { (3, 5, 60_000) };
    let kills = cli.kills.unwrap_or(if quick { 1 } else { 5 });
    let directory =
        tempfile::Builder::new().prefix("compare-cluster-").tempdir_in(&cli.directory)?;
    let directory = std::path::absolute(directory.path())?;
    let mut report = Report::default();
    let mut sides = Sides::start(&cli, &directory, &mut report)?;
    let mut progress = Progress::new(PUT_CLIENTS.len() + READ_CLIENTS.len() + 1);

    let puts = PUT_CLIENTS.map(|clients| (clients, false));
    let reads = READ_CLIENTS.map(|clients| (clients, true));
    for (clients, reads) in puts.into_iter().chain(reads) {
        let work = Work { clients, seconds, value_bytes: VALUE_BYTES, reads };
        let loads = sides.load(rounds, work)?;
        let values = |figure: fn(&Load) -> f64| -> [Vec<f64>; 2] {
            loads.each_ref().map(|side| side.iter().map(figure).collect())
        };
        let params = [("clients", clients)];
        let name = if reads { "cluster/reads" } else { "cluster/puts" };
        let [ours, theirs] = values(|load| load.rate);
        let subject = Subject { name, better: Better::Higher, params: &params };
        let rate = sides.add(&subject, [&ours, &theirs], &mut report);
        let name = if reads { "cluster/reads-p50" } else { "cluster/puts-p50" };
        let [ours, theirs] = values(|load| load.p50_ms);
        let subject = Subject { name, better: Better::Lower, params: &params };
        progress.step(&format!("{rate}\n{}", sides.add(&subject, [&ours, &theirs], &mut report)));
    }

    let table = directory.join("table.tsv");
    write_table(&table, rows)?;
    let [ours, theirs] = sides.fail_over(kills, &table)?;
    let params = [("kills", kills as u64)];
    let subject = Subject { name: "cluster/failover", better: Better::Lower, params: &params };
    progress.step(&sides.add(&subject, [&ours, &theirs], &mut report));
    report.write(cli.options.json.as_deref())
}
