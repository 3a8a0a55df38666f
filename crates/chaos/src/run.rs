//! One run: chaos, healing, judgement.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, Plan};
use crate::judge::{Finding, PROBE, judge, written_down};
use crate::nemesis::{Kind, Nemesis, Outcome, SERVE_MAX, named, restore};
use crate::voice::Voice;
use crate::workload::{Seen, Workload};

/// How long a new cluster may take to have a leader.
const START_MAX: Duration = Duration::from_secs(20);
/// How long clients go on once all is healed.
const CALM: Duration = Duration::from_secs(2);
/// Kinds that a run this long must have had at the least.
const KINDS_MIN: (Duration, usize) = (Duration::from_secs(300), 15);

/// Runs it, and says whether all held; what is wanted of a failure lies in the directory then.
pub(crate) async fn run(
    plan: Plan,
    length: Duration,
    only: &std::collections::BTreeSet<Kind>,
    voice: &mut Voice,
) -> anyhow::Result<bool> {
    let (seed, directory) = (plan.seed, plan.directory.clone());
    let mut cluster = start(plan, voice).await?;
    let workload = Workload::start(&cluster, seed);
    let clock = workload.clock();
    let nemesis = Nemesis::new(&mut cluster, voice, seed, only);
    let ran = nemesis.run(length, || workload.done()).await;
    voice.end_bar();
    let outcome = match ran {
        Ok(outcome) => outcome,
        Err(error) => {
            cluster.keep().await?;
            keep(&workload.stop().await, voice, &directory)?;
            return Err(error);
        }
    };
    let mut findings: Vec<Finding> = outcome.wrong.iter().cloned().map(Err).collect();
    findings.push(served(&outcome.serves_after));
    if let Err(error) = restore(&cluster).await {
        findings.push(Err(error.to_string()));
    }
    sleep(CALM).await;
    let seen = workload.stop().await;
    findings.extend(cluster.ended().into_iter().map(|ended| {
        Err(format!("node {} ended after all was healed: {}", ended.node, ended.status))
    }));
    voice.say("all is healed and the clients have stopped: checking");
    let (seen, judged) = judge(&cluster, seen, clock).await;
    findings.extend(judged);
    findings.push(enough(&outcome, length, only.is_empty()));
    tell(&outcome, &cluster, voice);
    let holds = pronounce(&findings, voice);
    if !holds {
        cluster.keep().await?;
        keep(&seen, voice, &directory)?;
    }
    Ok(holds)
}

/// The cluster, once it has a leader.
pub(crate) async fn start(plan: Plan, voice: &mut Voice) -> anyhow::Result<Cluster> {
    let (nodes, network) = (plan.nodes, plan.network);
    let begun = Instant::now();
    let cluster = Cluster::start(plan).await?;
    let leader = cluster.client(START_MAX).wait_for_leader(None, START_MAX).await;
    let leader = leader.with_context(|| {
        let log = fs::read_to_string(cluster.plan.path(1, "log")).unwrap_or_default();
        let last = log.lines().last().unwrap_or("nothing").to_owned();
        format!("no leader within {START_MAX:?}; node 1 says: {last}")
    })?;
    voice.say(&format!(
        "{nodes} nodes ({network:?}), node {leader} leads after {:.1?}",
        begun.elapsed()
    ));
    Ok(cluster)
}

/// How long it takes until a write is acknowledged.
pub(crate) async fn serves(cluster: &Cluster) -> Finding {
    let begun = Instant::now();
    let late = |error| format!("the healed cluster does not serve within {SERVE_MAX:?}: {error}");
    let client = cluster.client(SERVE_MAX);
    let session = client.session().await.map_err(late)?;
    session.put(PROBE.as_bytes(), b"probe:").await.map_err(late)?;
    Ok(format!("the healed cluster serves, {:.1?} after it was asked", begun.elapsed()))
}

/// Whether it did after every healing, without delay.
fn served(after: &[Duration]) -> Finding {
    let longest = after.iter().max().copied().unwrap_or_default();
    let count = after.len();
    if longest >= SERVE_MAX {
        let late = after.iter().filter(|took| **took >= SERVE_MAX).count();
        return Err(format!(
            "{late} of {count} times the healed cluster did not serve again in {SERVE_MAX:?}"
        ));
    }
    Ok(format!("healed {count} times, the cluster served again after {longest:.1?} at most"))
}

fn enough(outcome: &Outcome, length: Duration, all: bool) -> Finding {
    let (long, min) = KINDS_MIN;
    let count = outcome.ran.len();
    if all && length >= long && count < min {
        return Err(format!("only {count} kinds of faults ran; a run this long needs {min}"));
    }
    Ok(format!("{count} kinds of faults ran, {} could not", outcome.skipped.len()))
}

/// What there was.
fn tell(outcome: &Outcome, cluster: &Cluster, voice: &mut Voice) {
    let counts: Vec<_> =
        outcome.ran.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    voice.plain(&format!("\nfaults: {}", counts.join(", ")));
    for (kind, count) in &outcome.idle {
        voice.plain(&format!("without any effect {count} time(s): {kind}"));
    }
    for (kind, why) in &outcome.skipped {
        voice.plain(&format!("could not run here: {kind} ({why})"));
    }
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for (_, link) in cluster.links() {
        named(link.counts()).into_iter().for_each(|(name, n)| *sums.entry(name).or_default() += n);
    }
    let sums: Vec<_> = sums.iter().map(|(name, count)| format!("{count} {name}")).collect();
    voice.plain(&format!("links: {}", sums.join(", ")));
}

/// Every finding, and whether all hold.
pub(crate) fn pronounce(findings: &[Finding], voice: &mut Voice) -> bool {
    for finding in findings {
        match finding {
            Ok(line) => voice.plain(&format!("  holds: {line}")),
            Err(line) => voice.plain(&format!("  BROKEN: {line}")),
        }
    }
    findings.iter().all(Result::is_ok)
}

/// History and schedule, beside the nodes' directories and logs.
fn keep(seen: &Seen, voice: &Voice, directory: &std::path::Path) -> anyhow::Result<()> {
    fs::write(directory.join("history.txt"), written_down(&seen.history))?;
    fs::write(directory.join("schedule.txt"), &voice.told)?;
    Ok(())
}
