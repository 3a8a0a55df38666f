//! Real processes on loopback: three nodes and a load generator, ours or a peer's.
//!
//! Both load generators take the same command line and print the same lines: `TOOL bench`, `TOOL
//! load FILE` and `TOOL status`, each with `--nodes 1=host:port,…`.
#![allow(clippy::disallowed_methods, reason = "a benchmark waits for real processes")]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

const NODES: usize = 3;
/// How long a cluster may take until one node leads.
const READY_MAX: Duration = Duration::from_secs(30);
/// Tenths of a load that are acknowledged when the leader is killed.
const KILL_AFTER_TENTHS: usize = 3;

/// Three nodes; killed, and their data removed, when dropped.
pub struct Cluster {
    tool: PathBuf,
    /// What `--nodes` takes.
    clients: String,
    nodes: Vec<Node>,
}

struct Node {
    program: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

/// What a load generator measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Operations a second.
    pub rate: f64,
    /// The median latency, in milliseconds.
    pub p50_ms: f64,
}

/// What one run of a load generator does.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Clients with one operation under way each.
    pub clients: u64,
    /// How long is measured.
    pub seconds: u64,
    /// Bytes of a value.
    pub value_bytes: u64,
    /// Linearizable reads in place of puts.
    pub reads: bool,
}

impl Cluster {
    /// Starts three `quorate serve`.
    ///
    /// # Errors
    /// A process cannot be started, or no node leads within 30 s.
    pub fn quorate(binary: &Path, directory: &Path) -> anyhow::Result<Self> {
        let (peers, clients) = ports()?;
        let member = |n: usize| {
            let (peer, client) = (&peers[n], &clients[n]);
            let node = n + 1;
            format!("[[members]]\nnode = {node}\npeer = \"{peer}\"\nclient = \"{client}\"\n")
        };
        let members: String = (0..NODES).map(member).collect();
        let mut nodes = Vec::new();
        for n in 0..NODES {
            let (node, peer, client) = (n + 1, &peers[n], &clients[n]);
            let data = directory.join(format!("quorate-{node}"));
            let config = directory.join(format!("quorate-{node}.toml"));
            let text = format!(
                "cluster = 1\nnode = {node}\ndata_dir = {data:?}\npeer_listen = \"{peer}\"\n\
                 client_listen = \"{client}\"\n{members}"
            );
            std::fs::write(&config, text)?;
            let config = config.display().to_string();
            let args = vec!["serve".to_owned(), "--config".to_owned(), config];
            nodes.push(Node::new(binary, args, data.with_extension("log")));
        }
        Self::start(binary, &clients, nodes)
    }

    /// Starts three `etcd`, with their defaults.
    ///
    /// # Errors
    /// A process cannot be started, or no node leads within 30 s.
    pub fn etcd(load: &Path, directory: &Path) -> anyhow::Result<Self> {
        let (peers, clients) = ports()?;
        let peer = |n: usize| format!("n{}=http://{}", n + 1, peers[n]);
        let all = (0..NODES).map(peer).collect::<Vec<_>>().join(",");
        let mut nodes = Vec::new();
        for n in 0..NODES {
            let data = directory.join(format!("etcd-{}", n + 1));
            let (peer, client) = (format!("http://{}", peers[n]), format!("http://{}", clients[n]));
            let flags = [
                ("--name", format!("n{}", n + 1)),
                ("--data-dir", data.display().to_string()),
                ("--listen-peer-urls", peer.clone()),
                ("--initial-advertise-peer-urls", peer),
                ("--listen-client-urls", client.clone()),
                ("--advertise-client-urls", client),
                ("--initial-cluster", all.clone()),
                ("--initial-cluster-state", "new".to_owned()),
                ("--logger", "zap".to_owned()),
                ("--log-level", "error".to_owned()),
            ];
            let args = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
            nodes.push(Node::new(Path::new("etcd"), args.collect(), data.with_extension("log")));
        }
        Self::start(load, &clients, nodes)
    }

