//! A bounded queue from many senders to the engine, which takes all of it at once.
//!
//! One lock, and the wakers of senders that wait for room kept under it. A channel of tokio's costs
//! several contended steps a mail, and another for each that is taken out.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use crate::sync::{Mutex, MutexGuard, Notify, wake};

/// Why a mail was not taken; it comes back.
#[derive(Debug)]
pub(crate) enum NotSent<T> {
    /// There is no room.
    Full(T),
    /// Nobody takes mail any more.
    Closed,
}

struct Shared<T> {
    max: usize,
    /// Of the engine.
    wake: Arc<Notify>,
    state: Mutex<State<T>>,
}

struct State<T> {
    mails: Vec<T>,
    /// Who waits for room, by a number of its own.
    waiting: VecDeque<(u64, Waker)>,
    numbers: u64,
    closed: bool,
}

impl<T> State<T> {
    /// Notes whom to wake once there is room: one place for each who waits, however often it looks.
    fn wait(&mut self, number: &mut Option<u64>, waker: &Waker) {
        let known = |(of, _): &&mut (u64, Waker)| Some(*of) == *number;
        if let Some((_, known)) = self.waiting.iter_mut().find(known) {
            known.clone_from(waker);
        } else {
            self.numbers += 1;
            *number = Some(self.numbers);
            self.waiting.push_back((self.numbers, waker.clone()));
        }
    }

    fn all_who_wait(&mut self) -> impl Iterator<Item = Waker> + use<T> {
        std::mem::take(&mut self.waiting).into_iter().map(|(_, waker)| waker)
    }
}

/// A place among those who wait for room; given up when dropped.
struct Place<'a, T> {
    shared: &'a Shared<T>,
    number: Option<u64>,
}

impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.shared.lock().waiting.retain(|(of, _)| *of != number);
        }
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No step leaves the state half done.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A mailbox of at most `max` mails; `wake` is called when there is something in it.
pub(crate) fn mailbox<T>(max: usize, wake: Arc<Notify>) -> (Slit<T>, Mailbox<T>) {
    let state = State { mails: Vec::new(), waiting: VecDeque::new(), numbers: 0, closed: false };
    let shared = Arc::new(Shared { max: max.max(1), wake, state: Mutex::new(state) });
    (Slit { shared: Arc::clone(&shared) }, Mailbox { shared })
}

/// Where mails go in.
pub(crate) struct Slit<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Slit<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> fmt::Debug for Slit<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.shared.lock().mails.len();
        f.debug_struct("Slit").field("mails", &waiting).field("max", &self.shared.max).finish()
    }
}

impl<T> Slit<T> {
    /// Puts a mail in, unless there is no room.
    pub(crate) fn try_send(&self, mail: T) -> Result<(), NotSent<T>> {
        self.put(mail, None)
    }

    /// Puts a mail in, waiting for room; false when nobody takes mail any more.
    pub(crate) async fn send(&self, mail: T) -> bool {
        let mut place = Place { shared: &*self.shared, number: None };
        let mut left = Some(mail);
        poll_fn(|cx| {
            let Some(mail) = left.take() else { return Poll::Ready(true) };
            match self.put(mail, Some((&mut place.number, cx.waker()))) {
                Ok(()) => Poll::Ready(true),
                Err(NotSent::Closed) => Poll::Ready(false),
                Err(NotSent::Full(mail)) => {
                    left = Some(mail);
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Where there is no room, whoever `waits` is woken once there is some.
    fn put(&self, mail: T, waits: Option<(&mut Option<u64>, &Waker)>) -> Result<(), NotSent<T>> {
        let mut state = self.shared.lock();
        if state.closed {
            return Err(NotSent::Closed);
        }
        if state.mails.len() >= self.shared.max {
            if let Some((number, waker)) = waits {
                state.wait(number, waker);
            }
            return Err(NotSent::Full(mail));
        }
        state.mails.push(mail);
        let first = state.mails.len() == 1;
        drop(state);
        if first {
            self.shared.wake.notify_one(); // the others find the engine awake, or about to be
        }
        Ok(())
    }
}

/// Where mails come out; closes when dropped.
pub(crate) struct Mailbox<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Mailbox<T> {
    /// Takes all there is; `into` must be empty, and its memory is used for what comes next.
    pub(crate) fn take(&mut self, into: &mut Vec<T>) {
        debug_assert!(into.is_empty(), "what was taken before is dealt with");
        let mut state = self.shared.lock();
        std::mem::swap(&mut state.mails, into);
        let woken = state.all_who_wait();
        drop(state);
        wake(woken);
    }

    /// Takes no more mail; what waits is dropped, and its senders told.
    pub(crate) fn close(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        let mails = std::mem::take(&mut state.mails);
        let woken = state.all_who_wait();
        drop(state);
        drop(mails);
        wake(woken);
    }
}

impl<T> Drop for Mailbox<T> {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    fn small() -> (Slit<u32>, Mailbox<u32>, Arc<Notify>) {
        let wake = Arc::new(Notify::new());
        let (slit, mailbox) = mailbox(2, Arc::clone(&wake));
        (slit, mailbox, wake)
    }

    fn is_ready(future: impl Future) -> bool {
        pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_first_mail_wakes_and_all_are_taken_in_order() {
        let (slit, mut mailbox, wake) = small();
        assert!(!is_ready(wake.notified()));
        let mut taken = Vec::new();
        for round in 0..3 {
            slit.try_send(round).unwrap();
            assert!(is_ready(wake.notified()), "the first");
            slit.try_send(round + 1).unwrap();
            assert!(!is_ready(wake.notified()), "the second");
            assert!(matches!(slit.try_send(9), Err(NotSent::Full(9))));
            mailbox.take(&mut taken);
            assert_eq!(taken, [round, round + 1]);
            taken.clear();
        }
    }

    #[test]
    fn who_waits_for_room_goes_on_when_there_is_some_or_when_it_closes() {
        let (slit, mut mailbox, _) = small();
        (0..2).for_each(|number| slit.try_send(number).unwrap());
        let mut cx = Context::from_waker(Waker::noop());
        let (mut third, mut fourth) = (pin!(slit.send(2)), pin!(slit.send(3)));
        assert_eq!(third.as_mut().poll(&mut cx), Poll::Pending);
        assert_eq!(fourth.as_mut().poll(&mut cx), Poll::Pending);
        let mut taken = Vec::new();
        mailbox.take(&mut taken);
        assert_eq!(third.as_mut().poll(&mut cx), Poll::Ready(true));
        assert_eq!(std::mem::take(&mut taken), [0, 1]);
        drop(mailbox);
        assert_eq!(fourth.as_mut().poll(&mut cx), Poll::Ready(false));
        assert!(matches!(slit.try_send(4), Err(NotSent::Closed)));
    }

    #[test]
    fn who_gives_up_or_looks_again_takes_no_more_room_among_those_who_wait() {
        let (slit, _mailbox, _) = small();
        (0..2).for_each(|number| slit.try_send(number).unwrap());
        let waiting = || slit.shared.lock().waiting.len();
        let mut stays = pin!(slit.send(2));
        for number in 0..100 {
            assert!(stays.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            assert!(!is_ready(slit.send(number)));
        }
        assert_eq!(waiting(), 1);
    }
}
