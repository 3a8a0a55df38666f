//! Who belongs to a group: the configuration that its log carries. [Raft §6, thesis §4]
//!
//! A change of the voters is either one step, where old and new majorities always meet, or goes
//! through a joint configuration in which both sides must agree. Voters to come are learners first:
//! they count once they have caught up.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use quorate_transport::{Digest, NodeId, Rename, WireError};
use serde::{Deserialize, Serialize};

/// Voters of one group at most, and learners of one group at most.
pub const MEMBERS_MAX: usize = 31;
/// Bytes of one address at most.
pub const ADDRESS_BYTES_MAX: usize = 256;

/// A group's configuration. It holds from the moment it is in a node's log, committed or not.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    voters: Vec<NodeId>,
    outgoing: Vec<NodeId>,
    learners: Vec<NodeId>,
    target: Option<Target>,
    addresses: BTreeMap<NodeId, String>,
    births: BTreeMap<NodeId, u32>,
}

/// What a group becomes once the learners among its voters have caught up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    voters: Vec<NodeId>,
    learners: Vec<NodeId>,
}

/// `[voters | outgoing + learners -> voters to be]`
impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list(f: &mut fmt::Formatter<'_>, before: &str, nodes: &[NodeId]) -> fmt::Result {
            f.write_str(before)?;
            nodes.iter().enumerate().try_for_each(|(at, node)| {
                let space = if at == 0 { "" } else { " " };
                write!(f, "{space}{node}")
            })
        }
        list(f, "[", &self.voters)?;
        if self.is_joint() {
            list(f, " | ", &self.outgoing)?;
        }
        if !self.learners.is_empty() {
            list(f, " + ", &self.learners)?;
        }
        if let Some(target) = &self.target {
            list(f, " -> ", &target.voters)?;
        }
        f.write_str("]")
    }
}

impl Target {
    /// Its voters, in order.
    #[must_use]
    pub fn voters(&self) -> &[NodeId] {
        &self.voters
    }

    /// Its learners, in order.
    #[must_use]
    pub fn learners(&self) -> &[NodeId] {
        &self.learners
    }
}

/// A change of the members, made in as many steps as its safety takes. Asked for again, it does
/// nothing more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new voter. It is a learner until it has caught up.
    Add {
        /// The node.
        node: NodeId,
        /// Where it is reached: opaque here, told to all members. Empty where they know.
        address: String,
    },
    /// A new learner: it has all that is committed and counts for nothing.
    AddLearner {
        /// The node.
        node: NodeId,
        /// As in [`Change::Add`].
        address: String,
    },
    /// A learner becomes a voter once it has caught up.
    Promote {
        /// The node.
        node: NodeId,
    },
    /// A voter becomes a learner.
    Demote {
        /// The node.
        node: NodeId,
    },
    /// A voter or learner leaves.
    Remove {
        /// The node.
        node: NodeId,
    },
    /// A voter leaves as another takes its place, in one change; until then it stays.
    Replace {
        /// Who leaves.
        old: NodeId,
        /// Who comes.
        new: NodeId,
        /// As in [`Change::Add`].
        address: String,
    },
    /// Exactly these members.
    Become {
        /// All voters.
        voters: Vec<NodeId>,
        /// All learners.
        learners: Vec<NodeId>,
    },
    /// Wait no longer for learners to catch up: they stay learners.
    Cancel,
}

/// The rule that a change breaks.
pub(crate) type Rule = &'static str;

impl Members {
    /// A group of these voters and nobody else, as at its founding.
    #[must_use]
    pub fn new(voters: &[NodeId]) -> Self {
        Self { voters: ordered(voters), ..Self::default() }
    }

    /// Those who decide; while joint, those who will.
    #[must_use]
    pub fn voters(&self) -> &[NodeId] {
        &self.voters
    }

    /// While joint, those who have decided so far and must still agree; else nobody.
    #[must_use]
    pub fn outgoing(&self) -> &[NodeId] {
        &self.outgoing
    }

