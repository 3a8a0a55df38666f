//! The clocks beside what really happened, over many seeds: `cargo xtask sim clocks`.
#![cfg(not(loom))]

mod support;

use quorate_sim::sweep;
use support::{LEAST, MARKS, run};

#[test]
fn stamps_agree_with_what_happened_before_what() {
    let totals = sweep::seeds_of("clocks", LEAST, sweep::count(50), run);
    assert_eq!(totals.unseen(MARKS), [""; 0]);
}

#[test]
fn the_same_seed_is_the_same_run() {
    sweep::repeatable(3, run);
}
