//! The holder of the lease is killed: another takes over, under a greater token.

use anyhow::Context;
use tokio::time::Instant;

use super::{Tour, until};

const SYSTEM: &str = "election";

impl Tour<'_> {
    pub(super) async fn election(&mut self) -> anyhow::Result<()> {
        self.page(
            "Election",
            "One node leads by a lease that a majority has granted; its token lets every resource\n\
             refuse a leader that has been succeeded.",
        );
        let first = self.lease_holder(None).await?;
        self.print_leaders().await;
        println!("\n  killing node {}, which holds the lease", first.0);
        self.processes.kill(first.0)?;
        let killed = Instant::now();
        let second = self.lease_holder(Some(first.0)).await?;
        println!("  node {} holds the lease after {:.1?}\n", second.0, killed.elapsed());
        self.processes.restart(first.0)?;
        let generation = until("the killed node is back", async || {
            self.member(second.0, first.0).await.filter(|member| member.standing == "active")
        });
        let generation = generation.await?.generation;
        self.print_leaders().await;

        let what = format!("another node took the lease over: {} after {}", second.0, first.0);
        self.check(SYSTEM, second.0 != first.0, what)?;
        let what = format!("its token is greater: {} after {}", token(second.1), token(first.1));
        self.check(SYSTEM, second.1 > first.1, what)?;
        self.check(SYSTEM, self.holders().await.len() <= 1, "one node at most holds a lease")?;
        let what = format!("the killed node came back as generation {generation}");
        self.check(SYSTEM, generation >= 2, what)
    }

    /// Who holds the lease, and under which token; not `gone`.
    async fn lease_holder(&self, gone: Option<u64>) -> anyhow::Result<(u64, u128)> {
        let found = until("a node holds the lease", async || {
            self.holders().await.into_iter().find(|(node, _)| Some(*node) != gone)
        });
        found.await.context("no lease was acquired")
    }

    async fn holders(&self) -> Vec<(u64, u128)> {
        let mut holders = Vec::new();
        for node in self.nodes.keys() {
            if let Ok(leaders) = self.leaders(*node).await
                && let Some(token) = leaders.token
            {
                holders.push((*node, token));
            }
        }
        holders
    }

    async fn print_leaders(&self) {
        println!("  node  lease: leader, term, token");
        for node in self.nodes.keys() {
            let Ok(leaders) = self.leaders(*node).await else {
                println!("  {node:<5} down");
                continue;
            };
            let (leader, term) = leaders.lease;
            let leader = leader.map_or("-".into(), |leader| format!("node {leader}"));
            let own = leaders.token.map(token).unwrap_or_default();
            println!("  {node:<5} {leader}, {term}, {own}");
        }
    }
}

/// A token as configuration and term.
fn token(token: u128) -> String {
    format!("({}, {})", token >> 64, token as u64)
}
