//! Leaders that are cut off one after the other: what each alone has meets what the others have.
//!
//! Now and then a leader stays, and whoever has just been told a part of what it has is left alone
//! with the one who was cut off before, whose log contradicts that. Then the two sides meet again.

use quorate_transport::{NodeId, Rng};

use super::{Event, Stop, System, Violation, World};
use crate::nemesis::Fault;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLI;
/// So long somebody is waited for who has a part of what the leader has.
const PATIENCE: u64 = 300 * MILLI;

/// Who takes turns.
#[derive(Default)]
pub(super) struct Turns {
    /// So many more leaders are cut off.
    pub(super) left: u64,
    /// Who is cut off now, and perhaps another with it.
    out: Option<NodeId>,
    with: Option<NodeId>,
    /// Somebody is to be left alone with the first, as soon as the second, who leads, has told it a
    /// part of what it has.
    joins: Option<(NodeId, NodeId)>,
    /// The leader that stays, for somebody was left alone with who was cut off.
    stays: Option<NodeId>,
    /// Who does not hear each other until somebody leads.
    apart: Vec<NodeId>,
    /// Until then nothing else strikes: what the two come to is to stand.
    pub(super) busy_until: u64,
}

fn pairs(nodes: &[NodeId]) -> impl Iterator<Item = (NodeId, NodeId)> {
    nodes.iter().enumerate().flat_map(|(at, one)| nodes[at + 1..].iter().map(|two| (*one, *two)))
}

impl<S: System> World<S> {
    /// Another leads: it has little time, or none to tell anybody of it.
    pub(super) fn begin_turn(&mut self, leader: NodeId) {
        self.come_together();
        if self.turns.left == 0 || !self.chaos {
            return;
        }
        self.turns.left -= 1;
        (self.turns.joins, self.turns.stays) = (None, None);
        let mut rng = self.dice(Fault::TakeTurns);
        let soon = [1, MILLI / 5, 5 * MILLI, 50 * MILLI][rng.below(4) as usize];
        self.push(rng.below(soon), Event::Stop { node: leader, how: Stop::Turn });
    }

    /// The leader is cut off, often just when it was asked for something; or it stays.
    pub(super) fn turn(&mut self, leader: NodeId) -> Result<(), Violation> {
        if self.turns.stays == Some(leader) {
            return Ok(());
        }
        let mut rng = self.dice(Fault::TakeTurns);
        let out = self.turns.out.filter(|out| *out != leader);
        let waited = self.turns.joins.take_if(|(_, whose)| *whose == leader);
        match (waited, out) {
            (Some((out, _)), _) if rng.below(2) == 0 => {
                // Nobody was told a part of anything: it is somebody who has all of it.
                let others = self.others(out, leader);
                let node = others[rng.below(others.len() as u64) as usize];
                self.leave_alone(node, out, leader);
                Ok(())
            }
            (None, Some(out)) if rng.below(4) != 0 && self.may_stay(out, leader) => {
                self.turns.joins = Some((out, leader));
                self.push(PATIENCE, Event::Stop { node: leader, how: Stop::Turn });
                Ok(())
            }
            _ => self.cut_off(leader, out),
        }
    }

    /// Who was cut off before comes back, at once or when the others have been without a leader
    /// for some time.
    fn cut_off(&mut self, leader: NodeId, out: Option<NodeId>) -> Result<(), Violation> {
        let mut rng = self.dice(Fault::TakeTurns);
        let (asked, last) = (rng.below(3) == 0, self.turns.left == 0);
        let soon = if asked { rng.below(3 * MILLI) } else { 0 };
        let later = [1, 200, 900][rng.below(3) as usize] * MILLI;
        let with = self.companion(leader, &mut rng);
        let how = with.map_or(Stop::Isolate, Stop::IsolateWith);
        self.push(soon, Event::Stop { node: leader, how });
        if rng.below(3) == 0 {
            self.hear_again(leader, [MILLI, 20 * MILLI, 100 * MILLI][rng.below(3) as usize]);
        }
        let was_with = std::mem::replace(&mut self.turns.with, with);
        self.turns.out = Some(leader);
        if let Some(node) = was_with.filter(|node| *node != leader) {
            self.push(soon + rng.below(later), Event::Stop { node, how: Stop::Rejoin });
        }
        if let Some(node) = out {
            self.push(soon + rng.below(later), Event::Stop { node, how: Stop::Rejoin });
            if rng.below(2) == 0 {
                self.keep_apart(self.others(node, leader));
                self.push(later + SECOND, Event::Stop { node, how: Stop::Together });
            }
        }
        if last {
            for node in with.into_iter().chain([leader]) {
                self.push(soon + 2 * later, Event::Stop { node, how: Stop::Rejoin });
            }
        }
        if asked { self.ask_system(leader) } else { Ok(()) }
    }

