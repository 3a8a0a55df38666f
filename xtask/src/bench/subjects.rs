//! Everything that a comparison may measure, and how it is shown.

/// One table of the page.
#[derive(Debug, PartialEq)]
pub(super) struct Subject {
    /// As the rows name it: `comparison/what`.
    pub(super) name: &'static str,
    /// The heading.
    pub(super) title: &'static str,
    /// What the figures are, after the unit.
    pub(super) unit: &'static str,
    /// Whether less is better.
    pub(super) lower: bool,
    /// The parameters of every row, in the order of their columns.
    pub(super) params: &'static [&'static str],
    /// How it is drawn; a table alone without.
    pub(super) plot: Option<Plot>,
    /// What was done, so that a reader can judge the figures.
    pub(super) caption: &'static str,
}

/// How a subject is drawn.
#[derive(Debug, PartialEq)]
pub(super) struct Plot {
    /// The parameter along the x axis.
    pub(super) x: &'static str,
    /// The parameter that makes one panel a value.
    pub(super) panel: Option<&'static str>,
    /// A y axis from zero for each panel, in place of one logarithmic axis for all.
    pub(super) linear: bool,
}

/// The comparisons and their headings, in the order of the page.
pub(super) const COMPARISONS: &[(&str, &str)] = &[
    ("raft", "The Raft core"),
    ("system", "The Raft core with the system's allocator"),
    ("driver", "Raft run by the driver"),
    ("wal", "The journal"),
    ("systems", "Clocks, metrics, mutual exclusion, transactions"),
    ("cluster", "A whole cluster"),
];

