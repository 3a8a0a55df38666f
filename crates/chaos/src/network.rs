//! Where nodes and links listen: on loopback, or each node in a network namespace of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use anyhow::Context;

use crate::isolation::command;

/// Ports of nodes begin here, below those that the kernel gives to whoever dials.
const PORTS_FROM: u16 = 21_000;
const PORTS_UNTIL: u16 = 30_000;

/// How the nodes are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// All on loopback; links are proxies.
    Loopback,
    /// Each on a cable of its own to a bridge, where the links are. Only in a world of our own.
    Namespaces,
}

impl Network {
    /// Lays the cables.
    pub(crate) async fn set_up(self, nodes: u64) -> anyhow::Result<()> {
        if self == Self::Loopback {
            return Ok(());
        }
        command(&["ip", "link", "add", "bridge", "type", "bridge"]).await?;
        command(&["ip", "addr", "add", &format!("{}/24", self.hub()), "dev", "bridge"]).await?;
        command(&["ip", "link", "set", "bridge", "up"]).await?;
        for node in 1..=nodes {
            let (space, cable) = (namespace(node), cable(node));
            let address = format!("{}/24", self.host(node));
            command(&["ip", "netns", "add", &space]).await?;
            let peer = ["type", "veth", "peer", "name", "eth0", "netns", &space];
            command(&[&["ip", "link", "add", &cable][..], &peer].concat()).await?;
            command(&["ip", "link", "set", &cable, "master", "bridge", "up"]).await?;
            command(&["ip", "-n", &space, "addr", "add", &address, "dev", "eth0"]).await?;
            command(&["ip", "-n", &space, "link", "set", "eth0", "up"]).await?;
            command(&["ip", "-n", &space, "link", "set", "lo", "up"]).await?;
        }
        Ok(())
    }

    /// Where links listen.
    pub(crate) fn hub(self) -> IpAddr {
        match self {
            Self::Loopback => Ipv4Addr::LOCALHOST.into(),
            Self::Namespaces => Ipv4Addr::new(10, 77, 0, 254).into(),
        }
    }

    fn host(self, node: u64) -> IpAddr {
        match self {
            Self::Loopback => Ipv4Addr::LOCALHOST.into(),
            Self::Namespaces => Ipv4Addr::new(10, 77, 0, node as u8).into(),
        }
    }

    /// Where each node listens for peers and for clients.
    pub(crate) fn addresses(self, nodes: u64) -> anyhow::Result<Vec<(SocketAddr, SocketAddr)>> {
        // All are held at once, so that none is found twice.
        let mut held = Vec::new();
        let mut port = PORTS_FROM + (std::process::id() % 400) as u16 * 20;
        let mut free = |node: u64| -> anyhow::Result<SocketAddr> {
            while port < PORTS_UNTIL {
                port += 1;
                if self == Self::Namespaces {
                    return Ok((self.host(node), port).into());
                }
                if let Ok(listener) = TcpListener::bind((self.host(node), port)) {
                    held.push(listener);
                    return Ok((self.host(node), port).into());
                }
            }
            None.context("no free port")
        };
        (1..=nodes).map(|node| Ok((free(node)?, free(node)?))).collect()
    }

    /// What a node's command line begins with.
    pub(crate) fn prefix(self, node: u64) -> Vec<String> {
        match self {
            Self::Loopback => Vec::new(),
            Self::Namespaces => {
                ["ip", "netns", "exec", &namespace(node)].map(str::to_owned).to_vec()
            }
        }
    }
}

/// The network namespace of a node.
pub(crate) fn namespace(node: u64) -> String {
    format!("node-{node}")
}

/// The bridge's end of a node's cable.
pub(crate) fn cable(node: u64) -> String {
    format!("cable-{node}")
}
