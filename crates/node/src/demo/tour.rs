//! Every system at work on the live processes, one page each, and what was checked of it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::time::{Instant, sleep};

use super::cluster::Processes;
use super::{equal_digests, wait_for_leader};
use crate::{metrics, watch};
use quorate_node::client::Client;
use quorate_node::kv;
use quorate_node::wire::{Answer, Balance, Body, Drill, Leaders, MemberInfo, Report};

mod detection;
mod election;
mod exclusion;
mod order;
mod transaction;

/// How long anything may take to come about.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked for.
const EVERY: Duration = Duration::from_millis(20);

/// The cluster, and what was checked so far.
pub(super) struct Tour<'a> {
    processes: &'a mut Processes,
    client: &'a Client,
    nodes: BTreeMap<u64, String>,
    checks: Vec<(&'static str, String)>,
}

/// Shows every system; an error says which check did not hold.
pub(super) async fn run(processes: &mut Processes, client: &Client) -> anyhow::Result<()> {
    let nodes = processes.clients();
    let mut tour = Tour { processes, client, nodes, checks: Vec::new() };
    tour.order().await.context("clocks")?;
    tour.detection().await.context("failure detection")?;
    tour.election().await.context("election")?;
    tour.exclusion().await.context("mutual exclusion")?;
    tour.transaction().await.context("two-phase commit")?;
    tour.replication().await.context("state machine replication")?;
    tour.metrics().await.context("metrics")?;
    tour.summary();
    Ok(())
}

impl Tour<'_> {
    fn page(&self, title: &str, what: &str) {
        println!("\n== {title} ==\n{what}\n");
    }

    /// What is to be true is true: one line of the page, and one of the summary.
    fn check(
        &mut self,
        system: &'static str,
        holds: bool,
        what: impl Into<String>,
    ) -> anyhow::Result<()> {
        let what = what.into();
        ensure!(holds, "does not hold: {what}");
        println!("  checked: {what}");
        self.checks.push((system, what));
        Ok(())
    }

    fn summary(&self) {
        println!("\n== Summary ==");
        let mut last = "";
        for (system, what) in &self.checks {
            let shown = if *system == last { "" } else { system };
            println!("{shown:<27} {what}");
            last = system;
        }
        println!("\nTOUR PASSED: {} checks", self.checks.len());
    }

    async fn drill(&self, node: u64, drill: Drill) -> anyhow::Result<Report> {
        drill_on(self.client, node, drill).await
    }

    async fn accounts(&self, node: u64) -> anyhow::Result<Balance> {
        match self.drill(node, Drill::Accounts).await? {
            Report::Accounts(balance) => Ok(balance),
            other => bail!("node {node}: {other:?}"),
        }
    }

    async fn leaders(&self, node: u64) -> anyhow::Result<Leaders> {
        match self.drill(node, Drill::Elections).await? {
            Report::Elections(leaders) => Ok(leaders),
            other => bail!("node {node}: {other:?}"),
        }
    }

    async fn member(&self, by: u64, of: u64) -> Option<MemberInfo> {
        watch::view(self.client, by).await?.into_iter().find(|member| member.node == of)
    }

    /// The same command sent twice counts once, and all replicas are equal.
    async fn replication(&mut self) -> anyhow::Result<()> {
        const SYSTEM: &str = "state machine replication";
        self.page(
            "State machine replication",
            "A client that hears no answer sends its command again. It must be carried out\n\
             once, and give the answer of then.",
        );
        let leader = wait_for_leader(self.client, None).await?;
        let session = match self.ask(leader, Body::Open).await? {
            Answer::Opened(session) => session,
            other => bail!("cannot open a session: {other:?}"),
        };
        let stamped = |sequence, command: bytes::Bytes| Body::Apply {
            stamp: Some((session, sequence, sequence - 1)),
            command: command.to_vec(),
        };
        self.ask(leader, stamped(1, kv::put(b"tour", b"here"))).await?;
        let delete = stamped(2, kv::delete(b"tour"));
        let first = self.ask(leader, delete.clone()).await?;
        let again = self.ask(leader, delete).await?;
        println!("  delete `tour`: {}", described(&first));
        println!("  the same command again, as if no answer had come: {}", described(&again));
        let once = first == Answer::Done(vec![1]) && again == first;
        self.check(SYSTEM, once, "a command sent twice was carried out once")?;
        let (index, digest) = equal_digests(self.client).await?;
        let what = format!("all replicas have digest {:08x} at index {index}", digest as u32);
        self.check(SYSTEM, true, what)
    }

    /// What the nodes have counted of all this.
    async fn metrics(&mut self) -> anyhow::Result<()> {
        const SYSTEM: &str = "metrics";
        self.page(
            "Metrics",
            "Every node counts its requests; quantiles come from histograms that are recorded\n\
             without locks and read without waiting.",
        );
        let leader = wait_for_leader(self.client, None).await?;
        for at in 0..200u64 {
            let session = self.client.session().await?;
            session.put(format!("tour{at}").as_bytes(), b"counted").await?;
            self.client.get(format!("tour{at}").as_bytes(), false).await?;
        }
        let (_, text) = metrics::fetch(self.client, &self.nodes, Some(leader))
            .await
            .context("the leader does not answer")?;
        for line in metrics::requests(&text).lines() {
            println!("  {line}");
        }
        let value = |series: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(series));
            line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
        };
        let applied = value("quorate_requests_total{kind=\"apply\",outcome=\"success\"}");
        let buckets = value("quorate_request_seconds_count{kind=\"apply\",outcome=\"success\"}");
        let what = format!("{applied} commands counted by the leader, 400 of this page among them");
        self.check(SYSTEM, applied >= 400, what)?;
        self.check(SYSTEM, applied == buckets, "counters and histograms agree")
    }

    async fn ask(&self, node: u64, body: Body) -> anyhow::Result<Answer> {
        let answer = self.client.ask_node(node, body, PATIENCE).await;
        answer.with_context(|| format!("node {node} does not answer"))
    }
}

fn described(answer: &Answer) -> &'static str {
    match answer {
        Answer::Done(output) if output == &[1] => "done, it was there",
        Answer::Done(_) => "done, it was not there",
        _ => "not done",
    }
}

async fn drill_on(client: &Client, node: u64, drill: Drill) -> anyhow::Result<Report> {
    match client.ask_node(node, Body::Drill(drill), PATIENCE).await {
        Some(Answer::Drill(report)) => Ok(report),
        other => bail!("node {node} does not take the drill: {other:?}"),
    }
}

/// Looks until `look` finds something.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> anyhow::Result<T> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(found) = look().await {
            return Ok(found);
        }
        sleep(EVERY).await;
    }
    bail!("not within {PATIENCE:.0?}: {what}")
}
