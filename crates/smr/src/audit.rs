//! Audits: all replicas digest their state at one index and tell each other.
//!
//! An entry of the log says where. Each replica walks over the state as it was there, a bounded
//! step at a time, and sends what it came to. A replica whose digest cannot be that of a majority
//! stops itself: its state machine is not deterministic, or its memory or disk has failed.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::time::Duration;

use quorate_raft::{Index, Members};
use quorate_transport::{Digest, NodeId, Rename, RequestId, Time};

use crate::config::Config;
use crate::guard::{Panicked, guard};
use crate::request::{Rejection, Reply};
use crate::state_machine::Pieces;
use crate::transit::Walk;

/// Statements of one node that are remembered: others may be some audits behind.
const KEPT: usize = 4;

/// The audits of a replica: one under way at the most.
#[derive(Clone, Debug)]
pub(crate) struct Audits {
    me: NodeId,
    /// All members, as the newest configuration has them.
    members: Vec<NodeId>,
    walk: Option<Walk>,
    /// What the walk must come to: the state was taken over from a snapshot that says so.
    expected: Option<u128>,
    /// What each node, this one too, has said of late.
    said: BTreeMap<NodeId, VecDeque<(Index, u128)>>,
    /// Who waits for the audit of which index.
    waiting: BTreeMap<RequestId, Index>,
    agreed: u64,
    step_at: Option<Time>,
    step_bytes: usize,
    step_interval: Duration,
}

/// What a step came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Say this to all others.
    Tell(Index, u128),
    /// Stop: which rule is broken, and how.
    Stop(&'static str, String),
}

impl Audits {
    pub(crate) fn new<S>(me: NodeId, config: &Config<S>) -> Self {
        Self {
            me,
            members: config.raft.voters.clone(),
            walk: None,
            expected: None,
            said: BTreeMap::new(),
            waiting: BTreeMap::new(),
            agreed: 0,
            step_at: None,
            step_bytes: config.snapshot_step_bytes,
            step_interval: config.snapshot_step_interval,
        }
    }

    /// The members are others from here on.
    pub(crate) fn adopt(&mut self, members: &Members) {
        self.members = members.nodes();
        let (me, members) = (self.me, &self.members);
        self.said.retain(|node, _| *node == me || members.contains(node));
    }

