//! Seeds against the named invariants; a seed that failed once is kept in `seeds.txt`.

mod support;

use quorate_sim::sweep;
use support::run;

#[test]
fn no_seed_breaks_an_invariant() {
    let totals = sweep::seeds("detector", sweep::count(40), run);
    assert!(totals.mean("verdicts") >= 20, "each seed does real work");
    assert!(totals.mean_faults() >= 10, "and is disturbed");
    assert_eq!(totals.unseen(support::MARKS), [""; 0]);
}

#[test]
fn seeds_that_failed_once_pass() {
    sweep::again(include_str!("seeds.txt"), run);
}

#[test]
fn the_same_seed_is_the_same_run() {
    sweep::repeatable(3, run);
}
