//! What clients and servers say to each other: length-prefixed postcard, answers by id.

use std::io;

use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest message, in bytes.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// A question, and the number its answer carries.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ask {
    pub(crate) id: u64,
    pub(crate) body: Body,
}

/// A question.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Body {
    /// Open a session.
    Open,
    /// Apply a command; with session, number, and the number up to which all is answered.
    Apply { stamp: Option<(u64, u64, u64)>, command: Vec<u8> },
    /// Ask the state machine; linearizably, unless `stale`.
    Query { query: Vec<u8>, stale: bool },
    /// Where this node stands.
    Status,
    /// The digest of all that was applied.
    Digest,
    /// Hand leadership over.
    Transfer { to: Option<u64> },
    /// Every member, as this node sees it.
    Members,
    /// All metrics of this node, as Prometheus reads them.
    Metrics,
    /// An exercise; refused unless the node runs with `--drills`.
    Drill(Drill),
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Said {
    pub(crate) id: u64,
    pub(crate) answer: Answer,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done(Vec<u8>),
    Opened(u64),
    /// Applied before; the answer is forgotten.
    Forgotten,
    /// The session is gone.
    Expired,
    Value(Vec<u8>),
    Status(NodeStatus),
    Digest {
        index: u64,
        digest: u128,
    },
    Transferred,
    Members(Vec<MemberInfo>),
    Metrics(String),
    Drill(Report),
    /// Not done: ask the leader.
    NotLeader {
        leader: Option<u64>,
    },
    /// Not done: ask again soon.
    Busy,
    /// Not done, and never will be.
    Refused(String),
    /// Nobody knows.
    Unknown,
}

/// A member, as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemberInfo {
    pub(crate) node: u64,
    pub(crate) address: String,
    pub(crate) standing: String,
    /// A thousandth of phi.
    pub(crate) milliphi: u64,
    /// How long ago its last heartbeat came, in milliseconds.
    pub(crate) heartbeat_ms: Option<u64>,
    pub(crate) generation: u64,
}

/// Where a node stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeStatus {
    pub(crate) node: u64,
    pub(crate) role: String,
    pub(crate) term: u64,
    pub(crate) leader: Option<u64>,
    pub(crate) last: u64,
    pub(crate) commit: u64,
    pub(crate) applied: u64,
    pub(crate) snapshot: u64,
    pub(crate) sessions: u64,
    pub(crate) digest: u128,
}

/// One exercise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Drill {
    /// Enter the critical section of a resource.
    Lock { name: String, patience_ms: u64 },
    /// Leave it.
    Unlock { request: u64 },
    /// How many messages mutual exclusion has taken here.
    MutexCounts,
    /// Who leads, by each of the elections.
    Elections,
    /// Tell another node something; none: note something of its own.
    Say { to: Option<u64>, word: String },
    /// What happened here, with its stamps.
    Story,
    /// Move money: for each node how much, and whether its vote is held back.
    Transfer { parts: Vec<(u64, i64, bool)> },
    /// Cast the votes that were held back.
    Release,
    /// What the accounts of this node say.
    Accounts,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Report {
    Done,
    Locked {
        request: u64,
        fence: u128,
    },
    MutexCounts {
        requests: u64,
        permissions: u64,
        again: u64,
    },
    Elections(Leaders),
    Story(Vec<Told>),
    Committed {
        txn: String,
    },
    Aborted {
        txn: String,
        reason: String,
    },
    Accounts(Balance),
    /// It was not done; why.
    Failed(String),
}

/// Who leads, as one node has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leaders {
    /// By the quorum lease: the leader, and the term.
    pub(crate) lease: (Option<u64>, u64),
    /// By the bully algorithm, as this node believes: the leader, and the term.
    pub(crate) bully: Option<(u64, u64)>,
    /// The token of this node's own lease, while it holds one.
    pub(crate) token: Option<u128>,
}

/// Something that happened on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// Of a message: who sent it, in which life, under which number.
    pub(crate) message: Option<(u64, u64, u64)>,
    /// It came here, and was not sent from here.
    pub(crate) heard: bool,
    pub(crate) word: String,
    pub(crate) time: u64,
    /// The vector: node, life, count.
    pub(crate) vector: Vec<(u64, u64, u64)>,
}

/// An account and what is open on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Balance {
    pub(crate) balance: i64,
    /// Transactions that are not over here, each with where it stands.
    pub(crate) open: Vec<(String, String)>,
    /// Of these, how many nobody who answers knows the outcome of.
    pub(crate) blocked: u64,
    /// Whom the transactions begun here wait for.
    pub(crate) awaited: Vec<u64>,
}

/// Appends one message to a buffer.
pub(crate) fn put<T: Serialize>(message: &T, out: &mut BytesMut) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let body = postcard::to_allocvec(message).expect("these types always serialize");
    out.extend_from_slice(&body);
    let len = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
}

/// Takes one message off a buffer.
///
/// # Errors
/// The bytes are no such message, or it is over the cap: the other side's fault.
pub(crate) fn take<T: DeserializeOwned>(buffer: &mut BytesMut) -> io::Result<Option<T>> {
    let Some(len) = buffer.first_chunk::<4>() else { return Ok(None) };
    let len = u32::from_le_bytes(*len) as usize;
    let bad = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    if len > MESSAGE_BYTES_MAX {
        return Err(bad("a message is over the cap"));
    }
    if buffer.len() < 4 + len {
        return Ok(None);
    }
    let flat: Bytes = buffer.split_to(4 + len).freeze();
    postcard::from_bytes(&flat[4..]).map(Some).map_err(|_| bad("a message is malformed"))
}

/// Reads more bytes; false at the end of the stream.
pub(crate) async fn fill(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<bool> {
    buffer.reserve(16 << 10);
    Ok(stream.read_buf(buffer).await? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_and_nothing_malformed_panics() {
        let mut buffer = BytesMut::new();
        let ask = Ask { id: 7, body: Body::Query { query: vec![1, 2], stale: true } };
        put(&ask, &mut buffer);
        let whole = buffer.clone();
        let back: Ask = take(&mut buffer).unwrap().unwrap();
        assert_eq!(back.id, 7);
        let mut rng = quorate_transport::Rng::new(1);
        for _ in 0..10_000 {
            let mut bad = whole.clone();
            let at = rng.below(bad.len() as u64) as usize;
            bad[at] = rng.next_u64() as u8;
            let _ = take::<Ask>(&mut bad);
            let _ = take::<Said>(&mut whole.clone());
        }
    }
}
