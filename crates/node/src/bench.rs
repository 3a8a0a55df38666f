//! The load generator: closed loop, or open loop at a given rate.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::load::Progress;
use quorate_node::client::Client;

/// Before this nothing is measured.
const WARM_UP: Duration = Duration::from_secs(1);
/// The version of the figures that `--json` writes.
const FIGURES_VERSION: u32 = 1;

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Clients that each have one operation under way
    #[arg(long, default_value_t = 64, value_parser = at_least_one)]
    clients: u64,
    /// How long to measure, in seconds, after a second of warming up
    #[arg(long, default_value_t = 10, value_parser = at_least_one)]
    seconds: u64,
    /// Bytes of a value
    #[arg(long, default_value_t = 256)]
    value_bytes: usize,
    /// Operations a second in all, each timed from when it was due; as fast as it goes without
    #[arg(long, value_parser = at_least_one)]
    rate: Option<u64>,
    /// Measure linearizable reads in place of puts
    #[arg(long)]
    reads: bool,
    /// Write the figures to this file as well
    #[arg(long)]
    json: Option<PathBuf>,
}

fn at_least_one(text: &str) -> Result<u64, String> {
    let number = text.parse::<u64>().map_err(|error| error.to_string())?;
    if number == 0 { Err("at least 1".into()) } else { Ok(number) }
}

/// When operations are due in an open loop: evenly, client after client, whatever became of the
/// earlier ones.
#[derive(Clone, Copy, Debug)]
struct Beats {
    rate: u64,
    clients: u64,
}

impl Beats {
    /// When a client's operation of this round is due, counted from the beginning.
    fn due(self, client: u64, round: u64) -> Duration {
        let number = u128::from(round) * u128::from(self.clients) + u128::from(client);
        let nanos = number * 1_000_000_000 / u128::from(self.rate);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Operations that are due before `end` has passed.
    fn count(self, end: Duration) -> u64 {
        let count = (end.as_nanos() * u128::from(self.rate)).div_ceil(1_000_000_000);
        u64::try_from(count).unwrap_or(u64::MAX)
    }
}

/// What one client, or all of them, measured.
struct Measured {
    latencies: Histogram<u64>,
    failed: u64,
    /// Operations that were begun, those of the warm-up included.
    begun: u64,
}

impl Measured {
    fn new() -> Self {
        let latencies =
            Histogram::new_with_bounds(1_000, 100_000_000_000, 3).expect("valid bounds");
        Self { latencies, failed: 0, begun: 0 }
    }
}

/// The figures of a run.
#[derive(Debug, Serialize)]
struct Figures {
    version: u32,
    operation: &'static str,
    clients: u64,
    rate: Option<u64>,
    seconds: u64,
    value_bytes: usize,
    operations: u64,
    failed: u64,
    /// Operations that were due and never begun: the rate was more than the cluster takes.
    not_begun: u64,
    operations_per_second: f64,
    latency_ms: Latencies,
}

#[derive(Debug, Serialize)]
struct Latencies {
    p50: f64,
    p90: f64,
    p99: f64,
    p99_9: f64,
    max: f64,
}

impl Figures {
    fn new(options: &Options, all: &Measured) -> Self {
        let ms = |quantile| all.latencies.value_at_quantile(quantile) as f64 / 1e6;
        let end = WARM_UP + Duration::from_secs(options.seconds);
        let beats = options.rate.map(|rate| Beats { rate, clients: options.clients });
        let due = beats.map_or(0, |beats| beats.count(end));
        let operations = all.latencies.len();
        Self {
            version: FIGURES_VERSION,
            operation: if options.reads { "linearizable reads" } else { "puts" },
            clients: options.clients,
            rate: options.rate,
            seconds: options.seconds,
            value_bytes: options.value_bytes,
            operations,
            failed: all.failed,
            not_begun: due.saturating_sub(all.begun),
            operations_per_second: operations as f64 / options.seconds as f64,
            latency_ms: Latencies {
                p50: ms(0.5),
                p90: ms(0.9),
                p99: ms(0.99),
                p99_9: ms(0.999),
                max: all.latencies.max() as f64 / 1e6,
            },
        }
    }

