//! The main job, shown: a real cluster of processes that loses its leader and no write.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use quorate_linearizability::{Budget, MapOp, MapOutput, Operation, Verdict, check};
use quorate_transport::Time;
use tokio::time::{Instant, sleep};

use crate::load::{self, Report};
use crate::table::{self, Row};
use quorate_node::client::Client;

mod cluster;
mod prompt;
mod readers;
mod tour;

use cluster::Processes;
use readers::Read;

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=9))]
    pub(crate) nodes: u64,
    /// The table to load, tabs or commas between columns, keys first [default: Europe's capitals]
    #[arg(long)]
    pub(crate) load: Option<PathBuf>,
    /// How often the leader is killed while the table loads
    #[arg(long, default_value_t = 1)]
    pub(crate) kills: usize,
    /// After the check, show every system at work on the live processes
    #[arg(long)]
    pub(crate) tour: bool,
    /// Leave after the check, even on a terminal
    #[arg(long)]
    pub(crate) exit: bool,
    /// Keep data directories here in place of a temporary directory
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
}

/// Runs the demonstration; the exit code says whether the check passed.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    ensure!(!options.tour || options.nodes >= 3, "--tour: needs at least 3 nodes");
    let rows = table::read(options.load.as_deref())?;
    let mut processes =
        Processes::start(options.nodes, options.data.as_deref(), options.tour).await?;
    let client = Client::new(processes.clients(), Duration::from_secs(30));
    let result = tokio::select! {
        result = show(&options, &rows, &mut processes, &client) => result,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    let interactive = !options.exit && std::io::stdin().is_terminal();
    if result.is_ok() && interactive {
        prompt::run(&mut processes, &client).await?;
    }
    processes.stop().await;
    match result {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            println!("\nCHECK FAILED: {error:#}");
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn show(
    options: &Options,
    rows: &[Row],
    processes: &mut Processes,
    client: &Client,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let leader = wait_for_leader(client, None).await?;
    println!("{} nodes up, node {leader} leads after {:.0?}\n", options.nodes, begun.elapsed());
    processes.print();
    print_status(client, &processes.clients()).await;

    println!("\nloading {} rows; the leader will be killed {} time(s)", rows.len(), options.kills);
    let begun = Instant::now();
    let (loaded, until) = tokio::sync::watch::channel(false);
    let loading = async {
        let report = load_and_kill(options, rows, processes, client, begun).await;
        let _ = loaded.send(true);
        report
    };
    let (report, reads) = tokio::join!(loading, readers::read(client, rows, begun, until));
    let report = report?;
    println!("{report}");

    println!("\nchecking");
    check_all(rows, &report, &reads, begun, client).await?;
    println!("\nCHECK PASSED");
    if options.tour {
        tour::run(processes, client).await?;
    }
    Ok(())
}

/// Loads the table; at evenly spaced points the leader is killed, and comes back a moment later.
async fn load_and_kill(
    options: &Options,
    rows: &[Row],
    processes: &mut Processes,
    client: &Client,
    begun: Instant,
) -> anyhow::Result<Report> {
    let points: Vec<_> =
        (1..=options.kills).map(|kill| rows.len() * kill / (options.kills + 1)).collect();
    let (reached, mut due) = tokio::sync::mpsc::channel(options.kills.max(1));
    let mut left = points.into_iter().peekable();
    let loading = load::load(client, rows, begun, move |done| {
        left.next_if(|point| *point <= done)?;
        let (go_on, held) = tokio::sync::oneshot::channel();
        let _ = reached.try_send(go_on);
        Some(held)
    });
    let nodes = processes.clients();
    let killing = async {
        while let Some(go_on) = due.recv().await {
            let Ok(victim) = wait_for_leader(client, None).await else { continue };
            processes.kill(victim)?;
            let killed = Instant::now();
            let _ = go_on.send(());
            println!("  killed node {victim}, the leader (SIGKILL)");
            if nodes.len() > 1 {
                let leader = wait_for_leader(client, Some(victim)).await?;
                println!("  node {leader} leads after {:.0?}", killed.elapsed());
                sleep(Duration::from_millis(200)).await;
            }
            processes.restart(victim)?;
            println!("  restarted node {victim}");
        }
        anyhow::Ok(())
    };
    let (report, killed) = tokio::join!(loading, killing);
    killed?;
    Ok(report?)
}

/// Everything acknowledged is there, the history is linearizable, and all replicas are equal.
async fn check_all(
    rows: &[Row],
    report: &Report,
    reads: &[Read],
    begun: Instant,
    client: &Client,
) -> anyhow::Result<()> {
    ensure!(report.unknown == 0, "{} writes have an unknown outcome", report.unknown);
    let asked = begun.elapsed();
    let have = client.list(b"").await.context("cannot read the table back")?;
    let answered = begun.elapsed();
    let read_at = (asked.as_nanos() as u64, answered.as_nanos() as u64);
    let have: BTreeMap<Vec<u8>, Vec<u8>> =
        have.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    let missing = rows.iter().filter(|(key, _)| !have.contains_key(key)).count();
    ensure!(missing == 0, "{missing} acknowledged rows are missing");
    println!("  all {} acknowledged rows are there ({:.0?})", rows.len(), answered - asked);

    linearizable(rows, report, reads, &have, read_at)?;
    println!(
        "  the history of {} writes, {} reads among them and {} after is linearizable",
        rows.len(),
        reads.len(),
        have.len()
    );

    let (index, digest) = equal_digests(client).await?;
    println!("  all replicas have digest {digest:032x} at index {index}");
    Ok(())
}

fn linearizable(
    rows: &[Row],
    report: &Report,
    reads: &[Read],
    have: &BTreeMap<Vec<u8>, Vec<u8>>,
    (called, returned): (u64, u64),
) -> anyhow::Result<()> {
    type Map = quorate_linearizability::Map<Vec<u8>, Vec<u8>>;
    let at = Time::from_nanos;
    let mut history: Vec<Operation<Map>> = Vec::new();
    for (process, (row, asked, answered)) in report.history.iter().enumerate() {
        let (key, value) = rows[*row].clone();
        let op = MapOp::Put { key, value };
        let process = process as u64;
        history.push(match answered {
            Some(answered) => {
                Operation::returned(process, at(*asked), at(*answered), op, MapOutput::Done)
            }
            None => Operation::indeterminate(process, at(*asked), op),
        });
    }
    for Read { key, asked, answered, value } in reads {
        let process = history.len() as u64;
        let (op, output) = (MapOp::Get { key: key.clone() }, MapOutput::Value(value.clone()));
        history.push(Operation::returned(process, at(*asked), at(*answered), op, output));
    }
    for (key, value) in have {
        let process = history.len() as u64;
        let op = MapOp::Get { key: key.clone() };
        let output = MapOutput::Value(Some(value.clone()));
        history.push(Operation::returned(process, at(called), at(returned), op, output));
    }
    match check(&history, Budget::default()) {
        Verdict::Ok => Ok(()),
        Verdict::Illegal(example) => bail!("the history is not linearizable: {example}"),
        Verdict::Unknown => bail!("the history is too long to decide"),
    }
}

/// Waits until every node has applied the same index, and compares digests there.
async fn equal_digests(client: &Client) -> anyhow::Result<(u64, u128)> {
    Ok(client.equal_digests(Duration::from_secs(30)).await?)
}

/// The node that leads, and that is not `gone`.
async fn wait_for_leader(client: &Client, gone: Option<u64>) -> anyhow::Result<u64> {
    let patience = Duration::from_secs(20);
    let leader = client.wait_for_leader(gone, patience).await;
    leader.with_context(|| format!("no leader within {patience:.0?}"))
}

/// A table of where each node stands.
pub(crate) async fn print_status(client: &Client, nodes: &BTreeMap<u64, String>) {
    println!("node  role       term  leader   commit  applied  snapshot  digest");
    for node in nodes.keys() {
        match client.status(*node).await {
            Some(status) => println!(
                "{:<5} {:<10} {:<5} {:<8} {:<7} {:<8} {:<9} {:08x}",
                status.node,
                status.role,
                status.term,
                status.leader.map_or("-".into(), |leader| leader.to_string()),
                status.commit,
                status.applied,
                status.snapshot,
                status.digest as u32,
            ),
            None => println!("{node:<5} down"),
        }
    }
}