    /// Now and then a minority is cut off: what the leader tells this one is acknowledged.
    fn companion(&self, leader: NodeId, rng: &mut Rng) -> Option<NodeId> {
        let Turns { out, with, .. } = &self.turns;
        let mut others = self.others(leader, leader);
        let few = others.len() < 4 || rng.below(3) > 0;
        others.retain(|id| ![*out, *with].contains(&Some(*id)));
        (!few).then(|| others[rng.below(others.len() as u64) as usize])
    }

    /// Whether the rest is many enough, and has something that who is cut off has not.
    fn may_stay(&self, out: NodeId, leader: NodeId) -> bool {
        let many = self.others(out, leader).len() >= self.ids().len().div_ceil(2);
        many && self.system.contradict(out, leader)
    }

    /// Who is neither of them.
    fn others(&self, out: NodeId, leader: NodeId) -> Vec<NodeId> {
        self.ids().into_iter().filter(|id| ![out, leader].contains(id)).collect()
    }

    /// Perhaps this is who was waited for: it has a part of what the leader has.
    pub(super) fn meet_who_is_out(&mut self, node: NodeId) {
        if let Some((out, leader)) = self.turns.joins
            && self.chaos
            && ![out, leader].contains(&node)
            && self.system.lags(node, out)
        {
            self.turns.joins = None;
            self.leave_alone(node, out, leader);
        }
    }

    /// The leader stays, and `node` hears nobody but who is cut off, for a while; nothing else is
    /// wrong.
    fn leave_alone(&mut self, node: NodeId, out: NodeId, leader: NodeId) {
        (self.turns.stays, self.turns.with) = (Some(leader), None);
        let mut rng = self.dice(Fault::TakeTurns);
        let mut rest = self.others(out, node);
        rest.push(leader);
        self.net.heal();
        self.net.split(&[node, out], &rest);
        let mut most = 0;
        for node in [node, out] {
            let long = rng.between(400, 2_000) * MILLI;
            self.push(long, Event::Stop { node, how: Stop::Rejoin });
            most = long.max(most);
        }
        if rng.below(4) != 0 {
            self.turns.busy_until = self.now + most + 200 * MILLI;
        }
    }

    /// None of these is to lead next: they do not hear each other until somebody else does.
    fn keep_apart(&mut self, nodes: Vec<NodeId>) {
        pairs(&nodes).for_each(|(one, other)| self.net.split(&[one], &[other]));
        self.turns.apart = nodes;
    }

    pub(super) fn come_together(&mut self) {
        for (one, other) in pairs(&std::mem::take(&mut self.turns.apart)) {
            self.net.mend(one, other);
            self.net.mend(other, one);
        }
    }

