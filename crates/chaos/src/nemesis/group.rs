//! Members come and go, and leaders hand over, in the middle of everything else.

use std::time::Duration;

use anyhow::bail;
use quorate_node::client::ClientError;
use quorate_node::wire::{Body, GroupChange, GroupInfo};
use tokio::time::{Instant, sleep};

use super::Nemesis;
use crate::cluster::Cluster;

/// How long a change is waited for; it goes on all the same.
const CHANGE_PATIENCE: Duration = Duration::from_secs(2);
/// How long it may take, in the end, until all nodes decide again.
const RESTORE_MAX: Duration = Duration::from_secs(60);

impl Nemesis<'_> {
    pub(super) async fn hand_over(&mut self) -> anyhow::Result<String> {
        let (leader, to) = (self.leader().await, self.one());
        let client = self.cluster.client(CHANGE_PATIENCE);
        let answer =
            client.ask_node(leader, Body::Transfer { to: Some(to) }, CHANGE_PATIENCE).await;
        Ok(format!("from node {leader} to node {to}: {answer:?}"))
    }

    /// Asks for a change of the group, and does not mind what becomes of it.
    pub(super) async fn change_group(&mut self) -> anyhow::Result<String> {
        let (node, other, address) = (self.one(), self.one(), String::new());
        let change = match self.rng.below(8) {
            0 | 1 => GroupChange::Remove { node },
            2 => GroupChange::Demote { node },
            3 => GroupChange::Replace { old: node, new: other, address },
            4 => GroupChange::Cancel,
            _ => GroupChange::Add { node, address },
        };
        let what = format!("{change:?}");
        let became = match self.cluster.client(CHANGE_PATIENCE).change_group(change).await {
            Ok(index) => format!("done at index {index}"),
            Err(ClientError::NoQuorum(_)) => "under way, or nobody decides".into(),
            Err(error) => error.to_string(),
        };
        Ok(format!("{what}: {became}"))
    }
}

/// Makes voters of all nodes again, once all is healed.
pub(crate) async fn restore(cluster: &Cluster) -> anyhow::Result<()> {
    let nodes = cluster.numbers();
    let client = cluster.client(CHANGE_PATIENCE);
    let begun = Instant::now();
    while begun.elapsed() < RESTORE_MAX {
        let leader = client.wait_for_leader(None, CHANGE_PATIENCE).await;
        let group = match leader {
            Some(leader) => client.group(leader).await.unwrap_or_default(),
            None => GroupInfo::default(),
        };
        let missing = nodes.iter().find(|node| !group.voters.contains(node));
        match missing {
            None if group.committed && group.outgoing.is_empty() && group.target.is_empty() => {
                return Ok(());
            }
            None => sleep(Duration::from_millis(50)).await,
            Some(node) => {
                let change = GroupChange::Add { node: *node, address: String::new() };
                let _ = client.change_group(change).await; // asked for again if need be
            }
        }
    }
    bail!("the group was not whole again within {RESTORE_MAX:?}")
}
