//! One node: identity, disks, sockets, replica, and an orderly end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use quorate_driver::{Identity, Options, Setup};
use quorate_smr::{Reply, Request, Smr};
use quorate_transport::tcp::{TcpConfig, TcpTransport};
use quorate_transport::{Key, Peer};
use quorate_wal::RealDisk;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, Overrides};
use crate::kv::Map;
use crate::server;

/// The replicated map's machine.
const REPLICA: Key = Key::new(2, 0);

/// Runs a node until it is told to stop or its journal fails.
pub(crate) async fn run(file: Option<&Path>, overrides: Overrides) -> anyhow::Result<()> {
    let config = Config::load(file, overrides)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let identity = Identity::begin(&config.data_dir, config.cluster, config.node)?;
    let me = Peer { node: identity.node, incarnation: identity.incarnation };
    let seed = config.node.0 << 32 ^ identity.incarnation.0;
    let disk = |name: &str| {
        let path = config.data_dir.join(name);
        std::fs::create_dir_all(&path)
            .and_then(|()| RealDisk::open(&path))
            .with_context(|| format!("cannot open {}", path.display()))
    };
    let owner = config.cluster.0.rotate_left(32) ^ config.node.0;
    let journal = quorate_wal::Options { owner, ..quorate_wal::Options::default() };
    let smr = quorate_smr::Config::new(config.members.keys().copied(), Map::default());
    // A snapshot frees the journal before the journal has to free itself.
    let journal_bytes_max = 2 * smr.snapshot_bytes_max;
    let options = Options { journal, journal_bytes_max, ..Options::default() };
    let mut setup = Setup::open(me, seed, disk("journal")?, disk("snapshots")?, options)
        .with_context(|| format!("data directory {}", config.data_dir.display()))?;
    let replica = setup.add::<Smr<Map>>(REPLICA, smr)?;

    let mut tcp = TcpConfig::new(config.cluster, me);
    tcp.listen = config.peer_listen;
    tcp.seed = seed;
    for (node, member) in &config.members {
        if *node != config.node {
            tcp.peers.insert(*node, member.peer.clone());
        }
    }
    let transport = TcpTransport::bind(tcp)?;
    let clients = TcpListener::bind(config.client_listen)
        .await
        .with_context(|| format!("cannot listen on {} for clients", config.client_listen))?;
    tracing::info!(
        node = config.node.0,
        life = identity.incarnation.0,
        peers = %transport.local_addr(),
        clients = %clients.local_addr()?,
        "serving"
    );
    let mut driver = setup.run(Arc::new(transport))?;
    let server = tokio::spawn(server::run(config.node, clients, replica.clone()));
    tokio::select! {
        _ = terminate.recv() => tracing::info!("told to terminate"),
        _ = interrupt.recv() => tracing::info!("interrupted"),
        failed = driver.stopped() => return failed.context("the node has stopped"),
    }
    server.abort();
    // Others need not wait for a timeout to find a new leader.
    let hand_over = replica.request(Request::Transfer { to: None });
    let handed = tokio::time::timeout(Duration::from_millis(500), hand_over).await;
    if matches!(handed, Ok(Ok(Reply::Transferred))) {
        tracing::info!("leadership handed over");
    }
    driver.stop().await.context("while stopping")?;
    Ok(())
}
