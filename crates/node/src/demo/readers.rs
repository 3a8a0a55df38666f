//! Clients that read while the table loads, so that the history has something to be wrong about.

use std::time::Duration;

use quorate_transport::Rng;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::table::Row;
use quorate_node::client::Client;

/// Readers at a time.
const READERS: u64 = 4;
/// Each begins a read this often at the most.
const PACE: Duration = Duration::from_millis(2);
/// Reads of one reader at the most, so that a long load stays quick to check.
const READS_MAX: usize = 2000;

/// A linearizable read: what was asked, when, and what was answered. Times are in nanoseconds
/// since the load began.
pub(crate) struct Read {
    pub(crate) key: Vec<u8>,
    pub(crate) asked: u64,
    pub(crate) answered: u64,
    pub(crate) value: Option<Vec<u8>>,
}

/// Reads rows in random order until `loaded` turns true, each reader once at least.
pub(crate) async fn read(
    client: &Client,
    rows: &[Row],
    begun: Instant,
    loaded: watch::Receiver<bool>,
) -> Vec<Read> {
    let mut readers = JoinSet::new();
    for number in 0..READERS {
        let keys: Vec<_> = rows.iter().map(|(key, _)| key.clone()).collect();
        readers.spawn(one(client.clone(), keys, begun, loaded.clone(), Rng::new(number)));
    }
    readers.join_all().await.into_iter().flatten().collect()
}

async fn one(
    client: Client,
    keys: Vec<Vec<u8>>,
    begun: Instant,
    mut loaded: watch::Receiver<bool>,
    mut rng: Rng,
) -> Vec<Read> {
    let mut reads = Vec::new();
    let mut beats = interval(PACE);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // A short load is over before a beat: one read comes with it all the same.
    while reads.is_empty() || (reads.len() < READS_MAX && !*loaded.borrow()) {
        tokio::select! {
            biased;
            _ = beats.tick() => {}
            _ = loaded.changed() => continue,
        }
        let key = keys[rng.below(keys.len() as u64) as usize].clone();
        let asked = begun.elapsed().as_nanos() as u64;
        // A read without an answer says nothing, and changes nothing.
        let Ok(value) = client.get(&key, false).await else { break };
        let answered = begun.elapsed().as_nanos() as u64;
        reads.push(Read { key, asked, answered, value: value.map(|value| value.to_vec()) });
    }
    reads
}
