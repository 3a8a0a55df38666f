//! Everything that a node counts, as Prometheus reads it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quorate_detector::Heartbeats;
use quorate_dmutex::RicartAgrawala;
use quorate_driver::{DriverStats, Gone, Handle, Identity, Probe, boot_time};
use quorate_election::{Bully, QuorumLease, bully};
use quorate_metrics::{Text, TextError};
use quorate_smr::{Smr, StateMachine};
use quorate_transport::Time;
use quorate_transport::tcp::{PeerStats, TcpTransport};
use quorate_txn::TwoPhaseCommit;
use thiserror::Error;

use crate::chronicle::Chronicle;
use crate::cluster::Cluster;
use crate::lifecycle::Standing;
use crate::system::{Node, members_of};

/// Why there are no metrics.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The node has stopped.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// A series was written twice: a bug.
    #[error(transparent)]
    Text(#[from] TextError),
}

type Written = Result<(), TextError>;

/// Reads the counters of a node's parts whenever it is asked to; counts nothing itself.
#[derive(Clone)]
pub struct Exporter<S: StateMachine> {
    cluster: Cluster,
    identity: Identity,
    started: Time,
    transport: Arc<TcpTransport>,
    probe: Probe,
    replica: Handle<Smr<S>>,
    detector: Handle<Heartbeats>,
    lease: Handle<QuorumLease>,
    bully: Handle<Bully>,
    chronicle: Handle<Chronicle>,
    mutex: Handle<RicartAgrawala>,
    transactions: Handle<TwoPhaseCommit>,
}

impl<S: StateMachine> fmt::Debug for Exporter<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl<S: StateMachine> Exporter<S> {
    /// Of a node that has just started.
    #[must_use]
    pub fn of(node: &Node<S>) -> Self {
        Self {
            cluster: node.cluster().clone(),
            identity: node.identity(),
            started: boot_time(),
            transport: node.transport(),
            probe: node.probe(),
            replica: node.replica.clone(),
            detector: node.detector.clone(),
            lease: node.lease.clone(),
            bully: node.bully.clone(),
            chronicle: node.chronicle.clone(),
            mutex: node.mutex.clone(),
            transactions: node.transactions.clone(),
        }
    }

