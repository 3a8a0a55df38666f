//! What goes wrong, and when: each seed draws which kinds are on and how often they strike.

use quorate_transport::Rng;

use crate::limits::limits;

/// A kind of fault. Each has the number of its class in the project's catalogue of faults: N is for
/// the network, P for processes, D for disks, C for clocks, O for operators and applications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A frame is lost; drawn for each.
    Loss,
    /// A frame arrives twice.
    Duplicate,
    /// A frame takes so long that later ones overtake it.
    Overtaken,
    /// A copy of a frame arrives much later, some in other terms and lives.
    Late,
    /// A frame of a former life of its sender arrives.
    FormerLife,
    /// Bytes arrive that are no message.
    Garbage,
    /// A frame is lost because its link's queue is full.
    TailDrop,
    /// One direction of one link holds everything back for a while.
    Clog,
    /// The nodes are split in two.
    Partition,
    /// A minority is cut off from the rest, together with who was cut off before.
    MinorityCut,
    /// The node that the system calls its leader is cut off.
    IsolateLeader,
    /// Each node hears only its neighbours in a ring: majorities overlap, and none hears all.
    Ring,
    /// Two halves that only one node hears both of.
    Bridge,
    /// One direction of one link is cut.
    OneWay,
    /// One link is cut and mended again and again, for about as long as an election takes.
    FlappingLink,
    /// One link is slow.
    SlowLink,
    /// One link takes only so many bytes a second.
    NarrowLink,
    /// A connection is reported closed though nothing is wrong.
    LinkFlap,
    /// All at once hear that their connection to the leader is closed, so that many campaign; often
    /// it has died, and is back and free to vote; and a few of those who vote die and are back at
    /// once. Sometimes it alone hears two sides, dies again and again when it has voted, and hears
    /// then what both have said before.
    Contest,
    /// A connection is reset: what is under way on it is lost.
    Reset,
    /// One node hears the leader no more, so that it will campaign; then the others lose the leader
    /// as well, and often die and are back at once, or are told that their connection to it is
    /// closed, while it still believes that it leads.
    Usurp,
    /// Nothing passes between two nodes, and neither is told.
    HalfOpen,
    /// A node is told that its queue to a peer is full.
    QueueFull,
    /// Cut and slow links work again.
    Heal,
    /// A process is killed: what it wrote stays readable.
    Kill,
    /// The node that the system calls its leader is killed.
    KillLeader,
    /// The next few nodes to become leader are killed or cut off a moment later, each with its
    /// first words under way.
    StopNewLeader,
    /// During the next election nodes die and are back at once, again and again.
    CrashVoters,
    /// A process dies between two effects of one step.
    CrashInStep,
    /// A process dies in the middle of one of its next disk calls.
    CrashInDisk,
    /// A process stays away long enough that its peers forget what it misses.
    LongOutage,
    /// A process dies soon after each of its next few starts.
    CrashLoop,
    /// A node dies and comes back under its name with an empty disk, where the system
    /// [allows](crate::System::wipe) it; it may stop itself then, and need not come back. Drawn
    /// for systems that add it to their plan.
    Wipe,
    /// A process stands still while time goes on.
    Pause,
    /// A machine stands still, and its clock with it.
    Suspend,
    /// For a while every step of a node takes milliseconds.
    SlowProcess,
    /// A node loses power: what it had not synced is lost. Often it strikes between the next write
    /// of its journal and the sync that follows, and now and then the leader is cut off then.
    PowerLoss,
    /// All nodes lose power at once.
    PowerLossAll,
    /// All nodes lose power soon after each of the next few nodes to become leader, or each other
    /// between its next write and the sync that follows: what the leader put in the place of other
    /// entries is not durable yet.
    PowerAtElection,
    /// A power loss left part of a sector.
    TornWrite,
    /// A power loss kept a later write and lost an earlier one.
    ReorderedWrite,
    /// A disk call fails: the node must stop.
    DiskError,
    /// A sync fails, and what it should have synced never will be.
    SyncError,
    /// A disk is full; a write may be partly done.
    DiskFull,
    /// A write that fails is partly done.
    ShortWrite,
    /// A call of the snapshot store's disk fails: the machine goes on without, or stops itself.
    StoreError,
    /// A disk takes up to a second for its next sync.
    DiskStall,
    /// For a while every sync of a disk takes many times as long.
    SlowDisk,
    /// A clock runs at another rate.
    ClockDrift,
    /// A clock jumps ahead.
    ClockJump,
    /// A clock stands still for a while, then jumps to where it would be.
    ClockFreeze,
    /// All heals and nothing strikes for a few seconds.
    Quiet,
    /// Something that only the system under test knows how to do, a transfer or a snapshot; often
    /// to the leader, and often the node is cut off in the middle of it.
    System,
    /// Frames of the past come again, of those too that were lost: the leader, often cut off then,
    /// hears what was said to it in older terms, and while this kind is on, a node that starts
    /// what was said to its former life.
    Echo,
    /// The leader and the next few to become one are cut off a moment later, each until it is the
    /// turn of the one after it, now and then with another node, or hearing the past again; often
    /// the leader stays, and another node is left alone with who is cut off.
    TakeTurns,
}

