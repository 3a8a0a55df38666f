//! Rows P3 and P17: a cluster in one process beside openraft, in turns, in one run; what a long
//! log costs in memory and at a restart.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use quorate_benches::driver_trio::{self, Nothing};
use quorate_benches::growth::{self, Entries};
use quorate_benches::measure::in_turns;
use quorate_benches::openraft_trio;
use quorate_benches::progress::Progress;
use quorate_benches::puts::{Client, rate, runtime};
use quorate_benches::report::{Better, Options, Report, Subject};
use quorate_raft::Raft;
use quorate_smr::Smr;
use tokio::runtime::Runtime;

const CLIENTS: [u64; 5] = [1, 64, 256, 1024, 4096];
const OPENRAFT: &str = "openraft 0.10.0-alpha.37";
const GROWING: [Entries; 2] =
    [Entries { payload: 16, batch: 1 }, Entries { payload: 256, batch: 64 }];
const RESTARTED: [Entries; 3] = [
    Entries { payload: 16, batch: 1 },
    Entries { payload: 256, batch: 1 },
    Entries { payload: 256, batch: 64 },
];

/// Compare Raft run by the driver with its peer
#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
    /// Where journals are written: a directory on the disk
    #[arg(long, value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    /// Tell how much memory this process takes: payload, batch, and numbers of entries
    #[arg(long, hide = true, value_delimiter = ',')]
    grow: Vec<u64>,
}

/// A cluster with a runtime of its own, which rests while others are measured.
struct Side<C> {
    client: C,
    runtime: Runtime,
}

impl<C: Client> Side<C> {
    fn new(start: impl Future<Output = C>) -> Self {
        let runtime = runtime();
        Self { client: runtime.block_on(start), runtime }
    }

    fn rate(&self, clients: u64, time: Duration) -> f64 {
        self.runtime.block_on(rate(&self.client, clients, time))
    }
}

fn puts(rounds: usize, time: Duration, clients: u64, report: &mut Report) -> String {
    let raft = Side::new(driver_trio::Trio::<Raft>::start());
    let smr = Side::new(driver_trio::Trio::<Smr<Nothing>>::start());
    let openraft = Side::new(openraft_trio::Trio::start());
    let values = in_turns(
        rounds,
        &mut [&mut || raft.rate(clients, time), &mut || openraft.rate(clients, time), &mut || {
            smr.rate(clients, time)
        }],
    );
    let params = [("clients", clients)];
    let subject = Subject { name: "driver/puts", better: Better::Higher, params: &params };
    let peers = [(OPENRAFT, &values[1][..])];
    let line = report.add(&subject, &values[0], &peers);
    let subject = Subject { name: "driver/puts-smr", ..subject };
    format!("{line}\n{}", report.add(&subject, &values[2], &peers))
}

fn params(entries: Entries, log: u64) -> [(&'static str, u64); 3] {
    [("payload", entries.payload as u64), ("batch", entries.batch as u64), ("log", log)]
}

/// Each in a process of its own, which has held nothing before.
fn memory(
    rounds: usize,
    entries: Entries,
    marks: &[u64],
    report: &mut Report,
) -> anyhow::Result<String> {
    let mut grown = vec![Vec::new(); marks.len()];
    for _ in 0..rounds {
        let mut all = vec![entries.payload as u64, entries.batch as u64];
        all.extend(marks);
        let all: Vec<_> = all.iter().map(u64::to_string).collect();
        let output =
            Command::new(std::env::current_exe()?).arg("--grow").arg(all.join(",")).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout)?;
        for (grown, word) in grown.iter_mut().zip(text.split_whitespace()) {
            grown.push(word.parse::<f64>()?);
        }
    }
    let lines = marks.iter().zip(&grown).map(|(log, grown)| {
        let params = params(entries, *log);
        let subject = Subject { name: "driver/memory", better: Better::Lower, params: &params };
        report.add(&subject, grown, &[])
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

fn restart(
    rounds: usize,
    cli: &Cli,
    entries: Entries,
    log: u64,
    report: &mut Report,
) -> anyhow::Result<String> {
    let directory = tempfile::tempdir_in(&cli.directory).context("no directory for journals")?;
    let journal = directory.path().join("journal");
    growth::write_journal(&journal, entries, log)?;
    let lives = 2..2 + rounds as u64;
    let took: Vec<_> =
        lives.map(|life| growth::restart(&journal, life, log)).collect::<Result<_, _>>()?;
    let params = params(entries, log);
    let subject = Subject { name: "driver/restart", better: Better::Lower, params: &params };
    Ok(report.add(&subject, &took, &[]))
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    if let [payload, batch, marks @ ..] = &cli.grow[..] {
        let entries = Entries { payload: *payload as usize, batch: *batch as usize };
        for mib in growth::memory(entries, marks)? {
            println!("{mib}");
        }
        return Ok(());
    }
    let quick = cli.options.quick;
    let (rounds, time) = if quick { (3, 50) } else { (9, 400) };
    let (marks, log) =
        if quick { ([10_000, 100_000], 100_000) } else { ([1_000_000, 10_000_000], 1_000_000) };
    let mut report = Report::default();
    let mut progress = Progress::new(CLIENTS.len() + GROWING.len() + RESTARTED.len());
    for clients in CLIENTS {
        progress.step(&puts(rounds, Duration::from_millis(time), clients, &mut report));
    }
    for entries in GROWING {
        progress.step(&memory(3, entries, &marks, &mut report)?);
    }
    for entries in RESTARTED {
        progress.step(&restart(3, &cli, entries, log, &mut report)?);
    }
    report.write(cli.options.json.as_deref())
}
