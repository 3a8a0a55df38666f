//! The one lock of the shells: the standard library's, or that of loom, which looks at every
//! interleaving, or of shuttle, which looks at many of larger models.

use std::sync::PoisonError;

#[cfg(loom)]
use loom::sync::{Mutex as Inner, MutexGuard};
#[cfg(shuttle)]
use shuttle::sync::{Mutex as Inner, MutexGuard};
#[cfg(not(any(loom, shuttle)))]
use std::sync::{Mutex as Inner, MutexGuard};

/// A mutex whose holder never panics half-way: what it guards is whole after a panic too.
#[derive(Debug)]
pub(crate) struct Mutex<T>(Inner<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Inner::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a model has planted a gap, lets others in between looking and acting.
    #[cfg(all(shuttle, feature = "mem"))]
    pub(crate) fn gap<'a>(&'a self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        if !GAPS.get() {
            return guard;
        }
        drop(guard);
        self.lock()
    }
}

#[cfg(all(shuttle, feature = "mem"))]
std::thread_local! {
    // All threads of a model run on the one that runs the test.
    static GAPS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Plants gaps where the models must find them, for models on this thread, or takes them out.
#[cfg(all(shuttle, feature = "mem"))]
pub(crate) fn plant_gaps(planted: bool) {
    GAPS.set(planted);
}
