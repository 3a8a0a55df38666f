//! What tasks and threads of a node meet over: tokio and the standard library, or shuttle's models
//! of both, under which the whole driver runs in every order that shuttle tries.
//!
//! Under shuttle a pause never ends: the engine has to be woken by what it waits for. Events are
//! not modelled, for nothing in the driver waits for them.

#[cfg(shuttle)]
pub(crate) use modelled::{
    Alarm, Mutex, MutexGuard, Notify, changed, recv_many, sleep, take, thread, wake, yield_now,
};
#[cfg(shuttle)]
pub use modelled::{Bug, plant};
#[cfg(not(shuttle))]
pub(crate) use real::*;

#[cfg(not(shuttle))]
mod real {
    use std::future::poll_fn;
    use std::pin::{Pin, pin};
    pub(crate) use std::sync::{Mutex, MutexGuard};
    use std::task::{Context, Poll, Waker};
    pub(crate) use std::thread;
    use std::time::Duration;

    use quorate_transport::Time;

    pub(crate) use tokio::sync::Notify;
    use tokio::sync::watch::error::RecvError;
    use tokio::sync::{mpsc, watch};
    use tokio::task::unconstrained;
    pub(crate) use tokio::task::yield_now;
    pub(crate) use tokio::time::sleep;
    use tokio::time::{Instant, Sleep};

    use crate::clock::boot_time;

    /// No alarm is set to later than this.
    const FAR: Duration = Duration::from_secs(3600);

    /// Rings at some time, or earlier: it is set anew only where it would ring too late, for that
    /// costs two looks at clocks and a place among the runtime's timers.
    pub(crate) struct Alarm {
        at: Time,
        sleep: Pin<Box<Sleep>>,
    }

    impl Alarm {
        /// It rings at once.
        pub(crate) fn new() -> Self {
            Self { at: Time::ZERO, sleep: Box::pin(sleep(Duration::ZERO)) }
        }

        /// Waits for `at`, or for an earlier time that it was once set to.
        pub(crate) async fn ring(&mut self, at: Time) {
            if at < self.at || self.sleep.is_elapsed() {
                self.at = at;
                let wait = at.since(boot_time()).min(FAR);
                self.sleep.as_mut().reset(Instant::now() + wait);
            }
            self.sleep.as_mut().await;
        }
    }

    /// As [`mpsc::Receiver::recv_many`].
    pub(crate) async fn recv_many<T>(
        from: &mut mpsc::Receiver<T>,
        into: &mut Vec<T>,
        max: usize,
    ) -> usize {
        from.recv_many(into, max).await
    }

    /// Takes what is there, up to `max`, in one go; does not wait.
    pub(crate) fn take<T>(from: &mut mpsc::Receiver<T>, into: &mut Vec<T>, max: usize) -> usize {
        // A task that has used its budget up would find the channel empty, and nobody wakes it.
        let taken = unconstrained(poll_fn(|cx| from.poll_recv_many(cx, into, max)));
        match pin!(taken).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(count) => count,
            Poll::Pending => 0,
        }
    }

    /// Wakes all of them.
    pub(crate) fn wake(wakers: impl IntoIterator<Item = Waker>) {
        wakers.into_iter().for_each(Waker::wake);
    }

    /// As [`watch::Receiver::changed`].
    pub(crate) async fn changed(of: &mut watch::Receiver<bool>) -> Result<(), RecvError> {
        of.changed().await
    }
}

#[cfg(shuttle)]
mod modelled {
    use std::cell::Cell;
    use std::task::Waker;
    use std::time::Duration;

    pub(crate) use shuttle::sync::{Mutex, MutexGuard};
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
        /// Of those who wait for room in a mailbox, one is not told that there is some.
        LostRoom,
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
        let count = 1 + take(from, into, max - 1);
        if count > 1 && is_planted(Bug::LostTail) {
            into.pop();
            return count - 1;
        }
        count
    }

    pub(crate) fn take<T>(from: &mut mpsc::Receiver<T>, into: &mut Vec<T>, max: usize) -> usize {
        let mut count = 0;
        while count < max
            && let Ok(next) = from.try_recv()
        {
            into.push(next);
            count += 1;
        }
        count
    }

    pub(crate) fn wake(wakers: impl IntoIterator<Item = Waker>) {
        let left_out = usize::from(is_planted(Bug::LostRoom));
        wakers.into_iter().skip(left_out).for_each(Waker::wake);
    }

    pub(crate) async fn yield_now() {
        tokio::task::yield_now().await;
    }

    pub(crate) async fn changed(of: &mut watch::Receiver<bool>) -> Result<(), RecvError> {
        if is_planted(Bug::MissedStop) {
            drop(of.borrow_and_update());
        }
        of.changed().await
    }

    pub(crate) struct Alarm;

    impl Alarm {
        pub(crate) fn new() -> Self {
            Self
        }

        pub(crate) async fn ring(&mut self, _: quorate_transport::Time) {
            std::future::pending().await
        }
    }

    pub(crate) async fn sleep(_: Duration) {
        std::future::pending().await
    }
}
