//! A load generator for etcd with the command line and the output of `quorate bench`, `load` and
//! `status`.
//!
//! It speaks gRPC with the few messages of etcd's API that it needs, declared by hand, so that
//! nothing has to be generated.
#![allow(clippy::disallowed_methods, reason = "a load generator reads the clock")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand};
use hdrhistogram::Histogram;
use prost::Message;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

/// Clients that share a connection.
const CLIENTS_A_CONNECTION: usize = 16;
/// Writes of a load that are under way at a time.
const UNDER_WAY: usize = 128;
/// How long one try of a load may take: some ten times what it takes under this load.
const TRY_MAX: Duration = Duration::from_millis(250);
/// How long a row may take in all.
const ROW_MAX: Duration = Duration::from_secs(30);

/// Put a load on an etcd cluster
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    /// Measure operations a second and their latency, asking the leader
    Bench {
        #[command(flatten)]
        cluster: ClusterArgs,
        /// Clients that each have one operation under way
        #[arg(long)]
        clients: usize,
        /// How long to measure, after a second of warming up
        #[arg(long)]
        seconds: u64,
        /// Bytes of a value
        #[arg(long)]
        value_bytes: usize,
        /// Measure linearizable reads in place of puts
        #[arg(long)]
        reads: bool,
    },
    /// Write every row of a file, tabs between key and value
    Load {
        #[command(flatten)]
        cluster: ClusterArgs,
        file: PathBuf,
    },
    /// Show which node leads
    Status {
        #[command(flatten)]
        cluster: ClusterArgs,
    },
}

#[derive(clap::Args)]
struct ClusterArgs {
    /// The nodes' addresses, as `1=host:port,2=host:port,…`
    #[arg(long)]
    nodes: String,
}

impl ClusterArgs {
    fn endpoints(&self) -> anyhow::Result<Vec<Endpoint>> {
        let endpoint = |pair: &str| {
            let (_, address) = pair.split_once('=').context("want node=host:port")?;
            Ok(Endpoint::from_shared(format!("http://{address}"))?
                .connect_timeout(Duration::from_secs(1)))
        };
        self.nodes.split(',').map(endpoint).collect()
    }
}

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct PutResponse {}

#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

/// One client on a connection that others may share.
#[derive(Clone)]
struct Client(Grpc<Channel>);

impl Client {
    fn new(endpoint: &Endpoint) -> Self {
        Self(Grpc::new(endpoint.connect_lazy()))
    }

    async fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Status> {
        let request = PutRequest { key: key.to_vec(), value: value.to_vec() };
        self.call::<_, PutResponse>("/etcdserverpb.KV/Put", request).await.map(|_| ())
    }

    async fn get(&mut self, key: &[u8]) -> Result<(), Status> {
        let request = RangeRequest { key: key.to_vec() };
        self.call::<_, RangeResponse>("/etcdserverpb.KV/Range", request).await.map(|_| ())
    }

    async fn leads(&mut self) -> Result<Option<bool>, Status> {
        let path = "/etcdserverpb.Maintenance/Status";
        let status: StatusResponse = self.call(path, StatusRequest {}).await?;
        let id = status.header.map_or(0, |header| header.member_id);
        Ok((status.leader != 0).then_some(status.leader == id))
    }

    async fn call<Q, A>(&mut self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let ready = self.0.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_static(path);
        let codec = ProstCodec::<Q, A>::default();
        Ok(self.0.unary(Request::new(request), path, codec).await?.into_inner())
    }
}

/// What a client of `bench` does.
#[derive(Clone, Copy)]
struct Work {
    value_bytes: usize,
    reads: bool,
    warm: Instant,
    end: Instant,
}

impl Work {
    async fn run(self, number: usize, mut client: Client) -> (Histogram<u64>, u64) {
        let value = vec![b'x'; self.value_bytes];
        let (mut latencies, mut failed, mut round) = (histogram(), 0, 0u64);
        while Instant::now() < self.end {
            let key = format!("bench/{number}/{}", round % 1000);
            round += 1;
            let begun = Instant::now();
            let result = if self.reads {
                client.get(key.as_bytes()).await
            } else {
                client.put(key.as_bytes(), &value).await
            };
            let now = Instant::now();
            if now >= self.warm && now < self.end {
                match result {
                    Ok(()) => latencies.saturating_record((now - begun).as_nanos() as u64),
                    Err(_) => failed += 1,
                }
            }
        }
        (latencies, failed)
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 100_000_000_000, 3).expect("valid bounds")
}

async fn leader(endpoints: &[Endpoint]) -> anyhow::Result<&Endpoint> {
    for endpoint in endpoints {
        if let Ok(Some(true)) = Client::new(endpoint).leads().await {
            return Ok(endpoint);
        }
    }
    anyhow::bail!("no node leads")
}

