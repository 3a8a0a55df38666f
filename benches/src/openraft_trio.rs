//! Three openraft nodes in one runtime: log and state machine in memory, and a network that calls
//! the peer, one append after the other: with several under way at once it is slower here.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::{Stream, TryStreamExt};
use openraft::alias::{
    CommittedLeaderIdOf, EntryOf, LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf,
};
use openraft::entry::RaftEntry;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::storage::{
    EntryResponder, IOFlushed, LogState, RaftLogReader, RaftLogStorage, RaftSnapshotBuilder,
    RaftStateMachine, Snapshot,
};
use openraft::{Config, EntryPayload, OptionalSend, impls};

use crate::puts::Client;

/// An empty payload.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

impl fmt::Display for Nothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }
}

/// Empty requests and answers; the rest as its own benchmark has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Types;

impl openraft::RaftTypeConfig for Types {
    type D = Nothing;
    type R = Nothing;
    type NodeId = u64;
    type Node = impls::EmptyNode;
    type Term = u64;
    type LeaderId = impls::leader_id_adv::LeaderId<u64, u64>;
    type Vote = impls::Vote<Self::LeaderId>;
    type Payload = EntryPayload<Nothing, u64, impls::EmptyNode>;
    type Entry = openraft::Entry<CommittedLeaderIdOf<Self>, Self::Payload>;
    type AsyncRuntime = impls::TokioRuntime;
    type Responder<T>
        = impls::OneshotResponder<Self, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = impls::BoxedErrorSource;
}

type Raft = openraft::Raft<Types, Machine>;

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A log without gaps.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    vote: Option<VoteOf<Types>>,
    purged: Option<LogIdOf<Types>>,
    entries: VecDeque<EntryOf<Types>>,
}

