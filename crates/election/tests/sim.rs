//! Seeds of both elections against the named invariants; a seed that failed once is kept in
//! `seeds.txt`.

#[path = "support/bullies.rs"]
mod bullies;
#[path = "support/leases.rs"]
mod leases;

use quorate_sim::sweep::{self, Run, Totals};

/// Clocks are up to 5 % off, which is declared.
fn lease(seed: u64, trace: bool) -> Run {
    leases::run(seed, 50_000, trace)
}

fn is_real_work(totals: &Totals) {
    assert!(totals.mean("leaders") >= 4 && totals.mean("requests") >= 20, "real work");
    assert!(totals.mean_faults() >= 10 && totals.mean("restarts") >= 2, "and disturbed");
}

#[test]
fn no_seed_breaks_an_invariant_of_the_lease() {
    is_real_work(&sweep::seeds("lease", sweep::count(40), lease));
}

#[test]
fn no_seed_breaks_an_invariant_of_the_bully() {
    let totals = sweep::seeds("bully", sweep::count(40), bullies::run);
    is_real_work(&totals);
    let overlap = "two bullies led at once";
    assert!(totals.marks.contains_key(overlap), "it is an opinion, no lease");
}

#[test]
fn clocks_beyond_the_declared_bound_are_found_out() {
    let count = sweep::count(400).max(400);
    let broken = (0..count).find_map(|seed| leases::run(seed, 0, false).violation);
    let what = broken.expect("leases must overlap when drift is not declared").what;
    assert!(what.starts_with("E5"), "{what}");
}

#[test]
fn seeds_that_failed_once_pass() {
    let of = |machine: &str| -> String {
        let lines = include_str!("seeds.txt").lines();
        lines.filter_map(|line| Some(format!("{}\n", line.strip_prefix(machine)?))).collect()
    };
    sweep::again(&of("bully "), bullies::run);
    sweep::again(&of("lease "), lease);
}

#[test]
fn the_same_seed_is_the_same_run() {
    sweep::repeatable(3, lease);
    sweep::repeatable(3, bullies::run);
}
