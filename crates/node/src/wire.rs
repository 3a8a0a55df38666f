//! What clients and servers say to each other: length-prefixed postcard, answers by id.

use std::io;

use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// A question, and the number its answer carries.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ask {
    /// Chosen by the client, for its connection.
    pub id: u64,
    /// The question itself.
    pub body: Body,
}

/// A question.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Body {
    /// Open a session.
    Open,
    /// Apply a command; with session, number, and the number up to which all is answered.
    Apply {
        /// Session, number, and the number up to which all is answered.
        stamp: Option<(u64, u64, u64)>,
        /// For the state machine.
        command: Vec<u8>,
    },
    /// Ask the state machine; linearizably, unless `stale`.
    Query {
        /// For the state machine.
        query: Vec<u8>,
        /// Whether an old state will do.
        stale: bool,
    },
    /// From which index on a watch sees everything that is answered from now on.
    ReadIndex,
    /// What has changed after an index: answered at once, or when it does.
    Watch {
        /// The index.
        after: u64,
        /// Which changes.
        filter: Filter,
        /// How long to wait for one, in milliseconds.
        wait_ms: u64,
    },
    /// Where this node stands.
    Status,
    /// The digest of all that was applied.
    Digest,
    /// Have all replicas digest their state at one index, and compare.
    Audit,
    /// Hand leadership over.
    Transfer {
        /// To whom; to whoever is ready if `None`.
        to: Option<u64>,
    },
    /// Every member, as this node sees it.
    Members,
    /// Who replicates the map, as this node has it.
    Group,
    /// Change who replicates the map; answered when it is complete.
    Change(GroupChange),
    /// All metrics of this node, as Prometheus reads them.
    Metrics,
    /// An exercise; refused unless the node runs with `--drills`.
    Drill(Drill),
}

/// A change of who replicates the map. Asked for again, it does nothing more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupChange {
    /// A new voter, once it has caught up.
    Add {
        /// The node.
        node: u64,
        /// Where it listens for the others, as `host:port`.
        address: String,
    },
    /// A new learner: it gets everything and counts for nothing.
    AddLearner {
        /// The node.
        node: u64,
        /// Where it listens for the others, as `host:port`.
        address: String,
    },
    /// A learner becomes a voter, once it has caught up.
    Promote {
        /// The node.
        node: u64,
    },
    /// A voter becomes a learner.
    Demote {
        /// The node.
        node: u64,
    },
    /// A node leaves.
    Remove {
        /// The node.
        node: u64,
    },
    /// A voter leaves as another takes its place.
    Replace {
        /// Who leaves.
        old: u64,
        /// Who comes.
        new: u64,
        /// Where that listens for the others, as `host:port`.
        address: String,
    },
    /// Wait no longer for nodes to catch up.
    Cancel,
}

/// Who replicates the map, as one node has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupInfo {
    /// The entry of the log that says so.
    pub index: u64,
    /// Whether it is known to be committed.
    pub committed: bool,
    /// Those who decide.
    pub voters: Vec<u64>,
    /// Between two steps of a change: those who have decided so far, and must still agree.
    pub outgoing: Vec<u64>,
    /// Those who get everything and count for nothing.
    pub learners: Vec<u64>,
    /// Who is to decide once they all have caught up; nobody where no change is under way.
    pub target: Vec<u64>,
}

