//! `quorate`: a replicated key-value store, its client, and a demonstration of both.

#![forbid(unsafe_code)]

mod bench;
mod config;
mod demo;
mod drill;
mod faulty;
mod follow;
mod http;
mod load;
mod metrics;
mod regroup;
mod serve;
mod server;
mod table;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Batches of many sizes come and go by the thousand: the system's allocator gives their pages back
/// to the kernel and takes them again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use quorate_node::client::{Client, ClientError};
use tokio::time::Instant;

/// A replicated key-value store that agrees by Raft
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one node
    Serve {
        /// Its configuration, a TOML file; flags and QUORATE_* variables override it
        #[arg(long, env = "QUORATE_CONFIG")]
        config: Option<PathBuf>,
        #[command(flatten)]
        overrides: config::Overrides,
    },
    /// Run a real cluster here, load a table, kill the leader, and check that nothing was lost
    Demo(demo::Options),
    /// Set a key
    Put {
        key: String,
        value: String,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Set a key if it has the value that is expected, or if it is not there
    Cas {
        key: String,
        value: String,
        /// What it must have; without this, the key must not be there
        #[arg(long)]
        expected: Option<String>,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Read a key, linearizably
    Get {
        key: String,
        /// Read what the node asked has applied, without asking a majority
        #[arg(long)]
        stale: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Remove a key
    Del {
        key: String,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// List keys and values
    List {
        /// Only keys that begin so
        #[arg(long, default_value = "")]
        prefix: String,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Tell what changes, a line a change: its index, `put` or `del`, the key, the value
    Watch {
        /// Only this key
        #[arg(conflicts_with = "prefix")]
        key: Option<String>,
        /// Only keys that begin so
        #[arg(long)]
        prefix: Option<String>,
        /// Begin after this index, where an earlier watch ended; from now on if not given
        #[arg(long)]
        after: Option<u64>,
        /// End after so many changes
        #[arg(long)]
        count: Option<u64>,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Load a table from a file: a line a row, tabs or commas between columns, keys first
    Load {
        file: PathBuf,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Have all replicas compare their states; with a file, check that its rows are there
    Verify {
        file: Option<PathBuf>,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Show where each node stands
    Status {
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Show every member as a node sees it: standing, generation, phi, last heartbeat
    Members {
        /// Go on, and tell what changes
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Show who replicates the map, or change that
    Group {
        #[command(subcommand)]
        verb: Option<regroup::Verb>,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Show who leads
    Leader {
        /// Go on, and tell what changes
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Show what a node has counted: requests with quantiles, and every counter that is not 0
    Metrics {
        /// Which node; the first that answers if not given
        #[arg(long)]
        node: Option<u64>,
        /// As Prometheus reads it
        #[arg(long)]
        raw: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Measure puts: operations a second and their latency
    Bench {
        #[command(flatten)]
        options: bench::Options,
        #[command(flatten)]
        cluster: Cluster,
    },
}

/// How to reach the cluster.
#[derive(Args, Clone, Debug)]
struct Cluster {
    /// The nodes' addresses for clients, as `1=host:port,2=host:port,…`
    #[arg(
        long,
        env = "QUORATE_NODES",
        global = true,
        value_parser = parse_nodes,
        default_value = "1=127.0.0.1:7201"
    )]
    nodes: BTreeMap<u64, String>,
    /// Give an operation up after this many seconds
    #[arg(long, global = true, default_value_t = 10)]
    timeout: u64,
}

impl Cluster {
    fn client(&self) -> Client {
        Client::new(self.nodes.clone(), self.patience())
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

fn parse_nodes(text: &str) -> Result<BTreeMap<u64, String>, String> {
    let pair = |pair: &str| {
        let (node, address) = pair.split_once('=').ok_or(format!("{pair}: want node=host:port"))?;
        let node = node.trim().parse().map_err(|_| format!("{node}: want a node's number"))?;
        Ok((node, address.trim().to_owned()))
    };
    text.split(',').map(pair).collect()
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve { config, overrides } => {
            serve::run(config.as_deref(), overrides).await?;
        }
        Command::Demo(options) => return demo::run(options).await,
        Command::Put { key, value, cluster } => {
            let session = cluster.client().session().await?;
            session.put(key.as_bytes(), value.as_bytes()).await?;
        }
        Command::Cas { key, value, expected, cluster } => {
            return cas(&cluster.client(), &key, expected.as_deref(), &value).await;
        }
        Command::Get { key, stale, cluster } => return get(&cluster.client(), &key, stale).await,
        Command::Del { key, cluster } => {
            let session = cluster.client().session().await?;
            if !session.delete(key.as_bytes()).await? {
                eprintln!("{key} was not there");
                return Ok(ExitCode::from(1));
            }
        }
        Command::List { prefix, cluster } => {
            for (key, value) in cluster.client().list(prefix.as_bytes()).await? {
                let (key, value) = (String::from_utf8_lossy(&key), String::from_utf8_lossy(&value));
                println!("{key}\t{value}");
            }
        }
        Command::Watch { key, prefix, after, count, cluster } => {
            let filter = follow::filter(key, prefix);
            follow::run(&cluster.client(), filter, after, count).await?;
        }
        Command::Load { file, cluster } => {
            let rows = table::read(Some(&file))?;
            let report = load::load(&cluster.client(), &rows, Instant::now(), |_| None).await?;
            println!("{report}");
        }
        Command::Verify { file, cluster } => {
            return verify(&cluster.client(), file.as_deref(), cluster.patience()).await;
        }
        Command::Status { cluster } => {
            let client = cluster.client();
            demo::print_status(&client, &cluster.nodes).await;
        }
        Command::Members { watch, cluster } => {
            if !watch::members(&cluster.client(), &cluster.nodes, watch).await {
                anyhow::bail!("no node answers");
            }
        }
        Command::Group { verb, cluster } => {
            regroup::run(&cluster.client(), &cluster.nodes, verb, cluster.patience()).await?;
        }
        Command::Leader { watch, cluster } => {
            if !watch::leader(&cluster.client(), &cluster.nodes, watch).await {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Metrics { node, raw, cluster } => {
            show_metrics(&cluster, node, raw).await?;
        }
        Command::Bench { options, cluster } => bench::run(&options, &cluster.client()).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn get(client: &Client, key: &str, stale: bool) -> anyhow::Result<ExitCode> {
    let Some(value) = client.get(key.as_bytes(), stale).await? else {
        eprintln!("{key} is not there");
        return Ok(ExitCode::from(1));
    };
    println!("{}", String::from_utf8_lossy(&value));
    Ok(ExitCode::SUCCESS)
}

async fn cas(
    client: &Client,
    key: &str,
    expected: Option<&str>,
    value: &str,
) -> anyhow::Result<ExitCode> {
    let (session, expected) = (client.session().await?, expected.map(str::as_bytes));
    if session.compare_and_set(key.as_bytes(), expected, Some(value.as_bytes())).await? {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{key} is not as expected: nothing was set");
    Ok(ExitCode::from(1))
}

async fn verify(
    client: &Client,
    file: Option<&Path>,
    patience: Duration,
) -> anyhow::Result<ExitCode> {
    let Some(file) = file else {
        let (index, digest) = client.audit(patience).await?;
        println!("all replicas have the state {digest:032x} at index {index}");
        return Ok(ExitCode::SUCCESS);
    };
    let rows = table::read(Some(file))?;
    let wrong = load::verify(client, &rows).await?;
    println!("{} rows, {wrong} missing or different", rows.len());
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

async fn show_metrics(cluster: &Cluster, node: Option<u64>, raw: bool) -> anyhow::Result<()> {
    let fetched = metrics::fetch(&cluster.client(), &cluster.nodes, node).await;
    let Some((node, text)) = fetched else { anyhow::bail!("no node answers") };
    if raw {
        print!("{text}");
    } else {
        print!("node {node}\n{}", metrics::table(&text));
    }
    Ok(())
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("QUORATE_LOG");
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("quorate: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(cli.command));
    runtime.shutdown_timeout(Duration::from_secs(1));
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("quorate: {error:#}");
            match error.downcast_ref::<ClientError>() {
                Some(ClientError::Unknown | ClientError::SessionExpired) => ExitCode::from(3),
                Some(ClientError::NoQuorum(_) | ClientError::NoAnswer(_)) => ExitCode::from(4),
                Some(ClientError::Compacted { .. }) => ExitCode::from(5),
                _ => ExitCode::FAILURE,
            }
        }
    }
}