    fn start(tool: &Path, clients: &[String], nodes: Vec<Node>) -> anyhow::Result<Self> {
        let pair = |(n, address): (usize, &String)| format!("{}={address}", n + 1);
        let clients = clients.iter().enumerate().map(pair).collect::<Vec<_>>().join(",");
        let mut cluster = Self { tool: tool.to_owned(), clients, nodes };
        for node in &mut cluster.nodes {
            node.start()?;
        }
        cluster.wait_for_leader()?;
        Ok(cluster)
    }

    /// Puts or reads in a process of its own.
    ///
    /// # Errors
    /// The load generator failed, or did not say how fast it was.
    pub fn bench(&self, work: Work) -> anyhow::Result<Load> {
        let mut command = self.tool("bench");
        command.arg("--clients").arg(work.clients.to_string());
        command.arg("--seconds").arg(work.seconds.to_string());
        command.arg("--value-bytes").arg(work.value_bytes.to_string());
        if work.reads {
            command.arg("--reads");
        }
        let output = command.stderr(Stdio::inherit()).output().context("cannot start the load")?;
        ensure!(output.status.success(), "the load generator failed: {}", output.status);
        let text = String::from_utf8_lossy(&output.stdout);
        Load::from_output(&text).with_context(|| format!("no figures in {text:?}"))
    }

    /// Loads `table`, kills the leader half-way, and starts it again afterwards: the longest time
    /// between two acknowledged writes.
    ///
    /// # Errors
    /// The load failed, or was over before the leader was killed.
    pub fn fail_over(&mut self, table: &Path) -> anyhow::Result<Duration> {
        let leader = self.wait_for_leader()?;
        let mut command = self.tool("load");
        command.arg(table).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut load = command.spawn().context("cannot start the load")?;
        let lines = BufReader::new(load.stdout.take().context("the load has no output")?).lines();
        let (mut tenths, mut gap) = (0, None);
        for line in lines {
            let line = line?;
            if let Some(found) = gap_of(&line) {
                gap = Some(found);
            } else if line.ends_with("rows") {
                tenths += 1;
                if tenths == KILL_AFTER_TENTHS {
                    self.nodes[leader].kill()?;
                }
            }
        }
        let status = load.wait()?;
        ensure!(status.success(), "the load failed: {status}");
        ensure!(tenths > KILL_AFTER_TENTHS, "the load was over before the leader was killed");
        self.nodes[leader].start()?;
        self.wait_for_leader()?;
        gap.context("the load did not say how long the longest gap was")
    }

    /// The place of the node that leads, once all nodes answer.
    fn wait_for_leader(&mut self) -> anyhow::Result<usize> {
        let begun = Instant::now();
        while begun.elapsed() < READY_MAX {
            for node in &mut self.nodes {
                node.check()?;
            }
            let output = self.tool("status").stderr(Stdio::null()).output()?;
            if let Some(leader) = leader_of(&String::from_utf8_lossy(&output.stdout)) {
                return Ok(leader);
            }
            sleep(Duration::from_millis(50));
        }
        bail!("not all nodes are up, or none leads, after {READY_MAX:?}")
    }

    fn tool(&self, command: &str) -> Command {
        let mut tool = Command::new(&self.tool);
        tool.arg(command).arg("--nodes").arg(&self.clients).stdin(Stdio::null());
        tool.env("QUORATE_LOG", "error");
        tool
    }
}

impl Node {
    fn new(program: &Path, args: Vec<String>, log: PathBuf) -> Self {
        Self { program: program.to_owned(), args, log, child: None }
    }

