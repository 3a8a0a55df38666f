//! Three nodes increment one number in a file under the lock.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::task::JoinSet;

use super::{Tour, drill_on};
use quorate_node::client::Client;
use quorate_node::wire::{Drill, Report};

const SYSTEM: &str = "mutual exclusion";
/// Entries of each node.
const EACH: u64 = 100;
const PATIENCE_MS: u64 = 15_000;

impl Tour<'_> {
    pub(super) async fn exclusion(&mut self) -> anyhow::Result<()> {
        self.page(
            "Mutual exclusion",
            "Every node reads a number from one file, adds one, and writes it back, many times.\n\
             Ricart and Agrawala's algorithm lets one at a time do so, without server or leader.",
        );
        let nodes: Vec<u64> = self.nodes.keys().copied().collect();
        let total = EACH * nodes.len() as u64;
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("counter");
        std::fs::write(&file, "0")?;
        let before = self.messages().await?;
        let mut workers = JoinSet::new();
        for node in &nodes {
            let (client, node, file) = (self.client.clone(), *node, file.clone());
            workers.spawn(async move { work(&client, node, &file).await });
        }
        let mut fences = Vec::new();
        while let Some(done) = workers.join_next().await {
            fences.extend(done??);
        }
        let after = self.messages().await?;
        fences.sort_unstable_by_key(|(value, _)| *value);
        let (sent, again) = (after.0 - before.0, after.1 - before.1);
        let formula = 2 * (nodes.len() as u64 - 1) * total;
        println!("  {} nodes x {EACH} entries", nodes.len());
        println!(
            "  messages: {sent} sent, {again} of them again; formula 2(N-1) an entry: {formula}"
        );

        let value = std::fs::read_to_string(&file)?;
        let what = format!("{total} increments made {value}: no update was lost");
        self.check(SYSTEM, value == total.to_string(), what)?;
        let rising = fences.windows(2).all(|pair| pair[0].1 < pair[1].1);
        self.check(SYSTEM, rising, format!("the fences of {} entries only rise", fences.len()))?;
        // A question asked again may be answered again.
        let within = (formula..=formula + 2 * again).contains(&sent);
        let more = if again > 0 { format!(" and {again} questions again") } else { String::new() };
        let what = format!("{sent} messages for {total} entries: the formula{more}");
        self.check(SYSTEM, within, what)
    }

    /// Messages of mutual exclusion that all nodes have sent, and how many of them again.
    async fn messages(&self) -> anyhow::Result<(u64, u64)> {
        let (mut sent, mut again_in_all) = (0, 0);
        for node in self.nodes.keys() {
            match self.drill(*node, Drill::MutexCounts).await? {
                Report::MutexCounts { requests, permissions, again } => {
                    sent += requests + permissions + again;
                    again_in_all += again;
                }
                other => bail!("node {node}: {other:?}"),
            }
        }
        Ok((sent, again_in_all))
    }
}

/// Increments the number in the file, each time under the lock; gives every value with its fence.
async fn work(client: &Client, node: u64, file: &Path) -> anyhow::Result<Vec<(u64, u128)>> {
    let mut fences = Vec::new();
    for _ in 0..EACH {
        let lock = Drill::Lock { name: "counter".into(), patience_ms: PATIENCE_MS };
        let (request, fence) = match drill_on(client, node, lock).await? {
            Report::Locked { request, fence } => (request, fence),
            other => bail!("node {node} cannot enter: {other:?}"),
        };
        // Deliberately in two steps, with time between them.
        let value: u64 = std::fs::read_to_string(file)?.parse().context("the file is torn")?;
        tokio::time::sleep(Duration::from_micros(200)).await;
        std::fs::write(file, (value + 1).to_string())?;
        fences.push((value + 1, fence));
        match drill_on(client, node, Drill::Unlock { request }).await? {
            Report::Done => {}
            other => bail!("node {node} cannot leave: {other:?}"),
        }
    }
    Ok(fences)
}