    /// The others.
    pub(crate) fn peers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members.iter().copied().filter(|node| *node != self.me)
    }

    /// The last audit of this replica that is over.
    pub(crate) fn last(&self) -> Option<(Index, u128)> {
        self.said.get(&self.me)?.back().copied()
    }

    /// How often another replica was found to have the same state.
    pub(crate) fn agreed(&self) -> u64 {
        self.agreed
    }

    /// Whether an audit is under way: another is left out.
    pub(crate) fn is_busy(&self) -> bool {
        self.walk.is_some()
    }

    /// Begins to walk over a state.
    pub(crate) fn begin(&mut self, now: Time, walk: Walk, expected: Option<u128>) {
        (self.walk, self.expected) = (Some(walk), expected);
        self.step_at = Some(now + self.step_interval);
    }

    /// The state was replaced: gives back what is left of the walk over the former one.
    pub(crate) fn abandon(&mut self) -> Option<Pieces> {
        self.step_at = None;
        self.walk.take().map(Walk::into_rest)
    }

    /// Answers this request when the audit of that index is over here.
    pub(crate) fn wait(&mut self, id: RequestId, index: Index) {
        self.waiting.insert(id, index);
    }

    /// Answers who waits for what is over, or will never come: everything up to `applied` has
    /// begun, or was left out.
    pub(crate) fn answer(&mut self, applied: Index, mut answer: impl FnMut(RequestId, Reply)) {
        if self.waiting.is_empty() {
            return;
        }
        let (under_way, own) = (self.walk.as_ref().map(Walk::index), self.said.get(&self.me));
        self.waiting.retain(|id, index| {
            let over = own.and_then(|own| own.iter().find(|(at, _)| at == index));
            if let Some((index, digest)) = over {
                answer(*id, Reply::Audited { index: *index, digest: *digest });
                return false;
            }
            if *index <= applied && under_way != Some(*index) {
                answer(*id, Reply::Rejected(Rejection::Busy));
                return false;
            }
            true
        });
    }

    /// Does a step, if one is due.
    pub(crate) fn step(&mut self, now: Time) -> Result<Option<Verdict>, Panicked> {
        if self.step_at.take_if(|at| *at <= now).is_none() {
            return Ok(None);
        }
        let Some(walk) = &mut self.walk else { return Ok(None) };
        let bytes = self.step_bytes;
        if !guard(|| walk.step(bytes))? {
            self.step_at = Some(now + self.step_interval);
            return Ok(None);
        }
        let (index, digest) = (walk.index(), walk.digest());
        self.walk = None;
        if let Some(expected) = self.expected.take().filter(|expected| *expected != digest) {
            let rule = "a restored state is the one that its snapshot was made of";
            let detail = format!("at {index}: {digest:032x}, the snapshot's is {expected:032x}");
            return Ok(Some(Verdict::Stop(rule, detail)));
        }
        let stop = self.hear(self.me, index, digest);
        Ok(Some(stop.unwrap_or(Verdict::Tell(index, digest))))
    }

    /// A node says what its state is at an index.
    pub(crate) fn hear(&mut self, node: NodeId, index: Index, digest: u128) -> Option<Verdict> {
        if !self.members.contains(&node) {
            return None;
        }
        let said = self.said.entry(node).or_default();
        said.retain(|(at, _)| *at != index);
        said.push_back((index, digest));
        if said.len() > KEPT {
            said.pop_front();
        }
        let at = |node: &NodeId| {
            let said = self.said.get(node)?.iter().find(|(at, _)| *at == index)?;
            Some(said.1)
        };
        let own = at(&self.me)?;
        if node == self.me {
            let agree = |node: &NodeId| *node != self.me && at(node) == Some(own);
            self.agreed += self.members.iter().filter(|node| agree(node)).count() as u64;
        } else if digest == own {
            self.agreed += 1;
        }
        let differ = |node: &&NodeId| at(node).is_some_and(|digest| digest != own);
        let differing = self.members.iter().filter(differ).count();
        let majority = self.members.len() / 2 + 1;
        if self.members.len() - differing >= majority {
            return None;
        }
        let mut detail = format!("at {index} the states are");
        for node in &self.members {
            if let Some(digest) = at(node) {
                let _ = write!(detail, " {node} {digest:032x}"); // a string takes all
            }
        }
        Some(Verdict::Stop("replicas of one log have one state", detail))
    }

    /// Nodes that have said something else of that index than this one.
    pub(crate) fn differs(&self, node: NodeId, index: Index) -> bool {
        let at = |node: &NodeId| {
            let said = self.said.get(node)?.iter().find(|(at, _)| *at == index)?;
            Some(said.1)
        };
        at(&self.me).zip(at(&node)).is_some_and(|(own, other)| own != other)
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.step_at
    }

    pub(crate) fn digest(&self, now: Time, rename: &Rename, into: &mut Digest) {
        into.option(self.walk.as_ref().map(|walk| walk.index().0));
        into.option(self.walk.as_ref().map(|walk| walk.walked() as u64));
        into.option(self.step_at.map(|at| at.since(now).as_nanos() as u64));
        into.u64(self.waiting.len() as u64);
        let mut said: Vec<_> =
            self.said.iter().map(|(node, said)| (rename.node(*node), said)).collect();
        said.sort_unstable();
        for (node, said) in said {
            into.u64(node.0);
            for (index, digest) in said {
                into.u64(index.0);
                into.u64(*digest as u64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audits(me: u64, count: u64) -> Audits {
        let config = Config::new((1..=count).map(NodeId), ());
        Audits::new(NodeId(me), &config)
    }

    /// Which nodes stop, when all have said these digests of one index, in every rotation.
    fn stops(digests: &[u128]) -> Vec<u64> {
        let count = digests.len() as u64;
        let stops = |me: u64, turn: u64| {
            let mut audits = audits(me, count);
            let said = (0..count).map(|at| (at + turn) % count);
            let heard = said.map(|at| audits.hear(NodeId(at + 1), Index(5), digests[at as usize]));
            heard.fold(false, |stops, verdict| {
                if let Some(Verdict::Stop(_, detail)) = &verdict {
                    assert!(detail.starts_with("at 5 the states are n"), "{detail}");
                }
                stops | verdict.is_some()
            })
        };
        let all = (1..=count).filter(|me| {
            let first = stops(*me, 0);
            assert!((1..count).all(|turn| stops(*me, turn) == first), "the order says nothing");
            first
        });
        all.collect()
    }

    #[test]
    fn whose_digest_is_no_majoritys_stops_and_nobody_else() {
        assert_eq!(stops(&[1]), [0; 0]);
        assert_eq!(stops(&[1, 1, 1]), [0; 0]);
        assert_eq!(stops(&[1, 2, 1]), [2]);
        assert_eq!(stops(&[7, 2, 2, 2, 9]), [1, 5]);
        assert_eq!(stops(&[1, 2, 3]), [1, 2, 3], "nobody knows which is right");
        assert_eq!(stops(&[1, 2]), [1, 2], "nor of two");
    }

    #[test]
    fn two_that_differ_wait_for_the_third() {
        let mut one = audits(1, 3);
        assert_eq!(one.hear(NodeId(1), Index(5), 1), None);
        assert_eq!(one.hear(NodeId(2), Index(5), 2), None);
        assert!(one.differs(NodeId(2), Index(5)) && !one.differs(NodeId(3), Index(5)));
        assert_eq!(one.hear(NodeId(2), Index(5), 2), None, "said twice it is one voice");
        assert_eq!(one.hear(NodeId(9), Index(5), 2), None, "a stranger has none");
        assert_eq!(one.hear(NodeId(3), Index(6), 2), None, "of another index");
        assert!(one.hear(NodeId(3), Index(5), 2).is_some());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut one = audits(1, 3);
        for index in 0..1000 {
            one.hear(NodeId(2), Index(index), 1);
        }
        assert_eq!(one.said[&NodeId(2)].len(), KEPT);
        assert_eq!(one.agreed(), 0);
        one.hear(NodeId(1), Index(999), 1);
        assert_eq!((one.agreed(), one.last()), (1, Some((Index(999), 1))));
    }
}
