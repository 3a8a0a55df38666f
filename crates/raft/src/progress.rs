//! What a leader knows of one follower.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use quorate_transport::{Incarnation, NodeId, Time};

use crate::members::Members;
use crate::record::Snapshot;
use crate::types::Index;

/// How a leader sends to a follower.
///
/// ```text
///            acknowledged                 compacted away
///   Probe ───────────────▶ Replicate   ┌───────────────▶ Snapshot
///     ▲  ◀──────────────────┘          │                    │
///     │    conflict, loss, full link   │    installed, gone, │
///     └────────────────────────────────┴────── lost ─────────┘
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// One append at a time, until the logs are known to agree.
    Probe {
        /// One is under way.
        waits: bool,
    },
    /// As many as the window holds.
    Replicate,
    /// A snapshot, piece by piece.
    Snapshot {
        /// Which.
        snapshot: Snapshot,
        /// The piece under way.
        offset: u64,
    },
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    last: Index,
    bytes: usize,
    sent: Time,
}

/// So many words of one gap, and what fills it is taken for lost.
const GAPS_MAX: u32 = 3;

/// What a node is in the newest configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its word counts for the present voters, or those to be.
    pub(crate) voter: bool,
    /// Its word counts for the voters so far of a joint configuration.
    pub(crate) outgoing: bool,
    pub(crate) learner: bool,
}

impl Part {
    pub(crate) fn of(node: NodeId, members: &Members) -> Self {
        Self {
            voter: members.voters().contains(&node),
            outgoing: members.outgoing().contains(&node),
            learner: members.learners().contains(&node),
        }
    }

    pub(crate) fn counts(self) -> bool {
        self.voter || self.outgoing
    }
}

/// How fast a learner catches up: in each round it gets what the log had when the round began.
/// [Raft thesis §4.2.1]
#[derive(Clone, Copy, Debug)]
struct CatchUp {
    count: u32,
    until: Index,
    since: Time,
    /// How long the last whole round took, in nanoseconds.
    took: Option<u64>,
    /// It had everything when the round began: how long this one takes means nothing.
    idle: bool,
}

/// The window that every follower begins with, and the least it shrinks to.
const WINDOW_FIRST: usize = 256 << 10;
const WINDOW_LEAST: usize = 64 << 10;

/// How many bytes may be under way: more while acknowledgements come about as soon as they ever
/// did, less when they wait in a queue somewhere, or when what was sent is lost. [As Vegas does:
/// Brakmo and Peterson, 1995]
#[derive(Clone, Copy, Debug)]
struct Window {
    bytes: usize,
    /// The least round trip of late, in nanoseconds.
    quick: u64,
}

impl Window {
    fn on_acknowledged(&mut self, bytes: usize, took: u64) {
        // It forgets slowly: a route that has become longer is the measure of itself before long.
        self.quick = took.min(self.quick.saturating_add(self.quick / 256 + 1));
        let queued = took.saturating_sub(self.quick);
        if queued <= self.quick + MILLISECOND {
            self.bytes = self.bytes.saturating_add(bytes);
        } else if queued > 8 * self.quick + 5 * MILLISECOND {
            self.bytes = WINDOW_LEAST.max(self.bytes - self.bytes.min(bytes / 4));
        }
    }

    fn on_loss(&mut self) {
        self.bytes = WINDOW_LEAST.max(self.bytes / 2);
    }
}

const MILLISECOND: u64 = 1_000_000;

/// One follower, as its leader sees it.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) part: Part,
    /// Where it is no longer a member: until when it may still learn that.
    pub(crate) leaves: Option<Time>,
    catch_up: CatchUp,
    /// The newest of its lives that was heard.
    pub(crate) life: Incarnation,
    /// The newest that acknowledged anything.
    pub(crate) acked_in: Incarnation,
    /// Durable there and as in the leader's log.
    pub(crate) matched: Index,
    /// What to send next.
    pub(crate) next: Index,
    pub(crate) pace: Pace,
    flights: VecDeque<Flight>,
    flight_bytes: usize,
    window: Window,
    /// When it last said anything in this term.
    pub(crate) contact: Time,
    /// When something was last sent that a probe or a snapshot waits for.
    pub(crate) sent: Time,
    /// The last round of reads it confirmed.
    pub(crate) round: u64,
    /// The last commit index it was told.
    pub(crate) commit_sent: Index,
    /// After which entry it lacks something, and how often it has said so.
    gap: (Index, u32),
}

/// All followers, by node: few, so that a walk beats a tree.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peers(Vec<(NodeId, Progress)>);

impl Peers {
    /// Takes the members of a new configuration in; those that are no longer members stay until
    /// `leave` at the latest, to learn that.
    pub(crate) fn adopt(
        &mut self,
        own: NodeId,
        members: &Members,
        next: Index,
        [now, leave]: [Time; 2],
    ) {
        for node in members.nodes().into_iter().filter(|node| *node != own) {
            if self.get(node).is_none() {
                self.0.push((node, Progress::new(next, now)));
            }
        }
        for (node, progress) in &mut self.0 {
            progress.part = Part::of(*node, members);
            // Its disk may be known by now, and another than it has.
            progress.life = Incarnation::default();
            let gone = progress.part == Part::default();
            progress.leaves = gone.then(|| progress.leaves.unwrap_or(leave));
        }
        self.0.sort_unstable_by_key(|(node, _)| *node);
    }