    fn start(&mut self) -> anyhow::Result<()> {
        let log = std::fs::File::options().create(true).append(true).open(&self.log)?;
        let child = Command::new(&self.program)
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// As `kill -9`.
    fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    fn check(&mut self) -> anyhow::Result<()> {
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait()?
        {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            bail!("{} ended: {status}\n{log}", self.program.display());
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("cannot kill {}: {error}", self.program.display());
        }
    }
}

impl Load {
    /// Reads the line `… 12345 ops/s; latency ms p50 1.25 p90 …`; others tell of progress.
    fn from_output(text: &str) -> Option<Self> {
        let line = text.lines().rfind(|line| line.contains(" p50 "))?;
        let words: Vec<_> = line.split_whitespace().collect();
        let at = |word: &str| words.iter().position(|found| found.trim_end_matches(';') == word);
        let number = |place: usize| words.get(place)?.parse().ok();
        Some(Self { rate: number(at("ops/s")?.checked_sub(1)?)?, p50_ms: number(at("p50")? + 1)? })
    }
}

/// Reads `… longest gap between two acknowledged writes 28.3ms …`.
fn gap_of(line: &str) -> Option<Duration> {
    let (_, rest) = line.split_once("longest gap between two acknowledged writes ")?;
    let word = rest.split([' ', ',']).next()?;
    let digits = word.find(|c: char| c != '.' && !c.is_ascii_digit())?;
    let value: f64 = word[..digits].parse().ok()?;
    let unit = match &word[digits..] {
        "ns" => 1e-9,
        "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return None,
    };
    Some(Duration::from_secs_f64(value * unit))
}

/// Reads the table of `status`: a header, then `node role …`; nothing unless all nodes are up.
fn leader_of(table: &str) -> Option<usize> {
    let role = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
    let roles: Vec<_> = table.lines().skip(1).filter_map(role).collect();
    if roles.len() < NODES || roles.iter().any(|role| role == "down") {
        return None;
    }
    let mut leaders = (0..roles.len()).filter(|n| roles[*n] == "leader");
    leaders.next().filter(|_| leaders.next().is_none())
}

/// Addresses that nobody listens on now, for peers and for clients.
fn ports() -> anyhow::Result<(Vec<String>, Vec<String>)> {
    // All are held at once, so that none is found twice.
    let listeners: Vec<_> =
        (0..2 * NODES).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let addresses = listeners.iter().map(|listener| Ok(listener.local_addr()?.to_string()));
    let mut peers = addresses.collect::<anyhow::Result<Vec<_>>>()?;
    let clients = peers.split_off(NODES);
    Ok((peers, clients))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_line_of_a_load_generator() {
        let line = "  5 of 10 s, 7 ops/s\n\
                    64 clients, puts of 256 B: 21034 ops/s; latency ms p50 2.91 p90 3.80 p99 6.1; \
                    0 failed\n";
        assert_eq!(Load::from_output(line), Some(Load { rate: 21_034.0, p50_ms: 2.91 }));
        assert_eq!(Load::from_output("ops/s p50"), None);
    }

    #[test]
    fn a_gap_is_read_in_every_unit() {
        let line = |gap: &str| {
            format!("9 rows in 1 s (9 a second), longest gap between two acknowledged writes {gap}")
        };
        assert_eq!(gap_of(&line("28ms")), Some(Duration::from_millis(28)));
        assert_eq!(gap_of(&line("1.2s, 3 with unknown")), Some(Duration::from_millis(1200)));
        assert_eq!(gap_of(&line("812.5µs")), Some(Duration::from_nanos(812_500)));
        assert_eq!(gap_of(&line("soon")), None);
    }

    #[test]
    fn the_leader_is_told_only_when_all_nodes_are_up_and_one_leads() {
        let table = |roles: [&str; 3]| {
            let [a, b, c] = roles;
            format!("node  role  term\n1     {a}  2\n2     {b}  2\n3     {c}  2\n")
        };
        assert_eq!(leader_of(&table(["follower", "leader", "follower"])), Some(1));
        assert_eq!(leader_of(&table(["down", "leader", "follower"])), None);
        assert_eq!(leader_of(&table(["leader", "leader", "follower"])), None);
        assert_eq!(leader_of(&table(["follower", "follower", "follower"])), None);
        assert_eq!(leader_of("node  role\n1  leader\n"), None);
    }
}