    /// Those who have everything and count for nothing, unless they still are in
    /// [`Members::outgoing`].
    #[must_use]
    pub fn learners(&self) -> &[NodeId] {
        &self.learners
    }

    /// What the group becomes once its voters to come have caught up.
    #[must_use]
    pub fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    /// Where a node is reached, where a change has said so.
    #[must_use]
    pub fn address(&self, node: NodeId) -> Option<&str> {
        self.addresses.get(&node).map(String::as_str)
    }

    /// Which data directory the group knows a node by, where it does: what comes from another under
    /// its name is not believed.
    #[must_use]
    pub fn birth(&self, node: NodeId) -> Option<u32> {
        self.births.get(&node).copied()
    }

    /// True between the two steps of a change of several voters.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// True where a further step follows.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        self.is_joint() || self.target.is_some()
    }

    /// True for those whose word counts on either side.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.outgoing.contains(&node)
    }

    /// True for voters and learners.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.is_voter(node) || self.learners.contains(&node)
    }

    /// All members, each once, in order.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        let all = self.voters.iter().chain(&self.outgoing).chain(&self.learners);
        all.copied().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Whether those for whom `says` is true can decide: a majority of the voters, and while joint
    /// of the outgoing ones too. [Raft §6]
    #[must_use]
    pub fn is_quorum(&self, says: impl Fn(NodeId) -> bool) -> bool {
        let majority =
            |side: &[NodeId]| side.iter().filter(|node| says(**node)).count() * 2 > side.len();
        majority(&self.voters) && (self.outgoing.is_empty() || majority(&self.outgoing))
    }

    /// The first step towards `change`; `None` where nothing is to be done.
    pub(crate) fn begin(&self, change: &Change) -> Result<Option<Self>, Rule> {
        if *change == Change::Cancel {
            return Ok(self.target.as_ref().map(|_| Self { target: None, ..self.clone() }));
        }
        let target = self.aim(change)?;
        let mut addresses = self.addresses.clone();
        if let Change::Add { node, address }
        | Change::AddLearner { node, address }
        | Change::Replace { new: node, address, .. } = change
            && !address.is_empty()
        {
            addresses.insert(*node, address.clone());
        }
        let now = Self { addresses, ..self.clone() };
        let comes = |node: &&NodeId| !self.voters.contains(node);
        let next = if target.voters.iter().any(|node| comes(&node)) {
            let waiting = target.voters.iter().filter(comes).chain(&target.learners);
            let waiting = waiting.filter(|node| !self.voters.contains(node));
            let learners = self.learners.iter().chain(waiting).copied().collect::<Vec<_>>();
            Self { learners: ordered(&learners), target: Some(target), ..now }
        } else {
            now.switch(target)
        };
        next.validate()?;
        Ok((next != *self).then_some(next))
    }

    /// The step after this one: those who were waited for have caught up, or both sides of a joint
    /// configuration have agreed. `None` where there is none.
    pub(crate) fn follow_up(&self) -> Option<Self> {
        if self.is_joint() {
            return Some(Self { outgoing: Vec::new(), ..self.clone() }.forget_strangers());
        }
        let target = self.target.clone()?;
        Some(self.clone().switch(target))
    }

    fn switch(self, target: Target) -> Self {
        let Target { voters, learners } = target;
        let gone = self.voters.iter().filter(|node| !voters.contains(node)).count();
        let come = voters.iter().filter(|node| !self.voters.contains(node)).count();
        // Majorities of sets that differ by one node always meet.
        let outgoing = if gone + come <= 1 { Vec::new() } else { self.voters };
        Self { voters, outgoing, learners, target: None, ..self }.forget_strangers()
    }

    /// The same with the data directories of these members, unless they are known already.
    pub(crate) fn with_births(&self, births: impl Iterator<Item = (NodeId, u32)>) -> Self {
        let mut next = self.clone();
        for (node, birth) in births.filter(|(node, birth)| *birth > 0 && self.contains(*node)) {
            next.births.entry(node).or_insert(birth);
        }
        next
    }

    /// Keeps what is known of members alone.
    fn forget_strangers(mut self) -> Self {
        let nodes = self.nodes();
        self.addresses.retain(|node, _| nodes.contains(node));
        self.births.retain(|node, _| nodes.contains(node));
        self
    }

    /// What `change` is to end in.
    fn aim(&self, change: &Change) -> Result<Target, Rule> {
        let (mut voters, mut learners) = (self.voters.clone(), self.learners.clone());
        let member = |node: &NodeId| self.contains(*node);
        match change {
            Change::Add { node, .. } => voters.push(*node),
            Change::AddLearner { node, .. } if self.voters.contains(node) => {
                return Err("a voter is demoted, not added as a learner");
            }
            Change::AddLearner { node, .. } => learners.push(*node),
            Change::Promote { node } if !member(node) => return Err("only a member is promoted"),
            Change::Promote { node } => voters.push(*node),
            Change::Demote { node } if !member(node) => return Err("only a member is demoted"),
            Change::Demote { node } => {
                voters.retain(|voter| voter != node);
                learners.push(*node);
            }
            Change::Remove { node } => {
                voters.retain(|voter| voter != node);
                learners.retain(|learner| learner != node);
            }
            Change::Replace { old, new, .. } if old == new => {
                return Err("a node is replaced by another");
            }
            Change::Replace { old, new, .. } => {
                if !self.voters.contains(old) && !self.voters.contains(new) {
                    return Err("only a voter is replaced");
                }
                voters.retain(|voter| voter != old);
                learners.retain(|learner| learner != old);
                voters.push(*new);
            }
            Change::Become { voters: all, learners: rest } => {
                (voters, learners) = (all.clone(), rest.clone());
                if ordered(&voters).len() < voters.len() || ordered(rest).len() < rest.len() {
                    return Err("a node is named once");
                }
            }
            Change::Cancel => {}
        }
        let voters = ordered(&voters);
        learners.retain(|learner| !voters.contains(learner));
        Ok(Target { voters, learners: ordered(&learners) })
    }

    /// Checks every rule of a configuration.
    pub(crate) fn validate(&self) -> Result<(), Rule> {
        let later = self.target.iter().flat_map(|target| [&target.voters, &target.learners]);
        let sides = [&self.voters, &self.outgoing, &self.learners].into_iter().chain(later);
        let is_ordered = |side: &[NodeId]| side.windows(2).all(|two| two[0] < two[1]);
        let apart = |voters: &[NodeId], learners: &[NodeId]| {
            !learners.iter().any(|learner| voters.contains(learner))
        };
        let waits = |target: &Target| {
            let known = |node: &NodeId| self.voters.contains(node) || self.learners.contains(node);
            !self.is_joint()
                && !target.voters.is_empty()
                && apart(&target.voters, &target.learners)
                && target.voters.iter().chain(&target.learners).all(known)
        };
        let named = |(node, address): (&NodeId, &String)| {
            self.contains(*node) && address.len() <= ADDRESS_BYTES_MAX
        };
        let rules = [
            ("a group has a voter", !self.voters.is_empty()),
            ("voters and learners are 31 at most", sides.clone().all(|s| s.len() <= MEMBERS_MAX)),
            ("a node is named once, in order", sides.clone().all(|side| is_ordered(side))),
            ("a voter is no learner", apart(&self.voters, &self.learners)),
            ("what is waited for can come", self.target.as_ref().is_none_or(waits)),
            ("addresses are of members, 256 bytes at most", self.addresses.iter().all(named)),
            ("births are of members", self.births.keys().all(|node| self.contains(*node))),
        ];
        match rules.into_iter().find(|(_, kept)| !kept) {
            Some((rule, _)) => Err(rule),
            None => Ok(()),
        }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("a vector takes all that is written")
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let rule = |rule| WireError::Rule { field: "members", rule };
        let members: Self = postcard::from_bytes(bytes).map_err(|_| rule("are well formed"))?;
        members.validate().map_err(rule)?;
        Ok(members)
    }

    pub(crate) fn digest(&self, rename: &Rename, into: &mut Digest) {
        let target = self.target.iter().flat_map(|target| [&target.voters, &target.learners]);
        for side in [&self.voters, &self.outgoing, &self.learners].into_iter().chain(target) {
            let mut named: Vec<_> = side.iter().map(|node| rename.node(*node).0).collect();
            named.sort_unstable();
            into.u64(named.len() as u64);
            named.into_iter().for_each(|node| into.u64(node));
        }
        let mut births: Vec<_> =
            self.births.iter().map(|(node, birth)| (rename.node(*node).0, *birth)).collect();
        births.sort_unstable();
        for (node, birth) in births {
            into.u64(node);
            into.u64(birth.into());
        }
    }
}

