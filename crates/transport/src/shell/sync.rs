//! The one lock of the shells: the standard library's, or loom's where loom looks at every
//! interleaving.

#[cfg(loom)]
use loom::sync::{Mutex as Inner, MutexGuard};
use std::sync::PoisonError;
#[cfg(not(loom))]
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
}
