//! Links every core into a static library that has its own panic handler and allocator.
//!
//! A dependency that brings std in brings a second panic handler in: the build fails and names it.

#![no_std]

use core::alloc::{GlobalAlloc, Layout};
use core::panic::PanicInfo;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicUsize, Ordering};

// One line for each core: an unused dependency is not linked, and so not probed.
use quorate_dmutex as _;
use quorate_detector as _;
use quorate_election as _;
use quorate_clocks as _;
use quorate_metrics as _;
use quorate_raft as _;
use quorate_smr as _;
use quorate_transport as _;
use quorate_txn as _;

const ARENA_BYTES: usize = 1 << 16;

#[repr(align(4096))]
struct Arena(core::cell::UnsafeCell<[u8; ARENA_BYTES]>);

// SAFETY: the bytes are reached only through the ranges that `Bump` hands out, each to one owner.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(core::cell::UnsafeCell::new([0; ARENA_BYTES]));

/// Hands out rising ranges of the arena and takes none back.
struct Bump {
    used: AtomicUsize,
}

#[global_allocator]
static BUMP: Bump = Bump { used: AtomicUsize::new(0) };

// SAFETY: the compare-and-set gives each range to one caller, inside the arena and aligned.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut start = 0;
        let taken = self.used.try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            start = used.checked_next_multiple_of(layout.align())?;
            start.checked_add(layout.size()).filter(|end| *end <= ARENA_BYTES)
        });
        match taken {
            // SAFETY: `start` is inside the arena, by the filter above. The arena's own alignment
            // is a page; a request for more is refused below.
            Ok(_) if layout.align() <= 4096 => unsafe { ARENA.0.get().cast::<u8>().add(start) },
            _ => null_mut(),
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