impl Fault {
    /// All kinds that strike at a time of their own and are drawn for every system.
    pub const STRIKES: [Self; 43] = [
        Self::Clog,
        Self::Partition,
        Self::MinorityCut,
        Self::IsolateLeader,
        Self::Ring,
        Self::Bridge,
        Self::OneWay,
        Self::FlappingLink,
        Self::SlowLink,
        Self::NarrowLink,
        Self::LinkFlap,
        Self::Contest,
        Self::Reset,
        Self::Usurp,
        Self::HalfOpen,
        Self::QueueFull,
        Self::Heal,
        Self::Kill,
        Self::KillLeader,
        Self::StopNewLeader,
        Self::CrashVoters,
        Self::CrashInStep,
        Self::CrashInDisk,
        Self::LongOutage,
        Self::CrashLoop,
        Self::Pause,
        Self::Suspend,
        Self::SlowProcess,
        Self::PowerLoss,
        Self::PowerLossAll,
        Self::PowerAtElection,
        Self::DiskError,
        Self::DiskFull,
        Self::StoreError,
        Self::DiskStall,
        Self::SlowDisk,
        Self::ClockDrift,
        Self::ClockJump,
        Self::ClockFreeze,
        Self::Quiet,
        Self::System,
        Self::Echo,
        Self::TakeTurns,
    ];

    /// Kinds that are drawn for each frame, follow from another, or are for some systems.
    pub const FOLLOW: [Self; 12] = [
        Self::Loss,
        Self::Duplicate,
        Self::Overtaken,
        Self::Late,
        Self::FormerLife,
        Self::Garbage,
        Self::TailDrop,
        Self::TornWrite,
        Self::ReorderedWrite,
        Self::SyncError,
        Self::ShortWrite,
        Self::Wipe,
    ];

    /// Its class in the catalogue.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            Self::Loss => "N1",
            Self::Duplicate => "N2",
            Self::Overtaken => "N3",
            Self::Clog => "N4",
            Self::Partition | Self::MinorityCut | Self::IsolateLeader | Self::TakeTurns => "N5",
            Self::OneWay => "N6",
            Self::Ring | Self::Bridge => "N7",
            Self::FlappingLink => "N8",
            Self::SlowLink => "N9",
            Self::NarrowLink | Self::TailDrop => "N10",
            Self::Late | Self::Echo => "N11",
            Self::Garbage => "N12",
            Self::LinkFlap | Self::Contest | Self::Reset | Self::Usurp | Self::HalfOpen => "N13",
            Self::FormerLife => "N14",
            Self::Heal => "N",
            Self::Kill | Self::KillLeader | Self::StopNewLeader | Self::CrashInDisk => "P1",
            Self::CrashInStep => "P2",
            Self::LongOutage => "P3",
            Self::Pause => "P4",
            Self::Wipe => "P5",
            Self::CrashLoop | Self::CrashVoters => "P8",
            Self::PowerLossAll | Self::PowerAtElection => "P9",
            Self::SlowProcess => "P11",
            Self::QueueFull => "P12",
            Self::PowerLoss => "D1",
            Self::TornWrite => "D2",
            Self::ReorderedWrite => "D3",
            Self::DiskError | Self::StoreError => "D7",
            Self::SyncError => "D8",
            Self::DiskFull => "D9",
            Self::DiskStall => "D10",
            Self::ShortWrite => "D11",
            Self::SlowDisk => "D12",
            Self::ClockDrift => "C2",
            Self::ClockJump => "C3",
            Self::ClockFreeze => "C4",
            Self::Suspend => "C7",
            Self::Quiet => "O4",
            Self::System => "O",
        }
    }
}

/// How long frames take: what is drawn stays between the least and the greatest delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delays {
    /// All alike: nothing is overtaken.
    Constant,
    /// Uniform.
    Uniform,
    /// Exponential: most are quick.
    Exponential,
    /// Nearly all quick, some at the far end.
    Bimodal,
    /// Heavy in the tail.
    Pareto,
}

