//! Leaders that are cut off one after the other: what each alone has meets what the others have.

use quorate_transport::NodeId;

use super::{Event, Stop, System, Violation, World};
use crate::nemesis::Fault;

const MILLI: u64 = 1_000_000;

/// Who takes turns.
#[derive(Default)]
pub(super) struct Turns {
    /// So many more leaders are cut off.
    pub(super) left: u64,
    /// The last one that was.
    out: Option<NodeId>,
}

impl<S: System> World<S> {
    /// Another leads: it has little time, or none to tell anybody of it.
    pub(super) fn begin_turn(&mut self, leader: NodeId) {
        if self.turns.left == 0 || !self.chaos {
            return;
        }
        self.turns.left -= 1;
        let mut rng = self.dice(Fault::TakeTurns);
        let soon = [1, MILLI / 5, 5 * MILLI, 50 * MILLI][rng.below(4) as usize];
        self.push(rng.below(soon), Event::Stop { node: leader, how: Stop::Turn });
    }

    /// The leader is cut off, often just when it was asked for something; who was before it comes
    /// back, at once or when the others have been without a leader for some time.
    pub(super) fn turn(&mut self, leader: NodeId) -> Result<(), Violation> {
        let mut rng = self.dice(Fault::TakeTurns);
        let (asked, last) = (rng.below(3) == 0, self.turns.left == 0);
        let soon = if asked { rng.below(3 * MILLI) } else { 0 };
        let later = [1, 200, 900][rng.below(3) as usize] * MILLI;
        let out = self.turns.out.filter(|out| *out != leader);
        if let Some(out) = out.filter(|_| rng.below(2) == 0)
            && self.join(out, leader)
        {
            return Ok(());
        }
        self.push(soon, Event::Stop { node: leader, how: Stop::Isolate });
        self.turns.out = Some(leader);
        if let Some(node) = out {
            self.push(soon + rng.below(later), Event::Stop { node, how: Stop::Rejoin });
        }
        if last {
            self.push(2 * later, Event::Stop { node: leader, how: Stop::Rejoin });
        }
        if asked { self.ask_system(leader) } else { Ok(()) }
    }

    /// The leader stays, and one who has just heard from it, a part of what it has perhaps, joins
    /// who is cut off; false where no majority would be left.
    fn join(&mut self, out: NodeId, leader: NodeId) -> bool {
        let mut rng = self.dice(Fault::TakeTurns).fork(1);
        let mut rest = self.ids();
        let majority = rest.len() / 2 + 1;
        rest.retain(|id| ![out, leader].contains(id));
        if rest.len() < majority {
            return false;
        }
        let node = rest.swap_remove(rng.below(rest.len() as u64) as usize);
        rest.push(leader);
        self.net.split(&[node, out], &rest);
        self.net.mend(node, out);
        self.net.mend(out, node);
        for node in [node, out] {
            let long = rng.between(400, 2_000) * MILLI;
            self.push(long, Event::Stop { node, how: Stop::Rejoin });
        }
        true
    }

    /// A node that was cut off is reached again.
    pub(super) fn rejoin(&mut self, node: NodeId) {
        for other in self.ids() {
            self.net.mend(node, other);
            self.net.mend(other, node);
        }
    }
}
