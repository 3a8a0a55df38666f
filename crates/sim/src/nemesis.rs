//! What goes wrong, and when: each seed draws which kinds are on and how often they strike.

use quorate_transport::Rng;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A process is killed: what it wrote stays readable.
    Kill,
    /// A node loses power: what it had not synced is lost, torn or reordered.
    PowerLoss,
    /// All nodes lose power at once.
    PowerLossAll,
    /// A process dies between two effects of one step.
    CrashInStep,
    /// A process dies in the middle of one of its next disk calls.
    CrashInDisk,
    /// A disk call fails: the node must stop.
    DiskError,
    /// A call of the snapshot store's disk fails: the machine goes on without, or stops itself.
    StoreError,
    /// A disk takes up to a second for its next sync.
    DiskStall,
    /// The nodes are split in two.
    Partition,
    /// The node that the system calls its leader is cut off.
    IsolateLeader,
    /// The node that the system calls its leader is killed.
    KillLeader,
    /// The next few nodes to become leader are killed or cut off a moment later, each with its
    /// first words under way.
    StopNewLeader,
    /// During the next election nodes die and are back at once, again and again.
    CrashVoters,
    /// One direction of one link is cut.
    OneWay,
    /// One link is slow.
    SlowLink,
    /// Cut and slow links work again.
    Heal,
    /// A process stands still while time goes on.
    Pause,
    /// A clock runs at another rate.
    ClockDrift,
    /// A connection is reported closed though nothing is wrong.
    LinkFlap,
    /// Bytes arrive that are no message; drawn a frame, like losses.
    Garbage,
    /// Something that only the system under test knows how to do: a transfer, a snapshot.
    System,
}

impl Fault {
    /// All kinds that strike at a time of their own.
    pub const ALL: [Self; 20] = [
        Self::Kill,
        Self::PowerLoss,
        Self::PowerLossAll,
        Self::CrashInStep,
        Self::CrashInDisk,
        Self::DiskError,
        Self::StoreError,
        Self::DiskStall,
        Self::Partition,
        Self::IsolateLeader,
        Self::KillLeader,
        Self::StopNewLeader,
        Self::CrashVoters,
        Self::OneWay,
        Self::SlowLink,
        Self::Heal,
        Self::Pause,
        Self::ClockDrift,
        Self::LinkFlap,
        Self::System,
    ];
}

/// The faults of one seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which kinds are on, with how likely each is relative to the others.
    pub kinds: Vec<(Fault, u64)>,
    /// The mean time between two faults, in nanoseconds.
    pub interval: u64,
    /// Clocks are off by at most this, in parts in a million.
    pub drift_ppm: u64,
    /// The loss, repetition and lateness of frames, in a million, and the greatest delay.
    pub loss_ppm: u32,
    /// See [`Net`](crate::Net).
    pub bulk_loss_ppm: u32,
    /// See [`Net`](crate::Net).
    pub duplicate_ppm: u32,
    /// See [`Net`](crate::Net).
    pub late_ppm: u32,
    /// See [`Net`](crate::Net).
    pub garbage_ppm: u32,
    /// See [`Net`](crate::Net).
    pub delay_max: u64,
    /// The longest a sync takes, in nanoseconds.
    pub sync_max: u64,
    /// How often a burst ends after an input, in a million: else more inputs join it.
    pub settle_ppm: u32,
}

impl Plan {
    /// What `seed` draws: about half of the kinds, each with a weight of its own.
    #[must_use]
    pub fn draw(rng: &mut Rng) -> Self {
        let mut kinds = Vec::new();
        let mut of_bulk = rng.fork(1); // drawn apart, so that it shifts nothing else
        let mut bulk_loss = [0, 0, 0, 300_000];
        for fault in Fault::ALL {
            if rng.chance_ppm(550_000) {
                kinds.push((fault, rng.between(1, 10)));
            }
        }
        if rng.below(4) == 0 {
            // A storm: leaders come and go before their entries are everywhere.
            let storm =
                [(Fault::StopNewLeader, 8), (Fault::IsolateLeader, 4), (Fault::KillLeader, 4)];
            kinds.extend(storm);
            kinds.push((Fault::CrashVoters, 6));
            bulk_loss = [0, 300_000, 600_000, 900_000];
        }
        kinds.push((Fault::Heal, 12));
        kinds.push((Fault::Kill, 2));
        kinds.push((Fault::IsolateLeader, 2));
        Self {
            kinds,
            interval: [100, 300, 1000][rng.below(3) as usize] * 1_000_000,
            drift_ppm: [0, 500, 50_000][rng.below(3) as usize],
            loss_ppm: [0, 1_000, 20_000, 100_000][rng.below(4) as usize],
            bulk_loss_ppm: bulk_loss[of_bulk.below(4) as usize],
            duplicate_ppm: [0, 10_000, 200_000][rng.below(3) as usize],
            late_ppm: [0, 1_000, 10_000][rng.below(3) as usize],
            garbage_ppm: [0, 2_000, 50_000][rng.below(3) as usize],
            delay_max: [300_000, 2_000_000, 20_000_000][rng.below(3) as usize],
            sync_max: [200_000, 2_000_000, 20_000_000][rng.below(3) as usize],
            settle_ppm: [1_000_000, 500_000, 50_000][rng.below(3) as usize],
        }
    }

    pub(crate) fn pick(&self, rng: &mut Rng) -> Fault {
        let total = self.kinds.iter().map(|(_, weight)| weight).sum();
        let mut at = rng.below(total);
        for (fault, weight) in &self.kinds {
            if at < *weight {
                return *fault;
            }
            at -= weight;
        }
        Fault::Heal
    }
}
