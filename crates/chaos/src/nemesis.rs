//! What happens to the cluster: faults of many kinds, a few at a time, drawn from a seed.
//!
//! Kinds lie in a shuffled deck, so that each comes once before any comes twice. After every few
//! faults everything is healed; the nodes then have a moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_transport::Rng;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;
use crate::network::Network;
use crate::proxy::Counts;
use crate::voice::Voice;

mod group;
mod inject;
mod kind;

pub(crate) use group::restore;
pub(crate) use kind::Kind;

/// Faults of one step at the most.
const AT_ONCE_MAX: u64 = 3;
/// How often the world is looked at while faults last.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long a cluster may take to serve once all is healed.
pub(crate) const SERVE_MAX: Duration = Duration::from_secs(15);

/// What a run of faults came to.
#[derive(Default)]
pub(crate) struct Outcome {
    /// How often each kind was there, and had an effect where that can be seen.
    pub(crate) ran: BTreeMap<Kind, u64>,
    /// Kinds that were there and could be seen to change nothing.
    pub(crate) idle: BTreeMap<Kind, u64>,
    /// Kinds that cannot run here, and why.
    pub(crate) skipped: BTreeMap<Kind, String>,
    /// How long the cluster did not serve after each healing, up to [`SERVE_MAX`].
    pub(crate) serves_after: Vec<Duration>,
    /// Nodes that ended though nothing was done to them that excuses it.
    pub(crate) wrong: Vec<String>,
}

/// The one that does all this.
pub(crate) struct Nemesis<'a> {
    cluster: &'a mut Cluster,
    voice: &'a mut Voice,
    rng: Rng,
    deck: Deck,
    /// Faults that go on by themselves until all is healed.
    going_on: JoinSet<()>,
    outcome: Outcome,
}

impl<'a> Nemesis<'a> {
    /// With these kinds, and no others.
    pub(crate) fn new(
        cluster: &'a mut Cluster,
        voice: &'a mut Voice,
        seed: u64,
        only: &BTreeSet<Kind>,
    ) -> Self {
        let mut outcome = Outcome::default();
        let mut kinds = Vec::new();
        for kind in Kind::ALL.into_iter().filter(|kind| only.is_empty() || only.contains(kind)) {
            match obstacle(kind, cluster) {
                None => kinds.push(kind),
                Some(why) => drop(outcome.skipped.insert(kind, why)),
            }
        }
        let (rng, deck, going_on) = (Rng::new(seed), Deck::of(kinds), JoinSet::new());
        Self { cluster, voice, rng, deck, going_on, outcome }
    }

    /// Lets faults come and go for this long, and heals everything. `done` counts what clients have
    /// been answered.
    pub(crate) async fn run(
        mut self,
        length: Duration,
        done: impl Fn() -> u64,
    ) -> anyhow::Result<Outcome> {
        let begun = Instant::now();
        let mut step = 0;
        while begun.elapsed() < length && !self.deck.kinds.is_empty() {
            if step > 0 {
                sleep(Duration::from_millis(300 + self.rng.below(900))).await;
                self.look();
            }
            step += 1;
            let before = done();
            self.step(begun, length).await?;
            let healed = (Instant::now(), done());
            while done() == healed.1 && healed.0.elapsed() < SERVE_MAX {
                sleep(Duration::from_millis(5)).await;
                self.look();
            }
            let took = healed.0.elapsed();
            self.outcome.serves_after.push(took);
            let meanwhile = healed.1 - before;
            self.voice.say(&format!(
                "  healed, serves after {took:.1?}; {meanwhile} operations meanwhile"
            ));
            self.voice.at(begun.elapsed(), format!("step {step}, {} operations", done()));
        }
        Ok(self.outcome)
    }

    async fn step(&mut self, begun: Instant, length: Duration) -> anyhow::Result<()> {
        // One fault alone as often as several together.
        let count = if self.rng.below(2) == 0 { 1 } else { 2 + self.rng.below(AT_ONCE_MAX - 1) };
        let before = self.counts();
        let mut kinds = Vec::new();
        for _ in 0..count {
            let Some(kind) = self.deck.draw(&mut self.rng).filter(|kind| !kinds.contains(kind))
            else {
                continue; // the deck began anew
            };
            self.look();
            let what = self.inject(kind).await?;
            self.voice.say(&format!("{kind}: {what}"));
            kinds.push(kind);
        }
        let long = self.rng.below(6) == 0;
        let hold = Duration::from_millis(600 + self.rng.below(1400) + if long { 3000 } else { 0 });
        let until = Instant::now() + hold;
        while Instant::now() < until {
            sleep(LOOK_EVERY).await;
            self.look();
            self.voice.at(begun.elapsed().min(length), String::new());
        }
        let after = self.counts();
        for kind in kinds {
            let counter = kind.counter();
            let idle = counter.is_some_and(|counter| after.get(counter) <= before.get(counter));
            let runs = if idle { &mut self.outcome.idle } else { &mut self.outcome.ran };
            *runs.entry(kind).or_default() += 1;
        }
        self.heal().await
    }

