//! Things that a sweep must have seen sometime, or it has tested less than it seems.

use std::cell::RefCell;
use std::collections::BTreeMap;

thread_local! {
    static HITS: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// Notes that `name` was seen; use [`sometimes!`](crate::sometimes).
pub fn hit(name: &'static str) {
    HITS.with_borrow_mut(|hits| *hits.entry(name).or_default() += 1);
}

/// What this thread has seen since the last call, and how often.
#[must_use]
pub fn take() -> BTreeMap<&'static str, u64> {
    HITS.take()
}

/// Notes that a condition held at least once, for [`marks::take`](crate::marks::take).
#[macro_export]
macro_rules! sometimes {
    ($condition:expr, $name:literal) => {
        if $condition {
            $crate::marks::hit($name);
        }
    };
}
