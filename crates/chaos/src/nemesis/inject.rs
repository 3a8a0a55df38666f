//! Doing it: one function a group of kinds, each of which says to whom it was done.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use quorate_transport::Rng;
use tokio::time::sleep;

use super::{Kind, Nemesis};
use crate::cluster::BALLAST;
use crate::isolation::command;
use crate::network::{cable, namespace};
use crate::proxy::Rules;

/// How long a leader is looked for.
const LEADER_PATIENCE: Duration = Duration::from_secs(1);
/// How long a polite end may take.
const TERMINATE_MAX: Duration = Duration::from_secs(5);
/// How long a disk keeps unsynced writes back before its power goes.
const KEPT_BACK: Duration = Duration::from_millis(400);

impl Nemesis<'_> {
    /// Does it; everything is undone by healing.
    pub(super) async fn inject(&mut self, kind: Kind) -> anyhow::Result<String> {
        match kind {
            Kind::KillOne | Kind::KillLeader | Kind::KillMajority | Kind::KillAll => {
                self.kill(kind).await
            }
            Kind::Terminate => self.terminate().await,
            Kind::PauseOne | Kind::PauseLeader => {
                let leader = kind == Kind::PauseLeader;
                let node = if leader { self.leader().await } else { self.one() };
                self.cluster.pause(node)?;
                Ok(format!("node {node}"))
            }
            Kind::Halves | Kind::Ring | Kind::OneWay | Kind::IsolateLeader => {
                Ok(self.partition(kind).await)
            }
            Kind::Flapping | Kind::Resets | Kind::HalfOpen => Ok(self.unsteady(kind)),
            Kind::Delay
            | Kind::SlowLink
            | Kind::Lose
            | Kind::Duplicate
            | Kind::Reorder
            | Kind::Garbage => Ok(self.bad_links(kind)),
            Kind::CableOut | Kind::BlackHole | Kind::NarrowCable => self.cables(kind).await,
            Kind::PowerLoss | Kind::PowerLossAll | Kind::PowerLossTorn => {
                self.power_loss(kind).await
            }
            Kind::SyncError
            | Kind::WriteError
            | Kind::NoSpace
            | Kind::DiskFull
            | Kind::DiskStall
            | Kind::DiskSlow => self.bad_disk(kind),
            Kind::BootClock => {
                let (node, hours) = (self.one(), 1 + self.rng.below(48));
                self.cluster.kill(node)?;
                self.cluster.set_clock_ahead(node, hours * 3600);
                self.cluster.restart(node)?;
                Ok(format!("node {node}, {hours} h ahead"))
            }
            Kind::HandOver => self.hand_over().await,
            Kind::ChangeGroup => self.change_group().await,
            Kind::WallClock => bail!("no node reads a wall clock but for its logs"),
        }
    }

    pub(super) fn one(&mut self) -> u64 {
        1 + self.rng.below(self.cluster.plan.nodes)
    }

    /// Some nodes, in random order.
    fn some(&mut self, count: u64) -> Vec<u64> {
        let mut nodes = self.cluster.numbers();
        for at in (1..nodes.len()).rev() {
            nodes.swap(at, self.rng.below(at as u64 + 1) as usize);
        }
        nodes.truncate(count as usize);
        nodes
    }

    /// The leader; any node while there is none.
    pub(super) async fn leader(&mut self) -> u64 {
        let any = self.one(); // drawn in any case: what follows is drawn from the seed alone
        let client = self.cluster.client(LEADER_PATIENCE);
        client.wait_for_leader(None, LEADER_PATIENCE).await.unwrap_or(any)
    }

    async fn kill(&mut self, kind: Kind) -> anyhow::Result<String> {
        let nodes = self.cluster.plan.nodes;
        let victims = match kind {
            Kind::KillOne => vec![self.one()],
            Kind::KillLeader => vec![self.leader().await],
            Kind::KillMajority => self.some(nodes / 2 + 1),
            _ => self.cluster.numbers(),
        };
        victims.iter().try_for_each(|node| self.cluster.kill(*node))?;
        Ok(list(&victims))
    }

    async fn terminate(&mut self) -> anyhow::Result<String> {
        let node = self.one();
        let to_blame = self.cluster.is_to_blame(node);
        let status = self.cluster.terminate(node, TERMINATE_MAX).await?;
        let what = match status {
            Some(status) => format!("node {node}: {status}"),
            None => format!("node {node} did not end in time, or was down"),
        };
        if to_blame && !status.is_some_and(|status| status.success()) {
            self.outcome.wrong.push(format!("after SIGTERM {what}"));
        }
        Ok(what)
    }

    async fn partition(&mut self, kind: Kind) -> String {
        let nodes = self.cluster.plan.nodes;
        let part = match kind {
            Kind::IsolateLeader => vec![self.leader().await],
            _ => {
                let size = 1 + self.rng.below(nodes - 1);
                self.some(size)
            }
        };
        let inside: BTreeSet<_> = part.iter().copied().collect();
        let ring = self.some(nodes);
        let place = |node: u64| ring.iter().position(|one| *one == node).unwrap_or(0) as u64;
        for ((from, to), link) in self.cluster.links() {
            let apart = inside.contains(&from) != inside.contains(&to);
            match kind {
                Kind::Ring => {
                    let away = (place(from) + nodes - place(to)) % nodes;
                    if away != 1 && away != nodes - 1 {
                        link.set(Rules::CUT);
                    }
                }
                Kind::OneWay if apart => link.change(|rules| {
                    // Bytes flow back on the links that lead the other way.
                    *(if inside.contains(&from) { &mut rules.cut } else { &mut rules.cut_back }) =
                        true;
                }),
                _ if apart => link.set(Rules::CUT),
                _ => {}
            }
        }
        match kind {
            Kind::Ring => format!("ring {}", list(&ring)),
            Kind::OneWay => format!("{} reach no others", list(&part)),
            _ => format!("{} and the others", list(&part)),
        }
    }

    /// Faults that come and go until all is healed.
    fn unsteady(&mut self, kind: Kind) -> String {
        let node = self.one();
        let mut rng = Rng::new(self.rng.next_u64());
        let of_node = |(from, to): (u64, u64)| kind == Kind::Resets || from == node || to == node;
        let links = self.cluster.links().filter(|(ends, _)| of_node(*ends));
        let links: Vec<_> = links.map(|(_, link)| Arc::clone(link)).collect();
        self.going_on.spawn(async move {
            loop {
                let link = &links[rng.below(links.len() as u64) as usize];
                match kind {
                    Kind::Flapping => link.change(|rules| {
                        (rules.cut, rules.cut_back) = (!rules.cut, !rules.cut_back);
                    }),
                    Kind::Resets => link.reset(),
                    _ => link.half_open(),
                }
                sleep(Duration::from_millis(20 + rng.below(60))).await;
            }
        });
        if kind == Kind::Resets { "all links".into() } else { format!("links of node {node}") }
    }

    fn bad_links(&mut self, kind: Kind) -> String {
        let node = self.one();
        let rng = &mut self.rng;
        let (delay, jitter) = (10 + rng.below(120), rng.below(60));
        let bytes_per_second = (20 + rng.below(100)) << 10;
        let rate = 20 + rng.below(180);
        for ((from, to), link) in self.cluster.links() {
            link.change(|rules| match kind {
                Kind::Delay => {
                    rules.delay = Duration::from_millis(delay);
                    rules.jitter = Duration::from_millis(jitter);
                }
                Kind::SlowLink if from == node || to == node => {
                    rules.bytes_per_second = Some(bytes_per_second);
                }
                Kind::Lose => rules.lose = rate,
                Kind::Duplicate => rules.duplicate = rate,
                Kind::Reorder => rules.reorder = rate,
                Kind::Garbage => rules.garbage = 5 + rate / 10,
                _ => {}
            });
        }
        match kind {
            Kind::Delay => format!("{delay} to {} ms", delay + jitter),
            Kind::SlowLink => format!("node {node}, {} KiB/s a link", bytes_per_second >> 10),
            Kind::Garbage => format!("before {} of a thousand frames", 5 + rate / 10),
            _ => format!("{rate} of a thousand"),
        }
    }

    async fn cables(&mut self, kind: Kind) -> anyhow::Result<String> {
        let node = self.one();
        let (cable, space) = (cable(node), namespace(node));
        let hub = format!("{}/32", self.cluster.plan.network.hub());
        let (begin, end): (Vec<&str>, Vec<&str>) = match kind {
            Kind::CableOut => {
                (vec!["ip", "link", "set", &cable, "down"], vec!["ip", "link", "set", &cable, "up"])
            }
            Kind::BlackHole => (
                vec!["ip", "-n", &space, "route", "add", "blackhole", &hub],
                vec!["ip", "-n", &space, "route", "del", "blackhole", &hub],
            ),
            _ => {
                let shape = "root tbf rate 128kbit burst 4kb latency 300ms";
                (
                    ["tc qdisc add dev", &cable, shape].iter().flat_map(|w| w.split(' ')).collect(),
                    vec!["tc", "qdisc", "del", "dev", &cable, "root"],
                )
            }
        };
        command(&begin).await?;
        self.cluster.undo(end);
        Ok(format!("node {node}"))
    }

    async fn power_loss(&mut self, kind: Kind) -> anyhow::Result<String> {
        let victims = match kind {
            Kind::PowerLossAll => self.cluster.numbers(),
            _ => vec![self.one()],
        };
        let faults = if kind == Kind::PowerLossTorn { "torn" } else { "lose" };
        victims.iter().try_for_each(|node| self.cluster.disk(*node, faults))?;
        sleep(KEPT_BACK).await;
        victims.iter().try_for_each(|node| self.cluster.kill(*node))?;
        victims.iter().try_for_each(|node| self.cluster.disk(*node, ""))?;
        Ok(list(&victims))
    }

    fn bad_disk(&mut self, kind: Kind) -> anyhow::Result<String> {
        let node = self.one();
        let slow = 20 + self.rng.below(200);
        self.cluster.excuse(node);
        let faults = match kind {
            Kind::SyncError => "sync-error",
            Kind::WriteError => "write-error",
            Kind::NoSpace => "full",
            Kind::DiskStall => "stall",
            Kind::DiskSlow => &format!("slow-ms={slow}"),
            _ => {
                let bytes = fill_up(&self.cluster.plan.data(node).join(BALLAST))?;
                return Ok(format!("node {node}, with {} MiB", bytes >> 20));
            }
        };
        self.cluster.disk(node, faults)?;
        Ok(match kind {
            Kind::DiskSlow => format!("node {node}, {slow} ms a sync"),
            _ => format!("node {node}"),
        })
    }
}

/// Writes zeros until there is no more room; says how many.
fn fill_up(path: &std::path::Path) -> anyhow::Result<u64> {
    let mut file = fs::File::create(path)?;
    let zeros = vec![0; 64 << 10];
    let mut bytes = 0;
    while let Ok(count) = file.write(&zeros) {
        bytes += count as u64;
    }
    Ok(bytes)
}

fn list(nodes: &[u64]) -> String {
    let numbers: Vec<_> = nodes.iter().map(u64::to_string).collect();
    format!("node{} {}", if nodes.len() == 1 { "" } else { "s" }, numbers.join(", "))
}
