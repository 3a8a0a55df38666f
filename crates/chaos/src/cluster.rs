//! The nodes: real processes, their directories, and the links between them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use quorate_node::client::Client;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use crate::isolation::command;
use crate::network::Network;
use crate::proxy::Link;

/// Bytes of commands after which a node makes a snapshot: little, so that there are many.
const SNAPSHOT_BYTES: u64 = 256 << 10;
/// What a node's own file system holds, in MiB.
const DISK_MIB: u64 = 256;

/// How a cluster is put together.
pub(crate) struct Plan {
    pub(crate) nodes: u64,
    pub(crate) seed: u64,
    /// The binary `quorate`.
    pub(crate) binary: PathBuf,
    /// Of the run; every node gets a part of it.
    pub(crate) directory: PathBuf,
    pub(crate) network: Network,
    /// Whether every node gets a small file system of its own.
    pub(crate) mounts: bool,
}

/// A running cluster; its processes end when it is dropped.
pub(crate) struct Cluster {
    pub(crate) plan: Plan,
    nodes: BTreeMap<u64, Node>,
    /// By who dials and who accepts.
    links: BTreeMap<(u64, u64), Arc<Link>>,
    /// Commands that undo what commands have done.
    undo: Vec<Vec<String>>,
}

struct Node {
    client: SocketAddr,
    child: Option<Child>,
    /// Its process is stopped by a signal.
    paused: bool,
    /// It may end by itself without blame: something was done to it that it may not survive.
    may_end: bool,
    /// How far its boot clock is ahead of the host's, in seconds, from its next start on.
    clock_ahead: Option<u64>,
}

/// A node that ended by itself.
pub(crate) struct Ended {
    pub(crate) node: u64,
    pub(crate) status: ExitStatus,
    /// Something was done to it that it may not survive.
    pub(crate) excused: bool,
}

impl Cluster {
    /// Opens the links and starts all nodes.
    pub(crate) async fn start(plan: Plan) -> anyhow::Result<Self> {
        plan.network.set_up(plan.nodes).await?;
        let addresses = plan.network.addresses(plan.nodes)?;
        let mut links = BTreeMap::new();
        for (from, to) in pairs(plan.nodes) {
            let target = addresses[to as usize - 1].0;
            let listen = (plan.network.hub(), 0).into();
            let link = Link::open(listen, target, plan.seed ^ (from << 40) ^ (to << 48)).await;
            links.insert((from, to), Arc::new(link.context("cannot open a link")?));
        }
        let mut nodes = BTreeMap::new();
        for (node, (peer, client)) in (1..).zip(&addresses) {
            let data = plan.data(node);
            fs::create_dir_all(&data)?;
            if plan.mounts {
                let size = format!("size={DISK_MIB}m");
                let mount = ["mount", "-t", "tmpfs", "-o", &size, "tmpfs"];
                command(&[&mount[..], &[&data.to_string_lossy()]].concat()).await?;
            }
            let member = |(other, own): (u64, &(SocketAddr, SocketAddr))| {
                let peer = links.get(&(node, other)).map_or(own.0, |link| link.address());
                format!("[[members]]\nnode = {other}\npeer = \"{peer}\"\nclient = \"{}\"\n", own.1)
            };
            let members: String = (1..).zip(&addresses).map(member).collect();
            let text = format!(
                "cluster = 1\nnode = {node}\ndata_dir = {data:?}\npeer_listen = \"{peer}\"\n\
                 client_listen = \"{client}\"\n{members}"
            );
            fs::write(plan.path(node, "toml"), text)?;
            let (child, clock_ahead) = (None, None);
            let state = Node { client: *client, child, paused: false, may_end: false, clock_ahead };
            nodes.insert(node, state);
        }
        let mut cluster = Self { plan, nodes, links, undo: Vec::new() };
        for node in cluster.numbers() {
            cluster.disk(node, "")?;
            cluster.restart(node)?;
        }
        Ok(cluster)
    }

    /// All nodes.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    /// A client of its own connections.
    pub(crate) fn client(&self, patience: Duration) -> Client {
        let address = |(node, state): (&u64, &Node)| (*node, state.client.to_string());
        Client::new(self.nodes.iter().map(address).collect(), patience)
    }

    /// Every link, by who dials and who accepts.
    pub(crate) fn links(&self) -> impl Iterator<Item = ((u64, u64), &Arc<Link>)> {
        self.links.iter().map(|(ends, link)| (*ends, link))
    }