/// Every subject, in the order of the page.
pub(super) const SUBJECTS: &[Subject] = &[
    Subject {
        name: "raft/propose",
        title: "From proposal to applied on all nodes",
        unit: "ns an entry",
        lower: true,
        params: &["payload", "batch"],
        plot: Some(Plot { x: "batch", panel: Some("payload"), linear: false }),
        caption: "Three nodes in one thread, all in memory. A batch is proposed and run until all \
                  three have applied it. Every side is given the same payload in the same batches \
                  and compacts its log at the same points. Ours includes the leader's checksum \
                  over each batch, which the peers do not have.",
    },
    Subject {
        name: "raft/verified",
        title: "The same with verification on arrival",
        unit: "ns an entry",
        lower: true,
        params: &["payload", "batch"],
        plot: None,
        caption: "Every message is encoded as for a socket, copied once, split off the receive \
                  buffer, its checksums verified, and decoded. The peers have no such step.",
    },
    Subject {
        name: "raft/nodes",
        title: "By size of the group",
        unit: "ns an entry",
        lower: true,
        params: &["batch", "nodes"],
        plot: Some(Plot { x: "nodes", panel: Some("batch"), linear: true }),
        caption: "16 B payload; until all nodes of the group have applied the batch, all of them \
                  in one thread: linear growth means a constant cost a node.",
    },
    Subject {
        name: "system/propose",
        title: "From proposal to applied on all nodes, system allocator",
        unit: "ns an entry",
        lower: true,
        params: &["payload", "batch"],
        plot: None,
        caption: "As the first table, but with the allocator that a program has unless it chooses \
                  another. The tables above are with mimalloc on all sides, as the server has it: \
                  whoever allocates more gains more from that.",
    },
    Subject {
        name: "driver/puts",
        title: "Puts in one process",
        unit: "puts a second",
        lower: false,
        params: &["clients"],
        plot: Some(Plot { x: "clients", panel: None, linear: false }),
        caption: "Three nodes and all clients in one tokio runtime with one worker a core; no \
                  network, no disk, empty payloads. Closed loop: each client has one put under \
                  way. Ours is `quorate-raft` under `quorate-driver`, with the in-memory network \
                  (messages are encoded and decoded) and the journal on a disk in memory; openraft \
                  has its log in memory, and its network calls the peer. Both state machines do \
                  nothing with a command, and both sides make a snapshot every 5000 entries. A put \
                  of ours is answered when it is committed, and applied in the same turn of the \
                  leader's loop; one of openraft when it is applied.",
    },
    Subject {
        name: "driver/puts-smr",
        title: "The same through the replicated state machine",
        unit: "puts a second",
        lower: false,
        params: &["clients"],
        plot: None,
        caption: "Ours is `quorate-smr`, which answers when the command is applied, and has \
                  sessions, outcomes and a digest of all that is applied, which openraft has not. \
                  openraft's figures are those of the table above.",
    },
    Subject {
        name: "driver/memory",
        title: "Memory by entries",
        unit: "MiB",
        lower: true,
        params: &["payload", "batch", "log"],
        plot: None,
        caption: "What three nodes in one process have taken from the operating system since they \
                  elected a leader, after so many entries of `quorate-raft`, each applied, with a \
                  snapshot every 5000; journals and snapshots are in memory too, and counted.",
    },
    Subject {
        name: "driver/restart",
        title: "Restart by entries",
        unit: "s",
        lower: true,
        params: &["payload", "batch", "log"],
        plot: None,
        caption: "From opening the journal of a one-node group until it leads again and has \
                  committed all that is in it. Nothing was ever compacted, and the journal may be \
                  1 GiB long: at the default of 256 MiB a node has a snapshot long before. The \
                  journal is on the disk and in the page cache; a batch is one record of it.",
    },
    Subject {
        name: "wal/sync",
        title: "Append and sync",
        unit: "entries a second",
        lower: false,
        params: &["entries"],
        plot: Some(Plot { x: "entries", panel: None, linear: false }),
        caption: "A burst of entries of 256 B is appended and synced with fdatasync, all sides on \
                  the same file system; each figure is the median burst of a round. raft-engine \
                  runs without compression. `write + fdatasync` is the limit: the bare payload \
                  into a file whose blocks are there already, without a checksum or an index.",
    },
    Subject {
        name: "systems/lamport",
        title: "A tick of Lamport's clock",
        unit: "ns",
        lower: true,
        params: &["threads"],
        plot: None,
        caption: "So many threads at once on one clock; nanoseconds a call of the slowest.",
    },
    Subject {
        name: "systems/lamport-old",
        title: "Observing an old stamp of Lamport's clock",
        unit: "ns",
        lower: true,
        params: &["threads"],
        plot: None,
        caption: "A stamp that is not ahead costs a load.",
    },
    Subject {
        name: "systems/hybrid",
        title: "A stamp of the hybrid logical clock",
        unit: "ns",
        lower: true,
        params: &["threads"],
        plot: None,
        caption: "With a reading of the system's clock each; the reading alone is the limit.",
    },
    Subject {
        name: "systems/counter",
        title: "Adding to a counter",
        unit: "ns",
        lower: true,
        params: &["threads"],
        plot: None,
        caption: "So many threads at once on one counter.",
    },
    Subject {
        name: "systems/histogram",
        title: "Recording a latency",
        unit: "ns",
        lower: true,
        params: &["threads"],
        plot: None,
        caption: "So many threads at once on one histogram, with values from 1 us to 2 ms, whose \
                  making is part of the figures. prometheus-client has 24 buckets behind a lock; \
                  hdrhistogram has two digits and one histogram a thread, which shares nothing.",
    },
    Subject {
        name: "systems/snapshot",
        title: "A snapshot of a histogram",
        unit: "ns",
        lower: true,
        params: &["bytes"],
        plot: None,
        caption: "Of a histogram of latencies up to an hour, 1 % exact, of so many bytes.",
    },
    Subject {
        name: "systems/mutex-messages",
        title: "Mutual exclusion: messages an entry",
        unit: "messages",
        lower: true,
        params: &["nodes"],
        plot: None,
        caption: "Counted, beside the 2(N-1) of Ricart and Agrawala.",
    },
    Subject {
        name: "systems/mutex-entry",
        title: "Mutual exclusion: an entry without rivals",
        unit: "ns",
        lower: true,
        params: &["nodes"],
        plot: None,
        caption: "Entering and leaving, all nodes in one thread.",
    },
    Subject {
        name: "systems/txn-messages",
        title: "Two-phase commit: messages of a commit",
        unit: "messages",
        lower: true,
        params: &["participants"],
        plot: None,
        caption: "Counted, beside the 4n of presumed abort; the coordinator takes no part.",
    },
    Subject {
        name: "systems/txn-forced",
        title: "Two-phase commit: forced writes of a commit",
        unit: "writes",
        lower: true,
        params: &["participants"],
        plot: None,
        caption: "Counted, at all nodes together, beside the 2n + 1 of presumed abort.",
    },
    Subject {
        name: "systems/txn-messages-no",
        title: "Two-phase commit: messages when one votes no",
        unit: "messages",
        lower: true,
        params: &["participants"],
        plot: None,
        caption: "Counted, beside the 3n - 1 of presumed abort.",
    },
    Subject {
        name: "systems/txn-rate",
        title: "Two-phase commit: transactions",
        unit: "a second",
        lower: false,
        params: &["participants"],
        plot: None,
        caption: "128 at a time, all nodes in one thread, the journal in memory.",
    },
    Subject {
        name: "cluster/puts",
        title: "Puts",
        unit: "operations a second",
        lower: false,
        params: &["clients"],
        plot: Some(Plot { x: "clients", panel: None, linear: false }),
        caption: "Three server processes on loopback TCP with fsync on, values of 256 B, a load \
                  generator in a fourth process, all on one machine. Closed loop: each client has \
                  one operation under way. Both load generators ask the leader.",
    },
    Subject {
        name: "cluster/puts-p50",
        title: "Puts: median latency",
        unit: "ms",
        lower: true,
        params: &["clients"],
        plot: None,
        caption: "Of the same runs.",
    },
    Subject {
        name: "cluster/reads",
        title: "Linearizable reads",
        unit: "operations a second",
        lower: false,
        params: &["clients"],
        plot: Some(Plot { x: "clients", panel: None, linear: false }),
        caption: "The same clusters and load generators.",
    },
    Subject {
        name: "cluster/reads-p50",
        title: "Linearizable reads: median latency",
        unit: "ms",
        lower: true,
        params: &["clients"],
        plot: None,
        caption: "Of the same runs.",
    },
    Subject {
        name: "cluster/failover",
        title: "Fail-over",
        unit: "ms",
        lower: true,
        params: &["kills"],
        plot: None,
        caption: "The longest time between two acknowledged writes while 128 writers load the \
                  cluster and the leader's process is killed (SIGKILL); the median over all kills. \
                  Both sides with their default timeouts; a writer tries elsewhere at once when \
                  its connection closes, and after 250 ms of silence with etcd.",
    },
];

