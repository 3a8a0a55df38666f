//! A transfer over three nodes, whose coordinator is killed after the decision.

use anyhow::bail;

use super::{Tour, drill_on, until};
use crate::drill::OPENING;
use quorate_node::wire::{Drill, Report};

const SYSTEM: &str = "two-phase commit";

impl Tour<'_> {
    pub(super) async fn transaction(&mut self) -> anyhow::Result<()> {
        self.page(
            "Two-phase commit",
            "Every node has an account. A transfer changes all of them or none, whoever dies when.",
        );
        let [one, two, three] = self.three();
        self.print_accounts("at first").await;

        let parts = vec![(one, -30, false), (two, 10, false), (three, 20, false)];
        let report = self.drill(one, Drill::Transfer { parts }).await?;
        self.settled([70, 110, 120]).await?;
        self.print_accounts(&format!("30 from node {one} to the others: {}", said(&report))).await;
        let committed = matches!(report, Report::Committed { .. });
        self.check(SYSTEM, committed, "a transfer over three nodes was committed on all")?;

        let parts = vec![(one, 500, false), (two, 500, false), (three, -1000, false)];
        let report = self.drill(one, Drill::Transfer { parts }).await?;
        self.settled([70, 110, 120]).await?;
        println!("  1000 from node {three}, which has 120: {}", said(&report));
        let aborted = matches!(report, Report::Aborted { .. });
        self.check(SYSTEM, aborted, "one that a node cannot pay was aborted on all")?;

        self.coordinator_dies([one, two, three]).await?;
        self.settled([65, 112, 123]).await?;
        self.print_accounts("all back").await;
        let mut sum = 0;
        for node in [one, two, three] {
            sum += self.accounts(node).await?.balance;
        }
        self.check(SYSTEM, sum == 3 * OPENING, "all nodes agree, and no money was lost")
    }

    /// The decision is made and told to nobody but the client; then coordinator and participants
    /// are dead, and one participant comes back in doubt.
    async fn coordinator_dies(&mut self, [one, two, three]: [u64; 3]) -> anyhow::Result<()> {
        println!("\n  5 from node {one}; node {two} holds its vote back");
        let parts = vec![(one, -5, false), (two, 2, true), (three, 3, false)];
        let client = self.client.clone();
        let asked =
            tokio::spawn(async move { drill_on(&client, one, Drill::Transfer { parts }).await });
        until("all other votes have come", async || {
            let account = self.accounts(one).await.ok()?;
            (account.awaited == [two] && self.is_prepared(three).await).then_some(())
        })
        .await?;
        self.processes.kill(three)?;
        println!("  node {three} has voted yes; killed");
        match self.drill(two, Drill::Release).await? {
            Report::Done => {}
            other => bail!("node {two}: {other:?}"),
        }
        let decided = asked.await??;
        self.processes.kill(one)?;
        self.processes.kill(two)?;
        println!("  node {two} votes; {}; nodes {one} and {two} killed", said(&decided));
        let committed = matches!(decided, Report::Committed { .. });
        self.check(SYSTEM, committed, "the coordinator has decided, and is dead")?;

        self.processes.restart(three)?;
        let blocked = until("it knows that nobody knows", async || {
            self.accounts(three).await.ok().filter(|account| account.blocked > 0)
        });
        let blocked = blocked.await?;
        println!("  node {three} is back, alone: {:?}, balance {}", blocked.open, blocked.balance);
        self.check(SYSTEM, blocked.balance == 120, "in doubt and alone, it guesses nothing")?;

        self.processes.restart(one)?;
        let done = until("the decision reaches it", async || {
            self.accounts(three).await.ok().filter(|account| account.open.is_empty())
        });
        let done = done.await?;
        println!(
            "  node {one} is back: its journal has the decision; node {three} has {}",
            done.balance
        );
        self.check(SYSTEM, done.balance == 123, "the decision survived its coordinator")?;
        self.processes.restart(two)
    }

    pub(super) fn three(&self) -> [u64; 3] {
        let mut nodes = self.nodes.keys().copied();
        [(); 3].map(|()| nodes.next().expect("a tour has three nodes at least"))
    }

    async fn is_prepared(&self, node: u64) -> bool {
        let prepared = |(_, standing): &(String, String)| standing == "prepared";
        self.accounts(node).await.is_ok_and(|account| account.open.iter().any(prepared))
    }

    /// Waits until every account is closed with this balance.
    async fn settled(&self, want: [i64; 3]) -> anyhow::Result<()> {
        for (node, want) in self.three().into_iter().zip(want) {
            let what = format!("node {node} has {want} and nothing open");
            until(&what, async || {
                let account = self.accounts(node).await.ok()?;
                (account.open.is_empty() && account.balance == want).then_some(())
            })
            .await?;
        }
        Ok(())
    }

    async fn print_accounts(&self, when: &str) {
        print!("  {when}:");
        for node in self.three() {
            match self.accounts(node).await {
                Ok(account) => print!("  node {node}: {}", account.balance),
                Err(_) => print!("  node {node}: down"),
            }
        }
        println!();
    }
}

fn said(report: &Report) -> String {
    match report {
        Report::Committed { txn } => format!("{txn} is committed"),
        Report::Aborted { txn, reason } => format!("{txn} is aborted: {reason}"),
        other => format!("{other:?}"),
    }
}
