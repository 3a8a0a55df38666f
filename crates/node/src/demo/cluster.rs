//! Real node processes on loopback, with directories of their own; none of either is left behind.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use crate::config::{self, Member};

/// The processes of a demonstration.
pub(crate) struct Processes {
    directory: PathBuf,
    /// Removes the directory when dropped; none where it is to stay.
    _temporary: Option<tempfile::TempDir>,
    members: Vec<Member>,
    /// Whether the nodes take exercises.
    drills: bool,
    children: BTreeMap<u64, Child>,
}

impl Processes {
    /// Starts `count` nodes on free ports.
    pub(crate) async fn start(
        count: u64,
        data: Option<&Path>,
        drills: bool,
    ) -> anyhow::Result<Self> {
        let temporary = match data {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("quorate-demo-").tempdir()?),
        };
        let directory = match (&temporary, data) {
            (Some(temporary), _) => temporary.path().to_path_buf(),
            (None, Some(data)) => data.to_path_buf(),
            (None, None) => unreachable!("one of both is there"),
        };
        std::fs::create_dir_all(&directory)?;
        let ports = free_ports(2 * count as usize)?;
        let members = (1..=count).zip(ports.chunks_exact(2)).map(|(node, ports)| Member {
            node,
            peer: ports[0].to_string(),
            client: ports[1].to_string(),
        });
        let members: Vec<_> = members.collect();
        let mut processes =
            Self { directory, _temporary: temporary, members, drills, children: BTreeMap::new() };
        for member in &processes.members {
            processes.write_config(member)?;
        }
        for node in 1..=count {
            processes.restart(node)?;
        }
        Ok(processes)
    }

    fn write_config(&self, member: &Member) -> anyhow::Result<()> {
        let file = config::File {
            cluster: Some(1),
            node: Some(member.node),
            data_dir: Some(self.directory.join(format!("node-{}", member.node))),
            peer_listen: Some(member.peer.parse()?),
            client_listen: Some(member.client.parse()?),
            metrics_listen: None,
            session_ttl: None,
            drills: self.drills,
            join: false,
            members: self.members.clone(),
        };
        let path = self.directory.join(format!("node-{}.toml", member.node));
        std::fs::write(&path, toml::to_string(&file)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Where clients find each node.
    pub(crate) fn clients(&self) -> BTreeMap<u64, String> {
        self.members.iter().map(|member| (member.node, member.client.clone())).collect()
    }

    /// Starts a node that is down.
    pub(crate) fn restart(&mut self, node: u64) -> anyhow::Result<()> {
        self.check(node)?;
        let path = |ending: &str| self.directory.join(format!("node-{node}.{ending}"));
        let log = File::options().create(true).append(true).open(path("log"))?;
        let child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .arg("--config")
            .arg(path("toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start a node")?;
        if let Some(mut before) = self.children.insert(node, child) {
            let _ = before.kill();
            before.wait()?;
        }
        Ok(())
    }

    /// Kills a node as a power cut would kill its process.
    pub(crate) fn kill(&mut self, node: u64) -> anyhow::Result<()> {
        self.check(node)?;
        if let Some(mut child) = self.children.remove(&node) {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Stops a node's clock, and lets it run again.
    pub(crate) fn signal(&self, node: u64, signal: Signal) -> anyhow::Result<()> {
        self.check(node)?;
        let child = self.children.get(&node).context("the node is down")?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("the process has no id")?, signal)?;
        Ok(())
    }

    fn check(&self, node: u64) -> anyhow::Result<()> {
        let last = self.members.len() as u64;
        ensure!((1..=last).contains(&node), "there is no node {node}: they are 1 to {last}");
        Ok(())
    }

    /// A table of nodes, processes and addresses.
    pub(crate) fn print(&self) {
        println!("node  process   peers             clients           data");
        for member in &self.members {
            let pid = self.children.get(&member.node).map_or("-".into(), |c| c.id().to_string());
            let data = self.directory.join(format!("node-{}", member.node));
            let Member { node, peer, client } = member;
            println!("{node:<5} {pid:<9} {peer:<17} {client:<17} {}", data.display());
        }
        println!();
    }

    /// Ends all of them: politely, then not.
    pub(crate) async fn stop(&mut self) {
        for node in self.children.keys() {
            let _ = self.signal(*node, Signal::CONT);
            let _ = self.signal(*node, Signal::TERM);
        }
        for _ in 0..60 {
            self.children.retain(|_, child| !matches!(child.try_wait(), Ok(Some(_))));
            if self.children.is_empty() {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in self.children.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Ports that nobody listens on now.
fn free_ports(count: usize) -> anyhow::Result<Vec<SocketAddr>> {
    // All are held at once, so that none is found twice.
    let listeners: Vec<_> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?)).collect()
}
