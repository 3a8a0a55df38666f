//! Serving clients: whatever has arrived on a connection goes to the replica as one request.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quorate_detector::Heartbeats;
use quorate_dmutex::RicartAgrawala;
use quorate_driver::{Handle, Identity};
use quorate_election::{Bully, QuorumLease};
use quorate_metrics::{RequestMetrics, RequestSnapshot, Text};
use quorate_node::chronicle::Chronicle;
use quorate_node::{Cluster, ExportError, Exporter, Node, members_of};
use quorate_raft::Index;
use quorate_smr::{
    Change, Commands, Filter, Freshness, Outcome, Rejection, Reply, Request, SessionId, Smr, Stamp,
    Watch,
};
use quorate_transport::NodeId;
use quorate_txn::TwoPhaseCommit;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::drill::{self, Accounts};
use crate::metrics::QUANTILES;
use quorate_node::kv::{COMMAND_BYTES_MAX, Map};
use quorate_node::wire::{
    self, Answer, Ask, Body, GroupChange, GroupInfo, MemberInfo, NodeStatus, Said, fill, put, take,
};

/// The replica's handle.
pub(crate) type Replica = Handle<Smr<Map>>;

/// What clients are served from.
#[derive(Clone)]
pub(crate) struct Machines {
    pub(crate) cluster: Cluster,
    pub(crate) identity: Identity,
    pub(crate) replica: Replica,
    pub(crate) detector: Handle<Heartbeats>,
    pub(crate) lease: Handle<QuorumLease>,
    pub(crate) bully: Handle<Bully>,
    pub(crate) chronicle: Handle<Chronicle>,
    pub(crate) mutex: Handle<RicartAgrawala>,
    pub(crate) transactions: Handle<TwoPhaseCommit>,
    /// Where exercises are taken.
    pub(crate) drills: Option<Accounts>,
    pub(crate) exporter: Exporter<Map>,
    pub(crate) requests: Arc<Requests>,
}

/// What clients have asked.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// Commands, to their outcome.
    apply: RequestMetrics,
    /// Questions to the state machine.
    query: RequestMetrics,
}

impl Requests {
    /// Each kind and what was counted of it.
    pub(crate) fn snapshots(&self) -> [(&'static str, RequestSnapshot); 2] {
        [("apply", self.apply.snapshot()), ("query", self.query.snapshot())]
    }

    fn render(&self, text: &mut Text, uptime: Duration) -> Result<(), ExportError> {
        let bounds: Vec<u64> = (0..17).map(|power| 50_000 << power).collect();
        for (kind, requests) in self.snapshots() {
            let help = "Requests that ended a second, since the start.";
            let rate = requests.rate(uptime);
            text.gauge("quorate_requests_per_second", help, &[("kind", kind)], rate)?;
            let (ok, failed) = (requests.latencies(), requests.latencies_failed());
            for (outcome, latencies) in [("success", ok), ("failed", failed)] {
                let labels = [("kind", kind), ("outcome", outcome)];
                let help = "Requests of clients that have ended.";
                text.counter("quorate_requests_total", help, &labels, latencies.count())?;
                let (name, help) = ("quorate_request_seconds", "How long they took.");
                text.histogram(name, help, &labels, latencies, &bounds, 1e9)?;
                for quantile in QUANTILES {
                    let Ok(q) = quantile.parse() else { continue };
                    let Some(nanos) = latencies.quantile(q) else { continue };
                    let labels = [labels[0], labels[1], ("q", quantile)];
                    let help = "How long they took, since the start, within 1 %.";
                    let name = "quorate_request_quantile_seconds";
                    text.gauge(name, help, &labels, nanos as f64 / 1e9)?;
                }
            }
        }
        Ok(())
    }
}

impl Machines {
    pub(crate) fn of(node: &Node<Map>, drills: Option<Accounts>) -> Self {
        Self {
            cluster: node.cluster().clone(),
            identity: node.identity(),
            replica: node.replica.clone(),
            detector: node.detector.clone(),
            lease: node.lease.clone(),
            bully: node.bully.clone(),
            chronicle: node.chronicle.clone(),
            mutex: node.mutex.clone(),
            transactions: node.transactions.clone(),
            drills,
            exporter: Exporter::of(node),
            requests: Arc::default(),
        }
    }