    async fn heal(&mut self) -> anyhow::Result<()> {
        self.look();
        self.going_on.shutdown().await; // nothing is done after all was healed
        let restarted = self.cluster.heal().await?;
        let restarted: Vec<_> = restarted.iter().map(u64::to_string).collect();
        if !restarted.is_empty() {
            self.voice.say(&format!("  restarted {}", restarted.join(", ")));
        }
        Ok(())
    }

    /// Whether a node has ended that should not have.
    fn look(&mut self) {
        for ended in self.cluster.ended() {
            let (node, status) = (ended.node, ended.status);
            if ended.excused {
                self.voice.say(&format!("  node {node} ended by itself, as it should ({status})"));
            } else {
                self.voice.say(&format!("  NODE {node} ENDED BY ITSELF ({status})"));
                self.outcome.wrong.push(format!("node {node} ended by itself: {status}"));
            }
        }
    }

    fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut sums = BTreeMap::new();
        for (_, link) in self.cluster.links() {
            for (name, count) in named(link.counts()) {
                *sums.entry(name).or_default() += count;
            }
        }
        sums
    }
}

/// Kinds in a random order, anew when all were drawn.
struct Deck {
    kinds: Vec<Kind>,
    left: Vec<Kind>,
}

impl Deck {
    fn of(kinds: Vec<Kind>) -> Self {
        Self { kinds, left: Vec::new() }
    }

    fn draw(&mut self, rng: &mut Rng) -> Option<Kind> {
        if self.left.is_empty() {
            self.left = self.kinds.clone();
            for at in (1..self.left.len()).rev() {
                self.left.swap(at, rng.below(at as u64 + 1) as usize);
            }
        }
        self.left.pop()
    }
}

/// What a link has done, by name.
pub(crate) fn named(counts: &Counts) -> [(&'static str, u64); 9] {
    let Counts { forwarded, lost, duplicated, reordered, garbled, delayed, cut, reset, half_open } =
        counts;
    [
        ("forwarded", forwarded),
        ("lost", lost),
        ("duplicated", duplicated),
        ("reordered", reordered),
        ("garbled", garbled),
        ("delayed", delayed),
        ("cut", cut),
        ("reset", reset),
        ("half-open", half_open),
    ]
    .map(|(name, count)| (name, count.load(std::sync::atomic::Ordering::Relaxed)))
}

/// Why a kind cannot run here.
fn obstacle(kind: Kind, cluster: &Cluster) -> Option<String> {
    let plan = &cluster.plan;
    let missing = |what: &str| Some(what.to_owned());
    match kind {
        Kind::KillMajority | Kind::Halves | Kind::Ring if plan.nodes < 3 => {
            missing("needs 3 nodes")
        }
        Kind::DiskFull if !plan.mounts => missing("needs a file system of its own: root"),
        Kind::CableOut | Kind::BlackHole | Kind::NarrowCable
            if plan.network != Network::Namespaces =>
        {
            missing("needs network namespaces: root, --net netns or auto")
        }
        Kind::BootClock if !plan.mounts => missing("needs time namespaces: root"),
        Kind::WallClock => {
            missing("needs libfaketime; nodes read the wall clock for their logs only")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_drawn_once_before_any_is_drawn_twice_and_a_seed_draws_the_same() {
        let order = |seed| {
            let (mut rng, mut deck) = (Rng::new(seed), Deck::of(Kind::ALL.to_vec()));
            let mut draw = || deck.draw(&mut rng).unwrap();
            let rounds: Vec<Vec<_>> =
                (0..3).map(|_| (0..Kind::ALL.len()).map(|_| draw()).collect()).collect();
            for round in &rounds {
                assert_eq!(round.iter().collect::<BTreeSet<_>>().len(), Kind::ALL.len());
            }
            rounds
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        assert_eq!(Deck::of(Vec::new()).draw(&mut Rng::new(1)), None);
    }

    #[test]
    fn every_kind_is_found_by_its_name_and_others_are_not() {
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        assert!("nonsense".parse::<Kind>().unwrap_err().contains("kill-leader"));
    }
}
