//! The holder of the lease is killed: another takes over, under a greater token.

use anyhow::Context;
use tokio::time::Instant;

use super::{Tour, until};

const SYSTEM: &str = "election";

impl Tour<'_> {
    pub(super) async fn election(&mut self) -> anyhow::Result<()> {
        self.page(
            "Election",
            "By the quorum lease one node leads while a majority grants it; its token lets every\n\
             resource refuse a leader that has been succeeded. By the bully algorithm the highest\n\
             node that lives leads, in the opinion of each: there is no token, and two may lead.",
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
        self.check(SYSTEM, generation >= 2, what)?;
        self.bully().await
    }

    /// The highest node is killed and comes back.
    async fn bully(&mut self) -> anyhow::Result<()> {
        let nodes: Vec<u64> = self.nodes.keys().copied().collect();
        let [.., second, highest] = nodes[..] else { return Ok(()) };
        self.all_believe(&nodes, highest).await?;
        println!("\n  killing node {highest}, the highest");
        self.processes.kill(highest)?;
        let killed = Instant::now();
        self.all_believe(&nodes[..nodes.len() - 1], second).await?;
        println!("  the others believe in node {second} after {:.1?}", killed.elapsed());
        self.processes.restart(highest)?;
        let back = Instant::now();
        self.all_believe(&nodes, highest).await?;
        println!("  node {highest} is back, and takes over after {:.1?}\n", back.elapsed());
        self.print_leaders().await;
        self.check(SYSTEM, true, "by the bully algorithm the highest node that lives leads")
    }

    /// Waits until each of `nodes` believes in `leader`.
    async fn all_believe(&self, nodes: &[u64], leader: u64) -> anyhow::Result<()> {
        let what = format!("nodes {nodes:?} believe in node {leader}");
        until(&what, async || {
            for node in nodes {
                let (believed, _) = self.leaders(*node).await.ok()?.bully?;
                (believed == leader).then_some(())?;
            }
            Some(())
        })
        .await
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
        println!("  node  lease: leader, term, token   bully: leader, term");
        for node in self.nodes.keys() {
            let Ok(leaders) = self.leaders(*node).await else {
                println!("  {node:<5} down");
                continue;
            };
            let (leader, term) = leaders.lease;
            let leader = leader.map_or("-".into(), |leader| format!("node {leader}"));
            let own = leaders.token.map(token).unwrap_or_default();
            let lease = format!("{leader}, {term}, {own}");
            let bully =
                leaders.bully.map_or("-".into(), |(node, term)| format!("node {node}, {term}"));
            println!("  {node:<5} {lease:<28} {bully}");
        }
    }
}

/// A token as configuration and term.
fn token(token: u128) -> String {
    format!("({}, {})", token >> 64, token as u64)
}
