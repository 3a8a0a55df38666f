//! The network between nodes: what becomes of a frame once it was sent.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use quorate_transport::{Attachment, Class, Frame, NodeId, Rng};

use crate::nemesis::{Delays, Fault};

/// What the network does to frames now.
#[derive(Clone, Debug)]
pub struct Net {
    /// Frames lost, in a million.
    pub loss_ppm: u32,
    /// Frames of [`Class::Bulk`] lost beyond that: a log grows apart while heartbeats arrive.
    pub bulk_loss_ppm: u32,
    /// Frames delivered twice.
    pub duplicate_ppm: u32,
    /// Copies that arrive much later, some in other terms and lives.
    pub late_ppm: u32,
    /// Frames of which a copy arrives that is no message at all.
    pub garbage_ppm: u32,
    /// The least time under way, in nanoseconds.
    pub delay_min: u64,
    /// The greatest, but for late copies.
    pub delay_max: u64,
    /// How the time under way is drawn between these.
    pub delays: Delays,
    cut: BTreeSet<(NodeId, NodeId)>,
    slow: BTreeMap<(NodeId, NodeId), u64>,
    clogged: BTreeMap<(NodeId, NodeId), u64>,
    narrow: BTreeMap<(NodeId, NodeId), Narrow>,
    /// What was sent before is lost.
    reset: BTreeMap<(NodeId, NodeId), u64>,
    /// When the latest frame so far arrives.
    latest: BTreeMap<(NodeId, NodeId), u64>,
}

/// A link that takes only so much, and keeps only so much waiting.
#[derive(Clone, Copy, Debug)]
struct Narrow {
    nanos_a_byte: u64,
    free_at: u64,
}

/// Frames wait at a narrow link for this long at the most.
const WAIT_MAX: u64 = 50_000_000;

/// A stream of randomness for each thing that can happen to a frame.
pub(crate) struct Dice {
    pub(crate) delay: Rng,
    pub(crate) loss: Rng,
    pub(crate) duplicate: Rng,
    pub(crate) late: Rng,
    pub(crate) garbage: Rng,
}

impl Dice {
    pub(crate) fn new(root: &Rng) -> Self {
        let [delay, loss, duplicate, late, garbage] = [1, 2, 3, 4, 5].map(|n| root.fork(n));
        Self { delay, loss, duplicate, late, garbage }
    }
}

/// How long each copy of a frame takes; none where it is lost.
#[derive(Default)]
pub(crate) struct Copies([u64; 3], usize);

impl Copies {
    fn push(&mut self, delay: u64) {
        self.0[self.1] = delay;
        self.1 += 1;
    }

    pub(crate) fn as_slice(&self) -> &[u64] {
        &self.0[..self.1]
    }
}

impl Default for Net {
    fn default() -> Self {
        Self {
            loss_ppm: 0,
            bulk_loss_ppm: 0,
            duplicate_ppm: 0,
            late_ppm: 0,
            garbage_ppm: 0,
            delay_min: 50_000,
            delay_max: 2_000_000,
            delays: Delays::Uniform,
            cut: BTreeSet::new(),
            slow: BTreeMap::new(),
            clogged: BTreeMap::new(),
            narrow: BTreeMap::new(),
            reset: BTreeMap::new(),
            latest: BTreeMap::new(),
        }
    }
}

