//! Seeds against the named invariants; a seed that failed once is kept in `seeds.txt`.

mod support;

use quorate_sim::marks;
use support::run;

fn seeds() -> u64 {
    std::env::var("QUORATE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(40)
}

#[test]
fn no_seed_breaks_an_invariant() {
    let (mut committed, mut faults, mut restarts) = (0, 0, 0);
    let count = seeds();
    let _ = marks::take();
    for seed in 0..count {
        let outcome = run(seed, false);
        if let Some(violation) = outcome.violation {
            panic!("seed {seed}: {violation}");
        }
        committed += outcome.committed;
        faults += outcome.faults;
        restarts += outcome.restarts;
    }
    let seen = marks::take();
    println!("{count} seeds: {committed} committed, {faults} faults, {restarts} restarts");
    println!("{seen:?}");
    assert!(committed / count >= 50, "each seed does real work");
    assert!(faults / count >= 5 && restarts > 0, "and is disturbed");
    assert!(seen.contains_key("a transaction was blocked"), "T8: blocking is seen");
    assert!(seen.contains_key("a yes vote outlived a restart"), "{seen:?}");
}

#[test]
fn seeds_that_failed_once_pass() {
    for line in include_str!("seeds.txt").lines().filter(|line| !line.starts_with('#')) {
        let seed = line.split_whitespace().next().and_then(|seed| seed.parse().ok());
        if let Some(seed) = seed {
            assert_eq!(run(seed, false).violation, None, "seed {seed}");
        }
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..3 {
        let (one, two) = (run(seed, false), run(seed, true));
        assert_eq!((one.digest, one.events), (two.digest, two.events), "seed {seed}");
    }
}
