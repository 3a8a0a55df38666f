//! Puts in a closed loop: so many clients, each with one put under way.
#![allow(clippy::disallowed_methods, reason = "a benchmark's stopwatch")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

/// The runtime of every side: one worker a core, for nodes and clients together.
///
/// # Panics
/// When threads cannot be started.
#[must_use]
pub fn runtime() -> Runtime {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(workers).enable_time().build().expect("a machine with threads")
}

/// A client of a running cluster; its clones are more of them.
pub trait Client: Clone + Send + 'static {
    /// Puts an empty payload; done once it is committed and applied at the leader.
    fn put(&self) -> impl Future<Output = ()> + Send;
}

/// Puts a second that `clients` clients reach together in `time`.
pub async fn rate(client: &impl Client, clients: u64, time: Duration) -> f64 {
    let over = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let one = |_| {
        let (client, over) = (client.clone(), Arc::clone(&over));
        tokio::spawn(async move {
            let mut puts = 0u64;
            while !over.load(Ordering::Relaxed) {
                client.put().await;
                puts += 1;
            }
            puts
        })
    };
    let running: Vec<_> = (0..clients).map(one).collect();
    tokio::time::sleep(time).await;
    over.store(true, Ordering::Relaxed);
    let mut puts = 0;
    for client in running {
        puts += client.await.expect("a client that does not panic");
    }
    puts as f64 / begun.elapsed().as_secs_f64()
}