    /// All metrics of this node, as Prometheus reads them.
    pub(crate) async fn metrics(&self) -> Result<String, ExportError> {
        let mut text = Text::new();
        self.exporter.render(&mut text).await?;
        self.requests.render(&mut text, self.exporter.uptime())?;
        Ok(text.finish())
    }
}

/// Commands of one request at most.
const COMMANDS_MAX: usize = 4096;
/// Bytes of one request at most, before its last command.
const REQUEST_BYTES_MAX: usize = 384 << 10;
/// Of a batch of Raft, less what each command takes beside its bytes.
const _: () = assert!(REQUEST_BYTES_MAX + COMMAND_BYTES_MAX + (96 << 10) <= 1 << 20);
/// Requests under way for one connection at most; past it the socket is not read.
const UNDER_WAY_MAX: usize = 256;
/// Watches of one connection that may wait for a change; more are refused as busy.
const WATCHES_MAX: usize = 64;
/// Connections at most.
const CONNECTIONS_MAX: usize = 4096;

/// Accepts clients for ever.
pub(crate) async fn run(listener: TcpListener, machines: Arc<Machines>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let machines = Arc::clone(&machines);
                tokio::spawn(async move {
                    if let Err(error) = serve(stream, machines).await {
                        tracing::debug!(%error, "client connection closed");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a client");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, machines: Arc<Machines>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.into_split();
    let (answers, mut answered) = mpsc::channel::<Vec<Said>>(UNDER_WAY_MAX);
    let write = tokio::spawn(async move {
        let mut out = BytesMut::new();
        let mut ready = Vec::new();
        while answered.recv_many(&mut ready, 64).await > 0 {
            ready.drain(..).flatten().for_each(|said| put(&said, &mut out));
            if writer.write_all(&out).await.is_err() {
                return;
            }
            out.clear();
        }
    });
    let room = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    // They wait for long: the others need not wait for them, and they end with the connection.
    let mut watches = JoinSet::new();
    let mut buffer = BytesMut::new();
    let mut open = true;
    while open {
        open = fill(&mut reader, &mut buffer).await?;
        let mut commands = Commands::default();
        let mut ids = Vec::new();
        let mut others = Vec::new();
        loop {
            let ask: Option<Ask> = take(&mut buffer)?;
            let full = ids.len() >= COMMANDS_MAX || commands.bytes() >= REQUEST_BYTES_MAX;
            if ask.is_none() || full {
                flush(&machines, &mut commands, &mut ids, &answers, &room).await;
            }
            let Some(Ask { id, body }) = ask else { break };
            match add(&mut commands, body) {
                Ok(()) => ids.push(id),
                Err(Ok(body)) => others.push((id, body)),
                Err(Err(answer)) => {
                    let _ = answers.send(vec![Said { id, answer }]).await;
                }
            }
        }
        while watches.try_join_next().is_some() {}
        for (id, body) in others {
            if matches!(body, Body::Watch { .. }) {
                if watches.len() >= WATCHES_MAX {
                    let _ = answers.send(vec![Said { id, answer: Answer::Busy }]).await;
                    continue;
                }
                let (machines, answers) = (Arc::clone(&machines), answers.clone());
                watches.spawn(async move {
                    let answer = other(&machines, body).await;
                    let _ = answers.send(vec![Said { id, answer }]).await;
                });
                continue;
            }
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { break };
            let (machines, answers) = (Arc::clone(&machines), answers.clone());
            tokio::spawn(async move {
                let answer = other(&machines, body).await;
                let _ = answers.send(vec![Said { id, answer }]).await;
                drop(permit);
            });
        }
    }
    drop((answers, watches));
    let _ = write.await;
    Ok(())
}

/// Adds a command to the arena; gives back what is none, or the answer to what may not be one.
fn add(commands: &mut Commands, body: Body) -> Result<(), Result<Body, Answer>> {
    match body {
        Body::Open => commands.push_open(),
        Body::Apply { command, .. } if command.len() > COMMAND_BYTES_MAX => {
            return Err(Err(Answer::Refused("the command is over the limit".into())));
        }
        Body::Apply { stamp: None, command } => commands.push(&command),
        Body::Apply { stamp: Some((session, sequence, answered)), command } => {
            let stamp = Stamp { session: SessionId(session), sequence, answered };
            commands.push_stamped(stamp, &command);
        }
        other => return Err(Ok(other)),
    }
    Ok(())
}

/// Sends what was gathered as one request; its answers follow when they come.
async fn flush(
    machines: &Machines,
    commands: &mut Commands,
    ids: &mut Vec<u64>,
    answers: &mpsc::Sender<Vec<Said>>,
    room: &Arc<Semaphore>,
) {
    if ids.is_empty() {
        return;
    }
    let (commands, ids) = (std::mem::take(commands), std::mem::take(ids));
    let Ok(permit) = Arc::clone(room).acquire_owned().await else { return };
    let (replica, answers) = (machines.replica.clone(), answers.clone());
    let (requests, asked) = (Arc::clone(&machines.requests), Instant::now());
    tokio::spawn(async move {
        let reply = replica.request(Request::Apply(commands)).await;
        let (took, count) = (asked.elapsed(), ids.len() as u64);
        match &reply {
            Ok(Reply::Applied { .. }) => requests.apply.success_many(took, count),
            _ => requests.apply.failed_many(took, count),
        }
        let said = match reply {
            Ok(Reply::Applied { outcomes, .. }) => {
                let answer = |(id, outcome)| Said { id, answer: outcome_answer(outcome) };
                ids.into_iter().zip(outcomes).map(answer).collect()
            }
            other => {
                let answer = other.map_or(Answer::Unknown, |reply| refusal(&reply));
                ids.into_iter().map(|id| Said { id, answer: answer.clone() }).collect()
            }
        };
        let _ = answers.send(said).await;
        drop(permit);
    });
}

async fn other(machines: &Machines, body: Body) -> Answer {
    let replica = &machines.replica;
    let request = match body {
        Body::Query { query, stale } => {
            let freshness = if stale { Freshness::Any } else { Freshness::Linearizable };
            Request::Query { query: Bytes::from(query), freshness }
        }
        Body::ReadIndex => Request::ReadIndex,
        Body::Watch { after, filter, wait_ms } => Request::Watch(Watch {
            after: Index(after),
            filter: match filter {
                wire::Filter::All => Filter::All,
                wire::Filter::Key(key) => Filter::Key(key.into()),
                wire::Filter::Prefix(prefix) => Filter::Prefix(prefix.into()),
            },
            wait: Duration::from_millis(wait_ms),
        }),
        Body::Digest => Request::Digest,
        Body::Audit => Request::Audit,
        Body::Transfer { to } => Request::Transfer { to: to.map(NodeId) },
        Body::Members => return members(machines).await,
        Body::Group => return group(replica).await,
        Body::Change(change) => Request::ChangeMembers(change_of(change)),
        Body::Metrics => {
            return match machines.metrics().await {
                Ok(text) => Answer::Metrics(text),
                Err(error) => Answer::Refused(error.to_string()),
            };
        }
        Body::Drill(drill) => {
            return match &machines.drills {
                Some(accounts) => Answer::Drill(drill::run(machines, accounts, drill).await),
                None => Answer::Refused("this node takes no drills: run it with --drills".into()),
            };
        }
        Body::Status | Body::Open | Body::Apply { .. } => {
            return status(machines.identity.node, replica).await;
        }
    };
    let (is_query, asked) = (matches!(request, Request::Query { .. }), Instant::now());
    let reply = replica.request(request).await;
    match &reply {
        Ok(Reply::Answer { .. }) => machines.requests.query.success(asked.elapsed()),
        _ if is_query => machines.requests.query.failed(asked.elapsed()),
        _ => {}
    }
    match reply {
        Ok(Reply::Answer { answer, .. }) => Answer::Value(answer.to_vec()),
        Ok(Reply::ReadIndex { index }) => Answer::ReadIndex(index.0),
        Ok(Reply::Changes { after, upto, changes }) => {
            let change = |change: Change| (change.index.0, change.key.into(), change.change.into());
            let changes = changes.into_iter().map(change).collect();
            Answer::Changes { after: after.0, upto: upto.0, changes }
        }
        Ok(Reply::Compacted { first }) => Answer::Compacted { first: first.0 },
        Ok(Reply::Digest { index, digest }) => Answer::Digest { index: index.0, digest },
        Ok(Reply::Audited { index, digest }) => Answer::Audited { index: index.0, digest },
        Ok(Reply::Transferred) => Answer::Transferred,
        Ok(Reply::MembersChanged { index }) => Answer::Changed { index: index.0 },
        Ok(reply) => refusal(&reply),
        Err(_) => Answer::Unknown,
    }
}

fn change_of(change: GroupChange) -> quorate_raft::Change {
    use quorate_raft::Change as To;
    match change {
        GroupChange::Add { node, address } => To::Add { node: NodeId(node), address },
        GroupChange::AddLearner { node, address } => To::AddLearner { node: NodeId(node), address },
        GroupChange::Promote { node } => To::Promote { node: NodeId(node) },
        GroupChange::Demote { node } => To::Demote { node: NodeId(node) },
        GroupChange::Remove { node } => To::Remove { node: NodeId(node) },
        GroupChange::Replace { old, new, address } => {
            To::Replace { old: NodeId(old), new: NodeId(new), address }
        }
        GroupChange::Cancel => To::Cancel,
    }
}

async fn group(replica: &Replica) -> Answer {
    let Ok(status) = replica.look(Smr::status).await else { return Answer::Unknown };
    let numbers = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
    let members = &status.raft.members;
    Answer::Group(GroupInfo {
        index: status.raft.members_index.0,
        committed: status.raft.members_index <= status.raft.commit,
        voters: numbers(members.voters()),
        outgoing: numbers(members.outgoing()),
        learners: numbers(members.learners()),
        target: members.target().map_or_else(Vec::new, |target| numbers(target.voters())),
    })
}

async fn members(machines: &Machines) -> Answer {
    let Machines { cluster, identity, detector, .. } = machines;
    let Ok(members) = members_of(cluster, *identity, detector).await else {
        return Answer::Unknown;
    };
    let info = |member: quorate_node::Member| MemberInfo {
        node: member.node.0,
        address: member.address,
        standing: member.standing.to_string(),
        milliphi: (member.phi.max(0.0) * 1000.0) as u64,
        heartbeat_ms: member.last_heartbeat.map(|ago| ago.as_millis() as u64),
        generation: member.incarnation.life().into(),
    };
    Answer::Members(members.into_iter().map(info).collect())
}

async fn status(node: NodeId, replica: &Replica) -> Answer {
    match replica.look(Smr::status).await {
        Ok(status) => Answer::Status(Box::new(NodeStatus {
            node: node.0,
            role: match status.raft.role {
                _ if status.raft.is_removed => "removed".into(),
                role => format!("{role:?}").to_lowercase(),
            },
            term: status.raft.term.0,
            leader: status.raft.leader.map(|leader| leader.0),
            last: status.raft.last.0,
            commit: status.raft.commit.0,
            applied: status.applied.0,
            snapshot: status.raft.snapshot.0,
            sessions: status.sessions as u64,
            digest: status.digest,
            audited: status.audited.map(|(index, digest)| (index.0, digest)),
        })),
        Err(_) => Answer::Unknown,
    }
}

fn outcome_answer(outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Done(output) => Answer::Done(output.to_vec()),
        Outcome::Opened(session) => Answer::Opened(session.0),
        Outcome::Forgotten => Answer::Forgotten,
        Outcome::Expired => Answer::Expired,
        Outcome::Strange => Answer::Refused("the command was not understood".into()),
    }
}

fn refusal(reply: &Reply) -> Answer {
    match reply {
        Reply::Rejected(Rejection::NotLeader { leader }) => {
            Answer::NotLeader { leader: leader.map(|leader| leader.0) }
        }
        Reply::Rejected(Rejection::Busy | Rejection::NotFresh | Rejection::Changing) => {
            Answer::Busy
        }
        Reply::Rejected(Rejection::Cancelled) => Answer::Refused("the change was cancelled".into()),
        Reply::Rejected(Rejection::BadChange { rule }) => Answer::Refused((*rule).into()),
        Reply::Rejected(Rejection::Size) => {
            Answer::Refused("the commands are too long together".into())
        }
        Reply::Rejected(Rejection::NoHistory) => {
            Answer::Refused("this node keeps no changes for watchers".into())
        }
        Reply::Rejected(Rejection::TransferFailed) => {
            Answer::Refused("the hand-over did not succeed".into())
        }
        _ => Answer::Unknown,
    }
}
