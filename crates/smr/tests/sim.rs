//! Seeds against the named invariants, with clients that retry through any node; a seed that failed
//! once is kept in `seeds.txt`.

mod support;

use quorate_sim::sweep;
use support::{MARKS, run};

#[test]
fn no_seed_breaks_an_invariant() {
    let totals = sweep::seeds("smr", sweep::count(20), run);
    assert!(totals.seeds < 1_000 || totals.unseen(MARKS).is_empty(), "it saw less than it seems");
    assert!(totals.mean("operations") >= 100, "each seed does real work");
    assert!(totals.mean("of them answered again") >= 5, "and clients retry what was applied");
    assert!(totals.mean_faults() >= 10, "and is disturbed");
    assert!(totals.mean("leaders") >= 2, "and changes its leader");
    assert!(totals.mean("changes told to watchers") >= 100, "and is watched");
}

#[test]
fn seeds_that_failed_once_pass() {
    sweep::again(include_str!("seeds.txt"), run);
}

#[test]
fn the_same_seed_is_the_same_run() {
    sweep::repeatable(3, run);
}

#[test]
fn a_gap_a_repetition_and_a_lie_in_what_a_watcher_is_told_are_noticed() {
    support::watchers::self_test();
}

#[test]
fn a_replica_that_is_not_deterministic_is_found_though_no_answer_shows_it() {
    let runs = (0..12).map(|seed| support::run_miscounting(seed).violation);
    let found = |what: &str| what.contains("halted") && what.contains("have one state");
    let (mut stopped, mut others) = (0, Vec::new());
    for violation in runs.flatten() {
        match found(&violation.what) {
            true => stopped += 1,
            false => others.push(violation.what),
        }
    }
    // A group of one has nobody to compare with, and a snapshot may heal what it replaces.
    assert!(stopped >= 6, "{stopped} of 12; {others:?}");
}
