//! Cells on cache lines of their own, and which of them a thread uses.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicI64, AtomicU64, Ordering};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Alone on its cache line, and on the one that the processor fetches with it.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// The number of the calling thread, from 0.
#[cfg(all(feature = "std", not(loom)))]
pub(crate) fn thread() -> usize {
    use core::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    std::thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
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
