//! What passes over one connection: frames one way, bytes the other.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quorate_transport::Rng;
use quorate_transport::tcp::wire::{ANSWER_BYTES, HELLO_BYTES};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Rules, Shared, count};

/// Frames that wait inside a link at the most; past it the sender's own buffers fill up.
const WAITING_MAX: usize = 256;
/// A frame that is to come after its successor does not wait longer than this for one.
const HELD_MAX: Duration = Duration::from_millis(50);
/// More than any frame has: whoever sends this does not speak our protocol.
const FRAME_BYTES_MAX: usize = 128 << 20;

/// Passes on until one of both ends is closed.
pub(super) async fn run(
    dialed: &mut TcpStream,
    accepted: &mut TcpStream,
    shared: &Shared,
    rng: Rng,
) -> io::Result<()> {
    let (from_dialer, to_dialer) = dialed.split();
    let (from_acceptor, to_acceptor) = accepted.split();
    let (sender, waiting) = mpsc::channel(WAITING_MAX);
    let forth = async {
        let (read, written) =
            (read(from_dialer, sender, shared, rng), write(waiting, to_acceptor, shared));
        tokio::try_join!(read, written).map(|_| ())
    };
    tokio::select! {
        ended = forth => ended,
        ended = back(from_acceptor, to_dialer, shared) => ended,
    }
}

/// A frame on its way, and when it is to arrive.
type Due = (Instant, Bytes);

/// Takes frames off the sender, and does to them what the rules say.
async fn read(
    mut from: ReadHalf<'_>,
    waiting: mpsc::Sender<Due>,
    shared: &Shared,
    mut rng: Rng,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    let mut greeted = false;
    let mut held: Option<Bytes> = None;
    let mut last = Instant::now();
    loop {
        while let Some((bytes, is_frame)) = take(&mut buffer, &mut greeted) {
            let rules = *shared.rules.borrow();
            let out = if is_frame {
                mangle(bytes, rules, &mut held, shared, &mut rng)
            } else {
                vec![bytes]
            };
            let jitter = Duration::from_nanos(rng.below(rules.jitter.as_nanos() as u64 + 1));
            last = last.max(Instant::now() + rules.delay + jitter);
            if !(rules.delay + jitter).is_zero() {
                count(&shared.counts.delayed);
            }
            for bytes in out {
                if waiting.send((last, bytes)).await.is_err() {
                    return Ok(());
                }
            }
        }
        buffer.reserve(16 << 10);
        let more = from.read_buf(&mut buffer);
        let more = if held.is_some() { timeout(HELD_MAX, more).await } else { Ok(more.await) };
        match more {
            Ok(more) => {
                if more? == 0 {
                    return Ok(());
                }
            }
            // No successor came: it goes on in order after all.
            Err(_) => {
                let frame = held.take().unwrap_or_default();
                if waiting.send((last, frame)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

/// What passes in place of one frame.
fn mangle(
    frame: Bytes,
    rules: Rules,
    held: &mut Option<Bytes>,
    shared: &Shared,
    rng: &mut Rng,
) -> Vec<Bytes> {
    let mut hit = |of_thousand: u64| of_thousand > 0 && rng.below(1000) < of_thousand;
    let mut out = Vec::new();
    if hit(rules.garbage) {
        count(&shared.counts.garbled);
        out.push(Bytes::from_static(b"\xff\xffgarbage\xff\xff"));
    }
    if hit(rules.lose) {
        count(&shared.counts.lost);
        return out;
    }
    if held.is_none() && hit(rules.reorder) {
        *held = Some(frame);
        return out;
    }
    if hit(rules.duplicate) {
        count(&shared.counts.duplicated);
        out.push(frame.clone());
    }
    out.push(frame);
    if let Some(held) = held.take() {
        count(&shared.counts.reordered);
        out.push(held);
    }
    out
}

/// The hello, then one length-prefixed frame after the other; true for a frame that is no ping.
fn take(buffer: &mut BytesMut, greeted: &mut bool) -> Option<(Bytes, bool)> {
    if !*greeted {
        *greeted = buffer.len() >= HELLO_BYTES;
        return greeted.then(|| (buffer.split_to(HELLO_BYTES).freeze(), false));
    }
    let len = 4 + u32::from_le_bytes(*buffer.first_chunk()?) as usize;
    if len > FRAME_BYTES_MAX {
        return Some((buffer.split().freeze(), false)); // not ours: it passes as it is
    }
    (buffer.len() >= len).then(|| (buffer.split_to(len).freeze(), len > 4))
}

async fn write(
    mut waiting: mpsc::Receiver<Due>,
    mut to: WriteHalf<'_>,
    shared: &Shared,
) -> io::Result<()> {
    let mut rules = shared.rules.subscribe();
    while let Some((due, bytes)) = waiting.recv().await {
        sleep_until(due).await;
        if shared.rules.borrow().cut {
            count(&shared.counts.cut);
            let _ = rules.wait_for(|rules| !rules.cut).await;
        }
        let narrow = shared.rules.borrow().bytes_per_second;
        if let Some(bytes_per_second) = narrow {
            count(&shared.counts.delayed);
            sleep(Duration::from_secs_f64(bytes.len() as f64 / bytes_per_second as f64)).await;
        }
        to.write_all(&bytes).await?;
        count(&shared.counts.forwarded);
    }
    to.shutdown().await
}

/// Answers to handshakes and pings.
async fn back(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, shared: &Shared) -> io::Result<()> {
    let mut rules = shared.rules.subscribe();
    let mut buffer = BytesMut::with_capacity(ANSWER_BYTES);
    while from.read_buf(&mut buffer).await? > 0 {
        let delay = shared.rules.borrow().delay;
        sleep(delay).await;
        if shared.rules.borrow().cut_back {
            count(&shared.counts.cut);
            let _ = rules.wait_for(|rules| !rules.cut_back).await;
        }
        to.write_all_buf(&mut buffer).await?;
        buffer.reserve(ANSWER_BYTES);
    }
    to.shutdown().await
}