/// The faults of one seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which kinds are on, with how likely each is relative to the others.
    pub kinds: Vec<(Fault, u64)>,
    /// Kinds that have no effect, though all else is drawn as if they had.
    pub masked: Vec<Fault>,
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
    /// See [`Net`](crate::Net).
    pub delays: Delays,
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
        // Drawn apart, so that they shift nothing else.
        let [mut of_bulk, mut of_delays, mut of_power, mut usurps, mut echoes, mut turns] =
            [1, 2, 3, 4, 5, 6].map(|n| rng.fork(n));
        let mut bulk_loss = [0, 0, 0, 300_000];
        let mut late = [0, 1_000, 10_000];
        for fault in Fault::STRIKES {
            let rng = match fault {
                Fault::PowerAtElection => &mut of_power,
                Fault::Usurp => &mut usurps,
                Fault::Echo => &mut echoes,
                Fault::TakeTurns => &mut turns,
                _ => &mut *rng,
            };
            if rng.chance_ppm(450_000) {
                kinds.push((fault, rng.between(1, 10)));
            }
        }
        if rng.below(3) == 0 {
            // A storm: leaders come and go before their entries are everywhere.
            let storm =
                [(Fault::StopNewLeader, 14), (Fault::IsolateLeader, 8), (Fault::KillLeader, 8)];
            kinds.extend(storm);
            kinds.extend([(Fault::CrashVoters, 8), (Fault::Contest, 10)]);
            kinds.extend([(Fault::PowerAtElection, 6), (Fault::Echo, 8), (Fault::TakeTurns, 14)]);
            bulk_loss = [0, 300_000, 600_000, 900_000];
            late = [1_000, 10_000, 100_000];
        }
        kinds.push((Fault::Heal, 18));
        kinds.push((Fault::Kill, 3));
        kinds.push((Fault::IsolateLeader, 3));
        let delays = [Delays::Uniform, Delays::Constant, Delays::Exponential, Delays::Bimodal];
        let delays = [delays[of_delays.below(4) as usize], Delays::Pareto, Delays::Uniform];
        Self {
            kinds,
            masked: Vec::new(),
            interval: [100, 300, 1000][rng.below(3) as usize] * 1_000_000,
            drift_ppm: [0, 500, 50_000][rng.below(3) as usize],
            loss_ppm: [0, 1_000, 20_000, 100_000][rng.below(4) as usize],
            bulk_loss_ppm: bulk_loss[of_bulk.below(4) as usize],
            duplicate_ppm: [0, 10_000, 200_000][rng.below(3) as usize],
            late_ppm: late[rng.below(3) as usize],
            garbage_ppm: [0, 2_000, 50_000][rng.below(3) as usize],
            delay_max: [300_000, 2_000_000, 20_000_000][rng.below(3) as usize],
            delays: delays[of_delays.below(3) as usize],
            sync_max: [200_000, 2_000_000, 20_000_000][rng.below(3) as usize],
            settle_ppm: [1_000_000, 500_000, 50_000][rng.below(3) as usize],
        }
        .without(&limits().masked)
    }

    /// Takes the effect of some kinds away.
    #[must_use]
    pub fn without(mut self, masked: &[Fault]) -> Self {
        self.masked.extend_from_slice(masked);
        let off = |fault| masked.contains(&fault);
        let set = |ppm: &mut u32, fault| *ppm = if off(fault) { 0 } else { *ppm };
        set(&mut self.loss_ppm, Fault::Loss);
        set(&mut self.bulk_loss_ppm, Fault::Loss);
        set(&mut self.duplicate_ppm, Fault::Duplicate);
        set(&mut self.late_ppm, Fault::Late);
        set(&mut self.garbage_ppm, Fault::Garbage);
        if off(Fault::Overtaken) {
            self.delays = Delays::Constant;
        }
        self
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_listed_once_and_has_a_class() {
        let mut all: Vec<Fault> = Fault::STRIKES.into_iter().chain(Fault::FOLLOW).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 55);
        assert_eq!(*all.last().expect("some"), Fault::TakeTurns);
        assert!(all.iter().all(|fault| !fault.class().is_empty()));
    }

    #[test]
    fn a_mask_takes_an_effect_away_and_shifts_nothing() {
        let plan = Plan::draw(&mut Rng::new(3));
        let masked = Plan::draw(&mut Rng::new(3)).without(&[Fault::Loss, Fault::Kill]);
        assert_eq!((masked.loss_ppm, masked.bulk_loss_ppm), (0, 0));
        assert_eq!((masked.kinds, masked.late_ppm), (plan.kinds, plan.late_ppm));
    }
}