fn ordered(nodes: &[NodeId]) -> Vec<NodeId> {
    nodes.iter().copied().collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use quorate_transport::Rng;

    fn nodes(numbers: &[u64]) -> Vec<NodeId> {
        numbers.iter().copied().map(NodeId).collect()
    }

    fn group(voters: &[u64], learners: &[u64]) -> Members {
        let learners = nodes(learners);
        Members { learners, ..Members::new(&nodes(voters)) }
    }

    fn add(node: u64) -> Change {
        Change::Add { node: NodeId(node), address: String::new() }
    }

    fn shown(members: &Members) -> String {
        alloc::format!("{members:?}").replace('n', "")
    }

    /// All steps of a change.
    fn steps(members: &Members, change: &Change) -> Vec<String> {
        let mut at = members.begin(change).unwrap();
        let mut all = Vec::new();
        while let Some(members) = at {
            members.validate().unwrap();
            all.push(shown(&members));
            at = members.follow_up();
        }
        all
    }

    #[test]
    fn one_voter_more_or_less_is_one_step_and_several_go_through_a_joint_configuration() {
        let three = group(&[1, 2, 3], &[]);
        assert_eq!(steps(&three, &add(4)), ["[1 2 3 + 4 -> 1 2 3 4]", "[1 2 3 4]"]);
        assert_eq!(steps(&three, &Change::Remove { node: NodeId(2) }), ["[1 3]"]);
        assert_eq!(steps(&three, &Change::Demote { node: NodeId(2) }), ["[1 3 + 2]"]);
        let replace = Change::Replace { old: NodeId(3), new: NodeId(4), address: String::new() };
        let want = ["[1 2 3 + 4 -> 1 2 4]", "[1 2 4 | 1 2 3]", "[1 2 4]"];
        assert_eq!(steps(&three, &replace), want);
        let all = Change::Become { voters: nodes(&[4, 5]), learners: nodes(&[1]) };
        let want = ["[1 2 3 + 4 5 -> 4 5]", "[4 5 | 1 2 3 + 1]", "[4 5 + 1]"];
        assert_eq!(steps(&three, &all), want);
        let fewer = Change::Become { voters: nodes(&[1]), learners: vec![] };
        assert_eq!(steps(&three, &fewer), ["[1 | 1 2 3]", "[1]"]);
        assert_eq!(steps(&three, &add(2)), [""; 0], "it is one already");
    }

    #[test]
    fn learners_are_promoted_demoted_and_waited_for_no_longer() {
        let group = group(&[1, 2, 3], &[4]);
        let promote = Change::Promote { node: NodeId(4) };
        assert_eq!(steps(&group, &promote), ["[1 2 3 + 4 -> 1 2 3 4]", "[1 2 3 4]"]);
        let waiting = group.begin(&promote).unwrap().unwrap();
        let stays = waiting.begin(&Change::Cancel).unwrap().unwrap();
        assert_eq!(shown(&stays), "[1 2 3 + 4]");
        assert_eq!(stays.begin(&Change::Cancel), Ok(None));
        let learner = Change::AddLearner { node: NodeId(5), address: "h:1".into() };
        let with = group.begin(&learner).unwrap().unwrap();
        assert_eq!((shown(&with), with.address(NodeId(5))), ("[1 2 3 + 4 5]".into(), Some("h:1")));
        let without = with.begin(&Change::Remove { node: NodeId(5) }).unwrap().unwrap();
        assert_eq!(without.address(NodeId(5)), None, "a stranger's address is forgotten");
    }

    #[test]
    fn every_rule_is_named() {
        let three = group(&[1, 2, 3], &[4]);
        let address = "x".repeat(ADDRESS_BYTES_MAX + 1);
        let cases = [
            ("a voter", Change::Become { voters: vec![], learners: vec![] }),
            ("31 at most", Change::Become { voters: vec![NodeId(1)], learners: nodes(&[9; 0]) }),
            ("named once", Change::Become { voters: nodes(&[1, 1]), learners: vec![] }),
            ("named once", Change::Become { voters: nodes(&[1]), learners: nodes(&[2, 2]) }),
            ("promoted", Change::Promote { node: NodeId(9) }),
            ("demoted", Change::Demote { node: NodeId(9) }),
            ("demoted, not", Change::AddLearner { node: NodeId(1), address: String::new() }),
            ("256 bytes", Change::AddLearner { node: NodeId(9), address }),
            (
                "by another",
                Change::Replace { old: NodeId(1), new: NodeId(1), address: String::new() },
            ),
            (
                "only a voter",
                Change::Replace { old: NodeId(4), new: NodeId(5), address: String::new() },
            ),
        ];
        for (rule, mut change) in cases {
            if rule == "31 at most" {
                let many = (1..=32).map(NodeId).collect();
                change = Change::Become { voters: many, learners: vec![] };
            }
            let broken = three.begin(&change).unwrap_err();
            assert!(broken.contains(rule), "{rule}: {broken}");
        }
    }

    #[test]
    fn any_two_successive_configurations_have_no_disjoint_quorums() {
        // Every step of every change of up to five nodes, against every pair of decisions.
        let mut rng = Rng::new(7);
        let sets = |mask: u64| (1..=5).filter(move |n| mask >> n & 1 == 1).collect::<Vec<u64>>();
        for (from, to) in (1..32).flat_map(|from| (1..32).map(move |to| (from << 1, to << 1))) {
            let change = Change::Become { voters: nodes(&sets(to)), learners: vec![] };
            let mut old = group(&sets(from), &[]);
            let mut next = old.begin(&change).unwrap();
            while let Some(new) = next {
                for _ in 0..40 {
                    let (a, b) = (rng.below(64), rng.below(64));
                    let says = |mask: u64| move |node: NodeId| mask >> node.0 & 1 == 1;
                    let apart = a & b == 0;
                    let both = old.is_quorum(says(a)) && new.is_quorum(says(b));
                    assert!(!(apart && both), "{} then {}", shown(&old), shown(&new));
                }
                next = new.follow_up();
                old = new;
            }
            assert_eq!(old.voters, nodes(&sets(to)));
        }
    }

    #[test]
    fn an_empty_group_decides_nothing() {
        assert!(!Members::default().is_quorum(|_| true));
        assert!(Members::default().validate().is_err());
    }

    #[test]
    fn what_is_read_is_what_was_written_and_nonsense_is_refused() {
        let group = group(&[1, 2, 3], &[4]).begin(&add(5)).unwrap().unwrap();
        let bytes = group.to_bytes();
        assert_eq!(Members::from_bytes(&bytes), Ok(group));
        for at in 0..bytes.len() {
            assert!(Members::from_bytes(&bytes[..at]).is_err());
            let mut bad = bytes.clone();
            bad[at] ^= 0x41;
            if let Ok(members) = Members::from_bytes(&bad) {
                assert_eq!(members.validate(), Ok(()));
            }
        }
    }
}
