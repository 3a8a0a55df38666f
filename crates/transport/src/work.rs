//! Work that a machine hands over, so that it need not stand still while it is done.

use alloc::boxed::Box;
use core::any::Any;
use core::fmt;

/// A computation that a machine hands over with [`Effect::Work`](crate::Effect::Work): what it
/// comes to follows from what it was given alone, so it matters not where it is done, or when. The
/// shell around the host does it on another thread, a simulator whenever it likes.
///
/// It comes back as one [`Input::Worked`](crate::Input::Worked), unless the node dies.
pub struct Work(Box<dyn Task>);

/// What [`Work`] came to.
pub struct Worked(Box<dyn Any + Send>);

trait Task: Send {
    fn run(self: Box<Self>) -> Box<dyn Any + Send>;
    fn copy(&self) -> Box<dyn Task>;
}

#[derive(Clone)]
struct With<T, R> {
    given: T,
    run: fn(T) -> R,
}

impl<T: Clone + Send + 'static, R: Send + 'static> Task for With<T, R> {
    fn run(self: Box<Self>) -> Box<dyn Any + Send> {
        let Self { given, run } = *self;
        Box::new(run(given))
    }

    fn copy(&self) -> Box<dyn Task> {
        Box::new(Self { given: self.given.clone(), run: self.run })
    }
}

impl Work {
    /// What is to be made of what is given. It must not panic.
    pub fn new<T: Clone + Send + 'static, R: Send + 'static>(given: T, run: fn(T) -> R) -> Self {
        Self(Box::new(With { given, run }))
    }

    /// Does it, here and now.
    #[must_use]
    pub fn run(self) -> Worked {
        Worked(self.0.run())
    }
}

impl Worked {
    /// What came of it, for the machine that handed it over; `None` where it is of another type.
    #[must_use]
    pub fn take<R: 'static>(self) -> Option<Box<R>> {
        self.0.downcast().ok()
    }
}

impl Clone for Work {
    fn clone(&self) -> Self {
        Self(self.0.copy())
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Work")
    }
}

impl fmt::Debug for Worked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Worked")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_comes_to_what_was_given_and_so_does_its_copy() {
        let work = Work::new((20, 22), |(one, two): (u64, u64)| one + two);
        let copy = work.clone();
        assert_eq!(work.run().take::<u64>().as_deref(), Some(&42));
        assert!(copy.run().take::<u32>().is_none());
    }
}