async fn bench(
    endpoints: &[Endpoint],
    clients: usize,
    seconds: u64,
    (value_bytes, reads): (usize, bool),
) -> anyhow::Result<()> {
    let leader = leader(endpoints).await?;
    let connections: Vec<_> =
        (0..clients.div_ceil(CLIENTS_A_CONNECTION)).map(|_| Client::new(leader)).collect();
    let warm = Instant::now() + Duration::from_secs(1);
    let work = Work { value_bytes, reads, warm, end: warm + Duration::from_secs(seconds) };
    let mut tasks = JoinSet::new();
    for number in 0..clients {
        tasks.spawn(work.run(number, connections[number / CLIENTS_A_CONNECTION].clone()));
    }
    let (mut all, mut failed) = (histogram(), 0);
    while let Some(result) = tasks.join_next().await {
        let (latencies, failures) = result?;
        all.add(latencies)?;
        failed += failures;
    }
    let ms = |quantile: f64| all.value_at_quantile(quantile) as f64 / 1e6;
    println!(
        "{clients} clients, {} {value_bytes} B: {:.0} ops/s; latency ms p50 {:.2} p90 {:.2} \
         p99 {:.2} p99.9 {:.2} max {:.2}; {failed} failed",
        if reads { "linearizable reads of" } else { "puts of" },
        all.len() as f64 / seconds as f64,
        ms(0.5),
        ms(0.9),
        ms(0.99),
        ms(0.999),
        all.max() as f64 / 1e6,
    );
    Ok(())
}

/// Writes a row, through whichever node takes it; a try that fails or lasts is made elsewhere.
async fn write_row(clients: &mut [Client], at: &mut usize, row: (&str, &str)) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < ROW_MAX {
        let client = &mut clients[*at];
        let put = client.put(row.0.as_bytes(), row.1.as_bytes());
        if let Ok(Ok(())) = timeout(TRY_MAX, put).await {
            return true;
        }
        *at = (*at + 1) % clients.len();
        sleep(Duration::from_millis(10)).await;
    }
    false
}

async fn load(endpoints: &[Endpoint], file: &Path) -> anyhow::Result<()> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let rows: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    ensure!(!rows.is_empty(), "{} has no rows", file.display());
    let (rows, next) = (Arc::new(rows), Arc::new(AtomicUsize::new(0)));
    let (done, mut acknowledged) = tokio::sync::mpsc::channel(UNDER_WAY);
    let to_all = |_| endpoints.iter().map(Client::new).collect::<Vec<_>>();
    let connections: Vec<_> = (0..UNDER_WAY.div_ceil(CLIENTS_A_CONNECTION)).map(to_all).collect();
    let begun = Instant::now();
    for writer in 0..UNDER_WAY {
        let (rows, next, done) = (Arc::clone(&rows), Arc::clone(&next), done.clone());
        let mut clients = connections[writer / CLIENTS_A_CONNECTION].clone();
        tokio::spawn(async move {
            let mut at = writer % clients.len();
            while let Some((key, value)) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                let ok = write_row(&mut clients, &mut at, (key, value)).await;
                if done.send(ok.then(Instant::now)).await.is_err() {
                    return;
                }
            }
        });
    }
    drop(done);
    let (mut count, mut told, mut last, mut longest) = (0, 0, begun, Duration::ZERO);
    while let Some(at) = acknowledged.recv().await {
        let at = at.context("a row could not be written")?;
        longest = longest.max(at.saturating_duration_since(last));
        last = last.max(at);
        count += 1;
        if count * 10 / rows.len() > told {
            told = count * 10 / rows.len();
            println!("  {count} of {} rows", rows.len());
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{count} rows in {seconds:.2} s ({:.0} a second), longest gap between two acknowledged \
         writes {longest:.1?}",
        count as f64 / seconds
    );
    Ok(())
}

async fn status(endpoints: &[Endpoint]) {
    println!("node  role");
    for (at, endpoint) in endpoints.iter().enumerate() {
        let mut client = Client::new(endpoint);
        let role = match timeout(Duration::from_secs(1), client.leads()).await {
            Ok(Ok(Some(true))) => "leader",
            Ok(Ok(_)) => "follower",
            _ => "down",
        };
        println!("{:<5} {role}", at + 1);
    }
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match Cli::parse().command {
            Subcommands::Bench { cluster, clients, seconds, value_bytes, reads } => {
                bench(&cluster.endpoints()?, clients, seconds, (value_bytes, reads)).await
            }
            Subcommands::Load { cluster, file } => load(&cluster.endpoints()?, &file).await,
            Subcommands::Status { cluster } => {
                status(&cluster.endpoints()?).await;
                Ok(())
            }
        }
    })
}
