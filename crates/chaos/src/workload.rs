//! Clients that put, get, swap and delete while the cluster suffers, and write down what they saw.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quorate_node::client::{Client, ClientError, Session};
use quorate_transport::{Rng, Time};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;
use crate::judge::{Event, Op, Output};

/// Clients at a time, each with connections of its own.
const CLIENTS: u64 = 8;
/// Keys that are written at a time.
const KEYS: u64 = 12;
/// Keys are left for others after this long: what is undecided about one stays little.
const KEYS_LAST: Duration = Duration::from_secs(10);
/// An operation is given up after this long; what became of it is then unknown.
const PATIENCE: Duration = Duration::from_millis(1200);
/// A client pauses for up to this long after each operation.
const PAUSE_MAX: Duration = Duration::from_millis(16);
/// Of a hundred writes so many are padded to `PADDED_BYTES`, so that the log grows.
const PADDED_PERCENT: u64 = 10;
const PADDED_BYTES: usize = 4096;

/// What all clients have seen.
#[derive(Default)]
pub(crate) struct Seen {
    /// In no order.
    pub(crate) history: Vec<Event>,
    /// Keys that were put once and never touched again, and were acknowledged.
    pub(crate) acknowledged: Vec<(String, String)>,
    /// What no client may ever be told.
    pub(crate) wrong: Vec<String>,
}

/// Clients at work.
pub(crate) struct Workload {
    begun: Instant,
    done: Arc<AtomicU64>,
    stop: watch::Sender<bool>,
    clients: JoinSet<Seen>,
}

impl Workload {
    /// Sets all clients to work.
    pub(crate) fn start(cluster: &Cluster, seed: u64) -> Self {
        let (begun, done) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let stop = watch::channel(false).0;
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let one = One {
                number,
                client: cluster.client(PATIENCE),
                rng: Rng::new(seed ^ (number + 1) << 20),
                begun,
                done: Arc::clone(&done),
                count: 0,
                known: BTreeMap::new(),
                seen: Seen::default(),
            };
            clients.spawn(one.run(stop.subscribe()));
        }
        Self { begun, done, stop, clients }
    }

    /// Operations that were answered so far.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// The clock of the history.
    pub(crate) fn clock(&self) -> Instant {
        self.begun
    }

    /// Lets every client end what it is about.
    pub(crate) async fn stop(mut self) -> Seen {
        self.stop.send_replace(true);
        let mut all = Seen::default();
        while let Some(seen) = self.clients.join_next().await {
            match seen {
                Ok(seen) => {
                    all.history.extend(seen.history);
                    all.acknowledged.extend(seen.acknowledged);
                    all.wrong.extend(seen.wrong);
                }
                Err(error) => all.wrong.push(format!("a client failed: {error}")),
            }
        }
        all
    }
}

/// The time on the clock of a history.
pub(crate) fn since(begun: Instant) -> Time {
    Time::from_nanos(begun.elapsed().as_nanos() as u64)
}

struct One {
    number: u64,
    client: Client,
    rng: Rng,
    begun: Instant,
    done: Arc<AtomicU64>,
    /// Values so far: no two are equal.
    count: u64,
    /// What each key had when this client last saw it, of those that are written now.
    known: BTreeMap<String, Option<Vec<u8>>>,
    seen: Seen,
}

impl One {
    async fn run(mut self, stop: watch::Receiver<bool>) -> Seen {
        let mut session = None;
        while !*stop.borrow() {
            let Some(open) = &session else {
                // A session that nobody uses: whatever became of it does not matter.
                session = self.client.session().await.ok();
                continue;
            };
            if !self.step(open).await {
                session = None;
            }
            sleep(Duration::from_nanos(self.rng.below(PAUSE_MAX.as_nanos() as u64))).await;
        }
        self.seen
    }

    /// One operation; false when what became of a write is unknown.
    async fn step(&mut self, session: &Session) -> bool {
        let age = self.begun.elapsed().as_millis() / KEYS_LAST.as_millis();
        let key = format!("k{age:04}-{:02}", self.rng.below(KEYS));
        self.known.retain(|known, _| known[..5] == key[..5]);
        match self.rng.below(100) {
            0..40 => self.get(key).await,
            40..65 => self.put(session, key).await,
            65..85 => self.swap(session, key).await,
            85..95 => self.delete(session, key).await,
            _ => self.put_once(session).await,
        }
    }

