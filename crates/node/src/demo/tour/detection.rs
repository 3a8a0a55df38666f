//! A node is paused: it is suspected, counts as failed, and is trusted again.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::{Tour, until, wait_for_leader, watch};

const SYSTEM: &str = "failure detection";
/// How long it stands still: longer than a suspicion lasts.
const PAUSE: Duration = Duration::from_millis(2400);
/// One line of the page in so long.
const LINE_EVERY: Duration = Duration::from_millis(200);

impl Tour<'_> {
    pub(super) async fn detection(&mut self) -> anyhow::Result<()> {
        self.page(
            "Failure detection",
            "A node is stopped in the middle of its work (SIGSTOP), like one in a long pause. Phi\n\
             says how unlikely its silence is: at 8 it is suspected, a second later it counts as\n\
             failed, and when it speaks again it is trusted.",
        );
        let leader = wait_for_leader(self.client, None).await?;
        let paused = self.nodes.keys().copied().rfind(|node| *node != leader).unwrap_or(leader);
        let observer = leader;
        // It may have come back a moment ago, and its former life be all that was heard.
        let own = until("it answers", async || self.member(paused, paused).await).await?;
        let heard = |member: &super::MemberInfo| {
            member.heartbeat_ms.is_some() && member.generation == own.generation
        };
        let before = until("its present life is heard", async || {
            self.member(observer, paused).await.filter(heard)
        });
        let before = before.await?;
        println!("  time     phi  node {paused} is, as node {observer} sees it");
        self.processes.signal(paused, Signal::STOP)?;
        let seen = self.silence(observer, paused).await;
        self.processes.signal(paused, Signal::CONT)?;
        let resumed = Instant::now();
        let trusted = until("it is trusted again", async || {
            self.member(observer, paused).await.filter(|member| member.standing == "active")
        });
        let trusted = trusted.await?;
        println!("  resumed: active again after {:.0?}", resumed.elapsed());

        self.check(SYSTEM, seen.contains(&"suspended".into()), "a paused node was suspected")?;
        self.check(
            SYSTEM,
            seen.contains(&"failed".into()),
            "and counted as failed a second later",
        )?;
        let same = trusted.generation == before.generation;
        self.check(SYSTEM, same, "resumed, it was trusted again, and not taken for restarted")?;
        let others = watch::view(self.client, paused).await.unwrap_or_default();
        let unjust = others.iter().any(|member| member.standing == "failed");
        self.check(SYSTEM, !others.is_empty() && !unjust, "the node that stood still blamed nobody")
    }

    /// Shows phi as the silence goes on; says what the standing was meanwhile.
    async fn silence(&self, observer: u64, paused: u64) -> Vec<String> {
        let begun = Instant::now();
        let mut seen = Vec::new();
        let mut line_at = Duration::ZERO;
        while begun.elapsed() < PAUSE {
            if let Some(member) = self.member(observer, paused).await {
                if begun.elapsed() >= line_at {
                    line_at += LINE_EVERY;
                    let phi = member.milliphi as f64 / 1000.0;
                    let bar = "#".repeat((4.0 * (1.0 + phi).log2()) as usize);
                    let time = begun.elapsed().as_secs_f64();
                    println!("  {time:.1} s {phi:>7.1}  {:<10} {bar}", member.standing);
                }
                seen.push(member.standing);
            }
            sleep(Duration::from_millis(20)).await;
        }
        seen
    }
}