    /// How long the node has run.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        boot_time().since(self.started)
    }

    /// Whether the engine turns: it answers between two bursts.
    ///
    /// # Cancel safety
    /// Safe: a look changes nothing.
    pub async fn is_live(&self) -> bool {
        self.probe.stats().await.is_ok()
    }

    /// Whether clients can be served: the replica knows a leader. Else why not.
    ///
    /// # Errors
    /// What is missing, in words.
    ///
    /// # Cancel safety
    /// Safe: a look changes nothing.
    pub async fn is_ready(&self) -> Result<(), String> {
        let status = self.replica.look(Smr::status).await.map_err(|gone| gone.to_string())?;
        let raft = status.raft;
        let why = if raft.is_removed { "it has left the group" } else { "no leader is known" };
        raft.leader.map(drop).ok_or_else(|| why.into())
    }

    /// Adds every series of the node to `text`.
    ///
    /// # Errors
    /// [`ExportError`].
    ///
    /// # Cancel safety
    /// Safe: a look changes nothing.
    pub async fn render(&self, text: &mut Text) -> Result<(), ExportError> {
        self.write_node(text, &self.probe.stats().await?)?;
        self.write_transport(text)?;
        // A machine that has stopped itself says nothing any more; the others do.
        if let Ok(status) = self.replica.look(Smr::status).await {
            write_replica(text, &status)?;
        }
        if let Ok(members) = members_of(&self.cluster, self.identity, &self.detector).await {
            for member in members.iter().filter(|member| member.node != self.identity.node) {
                let peer = member.node.0.to_string();
                let labels = [("peer", peer.as_str())];
                let help = "How strongly its silence speaks against a peer.";
                text.gauge("quorate_detector_phi", help, &labels, member.phi)?;
                let help = "Whether a peer is active (0), suspended (1) or failed (2).";
                let standing = match member.standing {
                    Standing::Active => 0.0,
                    Standing::Suspended => 1.0,
                    Standing::Failed => 2.0,
                };
                text.gauge("quorate_detector_standing", help, &labels, standing)?;
            }
        }
        if let Ok(stats) = self.detector.look(Heartbeats::stats).await {
            write_detector(text, stats)?;
        }
        let now = boot_time();
        let lease =
            self.lease.look(move |lease| (lease.term(), lease.guard(now).is_some(), lease.stats()));
        if let Ok((term, leads, stats)) = lease.await {
            write_lease(text, term, leads, stats)?;
        }
        if let Ok((term, stats)) = self.bully.look(|bully| (bully.term(), bully.stats())).await {
            write_bully(text, term, stats)?;
        }
        if let Ok(stats) = self.chronicle.look(Chronicle::stats).await {
            counters(
                text,
                &[
                    ("chronicle_said", "Words said to peers.", stats.said),
                    ("chronicle_heard", "Words heard from peers.", stats.heard),
                    ("chronicle_refused", "Words refused.", stats.refused),
                ],
            )?;
        }
        if let Ok(status) = self.mutex.look(RicartAgrawala::status).await {
            write_mutex(text, status)?;
        }
        if let Ok(stats) = self.transactions.look(TwoPhaseCommit::stats).await {
            write_transactions(text, stats)?;
        }
        Ok(())
    }

    fn write_node(&self, text: &mut Text, stats: &DriverStats) -> Written {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        text.gauge("quorate_build_info", "The version that runs; always 1.", &version, 1.0)?;
        let seconds = self.uptime().as_secs_f64();
        text.gauge("quorate_uptime_seconds", "How long this life has lasted.", &[], seconds)?;
        let generation = u64::from(self.identity.incarnation.life());
        let help = "Which life of the node this is.";
        text.gauge("quorate_generation", help, &[], generation as f64)?;
        let (host, journal) = (stats.host, stats.journal);
        counters(
            text,
            &[
                ("host_frames", "Message frames taken in.", host.frames),
                ("host_strangers", "Frames for a machine that is not here.", host.strangers),
                ("host_malformed", "Frames that are no message.", host.malformed),
                ("host_records", "Records appended by machines.", host.records),
                ("host_record_bytes", "Bytes of those records.", host.record_bytes),
                ("host_bursts", "Bursts that held a record.", host.bursts),
                ("journal_records", "Records written to the journal.", journal.records),
                ("journal_bursts", "Bursts written to the journal.", journal.bursts),
                ("journal_marks", "Marks of an idle journal.", journal.marks),
                ("journal_bytes", "Bytes written, framing included.", journal.bytes),
                ("journal_syncs", "Syncs of the journal.", journal.syncs),
                ("journal_segments_created", "Segments made anew.", journal.segments_created),
                ("journal_segments_recycled", "Segments used again.", journal.segments_recycled),
            ],
        )?;
        gauges(
            text,
            &[
                ("journal_needed_bytes", "What the journal needs on disk.", stats.journal_bytes),
                ("host_frames_held", "Frames that wait for the disk.", stats.frames_held as u64),
                ("machines_halted", "Machines that stopped themselves.", stats.halted.len() as u64),
            ],
        )
    }

    fn write_transport(&self, text: &mut Text) -> Written {
        let stats = self.transport.stats();
        counters(
            text,
            &[
                (
                    "transport_handshakes_garbage",
                    "Handshakes that were none.",
                    stats.handshakes_garbage,
                ),
                (
                    "transport_handshakes_unfinished",
                    "Handshakes that did not end in time.",
                    stats.handshakes_unfinished,
                ),
                (
                    "transport_handshakes_dropped",
                    "Handshakes that gave way to newer ones.",
                    stats.handshakes_dropped,
                ),
                (
                    "transport_strangers_refused",
                    "Handshakes refused to nodes that are no members.",
                    stats.refused_strangers.total(),
                ),
                ("transport_accept_errors", "Connections not accepted.", stats.accept_errors),
            ],
        )?;
        gauges(
            text,
            &[(
                "transport_handshakes_pending",
                "Connections that are in their handshake.",
                stats.handshakes_pending,
            )],
        )?;
        for (node, peer) in &stats.peers {
            write_peer(text, &node.0.to_string(), peer)?;
        }
        Ok(())
    }
}