impl Net {
    /// What becomes of a frame of `len` bytes that is sent now: `happens` says of each fault that
    /// was drawn whether it does, and `count` hears of those that did.
    pub(crate) fn routes(
        &mut self,
        now: u64,
        link: (NodeId, NodeId),
        (class, len): (Class, usize),
        dice: &mut Dice,
        mut happens: impl FnMut(Fault) -> bool,
        mut count: impl FnMut(Fault),
    ) -> Copies {
        let mut copies = Copies::default();
        let mut delay = self.delay(&mut dice.delay);
        let bulk = if class == Class::Bulk { self.bulk_loss_ppm } else { 0 };
        let lost = dice.loss.chance_ppm(self.loss_ppm) | dice.loss.chance_ppm(bulk);
        let twice = dice.duplicate.chance_ppm(self.duplicate_ppm);
        let again = dice.duplicate.between(self.delay_min, self.delay_max * 4);
        let late = dice.late.chance_ppm(self.late_ppm);
        let later = match dice.late.between(1_000_000_000, 10_000_000_000) {
            soon if soon.is_multiple_of(2) => soon / 20, // about an election later
            later => later,
        };
        if self.cut.contains(&link) {
            return copies;
        }
        if lost && happens(Fault::Loss) {
            count(Fault::Loss);
            return copies;
        }
        let Some(wait) = self.wait(now, link, len) else {
            count(Fault::TailDrop);
            return copies;
        };
        delay += wait + self.slow.get(&link).copied().unwrap_or(0);
        let latest = self.latest.entry(link).or_default();
        if now + delay < *latest {
            if happens(Fault::Overtaken) {
                count(Fault::Overtaken);
            } else {
                delay = *latest - now;
            }
        }
        *latest = (now + delay).max(*latest);
        copies.push(delay);
        if twice && happens(Fault::Duplicate) {
            count(Fault::Duplicate);
            copies.push(again);
        }
        if late && happens(Fault::Late) {
            count(Fault::Late);
            copies.push(later);
        }
        copies
    }

    /// How long every frame takes where nothing is overtaken.
    fn usual_delay(&self) -> u64 {
        self.delay_min + self.delay_max.saturating_sub(self.delay_min) / 4
    }

    fn delay(&self, rng: &mut Rng) -> u64 {
        let (min, max) = (self.delay_min, self.delay_max.max(self.delay_min));
        let span = max - min;
        let uniform = rng.between(min, max);
        // In whole numbers: a run must be the same everywhere.
        let halvings = rng.next_u64().trailing_zeros().min(12);
        match self.delays {
            Delays::Constant => self.usual_delay(),
            Delays::Uniform => uniform,
            Delays::Exponential => min + (span >> 3).saturating_mul(u64::from(halvings)).min(span),
            Delays::Bimodal if halvings >= 5 => max,
            Delays::Bimodal => min + (uniform - min) / 8,
            Delays::Pareto => min + ((span >> 8) << halvings.min(8)),
        }
    }

    /// How long a frame waits before it is under way; `None` where it is dropped.
    fn wait(&mut self, now: u64, link: (NodeId, NodeId), len: usize) -> Option<u64> {
        let clogged = self.clogged.get(&link).map_or(0, |until| until.saturating_sub(now));
        let Some(narrow) = self.narrow.get_mut(&link) else { return Some(clogged) };
        let begins = narrow.free_at.max(now);
        if begins - now > WAIT_MAX {
            return None;
        }
        narrow.free_at = begins + narrow.nanos_a_byte * len as u64;
        Some(clogged.max(narrow.free_at - now))
    }

    /// True when a frame sent now is lost for sure.
    #[must_use]
    pub fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cut.contains(&(from, to))
    }

    /// Frames from `from` to `to` are lost from now on.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    /// Frames from `from` to `to` pass again.
    pub fn mend(&mut self, from: NodeId, to: NodeId) {
        self.cut.remove(&(from, to));
    }

    /// Nothing passes between the two sides, in either direction.
    pub fn split(&mut self, one: &[NodeId], other: &[NodeId]) {
        for a in one {
            for b in other {
                self.cut(*a, *b);
                self.cut(*b, *a);
            }
        }
    }

    /// Every frame from `from` to `to` takes `nanos` longer.
    pub fn slow(&mut self, from: NodeId, to: NodeId, nanos: u64) {
        self.slow.insert((from, to), nanos);
    }

    /// Frames from `from` to `to` take so long a byte, one after the other; where they would wait
    /// too long they are dropped.
    pub fn narrow(&mut self, from: NodeId, to: NodeId, nanos_a_byte: u64) {
        self.narrow.insert((from, to), Narrow { nanos_a_byte, free_at: 0 });
    }

    /// Frames from `from` to `to` are held back until then.
    pub fn clog(&mut self, from: NodeId, to: NodeId, until: u64) {
        self.clogged.insert((from, to), until);
    }

    /// What was sent between two nodes before `now` is lost.
    pub fn reset(&mut self, one: NodeId, other: NodeId, now: u64) {
        self.reset.insert((one, other), now);
        self.reset.insert((other, one), now);
    }

    /// Whether a frame sent then has been lost with its connection.
    pub(crate) fn was_reset(&self, from: NodeId, to: NodeId, sent: u64) -> bool {
        self.reset.get(&(from, to)).is_some_and(|at| sent < *at)
    }

    /// All links work as on the first day; loss, repetition and delays stay as set.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.slow.clear();
        self.clogged.clear();
        self.narrow.clear();
    }
}

