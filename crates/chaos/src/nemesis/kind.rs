//! The kinds of faults, by name.

use std::fmt;

macro_rules! kinds {
    ($($kind:ident $name:literal $counter:expr, $about:literal;)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Kind {
            $(#[doc = $about] $kind,)*
        }

        impl Kind {
            /// All of them.
            pub(crate) const ALL: [Self; [$($name),*].len()] = [$(Self::$kind),*];

            /// What it is called.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// What it does.
            pub(crate) fn about(self) -> &'static str {
                match self { $(Self::$kind => $about,)* }
            }

            /// The counter of the links that rises when it has an effect.
            pub(crate) fn counter(self) -> Option<&'static str> {
                match self { $(Self::$kind => $counter,)* }
            }
        }
    };
}

kinds! {
    KillOne "kill-one" None, "SIGKILL to a node";
    KillLeader "kill-leader" None, "SIGKILL to the leader";
    KillMajority "kill-majority" None, "SIGKILL to a majority";
    KillAll "kill-all" None, "SIGKILL to all nodes";
    Terminate "terminate" None, "SIGTERM to a node: it must end well";
    PauseOne "pause-one" None, "SIGSTOP to a node, SIGCONT later";
    PauseLeader "pause-leader" None, "SIGSTOP to the leader, SIGCONT later";
    Halves "partition" Some("cut"), "two parts that do not reach each other";
    Ring "partition-ring" Some("cut"), "every node reaches its neighbours in a ring and no others";
    OneWay "partition-one-way" Some("cut"), "one part does not reach the other, which reaches it";
    IsolateLeader "isolate-leader" Some("cut"), "the leader and all others do not reach each other";
    Flapping "flapping" Some("cut"), "links of a node come and go";
    Resets "resets" Some("reset"), "connections are reset, again and again";
    HalfOpen "half-open" Some("half-open"), "one end of connections is gone, the other not told";
    Delay "delay" Some("delayed"), "everything comes later";
    SlowLink "slow-link" Some("delayed"), "a node's links are narrow";
    Lose "frames-lost" Some("lost"), "frames are lost";
    Duplicate "frames-duplicated" Some("duplicated"), "frames come twice";
    Reorder "frames-reordered" Some("reordered"), "frames overtake each other";
    Garbage "garbage" Some("garbled"), "bytes in a stream that nobody sent";
    CableOut "cable-out" None, "a node's network device is down, for its clients too";
    BlackHole "black-hole" None, "packets of a node go nowhere, those to it arrive";
    NarrowCable "narrow-cable" None, "the kernel lets little through to a node";
    PowerLoss "power-loss" None, "a node is gone with all that it had not synced";
    PowerLossAll "power-loss-all" None, "all nodes are, at once";
    PowerLossTorn "power-loss-torn" None, "a node is gone; what was not synced is there in part";
    SyncError "sync-error" None, "a sync fails and loses what it was for: the node must stop";
    WriteError "write-error" None, "a write fails: the node must stop";
    NoSpace "no-space" None, "a write finds no room: the node must stop";
    DiskFull "disk-full" None, "a node's file system is filled up";
    DiskStall "disk-stall" None, "a sync does not return";
    DiskSlow "disk-slow" None, "every sync takes long";
    BootClock "boot-clock" None, "a node comes back with its boot clock hours ahead";
    HandOver "hand-over" None, "the leader is told to hand over";
    ChangeGroup "change-group" None, "members leave, are demoted, replaced or come back";
    WallClock "wall-clock" None, "a node's wall clock jumps";
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|kind| kind.name() == name);
        known.ok_or_else(|| {
            format!("there is no such kind; they are: {}", Self::ALL.map(Self::name).join(", "))
        })
    }
}
