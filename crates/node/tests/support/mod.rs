//! What the tests of the binary share: running it, and clusters of its nodes.
#![allow(dead_code, reason = "each test uses a part")]

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use quorate_node::client::Client;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

/// Runs a test on a runtime of its own; one that hangs fails.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("it hangs") });
}

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.args(arguments).stdin(Stdio::null()).env("QUORATE_LOG", "warn");
    command
}

pub(crate) fn quorate(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the binary runs")
}

pub(crate) fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// It failed with this exit code and one line that says all of `wants`.
pub(crate) fn check(output: &Output, code: i32, wants: &[&str]) {
    let text = text(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    for want in wants {
        assert!(text.contains(want), "no {want:?} in: {text}");
    }
}

/// Addresses that nobody listens on now; all are held at once, so that none is found twice.
pub(crate) fn free(count: usize) -> Vec<SocketAddr> {
    let hold = |_| TcpListener::bind("127.0.0.1:0").unwrap();
    let held: Vec<_> = (0..count).map(hold).collect();
    held.iter().map(|listener| listener.local_addr().unwrap()).collect()
}

/// A configuration of a group of one that listens where it is told to.
pub(crate) fn config(
    directory: &Path,
    (cluster, node): (u64, u64),
    peer: &str,
    client: &str,
) -> String {
    let path = directory.join("node.toml");
    let data = directory.join("data");
    let text = format!(
        "cluster = {cluster}\nnode = {node}\ndata_dir = {data:?}\npeer_listen = {peer:?}\n\
         client_listen = {client:?}\n\
         [[members]]\nnode = {node}\npeer = {peer:?}\nclient = {client:?}\n"
    );
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Running nodes, killed at the end of the test, and their logs.
pub(crate) struct Cluster {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) clients: Vec<SocketAddr>,
    /// Where each node answers over HTTP.
    pub(crate) metrics: Vec<SocketAddr>,
    pub(crate) children: Vec<Option<Child>>,
    /// Variables that its nodes are run with.
    variables: Vec<(&'static str, &'static str)>,
}

impl Cluster {
    pub(crate) fn start(count: usize) -> Self {
        Self::start_with(count, &[])
    }

    pub(crate) fn start_with(count: usize, variables: &[(&'static str, &'static str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let addresses = free(3 * count);
        let (peers, rest) = addresses.split_at(count);
        let (clients, metrics) = rest.split_at(count);
        let (clients, metrics) = (clients.to_vec(), metrics.to_vec());
        let member = |(node, (peer, client))| {
            format!("[[members]]\nnode = {node}\npeer = \"{peer}\"\nclient = \"{client}\"\n")
        };
        let members: String = (1..=count).zip(peers.iter().zip(&clients)).map(member).collect();
        let children = (0..count).map(|_| None).collect();
        let variables = variables.to_vec();
        let mut cluster = Self { directory, clients, metrics, children, variables };
        for (node, peer) in (1..).zip(peers) {
            let (data, client) = (cluster.path(node, "data"), cluster.clients[node - 1]);
            let metrics = cluster.metrics[node - 1];
            let text = format!(
                "cluster = 1\nnode = {node}\ndata_dir = {data:?}\npeer_listen = \"{peer}\"\n\
                 client_listen = \"{client}\"\nmetrics_listen = \"{metrics}\"\n{members}"
            );
            fs::write(cluster.path(node, "toml"), text).unwrap();
            cluster.run(node);
        }
        cluster
    }

    /// One more node, which nobody knows yet and which waits to be taken in; its number, and where
    /// it listens for the others.
    pub(crate) fn join(&mut self) -> (usize, String) {
        let node = self.clients.len() + 1;
        let [peer, client, metrics] = free(3)[..] else { unreachable!("three were asked for") };
        let known = fs::read_to_string(self.path(1, "toml")).unwrap();
        let (_, members) = known.split_once("[[members]]").unwrap();
        let data = self.path(node, "data");
        let text = format!(
            "cluster = 1\nnode = {node}\ndata_dir = {data:?}\npeer_listen = \"{peer}\"\n\
             client_listen = \"{client}\"\nmetrics_listen = \"{metrics}\"\njoin = true\n\
             [[members]]{members}\
             [[members]]\nnode = {node}\npeer = \"{peer}\"\nclient = \"{client}\"\n"
        );
        fs::write(self.path(node, "toml"), text).unwrap();
        self.clients.push(client);
        self.metrics.push(metrics);
        self.children.push(None);
        self.run(node);
        (node, peer.to_string())
    }

    /// A client of all nodes in this process.
    pub(crate) fn client(&self, patience: Duration) -> Client {
        let nodes = (1..).zip(&self.clients).map(|(node, address)| (node, address.to_string()));
        Client::new(nodes.collect(), patience)
    }

    pub(crate) fn path(&self, node: usize, ending: &str) -> PathBuf {
        self.directory.path().join(format!("{node}.{ending}"))
    }

    pub(crate) fn run(&mut self, node: usize) {
        let log = fs::File::create(self.path(node, "log")).unwrap();
        let file = self.path(node, "toml");
        let mut command = command(&["serve", "--config", file.to_str().unwrap()]);
        command.envs(self.variables.iter().copied());
        let command = command.env("QUORATE_LOG", "info").stdout(Stdio::null()).stderr(log);
        self.children[node - 1] = Some(command.spawn().unwrap());
    }

    pub(crate) fn log(&self, node: usize) -> String {
        fs::read_to_string(self.path(node, "log")).unwrap()
    }

    /// As a client of all nodes.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Output {
        let pairs = (1..).zip(&self.clients).map(|(node, address)| format!("{node}={address}"));
        let nodes = pairs.collect::<Vec<_>>().join(",");
        let mut all = arguments.to_vec();
        all.extend(["--nodes", &nodes]);
        quorate(&all)
    }

    /// The node that leads, once there is one that is not `gone`.
    pub(crate) fn leader(&self, gone: Option<usize>) -> usize {
        let begun = Instant::now();
        loop {
            let status = text(&self.ask(&["status"]));
            let leads = |line: &str| {
                let mut words = line.split_whitespace();
                let node = words.next()?.parse().ok()?;
                (words.next()? == "leader" && Some(node) != gone).then_some(node)
            };
            if let Some(node) = status.lines().find_map(leads) {
                return node;
            }
            assert!(begun.elapsed() < PATIENCE, "nobody leads:\n{status}");
        }
    }

    pub(crate) fn signal(&self, node: usize, signal: Signal) {
        let child = self.children[node - 1].as_ref().expect("it runs");
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for a node's end, after this signal.
    pub(crate) fn end(&mut self, node: usize, signal: Option<Signal>) -> Option<i32> {
        if let Some(signal) = signal {
            self.signal(node, signal);
        }
        let mut child = self.children[node - 1].take().expect("it runs");
        child.wait().unwrap().code()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