/// A copy that no decoder takes: cut short, too long, of another version, or without what its head
/// speaks of. (A checksum stands before every decoder; what passes it is what was sent.)
pub(crate) fn mangle(frame: &Frame, rng: &mut Rng) -> Frame {
    let mut mangled = frame.clone();
    let mut head = BytesMut::from(&frame.head[..]);
    match rng.below(4) {
        0 => head.truncate(rng.below(head.len() as u64) as usize),
        1 => head.extend_from_slice(&rng.next_u64().to_le_bytes()),
        2 => head.iter_mut().for_each(|byte| *byte = 2 + rng.below(254) as u8),
        _ => mangled.attachments.push(Attachment::new(head.clone().freeze())),
    }
    mangled.head = head.freeze();
    mangled
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: (NodeId, NodeId) = (NodeId(1), NodeId(2));

    fn send(net: &mut Net, dice: &mut Dice, now: u64) -> (Vec<u64>, Vec<Fault>) {
        let mut faults = Vec::new();
        let what = (Class::Urgent, 100);
        let copies = net.routes(now, LINK, what, dice, |_| true, |fault| faults.push(fault));
        (copies.as_slice().to_vec(), faults)
    }

    #[test]
    fn delays_stay_between_the_least_and_the_greatest() {
        let mut dice = Dice::new(&Rng::new(1));
        for delays in [
            Delays::Constant,
            Delays::Uniform,
            Delays::Exponential,
            Delays::Bimodal,
            Delays::Pareto,
        ] {
            let mut net = Net { delays, ..Net::default() };
            let sent: Vec<u64> = (0..5_000).map(|n| send(&mut net, &mut dice, n).0[0]).collect();
            let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
            assert!(*least >= net.delay_min && *most <= net.delay_max, "{delays:?}");
            assert_eq!(least == most, delays == Delays::Constant);
        }
    }

    #[test]
    fn a_narrow_link_makes_wait_then_drops() {
        let (mut net, mut dice) = (Net::default(), Dice::new(&Rng::new(2)));
        net.narrow(LINK.0, LINK.1, 100_000); // ten milliseconds a frame
        let sent: Vec<_> = (0..10).map(|_| send(&mut net, &mut dice, 0)).collect();
        let arrived = sent.iter().filter(|(copies, _)| !copies.is_empty()).count();
        assert_eq!(arrived, 6);
        assert!(sent[5].0[0] >= 60_000_000);
        assert_eq!(sent[9].1, [Fault::TailDrop]);
        net.heal();
        assert!(send(&mut net, &mut dice, 0).0[0] <= net.delay_max);
    }

    #[test]
    fn a_clogged_link_holds_back_and_a_reset_one_forgets() {
        let (mut net, mut dice) = (Net::default(), Dice::new(&Rng::new(3)));
        net.clog(LINK.0, LINK.1, 5_000_000);
        assert!(send(&mut net, &mut dice, 0).0[0] > 5_000_000);
        let (copies, faults) = send(&mut net, &mut dice, 5_000_000);
        assert!(copies[0] <= net.delay_max, "{faults:?}");
        net.reset(LINK.1, LINK.0, 7_000_000);
        assert!(net.was_reset(LINK.0, LINK.1, 6_999_999));
        assert!(!net.was_reset(LINK.0, LINK.1, 7_000_000));
    }

    #[test]
    fn what_is_masked_shifts_no_other_fault() {
        let faults = |loss_ppm| {
            let mut dice = Dice::new(&Rng::new(4));
            let mut net = Net { loss_ppm, duplicate_ppm: 300_000, ..Net::default() };
            let sent = (0..200).map(|now| send(&mut net, &mut dice, now * 10_000_000));
            sent.map(|(_, faults)| faults).collect::<Vec<_>>()
        };
        let (with, without) = (faults(300_000), faults(0));
        for (with, without) in with.iter().zip(&without) {
            assert!(with.contains(&Fault::Loss) || with == without);
        }
        assert!(with.iter().any(|faults| faults.contains(&Fault::Loss)));
    }
}
