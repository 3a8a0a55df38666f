//! Shows that the judge bites: disks that lie about their syncs must be found out, and the same
//! loss of power with honest disks must not.

use std::time::Duration;

use tokio::time::sleep;

use crate::cluster::Plan;
use crate::judge::{Finding, judge};
use crate::run::{pronounce, serves, start};
use crate::voice::Voice;
use crate::workload::Workload;

/// How long clients work before the disks change, and after.
const WORK: Duration = Duration::from_secs(2);

/// All nodes lose their power at once, on disks with this fault.
pub(crate) async fn power_cut(
    plan: Plan,
    faults: &str,
    voice: &mut Voice,
) -> anyhow::Result<Vec<Finding>> {
    let seed = plan.seed;
    let mut cluster = start(plan, voice).await?;
    let workload = Workload::start(&cluster, seed);
    let clock = workload.clock();
    sleep(WORK).await;
    for node in cluster.numbers() {
        cluster.disk(node, faults)?;
    }
    sleep(WORK).await;
    voice.say(&format!("all nodes lose their power; their disks: {faults}"));
    for node in cluster.numbers() {
        cluster.kill(node)?;
    }
    cluster.heal().await?;
    let mut findings = vec![serves(&cluster).await];
    let seen = workload.stop().await;
    findings.extend(judge(&cluster, seen, clock).await.1);
    Ok(findings)
}

/// Both; true when the one was found out and the other was not blamed.
pub(crate) async fn run(
    mut plan: impl FnMut(&str) -> anyhow::Result<Plan>,
    voice: &mut Voice,
) -> anyhow::Result<bool> {
    let honest = power_cut(plan("honest")?, "lose", voice).await?;
    let passes = pronounce(&honest, voice);
    let phantom = power_cut(plan("phantom")?, "phantom", voice).await?;
    let caught = !pronounce(&phantom, voice);
    voice.plain(if passes { "honest disks: pass, as they must" } else { "HONEST DISKS FAIL" });
    voice.plain(if caught { "lying disks: found out" } else { "LYING DISKS PASS" });
    Ok(passes && caught)
}