fn write_peer(text: &mut Text, node: &str, peer: &PeerStats) -> Written {
    let labels = [("peer", node)];
    let up = f64::from(u8::from(peer.is_up));
    text.gauge("quorate_transport_up", "Whether frames for a peer are taken.", &labels, up)?;
    let refused_by = peer.refused_by_peer.total();
    let all = [
        ("dials", "Connections to a peer that it accepted.", peer.dials),
        ("dials_failed", "Dials that found nobody in time.", peer.dials_failed),
        ("accepts", "Connections from a peer that were accepted.", peer.accepts),
        ("refused", "Handshakes refused to a peer.", peer.refused.total()),
        ("refused_by_peer", "Handshakes that a peer refused.", refused_by),
        ("frames_sent", "Frames written to a socket.", peer.frames_sent),
        ("bytes_sent", "Their bytes.", peer.bytes_sent),
        ("frames_received", "Frames that arrived whole.", peer.frames_received),
        ("bytes_received", "Bytes that arrived.", peer.bytes_received),
        ("frames_refused", "Frames refused at a full queue.", peer.frames_refused),
        ("frames_lost", "Frames lost with their connection.", peer.frames_lost),
    ];
    for (name, help, value) in all {
        text.counter(&format!("quorate_transport_{name}_total"), help, &labels, value)?;
    }
    let closed = [
        ("garbage", peer.closed_garbage),
        ("over_cap", peer.closed_over_cap),
        ("slow", peer.closed_slow),
        ("idle", peer.closed_idle),
        ("replaced", peer.closed_replaced),
    ];
    for (reason, value) in closed {
        let labels = [("peer", node), ("reason", reason)];
        let help = "Connections closed by this node, by reason.";
        text.counter("quorate_transport_closed_total", help, &labels, value)?;
    }
    Ok(())
}

fn write_replica(text: &mut Text, status: &quorate_smr::Status) -> Written {
    let (raft, stats) = (&status.raft, status.raft.stats);
    let leads = f64::from(u8::from(raft.role == quorate_raft::RoleName::Leader));
    text.gauge("quorate_raft_leads", "Whether this node leads.", &[], leads)?;
    gauges(
        text,
        &[
            ("raft_term", "The term.", raft.term.0),
            (
                "raft_leader",
                "The leader's number; 0 when none is known.",
                raft.leader.map_or(0, |l| l.0),
            ),
            (
                "raft_removed",
                "1 where this node has left the group, and knows it.",
                u64::from(raft.is_removed),
            ),
            ("raft_last_index", "The last entry of the log.", raft.last.0),
            ("raft_commit_index", "The last entry known to be committed.", raft.commit.0),
            ("raft_snapshot_index", "What the snapshot covers.", raft.snapshot.0),
            ("raft_log_bytes", "Memory of the log after the snapshot.", raft.log_bytes),
            ("smr_applied_index", "The last entry applied.", status.applied.0),
            ("smr_sessions", "Sessions that are remembered.", status.sessions as u64),
            ("smr_waiting", "Commands that wait to be applied.", status.waiting as u64),
            ("smr_watching", "Watchers that wait for a change.", status.watching as u64),
            (
                "smr_history_first_index",
                "The first entry that watchers can still be told of.",
                status.history_first.0,
            ),
        ],
    )?;
    for peer in &raft.peers {
        let node = peer.node.0.to_string();
        let labels = [("peer", node.as_str())];
        let help = "The last entry known to be durable at a follower.";
        text.gauge("quorate_raft_matched_index", help, &labels, peer.matched.0 as f64)?;
        let help = "Bytes sent to a follower and not acknowledged.";
        text.gauge("quorate_raft_in_flight_bytes", help, &labels, peer.in_flight_bytes as f64)?;
    }
    counters(
        text,
        &[
            ("raft_campaigns", "Campaigns for real votes.", stats.campaigns),
            ("raft_elections_won", "Elections won.", stats.elections_won),
            ("raft_quorum_lost", "Leaderships given up for want of a majority.", stats.quorum_lost),
            ("raft_proposed", "Entries taken in.", stats.proposed),
            ("raft_busy", "Proposals refused as busy.", stats.busy),
            ("raft_appends_sent", "Appends sent.", stats.appends_sent),
            ("raft_conflicts", "Appends that did not fit.", stats.conflicts),
            ("raft_resends", "Appends sent again.", stats.resends),
            ("raft_snapshots_sent", "Snapshots sent whole.", stats.snapshots_sent),
            ("raft_snapshots_installed", "Snapshots taken over.", stats.snapshots_installed),
            ("raft_refused", "Messages ignored.", stats.refused),
        ],
    )
}

