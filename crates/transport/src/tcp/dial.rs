//! Dialing one peer for one class, for ever, and writing to it.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::hello::{Hello, Refusal, verdict};
use super::{Shared, lock};
use crate::ids::NodeId;
use crate::machine::LinkState;
use crate::rng::Rng;
use crate::wire::Class;

const SLICES_MAX: usize = 64;

pub(super) async fn run(shared: Arc<Shared>, peer: NodeId, class: Class) {
    let mut rng = Rng::new(shared.config.seed).fork(peer.0 << 2 | class as u64);
    let mut wait = shared.config.backoff_min;
    let mut closed = shared.closed.subscribe();
    let Some(nudge) = lock(&shared.peers).get(&peer).map(|state| Arc::clone(&state.nudge)) else {
        return;
    };
    while !*closed.borrow() {
        let connected = tokio::select! {
            connected = connect(&shared, peer, class) => connected,
            _ = closed.wait_for(|closed| *closed) => return,
        };
        if let Ok(stream) = connected {
            wait = shared.config.backoff_min;
            serve(&shared, peer, class, stream).await;
        }
        let pause = rng.duration(wait / 2, wait);
        wait = (wait * 2).min(shared.config.backoff_max);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = nudge.notified() => wait = shared.config.backoff_min,
            _ = closed.wait_for(|closed| *closed) => return,
        }
    }
}

async fn connect(shared: &Shared, peer: NodeId, class: Class) -> io::Result<TcpStream> {
    let address = lock(&shared.addresses).get(&peer).cloned().unwrap_or_default();
    let patience = shared.config.handshake_timeout;
    let shake = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let hello = Hello::new(shared.config.cluster, shared.config.me, peer, class);
        stream.write_all(&hello.encode()).await?;
        let verdict = verdict(&mut stream).await?;
        io::Result::Ok((stream, verdict))
    };
    let (stream, verdict) = timeout(patience, shake).await??;
    match verdict {
        Ok(()) => Ok(stream),
        Err(refusal) => {
            refused_by(shared, peer, refusal);
            Err(io::Error::new(io::ErrorKind::ConnectionRefused, refusal))
        }
    }
}

fn refused_by(shared: &Shared, peer: NodeId, refusal: Refusal) {
    shared.count(|stats| *stats.refused_by.entry((peer, refusal)).or_default() += 1);
}

/// Writes until the connection breaks or the transport closes.
async fn serve(shared: &Shared, peer: NodeId, class: Class, stream: TcpStream) {
    let Some(queue) = shared.outgoing.get(&(peer, class)) else { return };
    let (mut reader, mut writer) = stream.into_split();
    queue.set_connected(true);
    if class == Class::Urgent {
        shared.link(peer, LinkState::Up);
    }
    tokio::select! {
        () = write_all(shared, peer, class, &mut writer) => {}
        () = until_closed(&mut reader) => {}
    }
    queue.set_connected(false);
    if class == Class::Urgent {
        shared.link(peer, LinkState::Down);
    }
}

/// The peer says nothing on a connection that it accepted: whatever is read is its end.
async fn until_closed(reader: &mut OwnedReadHalf) {
    let _ = reader.read(&mut [0; 1]).await;
}

async fn write_all(shared: &Shared, peer: NodeId, class: Class, writer: &mut OwnedWriteHalf) {
    let Some(queue) = shared.outgoing.get(&(peer, class)) else { return };
    let mut chunks = VecDeque::new();
    let mut frames = VecDeque::new();
    loop {
        let count = queue.take(&mut chunks, &mut frames);
        if count == 0 {
            if queue.is_closed() {
                return;
            }
            queue.wake.notified().await;
            continue;
        }
        match write_chunks(writer, &mut chunks, shared.config.write_timeout).await {
            Ok(()) => shared.count(|stats| stats.sent += count as u64),
            Err(error) => {
                if error.kind() == io::ErrorKind::TimedOut {
                    shared.count(|stats| stats.too_slow += 1);
                }
                return;
            }
        }
    }
}

/// Writes everything; each write must make progress within `patience`.
async fn write_chunks(
    writer: &mut OwnedWriteHalf,
    chunks: &mut VecDeque<Bytes>,
    patience: Duration,
) -> io::Result<()> {
    while !chunks.is_empty() {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(chunks.iter()) {
            *slice = IoSlice::new(chunk);
            count += 1;
        }
        let write = writer.write_vectored(&slices[..count]);
        let mut written = match timeout(patience, write).await {
            Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written?,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        while let Some(front) = chunks.front_mut() {
            if written < front.len() {
                front.advance(written);
                break;
            }
            written -= front.len();
            chunks.pop_front();
        }
    }
    Ok(())
}
