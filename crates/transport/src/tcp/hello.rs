//! The handshake: who is there, and whether that is welcome.

use std::io;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::ids::{ClusterId, Incarnation, NodeId, Peer};
use crate::wire::{Class, WIRE_VERSION};

const MAGIC: [u8; 4] = *b"QRTE";
pub(super) const HELLO_BYTES: usize = 4 + 2 + 8 * 4 + 1;
const WELCOME_BYTES: usize = 4 + 2;

/// Why a handshake is refused; both sides learn it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
#[repr(u8)]
pub enum Refusal {
    /// The two nodes belong to different clusters.
    #[error("the node belongs to another cluster")]
    WrongCluster = 1,
    /// The dialer is not among the configured peers.
    #[error("the node is not a configured peer")]
    UnknownPeer = 2,
    /// The two share no format version.
    #[error("no format version is common to both")]
    Version = 3,
    /// A later life of the dialer has been seen.
    #[error("a later life of the node has been seen")]
    OlderIncarnation = 4,
    /// The dialer meant another node: an address is wrong.
    #[error("the address leads to another node")]
    WrongDestination = 5,
    /// The words are not those of a handshake.
    #[error("the handshake is malformed")]
    Malformed = 6,
}

impl Refusal {
    const ALL: [Self; 6] = [
        Self::WrongCluster,
        Self::UnknownPeer,
        Self::Version,
        Self::OlderIncarnation,
        Self::WrongDestination,
        Self::Malformed,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| *refusal as u8 == byte)
    }
}

/// What a dialer says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) versions: (u8, u8),
    pub(super) cluster: ClusterId,
    pub(super) from: Peer,
    pub(super) to: NodeId,
    pub(super) class: Class,
}

impl Hello {
    pub(super) fn new(cluster: ClusterId, from: Peer, to: NodeId, class: Class) -> Self {
        Self { versions: (WIRE_VERSION, WIRE_VERSION), cluster, from, to, class }
    }

    pub(super) fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut bytes = [0; HELLO_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = self.versions.0;
        bytes[5] = self.versions.1;
        let words = [self.cluster.0, self.from.node.0, self.from.incarnation.0, self.to.0];
        for (at, word) in words.into_iter().enumerate() {
            bytes[6 + 8 * at..14 + 8 * at].copy_from_slice(&word.to_le_bytes());
        }
        bytes[HELLO_BYTES - 1] = self.class as u8;
        bytes
    }

    pub(super) fn decode(bytes: &[u8; HELLO_BYTES]) -> Result<Self, Refusal> {
        let word = |at: usize| {
            let word = bytes[6 + 8 * at..14 + 8 * at].try_into().expect("eight bytes");
            u64::from_le_bytes(word)
        };
        if bytes[..4] != MAGIC {
            return Err(Refusal::Malformed);
        }
        let versions = (bytes[4], bytes[5]);
        if !(versions.0..=versions.1).contains(&WIRE_VERSION) {
            return Err(Refusal::Version);
        }
        let class = Class::from_byte(bytes[HELLO_BYTES - 1]).ok_or(Refusal::Malformed)?;
        Ok(Self {
            versions,
            cluster: ClusterId(word(0)),
            from: Peer { node: NodeId(word(1)), incarnation: Incarnation(word(2)) },
            to: NodeId(word(3)),
            class,
        })
    }

    pub(super) async fn read(
        stream: &mut (impl AsyncReadExt + Unpin),
    ) -> io::Result<Result<Self, Refusal>> {
        let mut bytes = [0; HELLO_BYTES];
        stream.read_exact(&mut bytes).await?;
        Ok(Self::decode(&bytes))
    }
}

/// Answers a hello.
pub(super) async fn answer(
    stream: &mut (impl AsyncWriteExt + Unpin),
    verdict: Result<(), Refusal>,
) -> io::Result<()> {
    let mut bytes = [0; WELCOME_BYTES];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4] = WIRE_VERSION;
    bytes[5] = verdict.map_or_else(|refusal| refusal as u8, |()| 0);
    stream.write_all(&bytes).await
}

/// Reads the answer to a hello.
pub(super) async fn verdict(
    stream: &mut (impl AsyncReadExt + Unpin),
) -> io::Result<Result<(), Refusal>> {
    let mut bytes = [0; WELCOME_BYTES];
    stream.read_exact(&mut bytes).await?;
    Ok(match bytes[5] {
        _ if bytes[..4] != MAGIC => Err(Refusal::Malformed),
        0 => Ok(()),
        code => Err(Refusal::from_byte(code).unwrap_or(Refusal::Malformed)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_comes_back_and_no_bytes_panic() {
        let from = Peer { node: NodeId(7), incarnation: Incarnation(8) };
        let hello = Hello::new(ClusterId(9), from, NodeId(1), Class::Bulk);
        assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
        let mut rng = crate::Rng::new(1);
        for _ in 0..10_000 {
            let mut bytes = hello.encode();
            bytes[rng.below(HELLO_BYTES as u64) as usize] = rng.next_u64() as u8;
            let _ = Hello::decode(&bytes);
        }
        let mut other = hello.encode();
        (other[4], other[5]) = (WIRE_VERSION + 1, WIRE_VERSION + 2);
        assert_eq!(Hello::decode(&other), Err(Refusal::Version));
    }
}