impl Entries {
    /// Where the entry of an index is.
    fn at(&self, index: u64) -> usize {
        let first = self.purged.as_ref().map_or(0, |id| id.index + 1);
        usize::try_from(index.saturating_sub(first)).unwrap_or(usize::MAX).min(self.entries.len())
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R>(&mut self, range: R) -> io::Result<Vec<EntryOf<Types>>>
    where
        R: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend,
    {
        let log = held(&self.0);
        let from = match range.start_bound() {
            Bound::Included(first) => log.at(*first),
            Bound::Excluded(before) => log.at(before + 1),
            Bound::Unbounded => 0,
        };
        let upto = match range.end_bound() {
            Bound::Included(last) => log.at(last + 1),
            Bound::Excluded(after) => log.at(*after),
            Bound::Unbounded => log.entries.len(),
        };
        Ok(log.entries.range(from..upto).cloned().collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<VoteOf<Types>>> {
        Ok(held(&self.0).vote)
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let log = held(&self.0);
        let last = log.entries.back().map(RaftEntry::log_id).or(log.purged);
        Ok(LogState { last_purged_log_id: log.purged, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<Types>) -> io::Result<()> {
        held(&self.0).vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, flushed: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = EntryOf<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        held(&self.0).entries.extend(entries);
        flushed.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<Types>>) -> io::Result<()> {
        let mut log = held(&self.0);
        let keep = last.map_or(0, |id| log.at(id.index + 1));
        log.entries.truncate(keep);
        Ok(())
    }

    async fn purge(&mut self, upto: LogIdOf<Types>) -> io::Result<()> {
        let mut log = held(&self.0);
        let gone = log.at(upto.index + 1);
        log.entries.drain(..gone);
        log.purged = Some(upto);
        Ok(())
    }
}

/// A state machine that remembers what it has applied, and nothing else.
#[derive(Clone, Debug, Default)]
pub struct Machine(Arc<Mutex<Applied>>);

#[derive(Clone, Debug, Default)]
struct Applied {
    last: Option<LogIdOf<Types>>,
    members: StoredMembershipOf<Types>,
}

impl Machine {
    fn taken(&self) -> SnapshotOf<Types, ()> {
        let Applied { last, members } = held(&self.0).clone();
        let meta = SnapshotMetaOf::<Types> { last_log_id: last, last_membership: members };
        Snapshot { meta, snapshot: () }
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Types, ()>> {
        Ok(self.taken())
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> io::Result<(Option<LogIdOf<Types>>, StoredMembershipOf<Types>)> {
        let Applied { last, members } = held(&self.0).clone();
        Ok((last, members))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let mut applied = held(&self.0);
            applied.last = Some(entry.log_id);
            if let EntryPayload::Membership(members) = entry.payload {
                applied.members = StoredMembershipOf::<Types>::new(Some(entry.log_id), members);
            }
            drop(applied);
            if let Some(responder) = responder {
                responder.send(Nothing);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf<Types>, (): ()) -> io::Result<()> {
        let (last, members) = (meta.last_log_id, meta.last_membership.clone());
        *held(&self.0) = Applied { last, members };
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Types, ()>>> {
        Ok(Some(self.taken()).filter(|taken| taken.meta.last_log_id.is_some()))
    }
}

/// All nodes; set once they are there.
type Nodes = Arc<OnceLock<Vec<Raft>>>;

/// Calls the nodes.
struct Network(Nodes);

impl RaftNetworkFactory<Types> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, _: &impls::EmptyNode) -> Link {
        Link { nodes: Arc::clone(&self.0), target }
    }
}

/// The way to one node.
struct Link {
    nodes: Nodes,
    target: u64,
}

impl Link {
    fn peer(&self) -> Result<Raft, Unreachable<Types>> {
        let peer = self.nodes.get().and_then(|nodes| nodes.get(self.target as usize)).cloned();
        peer.ok_or_else(|| Unreachable::from_string("not there yet"))
    }
}

fn failed(error: impl fmt::Display) -> RPCError<Types> {
    Unreachable::from_string(error.to_string()).into()
}

impl RaftNetworkV2<Types> for Link {
    type SnapshotData = ();

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        self.peer()?.append_entries(rpc).await.map_err(failed)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.peer()?.vote(rpc).await.map_err(failed)
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<Types>,
        snapshot: SnapshotOf<Types, ()>,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let done = self.peer()?.install_full_snapshot(vote, snapshot).await;
        done.map_err(|error| Unreachable::from_string(error.to_string()).into())
    }
}

/// A running cluster; ends with the runtime.
#[derive(Clone)]
pub struct Trio {
    leader: Raft,
}

impl Trio {
    /// Starts three nodes and waits for a leader.
    ///
    /// # Panics
    /// When there is none within a few seconds.
    pub async fn start() -> Self {
        let config = Config {
            // No election while the machine is busy with others; the rest as its own benchmark has
            // it.
            election_timeout_min: 1000,
            election_timeout_max: 2000,
            purge_batch_size: 1024,
            max_payload_entries: 1024,
            ..Config::default()
        };
        let config = Arc::new(config.validate().expect("a valid configuration"));
        let (nodes, mut made) = (Nodes::default(), Vec::new());
        for node in 0..3 {
            let network = Network(Arc::clone(&nodes));
            let (log, machine) = (Log::default(), Machine::default());
            let raft = Raft::new(node, Arc::clone(&config), network, log, machine).await;
            made.push(raft.expect("a fresh node starts"));
        }
        let leader = made[0].clone();
        nodes.set(made).unwrap_or_else(|_| unreachable!("it is set here alone"));
        let members: std::collections::BTreeSet<u64> = (0..3).collect();
        leader.initialize(members).await.expect("a fresh group is founded");
        let patience = Some(Duration::from_secs(10));
        leader.wait(patience).current_leader(0, "a leader").await.expect("a leader in time");
        Self { leader }
    }
}

impl Client for Trio {
    async fn put(&self) {
        self.leader.client_write(Nothing).await.expect("a leader that stays");
    }
}
