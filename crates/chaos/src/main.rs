#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod cluster;
mod isolation;
mod judge;
mod nemesis;
mod network;
mod proxy;
mod run;
mod self_test;
mod voice;
mod workload;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};

use cluster::Plan;
use nemesis::Kind;
use network::Network;
use voice::Voice;

/// A real cluster under faults of every kind, and a judge of what its clients saw
#[derive(Clone, Debug, Parser)]
#[command(version)]
struct Cli {
    /// How long faults come and go
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The same, in minutes
    #[arg(long, conflicts_with = "seconds")]
    minutes: Option<u64>,
    /// Draws faults and operations; printed when it is not given
    #[arg(long)]
    seed: Option<u64>,
    /// How many nodes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(3..=9))]
    nodes: u64,
    /// How they are connected
    #[arg(long, value_enum, default_value_t = Net::Auto)]
    net: Net,
    /// Only these kinds of faults
    #[arg(long, value_delimiter = ',')]
    kinds: Vec<Kind>,
    /// Name the kinds of faults, and leave
    #[arg(long)]
    list: bool,
    /// The binary `quorate` [default: beside this one]
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Show that a cluster on lying disks is found out
    #[arg(long)]
    self_test: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Net {
    /// All on loopback, links are proxies
    Proxy,
    /// Each node in a network namespace of its own as well: needs root
    Netns,
    /// Namespaces where they can be had
    Auto,
}

/// What a shell reports of a program that an interrupt ended.
const INTERRUPTED: u8 = 130;

async fn outside(cli: Cli) -> anyhow::Result<ExitCode> {
    if cli.list {
        for kind in Kind::ALL {
            println!("{:<18} {}", kind.name(), kind.about());
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(directory) = isolation::inside() {
        isolation::furnish().await?;
        return inside(&cli, &directory, true).await;
    }
    let directory = tempfile::Builder::new().prefix("quorate-chaos-").tempdir()?;
    let isolated = match isolation::probe().await {
        Ok(()) => true,
        Err(why) => {
            ensure!(cli.net != Net::Netns, "no network namespaces here: {why}");
            println!("no world of our own ({why}): all on this host's loopback");
            false
        }
    };
    let code = if isolated {
        isolation::run_inside(directory.path()).await
    } else {
        inside(&cli, directory.path(), false).await
    };
    let clean = [ExitCode::SUCCESS, ExitCode::from(INTERRUPTED)];
    if !code.as_ref().is_ok_and(|code| clean.contains(code)) {
        println!("everything is kept in {}", directory.keep().display());
    }
    code
}

/// The run itself, in a world of our own or not.
async fn inside(cli: &Cli, directory: &Path, isolated: bool) -> anyhow::Result<ExitCode> {
    let seed = cli.seed.unwrap_or_else(|| RandomState::new().hash_one(0) >> 32);
    let length = Duration::from_secs(cli.minutes.map_or(cli.seconds, |minutes| minutes * 60));
    let beside = std::env::current_exe()?.with_file_name("quorate");
    let binary = cli.binary.clone().unwrap_or(beside);
    ensure!(binary.is_file(), "there is no {}: build it, or say --binary", binary.display());
    let network =
        if isolated && cli.net != Net::Proxy { Network::Namespaces } else { Network::Loopback };
    let plan = |directory: PathBuf| Plan {
        nodes: cli.nodes,
        seed,
        binary: binary.clone(),
        directory,
        network,
        mounts: isolated,
    };
    let mut voice = Voice::new(length);
    voice.plain(&format!("seed {seed}: run again with --seed {seed}"));
    let work = async {
        if cli.self_test {
            let part = |name: &str| {
                let part =
                    Plan { network: Network::Loopback, nodes: 3, ..plan(directory.join(name)) };
                std::fs::create_dir_all(&part.directory)?;
                Ok(part)
            };
            return self_test::run(part, &mut voice).await;
        }
        let only: BTreeSet<Kind> = cli.kinds.iter().copied().collect();
        run::run(plan(directory.to_path_buf()), length, &only, &mut voice).await
    };
    let holds = tokio::select! {
        holds = work => holds.with_context(|| format!("seed {seed}"))?,
        () = isolation::interrupted() => return Ok(ExitCode::from(INTERRUPTED)),
        () = isolation::abandoned() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    println!("\n{}, seed {seed}", if holds { "CHAOS PASSED" } else { "CHAOS FAILED" });
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("quorate-chaos: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(outside(cli));
    // Standard input may still be read; nothing waits for that.
    runtime.shutdown_background();
    code.unwrap_or_else(|error| {
        eprintln!("quorate-chaos: {error:#}");
        ExitCode::FAILURE
    })
}
