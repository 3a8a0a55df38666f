//! Randomness of an instant: what is drawn depends on what it is for, on whom, and when.
//!
//! Nothing that happens, or is left out, elsewhere or earlier shifts it. So a failure stays what it
//! is while all that it does not need is taken away.

use quorate_transport::{NodeId, Rng};

use crate::nemesis::Fault;

/// What something is drawn for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    /// The order of events of one instant.
    Tie,
    /// When bursts end.
    Burst,
    /// What becomes of a frame.
    Net,
    /// What is heard of connections.
    Links,
    Disk,
    /// The application.
    Work,
    /// What a machine draws from in one life.
    Life,
    /// A kind of fault.
    Kind(Fault),
}

impl For {
    /// Kinds of fault share the last place.
    const PLACES: usize = 8;

    fn place(self) -> usize {
        match self {
            Self::Tie => 0,
            Self::Burst => 1,
            Self::Net => 2,
            Self::Links => 3,
            Self::Disk => 4,
            Self::Work => 5,
            Self::Life => 6,
            Self::Kind(_) => 7,
        }
    }

    fn number(self) -> u64 {
        match self {
            Self::Kind(fault) => 0x100 + fault as u64,
            other => other.place() as u64,
        }
    }
}

/// The randomness of one world.
#[derive(Clone, Debug)]
pub(crate) struct Luck {
    root: Rng,
    now: u64,
    /// How often each place was drawn from at this instant.
    drawn: [u64; For::PLACES],
}

impl Luck {
    pub(crate) fn new(root: Rng) -> Self {
        Self { root, now: 0, drawn: [0; For::PLACES] }
    }

    /// What is drawn for `what`, of a node or of none, at `now`.
    pub(crate) fn at(&mut self, now: u64, what: For, who: NodeId) -> Rng {
        if self.now != now {
            (self.now, self.drawn) = (now, [0; For::PLACES]);
        }
        let drawn = &mut self.drawn[what.place()];
        *drawn += 1;
        self.root.fork(what.number()).fork(who.0 << 32 | *drawn).fork(now)
    }

    /// What a life of a node draws from: whatever else happened, it is the same.
    pub(crate) fn of_life(&self, node: NodeId, incarnation: u64) -> Rng {
        self.root.fork(For::Life.number()).fork(node.0).fork(incarnation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn luck_depends_on_the_instant_alone() {
        let draw = |before: u64| {
            let mut luck = Luck::new(Rng::new(7));
            for now in 0..before {
                let _ = luck.at(now, For::Net, NodeId(1)).next_u64();
            }
            let _ = luck.at(1_000, For::Disk, NodeId(1)).next_u64();
            let mut first = luck.at(1_000, For::Net, NodeId(1));
            let mut second = luck.at(1_000, For::Net, NodeId(1));
            [first.next_u64(), second.next_u64()]
        };
        assert_eq!(draw(0), draw(900));
        assert_ne!(draw(0)[0], draw(0)[1], "two draws of an instant are two");
    }

    #[test]
    fn concerns_nodes_and_instants_have_luck_of_their_own() {
        let of = |now, what, who| Luck::new(Rng::new(7)).at(now, what, NodeId(who)).next_u64();
        let one = of(5, For::Net, 1);
        assert_ne!(one, of(6, For::Net, 1));
        assert_ne!(one, of(5, For::Disk, 1));
        assert_ne!(one, of(5, For::Net, 2));
        assert_ne!(of(5, For::Kind(Fault::Kill), 0), of(5, For::Kind(Fault::Pause), 0));
        let luck = Luck::new(Rng::new(7));
        assert_ne!(luck.of_life(NodeId(1), 1).next_u64(), luck.of_life(NodeId(1), 2).next_u64());
    }
}
