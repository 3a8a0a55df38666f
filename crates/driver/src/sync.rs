//! What tasks and threads of a node meet over: tokio and the standard library, or shuttle's models
//! of both, under which the whole driver runs in every order that shuttle tries.
//!
//! Under shuttle a pause never ends: the engine has to be woken by what it waits for. Events are
//! not modelled, for nothing in the driver waits for them.

#[cfg(shuttle)]
pub use modelled::{Bug, plant};
#[cfg(shuttle)]
pub(crate) use modelled::{Notify, changed, recv_many, sleep, thread};
#[cfg(not(shuttle))]
pub(crate) use real::*;

#[cfg(not(shuttle))]
mod real {
    pub(crate) use std::thread;

    pub(crate) use tokio::sync::Notify;
    use tokio::sync::watch::error::RecvError;
    use tokio::sync::{mpsc, watch};
    pub(crate) use tokio::time::sleep;

    /// As [`mpsc::Receiver::recv_many`].
    pub(crate) async fn recv_many<T>(
        from: &mut mpsc::Receiver<T>,
        into: &mut Vec<T>,
        max: usize,
    ) -> usize {
        from.recv_many(into, max).await
    }

    /// As [`watch::Receiver::changed`].
    pub(crate) async fn changed(of: &mut watch::Receiver<bool>) -> Result<(), RecvError> {
        of.changed().await
    }
}

#[cfg(shuttle)]
mod modelled {
    use std::cell::Cell;
    use std::time::Duration;

    pub(crate) use shuttle::thread;
    use tokio::sync::watch::error::RecvError;
    use tokio::sync::{mpsc, watch};

    /// A bug that a model must find.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Bug {
        /// A wake-up is lost when nobody waits for it yet.
        LostWakeUp,
        /// A stop that came before the engine began to wait is missed.
        MissedStop,
        /// What is received together is handed over without its last part.
        LostTail,
    }

    std::thread_local! {
        // All threads of a model run on the one that runs the test.
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Puts a bug into the driver, for models on this thread; none takes it out.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    fn is_planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    #[derive(Debug)]
    pub(crate) struct Notify(tokio::sync::Notify);

    impl Notify {
        pub(crate) fn new() -> Self {
            Self(tokio::sync::Notify::new())
        }

        pub(crate) fn notify_one(&self) {
            if is_planted(Bug::LostWakeUp) {
                self.0.notify_waiters();
            } else {
                self.0.notify_one();
            }
        }

        pub(crate) async fn notified(&self) {
            self.0.notified().await;
        }
    }

    pub(crate) async fn recv_many<T>(
        from: &mut mpsc::Receiver<T>,
        into: &mut Vec<T>,
        max: usize,
    ) -> usize {
        let Some(first) = from.recv().await else { return 0 };
        into.push(first);
        let mut count = 1;
        while count < max
            && let Ok(next) = from.try_recv()
        {
            into.push(next);
            count += 1;
        }
        if count > 1 && is_planted(Bug::LostTail) {
            into.pop();
            count -= 1;
        }
        count
    }

    pub(crate) async fn changed(of: &mut watch::Receiver<bool>) -> Result<(), RecvError> {
        if is_planted(Bug::MissedStop) {
            drop(of.borrow_and_update());
        }
        of.changed().await
    }

    pub(crate) async fn sleep(_: Duration) {
        std::future::pending().await
    }
}
