//! The network between nodes: what becomes of a frame once it was sent.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use quorate_transport::{Attachment, Class, Frame, NodeId, Rng};

/// What the network does to frames now.
#[derive(Clone, Debug)]
pub struct Net {
    /// Frames lost, in a million.
    pub loss_ppm: u32,
    /// Frames of [`Class::Bulk`] lost beyond that: a log grows apart while heartbeats arrive.
    pub bulk_loss_ppm: u32,
    /// Frames delivered twice.
    pub duplicate_ppm: u32,
    /// Copies that arrive seconds later, in other terms and lives.
    pub late_ppm: u32,
    /// Frames of which a copy arrives that is no message at all.
    pub garbage_ppm: u32,
    /// The least time under way, in nanoseconds.
    pub delay_min: u64,
    /// The greatest, but for late copies.
    pub delay_max: u64,
    cut: BTreeSet<(NodeId, NodeId)>,
    slow: BTreeMap<(NodeId, NodeId), u64>,
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
            cut: BTreeSet::new(),
            slow: BTreeMap::new(),
        }
    }
}

impl Net {
    /// How long each copy of a frame takes; none where it is lost.
    pub(crate) fn routes(&self, from: NodeId, to: NodeId, class: Class, rng: &mut Rng) -> Vec<u64> {
        if self.cut.contains(&(from, to)) || rng.chance_ppm(self.loss_ppm) {
            return Vec::new();
        }
        if class == Class::Bulk && self.bulk_loss_ppm > 0 && rng.chance_ppm(self.bulk_loss_ppm) {
            return Vec::new();
        }
        let extra = self.slow.get(&(from, to)).copied().unwrap_or(0);
        let mut copies = vec![rng.between(self.delay_min, self.delay_max) + extra];
        if rng.chance_ppm(self.duplicate_ppm) {
            copies.push(rng.between(self.delay_min, self.delay_max * 4));
        }
        if rng.chance_ppm(self.late_ppm) {
            copies.push(rng.between(1_000_000_000, 10_000_000_000));
        }
        copies
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

    /// All links work as on the first day; loss, repetition and delays stay as set.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.slow.clear();
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