    fn print(&self) {
        let Self { operation, clients, value_bytes, operations_per_second, failed, .. } = self;
        let Latencies { p50, p90, p99, p99_9, max } = self.latency_ms;
        print!("{clients} clients, {operation} of {value_bytes} B");
        if let Some(rate) = self.rate {
            print!(" at {rate} a second");
        }
        print!(": {operations_per_second:.0} ops/s; latency ms p50 {p50:.2} p90 {p90:.2}");
        print!(" p99 {p99:.2} p99.9 {p99_9:.2} max {max:.2}; {failed} failed");
        match self.not_begun {
            0 => println!(),
            late => println!(", {late} were due and never begun"),
        }
    }
}

/// Runs the benchmark and prints one line of figures.
pub(crate) async fn run(options: &Options, client: &Client) -> anyhow::Result<()> {
    let begun = Instant::now();
    let done = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for number in 0..options.clients {
        let (options, client, done) = (options.clone(), client.clone(), Arc::clone(&done));
        tasks.spawn(async move { one(number, &options, &client, begun, &done).await });
    }
    let mut progress = Progress::new("", "s", options.seconds as usize);
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut all = Measured::new();
    let mut before = 0;
    loop {
        tokio::select! {
            _ = seconds.tick() => {
                let now = done.load(Ordering::Relaxed);
                progress.say(format!("{} ops/s", now - before));
                before = now;
                let measured = begun.elapsed().saturating_sub(WARM_UP).as_secs();
                progress.at(measured.min(options.seconds) as usize);
            }
            next = tasks.join_next() => {
                let Some(measured) = next else { break };
                let measured = measured??;
                all.latencies.add(measured.latencies)?;
                all.failed += measured.failed;
                all.begun += measured.begun;
            }
        }
    }
    drop(progress);
    let figures = Figures::new(options, &all);
    figures.print();
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&figures)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// One client: what it begins between warm-up and end counts, whenever it is done.
async fn one(
    number: u64,
    options: &Options,
    client: &Client,
    begun: Instant,
    done: &AtomicU64,
) -> anyhow::Result<Measured> {
    let session = client.session().await?;
    let value = vec![b'x'; options.value_bytes];
    let (warm, end) = (begun + WARM_UP, begun + WARM_UP + Duration::from_secs(options.seconds));
    let beats = options.rate.map(|rate| Beats { rate, clients: options.clients });
    let mut measured = Measured::new();
    for round in 0u64.. {
        let intended = match beats {
            Some(beats) => {
                let due = begun + beats.due(number, round);
                sleep_until(due.min(end)).await;
                due
            }
            None => Instant::now(),
        };
        if intended >= end || Instant::now() >= end {
            break;
        }
        measured.begun += 1;
        let key = format!("bench/{number}/{}", round % 1000);
        let ok = if options.reads {
            client.get(key.as_bytes(), false).await.is_ok()
        } else {
            session.put(key.as_bytes(), &value).await.is_ok()
        };
        done.fetch_add(1, Ordering::Relaxed);
        if intended >= warm {
            match ok {
                true => {
                    let latency = (Instant::now() - intended).as_nanos();
                    measured.latencies.saturating_record(latency as u64);
                }
                false => measured.failed += 1,
            }
        }
    }
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beats_of_all_clients_are_even_and_never_drift() {
        for (rate, clients) in [(1, 1), (3, 7), (1000, 64), (7_000_001, 1000)] {
            let beats = Beats { rate, clients };
            let mut before = Duration::ZERO;
            for number in 0..10 * clients {
                let due = beats.due(number % clients, number / clients);
                assert!(due >= before, "{rate} {number}");
                let exact = number as f64 / rate as f64;
                assert!((due.as_secs_f64() - exact).abs() < 1e-8, "{rate} {number}: {due:?}");
                before = due;
            }
            // An hour on it is still the same.
            let late = beats.due(0, 3600 * rate);
            assert_eq!(late, Duration::from_secs(3600 * clients), "{rate}");
        }
    }

    #[test]
    fn as_many_operations_are_due_as_the_rate_says() {
        for (rate, clients) in [(1, 1), (3, 7), (1000, 64)] {
            let beats = Beats { rate, clients };
            for millis in [1, 999, 1000, 1001, 3500] {
                let end = Duration::from_millis(millis);
                let due = |client: u64| {
                    (0u64..).take_while(|round| beats.due(client, *round) < end).count() as u64
                };
                assert_eq!(beats.count(end), (0..clients).map(due).sum::<u64>(), "{rate} {millis}");
            }
        }
    }

    #[test]
    fn what_was_due_and_never_begun_is_told() {
        let options = Options {
            clients: 2,
            seconds: 9,
            value_bytes: 1,
            rate: Some(100),
            reads: false,
            json: None,
        };
        let mut all = Measured::new();
        all.begun = 400;
        (0..300).for_each(|_| all.latencies.saturating_record(2_000_000));
        let figures = Figures::new(&options, &all);
        assert_eq!((figures.operations, figures.not_begun), (300, 600));
        assert!((figures.latency_ms.p99_9 - 2.0).abs() < 0.01);
        let text = serde_json::to_string(&figures).unwrap();
        assert!(text.contains("\"version\":1") && text.contains("\"p99_9\":"), "{text}");
    }
}
