//! Sessions of a client: many commands under way, each applied once, each to be asked for again.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{Client, ClientError, lock};
use crate::kv;
use crate::wire::{Answer, Body};

/// A session: its commands are applied once each, and can be retried safely. Clones share it.
///
/// A session that is not used for long expires ([`ClientError::SessionExpired`]).
#[derive(Clone)]
pub struct Session {
    client: Client,
    id: u64,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// A command under way has ended.
    ended: Notify,
}

/// How far the newest command may be ahead of the oldest unanswered one: less than the answers
/// that a replica remembers, or the oldest could be forgotten while it is retried.
const AHEAD_MAX: u64 = 200;

struct State {
    next: u64,
    /// Numbers under way.
    open: BTreeSet<u64>,
}

impl State {
    /// The next number, and the one up to which all is answered; `None` when it would be too far
    /// ahead.
    fn begin(&mut self) -> Option<(u64, u64)> {
        let sequence = self.next;
        let oldest = self.open.first().copied().unwrap_or(sequence);
        if sequence - oldest >= AHEAD_MAX {
            return None;
        }
        self.next += 1;
        self.open.insert(sequence);
        Some((sequence, oldest - 1))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(client: Client, id: u64) -> Self {
        let state = Mutex::new(State { next: 1, open: BTreeSet::new() });
        Self { client, id, shared: Arc::new(Shared { state, ended: Notify::new() }) }
    }

    /// Sets a key; says whether it was there.
    ///
    /// # Errors
    /// [`ClientError`].
    ///
    /// # Cancel safety
    /// The command may be done all the same, once. The session goes on.
    pub async fn put(&self, key: &[u8], value: &[u8]) -> Result<bool, ClientError> {
        if value.len() > kv::VALUE_BYTES_MAX {
            return Err(ClientError::ValueTooLong(value.len()));
        }
        check_key(key)?;
        self.submit(kv::put(key, value)).await.outcome().await
    }

    /// Removes a key; says whether it was there.
    ///
    /// # Errors
    /// [`ClientError`].
    ///
    /// # Cancel safety
    /// As [`put`](Self::put).
    pub async fn delete(&self, key: &[u8]) -> Result<bool, ClientError> {
        check_key(key)?;
        self.submit(kv::delete(key)).await.outcome().await
    }

    /// Sets a key, or removes it where `value` is `None`, if it has the value that is `expected`,
    /// or is not there where that is `None`; says whether it did.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::ValueTooLong`] of both values together.
    ///
    /// # Cancel safety
    /// As [`put`](Self::put).
    pub async fn compare_and_set(
        &self,
        key: &[u8],
        expected: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<bool, ClientError> {
        let bytes = [expected, value].into_iter().flatten().map(<[u8]>::len).sum();
        if bytes > kv::VALUE_BYTES_MAX {
            return Err(ClientError::ValueTooLong(bytes));
        }
        check_key(key)?;
        self.submit(kv::compare_and_set(key, expected, value)).await.outcome().await
    }

    /// Takes a command of the [map](kv) in, which is sent when its outcome is asked for. Waits
    /// while the oldest command that is not over lies too far back.
    ///
    /// # Cancel safety
    /// Safe: nothing was taken in.
    pub async fn submit(&self, command: Bytes) -> Pending {
        loop {
            let ended = self.shared.ended.notified();
            let begun = lock(&self.shared.state).begin();
            match begun {
                Some((sequence, answered)) => {
                    let stamp = Some((self.id, sequence, answered));
                    let body = Body::Apply { stamp, command: command.to_vec() };
                    return Pending { session: self.clone(), sequence, body };
                }
                None => ended.await,
            }
        }
    }
}

/// A command that is applied once, however often its outcome is asked for. Where it is dropped
/// before that is known, it was done, will be, or never was.
#[must_use = "it is sent when its outcome is asked for"]
pub struct Pending {
    session: Session,
    sequence: u64,
    body: Body,
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Pending");
        out.field("session", &self.session.id).field("sequence", &self.sequence).finish()
    }
}

impl Pending {
    /// Sends the command to whoever leads until it is known what became of it: whether its key was
    /// there, or, of a swap, whether it did anything. After an error it may be asked again, which
    /// resolves what was unknown.
    ///
    /// # Errors
    /// [`ClientError::NoQuorum`], and the command may yet be done; [`ClientError::SessionExpired`];
    /// [`ClientError::Refused`].
    ///
    /// # Cancel safety
    /// Safe: the next call asks for the same command.
    pub async fn outcome(&mut self) -> Result<bool, ClientError> {
        match self.session.client.until_done(&self.body, true).await? {
            Answer::Done(output) => Ok(output == [1]),
            Answer::Expired => Err(ClientError::SessionExpired),
            _ => Err(ClientError::Unknown),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        lock(&self.session.shared.state).open.remove(&self.sequence);
        self.session.shared.ended.notify_waiters();
    }
}

fn check_key(key: &[u8]) -> Result<(), ClientError> {
    match key.len() {
        0 => Err(ClientError::Refused("the key is empty".into())),
        len if len > kv::KEY_BYTES_MAX => Err(ClientError::KeyTooLong(len)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_within_what_replicas_remember_and_acknowledge_what_is_over() {
        let mut state = State { next: 1, open: BTreeSet::new() };
        let all: Vec<_> = std::iter::from_fn(|| state.begin()).collect();
        assert_eq!(all.len() as u64, AHEAD_MAX);
        assert!(all.iter().all(|(_, answered)| *answered == 0));
        state.open.remove(&2);
        assert_eq!(state.begin(), None, "the oldest is not over");
        state.open.remove(&1);
        assert_eq!(state.begin(), Some((AHEAD_MAX + 1, 2)));
    }
}