    /// Starts a node that is down.
    pub(crate) fn restart(&mut self, node: u64) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.plan.path(node, "log"))?;
        let state = self.nodes.get_mut(&node).context("no such node")?;
        let mut words = self.plan.network.prefix(node);
        if let Some(ahead) = state.clock_ahead.take() {
            let ahead = ahead.to_string();
            let unshare = ["unshare", "--time", "--boottime", &ahead, "--monotonic", &ahead];
            words.extend(unshare.map(str::to_owned));
        }
        words.push(self.plan.binary.to_string_lossy().into_owned());
        let child = Command::new(&words[0])
            .args(&words[1..])
            .args(["serve", "--snapshot-bytes", &SNAPSHOT_BYTES.to_string()])
            .arg("--config")
            .arg(self.plan.path(node, "toml"))
            .arg("--disk-faults")
            .arg(self.plan.path(node, "disk"))
            .env("QUORATE_LOG", "info")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", words[0]))?;
        state.child = Some(child);
        (state.paused, state.may_end) = (false, false);
        Ok(())
    }

    /// Ends a node without a word (SIGKILL).
    pub(crate) fn kill(&mut self, node: u64) -> anyhow::Result<()> {
        let state = self.nodes.get_mut(&node).context("no such node")?;
        if let Some(mut child) = state.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Ends a node politely; says how it ended, or kills it and says nothing when it takes longer.
    pub(crate) async fn terminate(
        &mut self,
        node: u64,
        patience: Duration,
    ) -> anyhow::Result<Option<ExitStatus>> {
        self.signal(node, Signal::TERM)?;
        let state = self.nodes.get_mut(&node).context("no such node")?;
        let Some(child) = &mut state.child else { return Ok(None) };
        let begun = tokio::time::Instant::now();
        while begun.elapsed() < patience {
            if let Some(status) = child.try_wait()? {
                state.child = None;
                return Ok(Some(status));
            }
            sleep(Duration::from_millis(20)).await;
        }
        self.kill(node)?;
        Ok(None)
    }

    /// Stops a node's process where it is.
    pub(crate) fn pause(&mut self, node: u64) -> anyhow::Result<()> {
        self.signal(node, Signal::STOP)?;
        self.nodes.get_mut(&node).context("no such node")?.paused = true;
        Ok(())
    }

    fn signal(&self, node: u64, signal: Signal) -> anyhow::Result<()> {
        if let Some(child) = &self.nodes[&node].child {
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            kill_process(pid.context("the process has no id")?, signal)?;
        }
        Ok(())
    }

    /// What is wrong with a node's disk from now on, in the words of `quorate serve`.
    pub(crate) fn disk(&mut self, node: u64, faults: &str) -> anyhow::Result<()> {
        // Renamed into place: a node never reads half of it.
        let (new, path) = (self.plan.path(node, "disk.new"), self.plan.path(node, "disk"));
        fs::write(&new, faults)?;
        Ok(fs::rename(new, path)?)
    }

    /// From its next start on a node's boot clock is ahead by this many seconds.
    pub(crate) fn set_clock_ahead(&mut self, node: u64, seconds: u64) {
        if let Some(state) = self.nodes.get_mut(&node) {
            state.clock_ahead = Some(seconds);
        }
    }

    /// Whether a node that does not end well, or in time, is to blame for it.
    pub(crate) fn is_to_blame(&self, node: u64) -> bool {
        let state = &self.nodes[&node];
        state.child.is_some() && !state.paused && !state.may_end
    }

    /// Something is done to a node that it may not survive.
    pub(crate) fn excuse(&mut self, node: u64) {
        if let Some(state) = self.nodes.get_mut(&node) {
            state.may_end = true;
        }
    }

    /// Nodes that ended by themselves since this was last asked.
    pub(crate) fn ended(&mut self) -> Vec<Ended> {
        let mut ended = Vec::new();
        for (node, state) in &mut self.nodes {
            let status = state.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = status {
                state.child = None;
                ended.push(Ended { node: *node, status, excused: state.may_end });
            }
        }
        ended
    }

    /// This command, when all is healed.
    pub(crate) fn undo(&mut self, words: Vec<&str>) {
        self.undo.push(words.into_iter().map(str::to_owned).collect());
    }

    /// Clean links and disks, and every node runs; says which of them were down.
    pub(crate) async fn heal(&mut self) -> anyhow::Result<Vec<u64>> {
        let mut restarted = Vec::new();
        for words in std::mem::take(&mut self.undo) {
            command(&words.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        }
        for link in self.links.values() {
            link.set(crate::proxy::Rules::default());
        }
        for node in self.numbers() {
            self.disk(node, "")?;
            let _ = fs::remove_file(self.plan.data(node).join(BALLAST));
            if self.nodes[&node].paused {
                self.signal(node, Signal::CONT)?;
                self.nodes.get_mut(&node).context("no such node")?.paused = false;
            }
            if self.nodes[&node].child.is_none() {
                restarted.push(node);
                self.restart(node)?;
            }
        }
        Ok(restarted)
    }

    /// Copies what only a file system of our own holds to where it stays.
    pub(crate) async fn keep(&self) -> anyhow::Result<()> {
        for node in self.numbers().into_iter().filter(|_| self.plan.mounts) {
            let from = self.plan.data(node);
            let to = self.plan.path(node, "kept");
            command(&["cp", "-a", &from.to_string_lossy(), &to.to_string_lossy()]).await?;
        }
        Ok(())
    }
}

/// The name of what fills a disk up.
pub(crate) const BALLAST: &str = "ballast";

impl Plan {
    /// Where a node keeps its data.
    pub(crate) fn data(&self, node: u64) -> PathBuf {
        self.directory.join(format!("node-{node}"))
    }

    /// A file beside it.
    pub(crate) fn path(&self, node: u64, ending: &str) -> PathBuf {
        self.directory.join(format!("node-{node}.{ending}"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.nodes.values_mut().filter_map(|state| state.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a node says that it must never say.
pub(crate) fn alarms(log: &Path) -> Vec<String> {
    const WORDS: [&str; 3] = ["panicked", "machine stopped", "has stopped itself"];
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let alarm = |line: &&str| WORDS.iter().any(|word| line.contains(word));
    text.lines().filter(alarm).map(str::to_owned).collect()
}

/// Every ordered pair of nodes.
fn pairs(nodes: u64) -> impl Iterator<Item = (u64, u64)> {
    (1..=nodes).flat_map(move |from| (1..=nodes).map(move |to| (from, to))).filter(|(a, b)| a != b)
}
