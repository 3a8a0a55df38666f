//! One link from one node to another: a TCP proxy that knows where frames begin and end.
//!
//! A node dials each peer for its own sending, so a link carries frames one way, towards the node
//! that accepts, and only answers to handshakes and pings back. Every ordered pair of nodes has a
//! link of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quorate_transport::Rng;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

mod pump;

/// What a link does to what passes. The default is a clean link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Nothing passes towards the node that accepts.
    pub(crate) cut: bool,
    /// Nothing passes back.
    pub(crate) cut_back: bool,
    /// Everything comes this much later.
    pub(crate) delay: Duration,
    /// Frames come up to this much later still, in order.
    pub(crate) jitter: Duration,
    /// How fast frames pass, together.
    pub(crate) bytes_per_second: Option<u64>,
    /// Of a thousand frames so many are lost.
    pub(crate) lose: u64,
    /// Of a thousand frames so many come twice.
    pub(crate) duplicate: u64,
    /// Of a thousand frames so many come after their successor.
    pub(crate) reorder: u64,
    /// Before so many of a thousand frames there are bytes that nobody sent.
    pub(crate) garbage: u64,
}

impl Rules {
    /// Nothing passes in either direction.
    pub(crate) const CUT: Self = Self { cut: true, cut_back: true, ..Self::CLEAN };

    const CLEAN: Self = Self {
        cut: false,
        cut_back: false,
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        bytes_per_second: None,
        lose: 0,
        duplicate: 0,
        reorder: 0,
        garbage: 0,
    };
}

/// What a link has done so far.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) forwarded: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) duplicated: AtomicU64,
    pub(crate) reordered: AtomicU64,
    pub(crate) garbled: AtomicU64,
    /// Frames that came later than they would have, for a delay or a narrow link.
    pub(crate) delayed: AtomicU64,
    /// Frames, and attempts to connect, that had to wait for a cut to end.
    pub(crate) cut: AtomicU64,
    pub(crate) reset: AtomicU64,
    pub(crate) half_open: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// How a connection is broken from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Break {
    /// Both ends are reset.
    Reset,
    /// The end that accepted is reset, and the one that dialed hears nothing more, not even that.
    HalfOpen,
}

/// A running link; ends when dropped.
#[derive(Debug)]
pub(crate) struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    rules: watch::Sender<Rules>,
    /// How often connections were broken, and how at last.
    breaks: watch::Sender<(u64, Break)>,
    counts: Counts,
    /// Seeds of the connections.
    seed: u64,
}

impl Link {
    /// Listens on `listen` and passes on what comes to `target`.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub(crate) async fn open(
        listen: SocketAddr,
        target: SocketAddr,
        seed: u64,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target,
            rules: watch::channel(Rules::CLEAN).0,
            breaks: watch::channel((0, Break::Reset)).0,
            counts: Counts::default(),
            seed,
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self { address, shared, accepting })
    }

    /// Where to dial.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it does from now on, to connections that are open too.
    pub(crate) fn set(&self, rules: Rules) {
        self.shared.rules.send_replace(rules);
    }

    /// Changes what it does from now on.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Rules)) {
        self.shared.rules.send_modify(change);
    }

    /// Resets every connection that is open.
    pub(crate) fn reset(&self) {
        self.shared
            .breaks
            .send_modify(|(number, how)| (*number, *how) = (*number + 1, Break::Reset));
    }

    /// Leaves every connection that is open to whoever dialed it, for ever silent.
    pub(crate) fn half_open(&self) {
        let breaks = &self.shared.breaks;
        breaks.send_modify(|(number, how)| (*number, *how) = (*number + 1, Break::HalfOpen));
    }

    /// What it has done so far.
    pub(crate) fn counts(&self) -> &Counts {
        &self.shared.counts
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new(); // they end with this task
    let mut number = 0;
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((dialed, _)) => {
                number += 1;
                let rng = Rng::new(shared.seed.wrapping_add(number << 32));
                connections.spawn(connection(dialed, Arc::clone(&shared), rng));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn connection(mut dialed: TcpStream, shared: Arc<Shared>, rng: Rng) {
    let mut breaks = shared.breaks.subscribe();
    breaks.mark_unchanged();
    let accepted = tokio::select! {
        accepted = dial(&shared) => accepted,
        _ = breaks.changed() => return reset(&shared, [&dialed]),
    };
    let Ok(mut accepted) = accepted else { return reset(&shared, [&dialed]) };
    let _ = (dialed.set_nodelay(true), accepted.set_nodelay(true));
    let pumped = tokio::select! {
        _ = pump::run(&mut dialed, &mut accepted, &shared, rng) => None,
        _ = breaks.changed() => Some(breaks.borrow_and_update().1),
    };
    match pumped {
        None => {}
        Some(Break::Reset) => reset(&shared, [&dialed, &accepted]),
        Some(Break::HalfOpen) => {
            count(&shared.counts.half_open);
            let _ = SockRef::from(&accepted).set_linger(Some(Duration::ZERO));
            drop(accepted);
            // Whoever dialed has to find out alone, or a reset tells it in the end.
            while breaks.changed().await.is_ok() {
                if breaks.borrow_and_update().1 == Break::Reset {
                    return reset(&shared, [&dialed]);
                }
            }
        }
    }
}

/// Reaches the node that accepts, once nothing is cut.
async fn dial(shared: &Shared) -> io::Result<TcpStream> {
    let mut rules = shared.rules.subscribe();
    if shared.rules.borrow().cut || shared.rules.borrow().cut_back {
        count(&shared.counts.cut);
    }
    let _ = rules.wait_for(|rules| !rules.cut && !rules.cut_back).await;
    TcpStream::connect(shared.target).await
}

/// Closing without lingering sends a reset.
fn reset<const N: usize>(shared: &Shared, streams: [&TcpStream; N]) {
    count(&shared.counts.reset);
    for stream in streams {
        let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    }
}

#[cfg(test)]
mod tests;
