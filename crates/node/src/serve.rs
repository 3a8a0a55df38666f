//! One node of the key-value store: its sockets, its machines, and an orderly end.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use quorate_node::{Builder, Cluster, NoResource, Node};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::config::{Config, Overrides};
use crate::drill::Accounts;
use crate::faulty::FaultyDisk;
use crate::http;
use crate::server::{self, Machines};
use quorate_node::kv::Map;

/// Runs a node until it is told to stop or its journal fails.
pub(crate) async fn run(file: Option<&Path>, overrides: Overrides) -> anyhow::Result<()> {
    let config = Config::load(file, overrides)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let members = config.members.iter();
    let cluster = members.fold(Cluster::new(config.cluster), |cluster, (node, member)| {
        cluster.with(*node, member.peer.clone())
    });
    let mut builder = Builder::new(&cluster, config.node, &config.data_dir, Map::default());
    builder.listen = Some(config.peer_listen);
    if config.join {
        builder.replica.raft.voters.clear();
    }
    if let Some(bytes) = config.snapshot_bytes {
        builder.replica.snapshot_bytes = bytes;
    }
    if let Some(ttl) = config.session_ttl {
        let tick = ttl.min(builder.replica.tick_interval);
        (builder.replica.session_ttl, builder.replica.tick_interval) = (ttl, tick);
    }
    let accounts = if config.drills {
        std::fs::create_dir_all(&config.data_dir)
            .with_context(|| format!("cannot open {}", config.data_dir.display()))?;
        Some(Accounts::open(&config.data_dir)?)
    } else {
        None
    };
    let mut node = match (&config.disk_faults, &accounts) {
        (Some(control), _) => start_on_faulty_disks(builder, control)?,
        (None, Some(accounts)) => builder.start_with(accounts.clone())?,
        (None, None) => builder.start()?,
    };
    let clients = TcpListener::bind(config.client_listen)
        .await
        .with_context(|| format!("cannot listen on {} for clients", config.client_listen))?;
    tracing::info!(
        node = config.node.0,
        life = node.identity().incarnation.life(),
        peers = %node.address(),
        clients = %clients.local_addr()?,
        "serving"
    );
    let machines = Arc::new(Machines::of(&node, accounts));
    let mut servers = JoinSet::new();
    if let Some(address) = config.metrics_listen {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address} for metrics"))?;
        tracing::info!(metrics = %listener.local_addr()?, "answering /metrics, /livez, /readyz");
        servers.spawn(http::run(listener, Arc::clone(&machines)));
    }
    servers.spawn(server::run(clients, machines));
    tokio::select! {
        _ = terminate.recv() => tracing::info!("told to terminate"),
        _ = interrupt.recv() => tracing::info!("interrupted"),
        failed = node.stopped() => return failed.context("the node has stopped"),
    }
    servers.abort_all();
    node.stop().await.context("while stopping")
}

/// The node on disks that fail as a file says; it votes no on every transaction.
fn start_on_faulty_disks(builder: Builder<Map>, control: &Path) -> anyhow::Result<Node<Map>> {
    tracing::warn!(control = %control.display(), "the disks of this node fail on command");
    let open = |path| FaultyDisk::open(path, control.to_path_buf());
    Ok(builder.start_on(open, NoResource)?)
}
