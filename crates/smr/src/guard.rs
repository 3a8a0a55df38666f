//! Calls into the user's state machine, which may panic.

use alloc::string::String;

/// The state machine has panicked; with what words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Panicked(pub(crate) String);

/// Runs the user's code. After a panic nothing that it has touched may be used again.
#[cfg(feature = "std")]
pub(crate) fn guard<T>(run: impl FnOnce() -> T) -> Result<T, Panicked> {
    extern crate std;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    catch_unwind(AssertUnwindSafe(run)).map_err(|cause| {
        let text = cause.downcast_ref::<&str>().map(|text| String::from(*text));
        let text = text.or_else(|| cause.downcast_ref::<String>().cloned());
        Panicked(text.unwrap_or_else(|| "without words".into()))
    })
}

/// Runs the user's code. Without std nothing can be caught: a panic is the caller's.
#[cfg(not(feature = "std"))]
pub(crate) fn guard<T>(run: impl FnOnce() -> T) -> Result<T, Panicked> {
    Ok(run())
}
