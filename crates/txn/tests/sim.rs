//! Seeds against the named invariants; a seed that failed once is kept in `seeds.txt`.

mod support;

use quorate_sim::sweep;
use support::{MARKS, run};

#[test]
fn no_seed_breaks_an_invariant() {
    let totals = sweep::seeds("txn", sweep::count(40), run);
    assert!(totals.seeds < 1_000 || totals.unseen(MARKS).is_empty(), "it saw less than it seems");
    assert!(totals.mean("committed") >= 100, "each seed does real work");
    assert!(totals.mean_faults() >= 10 && totals.work["restarts"].0 > 0, "and is disturbed");
    let seen = &totals.marks;
    assert!(seen.contains_key("a transaction was blocked"), "T8: blocking is seen");
    assert!(seen.contains_key("a yes vote outlived a restart"), "{seen:?}");
}

#[test]
fn seeds_that_failed_once_pass() {
    sweep::again(include_str!("seeds.txt"), run);
}

#[test]
fn the_same_seed_is_the_same_run() {
    sweep::repeatable(3, run);
}
