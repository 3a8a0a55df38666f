//! The end of faults, for all nodes or for some.

use quorate_transport::NodeId;

use super::{Event, System, World};
use crate::net::Net;

impl<S: System> World<S> {
    /// Ends all faults: links heal, frames arrive, clocks run true, and whoever is down restarts.
    pub fn calm(&mut self) {
        self.net = Net::default();
        self.calm_nodes(&self.ids());
    }

    /// Ends all faults among the nodes of `core`, and for them alone. Of the others some are down
    /// for good, some are cut off, and some can be heard and hear nothing, until
    /// [`calm`](Self::calm).
    pub fn calm_core(&mut self, core: &[NodeId]) {
        self.net = Net::default();
        let rest: Vec<_> = self.ids().into_iter().filter(|id| !core.contains(id)).collect();
        for node in rest {
            match self.nemesis.below(3) {
                0 => {
                    self.kill(node, None);
                    self.nodes.get_mut(&node).into_iter().for_each(|slot| slot.gone = true);
                }
                1 => self.net.split(&[node], core),
                _ => core.iter().for_each(|one| self.net.cut(*one, node)),
            }
        }
        self.calm_nodes(core);
    }

    fn calm_nodes(&mut self, nodes: &[NodeId]) {
        self.chaos = false;
        let now = self.now;
        for id in nodes {
            let Some(node) = self.nodes.get_mut(id) else { continue };
            node.disk.heal();
            node.snapshots.heal();
            node.life.iter_mut().for_each(|life| life.store_failed = false);
            node.paused_until = node.paused_until.min(now);
            (node.slow, node.slow_disk, node.crash_loop) = ((0, 0), (0, 0), 0);
            (node.stall, node.gone, node.power_at_write) = (0, false, false);
            node.clock.drift(now, &mut self.nemesis, 0);
            if let Some(life) = &mut node.life {
                life.hands.effects_left = None;
            }
        }
        for node in nodes {
            if self.nodes[node].life.is_none() {
                self.push(1_000_000, Event::Restart { node: *node });
            } else {
                self.reschedule(*node);
            }
        }
    }
}
