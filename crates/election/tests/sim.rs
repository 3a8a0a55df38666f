//! Seeds of both elections against the named invariants; a seed that failed once is kept in
//! `seeds.txt`.

#[path = "support/bullies.rs"]
mod bullies;
#[path = "support/leases.rs"]
mod leases;

use quorate_sim::{System, Violation, World, marks};

/// What one seed came to.
struct Outcome {
    violation: Option<Violation>,
    /// Terms in which somebody led.
    leaders: u64,
    /// What the applications asked.
    asked: u64,
    faults: u64,
    restarts: u64,
    seconds: u64,
    digest: u128,
}

impl Outcome {
    fn new<S: System>(
        world: &World<S>,
        violation: Option<Violation>,
        leaders: u64,
        asked: u64,
    ) -> Self {
        Self {
            violation,
            leaders,
            asked,
            faults: world.counts().faults.values().sum(),
            restarts: world.counts().restarts,
            seconds: world.now() / 1_000_000_000,
            digest: world.digest(),
        }
    }
}

fn seeds(default: u64) -> u64 {
    std::env::var("QUORATE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs all seeds and prints what they were made of.
fn all_seeds(what: &str, run: impl Fn(u64) -> Outcome) {
    let (mut leaders, mut asked, mut faults, mut restarts, mut seconds) = (0, 0, 0, 0, 0);
    let count = seeds(40);
    for seed in 0..count {
        let outcome = run(seed);
        if let Some(violation) = outcome.violation {
            panic!("{what}, seed {seed}: {violation}");
        }
        leaders += outcome.leaders;
        asked += outcome.asked;
        faults += outcome.faults;
        restarts += outcome.restarts;
        seconds += outcome.seconds;
    }
    println!(
        "{what}: {count} seeds passed; a seed on average: {} simulated s, {} leaders, {} requests, \
         {} faults, {} restarts",
        seconds / count,
        leaders / count,
        asked / count,
        faults / count,
        restarts / count
    );
    assert!(leaders / count >= 4 && asked / count >= 20, "each seed does real work");
    assert!(faults / count >= 10 && restarts / count >= 2, "and is disturbed");
}

#[test]
fn no_seed_breaks_an_invariant_of_the_lease() {
    all_seeds("QuorumLease", |seed| leases::run(seed, 50_000));
}

#[test]
fn no_seed_breaks_an_invariant_of_the_bully() {
    let _ = marks::take();
    all_seeds("Bully", bullies::run);
    let seen = marks::take();
    println!("{seen:?}");
    assert!(seen.contains_key("two bullies led at once"), "it is an opinion, no lease");
}

#[test]
fn clocks_beyond_the_declared_bound_are_found_out() {
    let broken = (0..seeds(400).max(400)).find_map(|seed| leases::run(seed, 0).violation);
    let what = broken.expect("leases must overlap when drift is not declared").what;
    assert!(what.starts_with("E5"), "{what}");
}

#[test]
fn seeds_that_failed_once_pass() {
    for line in include_str!("seeds.txt").lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let (machine, seed) = (words.next(), words.next().and_then(|seed| seed.parse().ok()));
        let Some(seed) = seed else { continue };
        let violation = match machine {
            Some("bully") => bullies::run(seed).violation,
            _ => leases::run(seed, 50_000).violation,
        };
        assert_eq!(violation, None, "{line}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..3 {
        assert_eq!(leases::run(seed, 50_000).digest, leases::run(seed, 50_000).digest);
        assert_eq!(bullies::run(seed).digest, bullies::run(seed).digest);
    }
}
