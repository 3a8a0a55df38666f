//! Watching from a client: one question after the other, at whichever node answers.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::{Client, ClientError, Told};
use crate::kv;
use crate::wire::{Answer, Body, Filter};

/// How long a question waits at a node that has nothing to tell; a node that says nothing for a
/// second longer is given up.
const WAIT: Duration = Duration::from_secs(2);

/// A change of the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The entry of the log that made it.
    pub index: u64,
    /// The key.
    pub key: Bytes,
    /// The value that was put; `None` where the key was removed.
    pub value: Option<Bytes>,
}

/// A watcher of the map. It keeps its place in the log, and goes on from there at another node
/// when one is silent, behind or gone: without a gap and without a repetition.
pub struct Watcher {
    client: Client,
    filter: Filter,
    after: u64,
    node: usize,
    /// The first index that is kept, of each node that no longer has what comes next.
    compacted: Vec<u64>,
}

impl Client {
    /// From which index on a watch sees everything that is answered from now on. To keep a copy of
    /// a part of the map, take this index first, then the [list](Self::list), and watch after the
    /// index: a change may be told that the list has already, and none is missed.
    ///
    /// # Errors
    /// [`ClientError::NoQuorum`].
    ///
    /// # Cancel safety
    /// Safe: a question changes nothing.
    pub async fn read_index(&self) -> Result<u64, ClientError> {
        match self.until_done(&Body::ReadIndex, true).await? {
            Answer::ReadIndex(index) => Ok(index),
            _ => Err(ClientError::Unknown),
        }
    }

    /// Watches what changes after an index.
    #[must_use]
    pub fn watch(&self, after: u64, filter: Filter) -> Watcher {
        // Not all begin at one node.
        let node = self.shared.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed) as usize;
        Watcher { client: self.clone(), filter, after, node, compacted: Vec::new() }
    }
}

impl Watcher {
    /// Everything that is wanted up to this index was told. A watcher of a later process goes on
    /// from here.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.after
    }

    /// The next changes, at least one, in the order of the log, and always all of one entry.
    ///
    /// # Errors
    /// [`ClientError::Compacted`] when no node that answers still has what comes next,
    /// [`ClientError::NoAnswer`] when none answers within the client's patience. The watcher keeps
    /// its place: asking again is safe.
    ///
    /// # Cancel safety
    /// Safe: a change that was not told is told by the next call.
    pub async fn next(&mut self) -> Result<Vec<Change>, ClientError> {
        let mut begun = Instant::now();
        loop {
            let count = self.client.shared.nodes.len();
            if begun.elapsed() >= self.client.shared.patience {
                return Err(ClientError::NoAnswer(begun.elapsed()));
            }
            match self.ask().await {
                Told::Answer(Answer::Changes { after, upto, changes }) if after == self.after => {
                    self.compacted.clear();
                    if changes.is_empty() {
                        if upto == after {
                            self.node += 1; // it may be cut off: another may know more
                        }
                        (self.after, begun) = (upto, Instant::now());
                        continue;
                    }
                    self.after = upto;
                    return Ok(changes.into_iter().map(Change::from).collect());
                }
                Told::Answer(Answer::Compacted { first }) => {
                    // Others may have kept more.
                    self.compacted.push(first);
                    self.node += 1;
                    if self.compacted.len() >= count {
                        let first = self.compacted.drain(..).min().unwrap_or(first);
                        return Err(ClientError::Compacted { first });
                    }
                }
                Told::Answer(Answer::Refused(why)) => return Err(ClientError::Refused(why)),
                Told::Answer(_) | Told::Unsent | Told::Lost => {
                    self.node += 1;
                    sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    /// Goes on after another index: after [`ClientError::Compacted`], say.
    pub fn seek(&mut self, after: u64) {
        self.after = after;
        self.compacted.clear();
    }

    async fn ask(&self) -> Told {
        let nodes = &self.client.shared.nodes;
        let Some(node) = nodes.keys().nth(self.node % nodes.len().max(1)) else {
            return Told::Unsent;
        };
        let (after, filter) = (self.after, self.filter.clone());
        let body = Body::Watch { after, filter, wait_ms: WAIT.as_millis() as u64 };
        self.client.tell(*node, body, WAIT + Duration::from_secs(1)).await
    }
}

impl From<(u64, Vec<u8>, Vec<u8>)> for Change {
    fn from((index, key, change): (u64, Vec<u8>, Vec<u8>)) -> Self {
        Self { index, key: key.into(), value: kv::changed(&change.into()) }
    }
}
