//! The load generator: closed loop, or open loop at a given rate.

use std::time::Duration;

use clap::Args;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::client::Client;

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Clients that each have one operation under way
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// How long to measure, in seconds, after a second of warming up
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Bytes of a value
    #[arg(long, default_value_t = 256)]
    value_bytes: usize,
    /// Operations a second in all, each timed from when it was due; as fast as it goes without
    #[arg(long)]
    rate: Option<u64>,
    /// Measure linearizable reads in place of puts
    #[arg(long)]
    reads: bool,
}

/// Runs the benchmark and prints one line of figures.
pub(crate) async fn run(options: &Options, client: &Client) -> anyhow::Result<()> {
    let begun = Instant::now();
    let warm = begun + Duration::from_secs(1);
    let end = warm + Duration::from_secs(options.seconds);
    let mut tasks = JoinSet::new();
    for number in 0..options.clients {
        let (options, client) = (options.clone(), client.clone());
        tasks.spawn(async move { one(number, &options, &client, (begun, warm, end)).await });
    }
    let mut all = histogram();
    let mut failed = 0;
    while let Some(result) = tasks.join_next().await {
        let (latencies, failures) = result??;
        all.add(latencies)?;
        failed += failures;
    }
    let ms = |quantile: f64| all.value_at_quantile(quantile) as f64 / 1e6;
    println!(
        "{} clients, {} {} B: {:.0} ops/s; latency ms p50 {:.2} p90 {:.2} p99 {:.2} p99.9 {:.2} \
         max {:.2}; {failed} failed",
        options.clients,
        if options.reads { "linearizable reads of" } else { "puts of" },
        options.value_bytes,
        all.len() as f64 / options.seconds as f64,
        ms(0.5),
        ms(0.9),
        ms(0.99),
        ms(0.999),
        all.max() as f64 / 1e6,
    );
    Ok(())
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 100_000_000_000, 3).expect("valid bounds")
}

async fn one(
    number: usize,
    options: &Options,
    client: &Client,
    (begun, warm, end): (Instant, Instant, Instant),
) -> anyhow::Result<(Histogram<u64>, u64)> {
    let session = client.session().await?;
    let value = vec![b'x'; options.value_bytes];
    let mut latencies = histogram();
    let mut failed = 0;
    // In an open loop each client has its own even share of the beats.
    let beat = options
        .rate
        .map(|rate| Duration::from_nanos(1_000_000_000 * options.clients as u64 / rate.max(1)));
    let mut due = begun + beat.unwrap_or_default() * number as u32 / options.clients as u32;
    let mut round = 0u64;
    while Instant::now() < end {
        let intended = match beat {
            Some(beat) => {
                sleep_until(due).await;
                let intended = due;
                due += beat;
                intended
            }
            None => Instant::now(),
        };
        let key = format!("bench/{number}/{}", round % 1000);
        round += 1;
        let ok = if options.reads {
            client.get(key.as_bytes(), false).await.is_ok()
        } else {
            session.put(key.as_bytes(), &value).await.is_ok()
        };
        let now = Instant::now();
        if now >= warm && now < end {
            if ok {
                latencies.saturating_record((now - intended).as_nanos() as u64);
            } else {
                failed += 1;
            }
        }
    }
    Ok((latencies, failed))
}