impl Subject {
    /// The comparison it belongs to.
    pub(super) fn comparison(&self) -> &'static str {
        self.name.split('/').next().unwrap_or(self.name)
    }

    /// The file name of its plot.
    pub(super) fn svg(&self) -> String {
        format!("{}.svg", self.name.replace('/', "-"))
    }
}

/// A parameter as the head of a column and the title of an axis.
pub(super) fn label(param: &str) -> &str {
    match param {
        "payload" => "payload (B)",
        "batch" => "batch (entries)",
        "entries" => "burst (entries)",
        "log" => "log (entries)",
        other => other,
    }
}

/// A parameter and its value, over a panel.
pub(super) fn heading(param: &str, value: u64) -> String {
    match param {
        "payload" => format!("payload of {value} B"),
        "batch" if value == 1 => "batch of one entry".to_owned(),
        "batch" => format!("batch of {value} entries"),
        other => format!("{other} {value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_belongs_to_a_comparison_and_draws_its_own_parameters() {
        for subject in SUBJECTS {
            assert!(COMPARISONS.iter().any(|(name, _)| *name == subject.comparison()));
            if let Some(plot) = &subject.plot {
                assert!(subject.params.contains(&plot.x));
                assert!(plot.panel.is_none_or(|panel| subject.params.contains(&panel)));
            }
        }
    }
}
