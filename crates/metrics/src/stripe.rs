//! Cells on cache lines of their own, and which of them a thread uses.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicI64, AtomicU64, Ordering};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Alone on its cache line, and on the one that the processor fetches with it.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// The number of the calling thread: the lowest that no living thread has, so that two threads
/// share a stripe only where there are more threads than stripes.
#[cfg(all(feature = "std", not(loom)))]
pub(crate) fn thread() -> usize {
    std::thread_local! {
        static NUMBER: numbers::Number = numbers::Number::take();
    }
    // A thread that is ending has given its number back: any will do for it.
    NUMBER.try_with(|number| number.0).unwrap_or(0)
}

#[cfg(all(feature = "std", not(loom)))]
mod numbers {
    use core::sync::atomic::{AtomicU64, Ordering};

    /// A bit for each number that a living thread has.
    static TAKEN: [AtomicU64; 16] = [const { AtomicU64::new(0) }; 16];

    /// A thread's number, given back at its end.
    pub(super) struct Number(pub(super) usize);

    impl Number {
        pub(super) fn take() -> Self {
            for (place, word) in TAKEN.iter().enumerate() {
                let lowest_free = |taken: u64| (taken != u64::MAX).then(|| taken | (taken + 1));
                let took = word.try_update(Ordering::Relaxed, Ordering::Relaxed, lowest_free);
                if let Ok(before) = took {
                    return Self(64 * place + before.trailing_ones() as usize);
                }
            }
            Self(usize::MAX) // there are 1024 threads: this one shares a stripe
        }
    }

    impl Drop for Number {
        fn drop(&mut self) {
            if let Some(word) = TAKEN.get(self.0 / 64) {
                word.fetch_and(!(1 << (self.0 % 64)), Ordering::Relaxed);
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn living_threads_have_different_numbers_and_one_given_back_is_given_again() {
            let (one, two) = (Number::take(), Number::take());
            assert_ne!(one.0, two.0);
            let given_back = one.0;
            drop(one);
            // Other tests' threads may take it first, but then others are free below `two`'s end.
            let all: Vec<_> = (0..100).map(|_| Number::take()).collect();
            let mut numbers: Vec<_> = all.iter().map(|number| number.0).collect();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), 100, "no two are the same");
            assert!(!numbers.contains(&two.0));
            assert!(numbers[0] <= given_back.max(64), "low ones come first: {numbers:?}");
        }
    }
}

/// Tells threads apart by where their stacks are: two may seem the same, which costs time only.
#[cfg(all(not(feature = "std"), not(loom)))]
pub(crate) fn thread() -> usize {
    let here = 0u8;
    let address = core::ptr::from_ref(core::hint::black_box(&here)).addr() as u64;
    // Stacks lie a megabyte apart or more; multiplied, the upper bits depend on all of them.
    ((address >> 20).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize
}

/// In a model every thread uses the same cell, the hardest case; `add_at` chooses another.
#[cfg(loom)]
pub(crate) fn thread() -> usize {
    0
}