    /// Lets those go that have left and know it, or have had their time.
    pub(crate) fn let_go(&mut self, now: Time, left_at: Index) {
        self.0.retain(|(_, progress)| {
            progress.leaves.is_none_or(|until| now < until && progress.commit_sent < left_at)
        });
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<&Progress> {
        self.0.iter().find(|(peer, _)| *peer == node).map(|(_, progress)| progress)
    }

    pub(crate) fn get_mut(&mut self, node: NodeId) -> Option<&mut Progress> {
        self.0.iter_mut().find(|(peer, _)| *peer == node).map(|(_, progress)| progress)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, &Progress)> {
        self.0.iter().map(|(peer, progress)| (*peer, progress))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (NodeId, &mut Progress)> {
        self.0.iter_mut().map(|(peer, progress)| (*peer, progress))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Progress> {
        self.0.iter().map(|(_, progress)| progress)
    }
}

impl Progress {
    pub(crate) fn new(next: Index, now: Time) -> Self {
        Self {
            part: Part::default(),
            leaves: None,
            catch_up: CatchUp {
                count: 0,
                until: next.previous(),
                since: now,
                took: None,
                idle: false,
            },
            life: Incarnation::default(),
            acked_in: Incarnation::default(),
            matched: Index::ZERO,
            next,
            pace: Pace::Probe { waits: false },
            flights: VecDeque::new(),
            flight_bytes: 0,
            window: Window { bytes: WINDOW_FIRST, quick: u64::MAX },
            contact: now,
            sent: now,
            round: 0,
            commit_sent: Index::ZERO,
            gap: (Index::ZERO, 0),
        }
    }

    /// Sends one at a time from `next` on.
    pub(crate) fn become_probe(&mut self, next: Index) {
        self.next = next.max(self.matched.next());
        self.pace = Pace::Probe { waits: false };
        self.clear_flights();
    }

    /// Something under way is lost, or its link is full.
    pub(crate) fn on_loss(&mut self, next: Index) {
        self.window.on_loss();
        self.become_probe(next);
    }

    /// How many bytes may be under way.
    pub(crate) fn window(&self, window_max: usize) -> usize {
        self.window.bytes.min(window_max)
    }

    /// Sends all it has.
    pub(crate) fn become_replicate(&mut self) {
        self.next = self.next.max(self.matched.next());
        self.pace = Pace::Replicate;
    }

    /// Sends a snapshot from its beginning.
    pub(crate) fn become_snapshot(&mut self, snapshot: Snapshot) {
        self.pace = Pace::Snapshot { snapshot, offset: 0 };
        self.clear_flights();
    }

    /// An append up to `last` was sent.
    pub(crate) fn on_sent(&mut self, last: Index, bytes: usize, now: Time) {
        self.sent = now;
        match &mut self.pace {
            Pace::Probe { waits } => *waits = true,
            _ => {
                self.next = last.next();
                self.flights.push_back(Flight { last, bytes, sent: now });
                self.flight_bytes += bytes;
            }
        }
    }

    /// Raises `matched`; false for a late or repeated acknowledgement. The window stays within
    /// `window_max`.
    pub(crate) fn on_appended(&mut self, now: Time, matched: Index, window_max: usize) -> bool {
        if matched <= self.matched {
            return false;
        }
        self.matched = matched;
        self.next = self.next.max(matched.next());
        while let Some(flight) = self.flights.pop_front_if(|flight| flight.last <= matched) {
            self.flight_bytes -= flight.bytes;
            let took = now.as_nanos().saturating_sub(flight.sent.as_nanos());
            self.window.on_acknowledged(flight.bytes, took);
            self.window.bytes = self.window.bytes.min(window_max);
        }
        true
    }

    /// A learner has acknowledged: is the round over, and what is the next?
    pub(crate) fn measure(&mut self, now: Time, last: Index) {
        let round = &mut self.catch_up;
        if self.matched >= round.until {
            let took = now.since(round.since).as_nanos() as u64;
            let took = if round.idle { round.took } else { Some(took) };
            let count = round.count.saturating_add(1);
            let idle = self.matched >= last;
            *round = CatchUp { count, until: last, since: now, took, idle };
        }
    }

    /// Whether it has everything up to `last`, or its last round was shorter than `within`, so that
    /// the next will likely be too; and it still answers.
    pub(crate) fn is_caught_up(&self, now: Time, within: Duration, last: Index) -> bool {
        let short = |took: u64| took <= within.as_nanos() as u64;
        let round = self.catch_up;
        let open = self.matched < round.until && now.since(round.since) > within;
        let keeps_up = round.took.is_some_and(short) && !open;
        (keeps_up || self.matched >= last) && now.since(self.contact) <= within
    }

    /// Rounds that a learner has been through.
    pub(crate) fn rounds(&self) -> u32 {
        self.catch_up.count
    }

    /// The follower lacks what comes after `last`, though it was sent, and so refused what was sent
    /// after `prev`. As in TCP, the third time it says so the rest is taken for lost, or when no
    /// later word of it can come; what it says of the same gap after that means nothing.
    pub(crate) fn is_lost_after(&mut self, last: Index, prev: Index) -> bool {
        let (known, count) = self.gap;
        let count = if known == last { count + 1 } else { 1 };
        let before_newest = self.flights.iter().rev().nth(1);
        let newest = before_newest.is_none_or(|flight| flight.last <= prev);
        let lost = count == GAPS_MAX || (newest && count < GAPS_MAX);
        self.gap = (last, if lost { GAPS_MAX } else { count });
        lost
    }

    /// Whether one more append may be sent now.
    pub(crate) fn may_send(&self, window_count: usize, window_bytes: usize) -> bool {
        match &self.pace {
            Pace::Probe { waits } => !*waits,
            Pace::Replicate => {
                let window = self.window.bytes.min(window_bytes);
                self.flights.len() < window_count && self.flight_bytes < window
            }
            Pace::Snapshot { .. } => false,
        }
    }

    /// When the oldest append under way was sent.
    pub(crate) fn oldest_flight(&self) -> Option<Time> {
        self.flights.front().map(|flight| flight.sent)
    }

    /// Bytes and appends under way.
    pub(crate) fn in_flight(&self) -> (usize, usize) {
        (self.flight_bytes, self.flights.len())
    }

    fn clear_flights(&mut self) {
        self.flights.clear();
        self.flight_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_taken_for_a_loss_at_the_third_word_or_the_last() {
        let filled = |count| {
            let mut progress = Progress::new(Index(1), Time::ZERO);
            progress.become_replicate();
            (1..=count).for_each(|last| progress.on_sent(Index(last), 10, Time::ZERO));
            progress
        };
        // What follows entry 1 is lost; 3, 4, 5 and so on are refused, one after the other.
        let mut progress = filled(8);
        let words = [2, 3, 4, 5].map(|prev| progress.is_lost_after(Index(1), Index(prev)));
        assert_eq!(words, [false, false, true, false]);
        assert!(!progress.is_lost_after(Index(3), Index(5)), "another gap begins anew");
        // Only one word can come: nothing was sent after what was refused.
        let mut progress = filled(3);
        assert!(progress.is_lost_after(Index(1), Index(2)));
        assert!(!progress.is_lost_after(Index(1), Index(2)));
    }

    #[test]
    fn the_window_grows_while_acknowledgements_are_quick_and_shrinks_when_they_queue() {
        let (most, ms) = (8 << 20, Duration::from_millis);
        let mut progress = Progress::new(Index(1), Time::ZERO);
        progress.become_replicate();
        let mut now = Time::ZERO;
        let mut trip = |progress: &mut Progress, last: u64, took| {
            progress.on_sent(Index(last), 256 << 10, now);
            now = now + took;
            progress.on_appended(now, Index(last), most);
            progress.window(most)
        };
        assert_eq!(progress.window(most), WINDOW_FIRST);
        assert_eq!(trip(&mut progress, 1, ms(2)), 2 * WINDOW_FIRST);
        (2..=40).for_each(|last| {
            trip(&mut progress, last, ms(2));
        });
        assert_eq!(progress.window(most), most, "as much as is configured");
        let full = trip(&mut progress, 41, ms(10));
        assert_eq!(full, most, "somewhat later is no reason to shrink");
        (42..=400).for_each(|last| {
            trip(&mut progress, last, ms(40));
        });
        let queued = progress.window(most);
        assert!(queued < most / 2, "{queued}");
        progress.on_loss(Index(401));
        assert_eq!(progress.window(most), (queued / 2).max(WINDOW_LEAST));
        (0..20).for_each(|_| progress.on_loss(Index(401)));
        assert_eq!(progress.window(most), WINDOW_LEAST);
    }

    #[test]
    fn the_window_is_bounded_and_empties_again() {
        let now = Time::ZERO;
        let mut progress = Progress::new(Index(1), now);
        progress.become_replicate();
        for last in 1..=3 {
            assert!(progress.may_send(3, 100));
            progress.on_sent(Index(last), 10, now);
        }
        assert!(!progress.may_send(3, 100), "three under way");
        assert!(!progress.may_send(9, 30), "thirty bytes under way");
        assert!(progress.on_appended(now, Index(2), 100));
        assert!(!progress.on_appended(now, Index(2), 100), "a repeated one changes nothing");
        assert!(!progress.on_appended(now, Index(1), 100), "nor does a late one");
        assert_eq!(progress.in_flight(), (10, 1));
        progress.become_probe(Index(1));
        assert_eq!(progress.in_flight(), (0, 0));
        assert_eq!(progress.next, Index(3), "never before what is matched");
    }
}