/// Which changes are watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Filter {
    /// All of them.
    All,
    /// Those of one key.
    Key(Vec<u8>),
    /// Those of keys that begin so.
    Prefix(Vec<u8>),
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Said {
    /// Of the question.
    pub id: u64,
    /// The answer itself.
    pub answer: Answer,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Applied; what the state machine says to it.
    Done(Vec<u8>),
    /// A new session.
    Opened(u64),
    /// Applied before; the answer is forgotten.
    Forgotten,
    /// The session is gone.
    Expired,
    /// What the state machine says to a query.
    Value(Vec<u8>),
    /// A watch from now on begins after this index.
    ReadIndex(u64),
    /// What has changed.
    Changes {
        /// As was asked.
        after: u64,
        /// Everything that is wanted up to here is among them.
        upto: u64,
        /// Index, key and change, in the order of the log.
        changes: Vec<(u64, Vec<u8>, Vec<u8>)>,
    },
    /// Some of the changes that were asked for are no longer kept by this node.
    Compacted {
        /// The first index that is.
        first: u64,
    },
    /// Where the node stands.
    Status(Box<NodeStatus>),
    /// The digest of all that was applied.
    Digest {
        /// Up to which index.
        index: u64,
        /// The digest.
        digest: u128,
    },
    /// The digest of this node's state at an index that all replicas audit.
    Audited {
        /// The index.
        index: u64,
        /// The digest.
        digest: u128,
    },
    /// Somebody else leads now.
    Transferred,
    /// Every member, as the node sees it.
    Members(Vec<MemberInfo>),
    /// Who replicates the map.
    Group(GroupInfo),
    /// The change is complete.
    Changed {
        /// The entry of the log that says so.
        index: u64,
    },
    /// As Prometheus reads them.
    Metrics(String),
    /// What came of an exercise.
    Drill(Report),
    /// Not done: ask the leader.
    NotLeader {
        /// Who that is, where known.
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
pub struct MemberInfo {
    /// The member.
    pub node: u64,
    /// Where it listens for the others.
    pub address: String,
    /// What is thought of it.
    pub standing: String,
    /// A thousandth of phi.
    pub milliphi: u64,
    /// How long ago its last heartbeat came, in milliseconds.
    pub heartbeat_ms: Option<u64>,
    /// Its newest life that was heard of.
    pub generation: u64,
}

/// Where a node stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node.
    pub node: u64,
    /// `leader`, `follower`, `candidate` and so on; `removed` where it has left the group, and
    /// knows it.
    pub role: String,
    /// Its term.
    pub term: u64,
    /// Whom it follows.
    pub leader: Option<u64>,
    /// The last index of its log.
    pub last: u64,
    /// The last index that it knows to be committed.
    pub commit: u64,
    /// The last index that it has applied.
    pub applied: u64,
    /// The last index of its newest snapshot.
    pub snapshot: u64,
    /// Sessions that it remembers.
    pub sessions: u64,
    /// Of all that it has applied.
    pub digest: u128,
    /// The index of its last audit, and the digest of its state there.
    pub audited: Option<(u64, u128)>,
}

/// One exercise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Drill {
    /// Enter the critical section of a resource.
    Lock {
        /// Of the resource.
        name: String,
        /// How long to wait, in milliseconds.
        patience_ms: u64,
    },
    /// Leave it.
    Unlock {
        /// By which it was entered.
        request: u64,
    },
    /// How many messages mutual exclusion has taken here.
    MutexCounts,
    /// Who leads, by each of the elections.
    Elections,
    /// Tell another node something; none: note something of its own.
    Say {
        /// Whom.
        to: Option<u64>,
        /// What.
        word: String,
    },
    /// What happened here, with its stamps.
    Story,
    /// Move money: for each node how much, and whether its vote is held back.
    Transfer {
        /// Node, amount, and whether its vote is held back.
        parts: Vec<(u64, i64, bool)>,
    },
    /// Cast the votes that were held back.
    Release,
    /// What the accounts of this node say.
    Accounts,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// It was done, and there is nothing to say.
    Done,
    /// The critical section was entered.
    Locked {
        /// What leaves it.
        request: u64,
        /// Greater than that of every earlier entry.
        fence: u128,
    },
    /// Messages that mutual exclusion has taken.
    MutexCounts {
        /// Requests sent.
        requests: u64,
        /// Permissions sent.
        permissions: u64,
        /// Requests sent once more.
        again: u64,
    },
    /// Who leads.
    Elections(Leaders),
    /// What happened, in order.
    Story(Vec<Told>),
    /// The transaction was committed.
    Committed {
        /// Its name.
        txn: String,
    },
    /// The transaction was aborted.
    Aborted {
        /// Its name.
        txn: String,
        /// Why.
        reason: String,
    },
    /// The account of the node.
    Accounts(Balance),
    /// It was not done; why.
    Failed(String),
}

/// Who leads, as one node has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaders {
    /// By the quorum lease: the leader, and the term.
    pub lease: (Option<u64>, u64),
    /// By the bully algorithm, as this node believes: the leader, and the term.
    pub bully: Option<(u64, u64)>,
    /// The token of this node's own lease, while it holds one.
    pub token: Option<u128>,
}

/// Something that happened on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Of a message: who sent it, in which life, under which number.
    pub message: Option<(u64, u64, u64)>,
    /// It came here, and was not sent from here.
    pub heard: bool,
    /// What was said.
    pub word: String,
    /// The Lamport time.
    pub time: u64,
    /// The vector: node, life, count.
    pub vector: Vec<(u64, u64, u64)>,
}

/// An account and what is open on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// What is on it.
    pub balance: i64,
    /// Transactions that are not over here, each with where it stands.
    pub open: Vec<(String, String)>,
    /// Of these, how many nobody who answers knows the outcome of.
    pub blocked: u64,
    /// Whom the transactions begun here wait for.
    pub awaited: Vec<u64>,
}

/// Appends one message to a buffer.
pub fn put<T: Serialize>(message: &T, out: &mut BytesMut) {
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
pub fn take<T: DeserializeOwned>(buffer: &mut BytesMut) -> io::Result<Option<T>> {
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
pub async fn fill(
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