    /// A node that was cut off is reached again, but not by who is cut off now.
    pub(super) fn rejoin(&mut self, node: NodeId) {
        let Turns { out, with, .. } = &mut self.turns;
        let _ = (out.take_if(|out| *out == node), with.take_if(|with| *with == node));
        let away = [*out, *with];
        for other in self.ids().into_iter().filter(|other| !away.contains(&Some(*other))) {
            self.net.mend(node, other);
            self.net.mend(other, node);
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_transport::{Host, Peer};

    use super::super::Ask;
    use super::*;
    use crate::nemesis::Plan;

    /// Five nodes that do nothing, of which somebody leads.
    #[derive(Default)]
    struct Led {
        leader: Option<NodeId>,
        lags: Option<NodeId>,
    }

    impl System for Led {
        type App = ();

        fn boot(&mut self, _: Peer, _: &mut Host) {}
        fn drain(&mut self, _: NodeId, (): &mut (), _: &mut Ask<'_>) {}
        fn check(&mut self, _: NodeId, (): &(), _: &Host) -> Result<(), String> {
            Ok(())
        }
        fn alarm(&mut self, node: NodeId, _: u64, _: Option<&mut ()>, ask: &mut Ask<'_>) {
            ask.alarm(MILLI, node, 0);
        }
        fn died(&mut self, _: NodeId, (): ()) {}
        fn leader(&self) -> Option<NodeId> {
            self.leader
        }
        fn lags(&self, node: NodeId, _: NodeId) -> bool {
            self.lags == Some(node)
        }
    }

    /// Each node takes a step every millisecond, and nothing else strikes.
    fn world(seed: u64) -> World<Led> {
        let mut plan = Plan::draw(&mut Rng::new(1));
        (plan.kinds, plan.interval) = (vec![(Fault::QueueFull, 1)], 1_000_000 * MILLI);
        let mut world = World::new(seed, 5, plan, Led::default());
        (1..=5).for_each(|node| world.alarm(100 * MILLI, NodeId(node), 0));
        world.run(200 * MILLI).expect("nothing is checked");
        world.turns.left = 3;
        world
    }

    fn lead(world: &mut World<Led>, leader: u64, millis: u64) {
        world.system.leader = Some(NodeId(leader));
        world.run(world.now + millis * MILLI).expect("nothing is checked");
    }

    /// Whom a node hears.
    fn hears(world: &World<Led>, node: u64) -> Vec<u64> {
        (1..=5).filter(|from| !world.net.is_cut(NodeId(*from), NodeId(node))).collect()
    }

    /// One leads, then another, who stays or is cut off too.
    fn two(seed: u64) -> World<Led> {
        let mut world = world(seed);
        lead(&mut world, 1, 60);
        let alone = hears(&world, 1);
        assert!(alone.len() == 1 + usize::from(world.turns.with.is_some()), "seed {seed}");
        lead(&mut world, 2, 60);
        world
    }

    #[test]
    fn a_leader_is_cut_off_until_another_one_is() {
        let (mut apart, mut together) = (0, 0);
        for mut world in (0..40).map(two).filter(|world| world.turns.out == Some(NodeId(2))) {
            let with = world.turns.with.map(|with| with.0);
            assert!(hears(&world, 2).into_iter().all(|from| from == 2 || Some(from) == with));
            together += usize::from(with.is_some());
            apart += usize::from(hears(&world, 3).len() < 3);
            lead(&mut world, 2, 1_000);
            let back = [1, 3, 4, 5].into_iter().filter(|node| Some(*node) != with);
            assert_eq!(hears(&world, 1), back.collect::<Vec<_>>());
            lead(&mut world, 3, 2_500);
            assert!((1..=5).all(|node| hears(&world, node).len() == 5), "that was the last turn");
        }
        assert!((2..20).contains(&apart), "of {apart} none but who came back could lead");
        assert!((1..15).contains(&together), "{together} were cut off together with another");
    }

    #[test]
    fn who_has_a_part_is_left_alone_with_who_is_cut_off_and_both_come_back() {
        let mut left = 0;
        for mut world in (0..40).map(two).filter(|world| world.turns.joins.is_some()) {
            world.system.lags = Some(NodeId(4));
            world.run(world.now + 10 * MILLI).expect("nothing is checked");
            let heard = [1, 2, 3, 4].map(|node| hears(&world, node));
            assert_eq!(heard, [vec![1, 4], vec![2, 3, 5], vec![2, 3, 5], vec![1, 4]]);
            left += usize::from(world.turns.busy_until > world.now);
            world.run(world.now + 2_100 * MILLI).expect("nothing is checked");
            assert!((1..=5).all(|node| hears(&world, node).len() == 5));
        }
        assert!((10..40).contains(&left), "{left} times nothing else was to strike");
    }

    #[test]
    fn where_nobody_has_a_part_somebody_else_is_left_alone_or_the_leader_is_cut_off() {
        let mut stayed = [0, 0];
        for mut world in (0..40).map(two).filter(|world| world.turns.joins.is_some()) {
            world.run(world.now + PATIENCE + 60 * MILLI).expect("nothing is checked");
            let stays = world.turns.stays == Some(NodeId(2));
            let with = usize::from(world.turns.with.is_some());
            assert_eq!(hears(&world, 2).len(), if stays { 3 } else { 1 + with });
            stayed[usize::from(stays)] += 1;
        }
        assert!(stayed.iter().all(|times| *times > 5), "{stayed:?}");
    }
}