fn write_detector(text: &mut Text, stats: quorate_detector::Stats) -> Written {
    counters(
        text,
        &[
            ("detector_suspicions", "Suspicions.", stats.suspicions),
            ("detector_failures", "Peers that counted as failed.", stats.failures),
            ("detector_stalls", "Times that this node stood still.", stats.stalls),
            ("detector_refused", "Messages ignored.", stats.refused),
        ],
    )
}

fn write_lease(
    text: &mut Text,
    term: quorate_election::Term,
    leads: bool,
    stats: quorate_election::Stats,
) -> Written {
    gauges(
        text,
        &[
            ("lease_term", "The term of the quorum lease.", term.0),
            ("lease_held", "Whether this node holds the lease.", u64::from(leads)),
        ],
    )?;
    counters(
        text,
        &[
            ("lease_campaigns", "Times that this node stood for election.", stats.campaigns),
            ("lease_won", "Elections won.", stats.won),
            ("lease_refused", "Messages ignored.", stats.refused),
        ],
    )
}

fn write_bully(text: &mut Text, term: quorate_election::Term, stats: bully::Stats) -> Written {
    gauges(text, &[("bully_term", "The term of the bully election.", term.0)])?;
    counters(
        text,
        &[
            ("bully_elections", "Elections begun.", stats.elections),
            ("bully_won", "Elections that ended in an announcement.", stats.won),
            ("bully_elections_sent", "ELECTION messages sent.", stats.elections_sent),
            ("bully_answers_sent", "ANSWER messages sent.", stats.answers_sent),
            ("bully_coordinators_sent", "COORDINATOR messages sent.", stats.coordinators_sent),
            ("bully_refused", "Messages ignored.", stats.refused),
        ],
    )
}

fn write_mutex(text: &mut Text, status: quorate_dmutex::Status) -> Written {
    let stats = status.stats;
    gauges(
        text,
        &[
            ("mutex_held", "Resources held.", status.held as u64),
            ("mutex_wanted", "Resources asked for and not held.", status.wanted as u64),
        ],
    )?;
    counters(
        text,
        &[
            ("mutex_requests_sent", "Requests sent to peers.", stats.requests_sent),
            ("mutex_permissions_sent", "Permissions sent to peers.", stats.permissions_sent),
            ("mutex_deferred", "Requests put off.", stats.deferred),
            ("mutex_requests_again", "Requests sent again.", stats.requests_again),
            ("mutex_granted", "Times that a resource was entered.", stats.granted),
            ("mutex_timed_out", "Requests whose patience ended.", stats.timed_out),
            ("mutex_busy", "Requests refused at a limit.", stats.busy),
            ("mutex_stale", "Words of former lives, ignored.", stats.stale),
            ("mutex_refused", "Messages ignored.", stats.refused),
        ],
    )
}

fn write_transactions(text: &mut Text, stats: quorate_txn::Stats) -> Written {
    counters(
        text,
        &[
            ("txn_begun", "Transactions begun here.", stats.begun),
            ("txn_committed", "Transactions begun here that committed.", stats.committed),
            ("txn_aborted", "Transactions begun here that aborted.", stats.aborted),
            ("txn_rejected", "Requests refused.", stats.rejected),
            ("txn_refused", "Prepares answered no at a limit.", stats.refused),
            ("txn_ignored", "Messages ignored.", stats.ignored),
            ("txn_presumed", "Questions answered by presumption.", stats.presumed),
            ("txn_resent", "Messages sent again.", stats.resent),
            ("txn_inquiries", "Questions about transactions in doubt.", stats.inquiries),
        ],
    )?;
    gauges(
        text,
        &[
            ("txn_in_doubt", "Transactions in doubt.", stats.in_doubt),
            ("txn_blocked", "Of these, those that nobody could resolve.", stats.blocked),
        ],
    )
}

fn counters(text: &mut Text, all: &[(&str, &str, u64)]) -> Written {
    all.iter().try_for_each(|(name, help, value)| {
        text.counter(&format!("quorate_{name}_total"), help, &[], *value)
    })
}

fn gauges(text: &mut Text, all: &[(&str, &str, u64)]) -> Written {
    all.iter().try_for_each(|(name, help, value)| {
        text.gauge(&format!("quorate_{name}"), help, &[], *value as f64)
    })
}