    fn value(&mut self) -> (String, Vec<u8>) {
        self.count += 1;
        let name = format!("c{}-{}", self.number, self.count);
        let padded = self.rng.below(100) < PADDED_PERCENT;
        (name.clone(), padded_value(&name, if padded { PADDED_BYTES } else { 0 }))
    }

    async fn get(&mut self, key: String) -> bool {
        let called = since(self.begun);
        // A read without an answer says nothing, and changes nothing.
        let Ok(value) = self.client.get(key.as_bytes(), false).await else { return true };
        let returned = since(self.begun);
        self.known.insert(key.clone(), value.as_ref().map(|value| value.to_vec()));
        let name = value.map(|value| value_name(&value)).transpose();
        match name {
            Ok(name) => self.record(called, Op::Get { key }, Some((returned, Output::Value(name)))),
            Err(error) => self.seen.wrong.push(format!("{key}: {error}")),
        }
        true
    }

    async fn put(&mut self, session: &Session, key: String) -> bool {
        let (name, value) = self.value();
        let called = since(self.begun);
        let answer = session.put(key.as_bytes(), &value).await;
        self.known.insert(key.clone(), Some(value));
        self.wrote(called, Op::Put { key, value: name }, answer.map(Output::Existed))
    }

    /// Sets a key if it is as this client saw it last.
    async fn swap(&mut self, session: &Session, key: String) -> bool {
        let (name, value) = self.value();
        let known = self.known.get(&key).cloned().flatten();
        let Ok(expected) = known.as_deref().map(value_name).transpose() else {
            return true; // it was told when it was read
        };
        let called = since(self.begun);
        let answer = session.compare_and_set(key.as_bytes(), known.as_deref(), Some(&value)).await;
        match answer {
            Ok(true) => drop(self.known.insert(key.clone(), Some(value))),
            _ => drop(self.known.remove(&key)),
        }
        self.wrote(called, Op::Swap { key, expected, value: name }, answer.map(Output::Swapped))
    }

    async fn delete(&mut self, session: &Session, key: String) -> bool {
        let called = since(self.begun);
        let answer = session.delete(key.as_bytes()).await;
        self.known.insert(key.clone(), None);
        self.wrote(called, Op::Delete { key }, answer.map(Output::Existed))
    }

    async fn put_once(&mut self, session: &Session) -> bool {
        let (name, value) = self.value();
        let key = format!("once-{name}");
        let called = since(self.begun);
        let answer = session.put(key.as_bytes(), &value).await;
        if answer.is_ok() {
            self.seen.acknowledged.push((key.clone(), name.clone()));
        }
        self.wrote(called, Op::Put { key, value: name }, answer.map(Output::Existed))
    }

    fn wrote(&mut self, called: Time, op: Op, answer: Result<Output, ClientError>) -> bool {
        let returned = since(self.begun);
        match answer {
            Ok(output) => {
                self.record(called, op, Some((returned, output)));
                true
            }
            Err(ClientError::NoQuorum(_) | ClientError::Unknown) => {
                self.record(called, op, None);
                false
            }
            Err(error) => {
                self.seen.wrong.push(format!("{op:?}: {error}"));
                self.record(called, op, None);
                false
            }
        }
    }

    fn record(&mut self, called: Time, op: Op, returned: Option<(Time, Output)>) {
        if returned.is_some() {
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        self.seen.history.push(Event { client: self.number, called, returned, op });
    }
}

/// A value: its name, and padding that depends on it.
fn padded_value(name: &str, padding: usize) -> Vec<u8> {
    let pad = name.bytes().cycle().take(padding);
    name.bytes().chain([b':']).chain(pad).collect()
}

/// The name of a value.
///
/// # Errors
/// The bytes are none that were put.
pub(crate) fn value_name(value: &[u8]) -> Result<String, String> {
    let end = value.iter().position(|byte| *byte == b':').ok_or("a value without a name")?;
    let name = String::from_utf8_lossy(&value[..end]).into_owned();
    if padded_value(&name, value.len() - end - 1) != value {
        return Err(format!("the value {name} is damaged"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_value_is_none() {
        for padding in [0, 100] {
            let mut value = padded_value("c1-20", padding);
            assert_eq!(value_name(&value).as_deref(), Ok("c1-20"));
            value.push(b'x');
            assert!(value_name(&value).is_err());
        }
        assert!(value_name(b"nothing").is_err());
    }
}
