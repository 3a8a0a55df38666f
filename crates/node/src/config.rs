//! A node's configuration: a TOML file, `QUORATE_*` variables, flags, in rising order.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use quorate_transport::{ClusterId, NodeId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A node of the cluster, as all nodes and clients know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Member {
    pub(crate) node: u64,
    /// Where it listens for other nodes, as `host:port`.
    pub(crate) peer: String,
    /// Where it listens for clients.
    pub(crate) client: String,
}

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) cluster: Option<u64>,
    pub(crate) node: Option<u64>,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) peer_listen: Option<SocketAddr>,
    pub(crate) client_listen: Option<SocketAddr>,
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// In seconds.
    pub(crate) session_ttl: Option<u64>,
    #[serde(default)]
    pub(crate) drills: bool,
    #[serde(default)]
    pub(crate) join: bool,
    #[serde(default)]
    pub(crate) members: Vec<Member>,
}

/// What may override the file.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Overrides {
    /// Which cluster this node belongs to
    #[arg(long, env = "QUORATE_CLUSTER")]
    cluster: Option<u64>,
    /// Which member this node is
    #[arg(long, env = "QUORATE_NODE")]
    node: Option<u64>,
    /// Where its journal and snapshots are
    #[arg(long, env = "QUORATE_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Where it listens for other nodes
    #[arg(long, env = "QUORATE_PEER_LISTEN")]
    peer_listen: Option<SocketAddr>,
    /// Where it listens for clients
    #[arg(long, env = "QUORATE_CLIENT_LISTEN")]
    client_listen: Option<SocketAddr>,
    /// Where it answers /metrics, /livez and /readyz over HTTP; nowhere if not given
    #[arg(long, env = "QUORATE_METRICS_LISTEN")]
    metrics_listen: Option<SocketAddr>,
    /// Let clients exercise locks, transactions and elections, as the demonstration does
    #[arg(long, env = "QUORATE_DRILLS")]
    drills: bool,
    /// Join a cluster that is there: wait until `quorate group add` takes this node in
    #[arg(long, env = "QUORATE_JOIN")]
    join: bool,
    /// For tests: put faults between the node and its disk, as the words in this file say
    #[arg(long, env = "QUORATE_DISK_FAULTS", hide = true)]
    disk_faults: Option<PathBuf>,
    /// For tests: make a snapshot after this many bytes of commands
    #[arg(long, env = "QUORATE_SNAPSHOT_BYTES", hide = true)]
    snapshot_bytes: Option<u64>,
    /// Forget a session that was not used for this many seconds; equal on all nodes
    #[arg(long, env = "QUORATE_SESSION_TTL")]
    session_ttl: Option<u64>,
}

/// A whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) data_dir: PathBuf,
    pub(crate) peer_listen: SocketAddr,
    pub(crate) client_listen: SocketAddr,
    pub(crate) metrics_listen: Option<SocketAddr>,
    pub(crate) drills: bool,
    pub(crate) join: bool,
    pub(crate) disk_faults: Option<PathBuf>,
    pub(crate) snapshot_bytes: Option<u64>,
    pub(crate) session_ttl: Option<Duration>,
    pub(crate) members: BTreeMap<NodeId, Member>,
}

/// Why a node is not configured. Nothing was started.
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{}: {reason}", path.display())]
    Malformed { path: PathBuf, reason: String },
    #[error("{0} is missing: give it in the file, as QUORATE_{upper} or as --{flag}",
        upper = .0.to_uppercase(), flag = .0.replace('_', "-"))]
    Missing(&'static str),
    #[error("{field}: {rule}")]
    Rule { field: &'static str, rule: String },
}

impl Config {
    /// Reads the file, if one is given, and applies the overrides.
    pub(crate) fn load(path: Option<&Path>, over: Overrides) -> Result<Self, ConfigError> {
        let file = match path {
            Some(path) => read(path)?,
            None => File::default(),
        };
        Self::merge(file, over)
    }

    /// A file's fields, and what overrides them.
    pub(crate) fn merge(file: File, over: Overrides) -> Result<Self, ConfigError> {
        let config = Self {
            cluster: ClusterId(
                over.cluster.or(file.cluster).ok_or(ConfigError::Missing("cluster"))?,
            ),
            node: NodeId(over.node.or(file.node).ok_or(ConfigError::Missing("node"))?),
            data_dir: over.data_dir.or(file.data_dir).ok_or(ConfigError::Missing("data_dir"))?,
            peer_listen: over
                .peer_listen
                .or(file.peer_listen)
                .ok_or(ConfigError::Missing("peer_listen"))?,
            client_listen: over
                .client_listen
                .or(file.client_listen)
                .ok_or(ConfigError::Missing("client_listen"))?,
            metrics_listen: over.metrics_listen.or(file.metrics_listen),
            drills: over.drills || file.drills,
            join: over.join || file.join,
            disk_faults: over.disk_faults,
            snapshot_bytes: over.snapshot_bytes,
            session_ttl: over.session_ttl.or(file.session_ttl).map(Duration::from_secs),
            members: members(&file.members)?,
        };
        if !config.members.contains_key(&config.node) {
            let rule = format!("do not hold node {}", config.node.0);
            return Err(ConfigError::Rule { field: "members", rule });
        }
        Ok(config)
    }
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.into(), source })?;
    parse(&text).map_err(|reason| ConfigError::Malformed { path: path.into(), reason })
}

/// The fields of a file's text, or why it has none.
pub(crate) fn parse(text: &str) -> Result<File, String> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        let number = 1 + text[..start].matches('\n').count();
        let line = text.lines().nth(number - 1).unwrap_or_default().trim();
        format!("line {number}, `{}`: {}", line.escape_debug(), error.message())
    })
}

fn members(all: &[Member]) -> Result<BTreeMap<NodeId, Member>, ConfigError> {
    let unique: BTreeSet<_> = all.iter().map(|member| member.node).collect();
    if all.is_empty() {
        let rule = "name at least one node ([[members]] with node, peer and client)".into();
        return Err(ConfigError::Rule { field: "members", rule });
    }
    if unique.len() < all.len() {
        return Err(ConfigError::Rule { field: "members", rule: "name a node twice".into() });
    }
    Ok(all.iter().map(|member| (NodeId(member.node), member.clone())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        cluster = 7
        node = 1
        data_dir = "data"
        peer_listen = "127.0.0.1:1"
        client_listen = "127.0.0.1:2"
        [[members]]
        node = 1
        peer = "127.0.0.1:1"
        client = "127.0.0.1:2"
    "#;

    fn load(text: &str, over: Overrides) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load(Some(file.path()), over).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_win_over_the_file() {
        assert_eq!(load(GOOD, Overrides::default()).unwrap().cluster, ClusterId(7));
        let over = Overrides { cluster: Some(9), ..Overrides::default() };
        assert_eq!(load(GOOD, over).unwrap().cluster, ClusterId(9));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            (GOOD.replace("cluster = 7", ""), "cluster is missing"),
            (GOOD.replace("cluster = 7", "cluster = \"x\""), "cluster"),
            (GOOD.replace("node = 1", "node = 2").replacen("node = 2", "node = 1", 1), "members"),
            (GOOD.replace("[[members]]", "[[member]]"), "member"),
            (GOOD.replace("data_dir", "datadir"), "datadir"),
        ];
        for (text, want) in cases {
            let error = load(&text, Overrides::default()).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }
}
