//! Accepting peers, and reading what they send.

use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::hello::{Hello, Refusal, answer};
use super::{Shared, lock};
use crate::frame::Frame;
use crate::ids::Peer;
use crate::link::Incoming;
use crate::machine::LinkState;
use crate::wire::Class;

const READ_BYTES: usize = 64 << 10;

pub(super) async fn run(shared: Arc<Shared>, listener: TcpListener) {
    let mut closed = shared.closed.subscribe();
    let room = Arc::new(Semaphore::new(shared.config.handshakes_max));
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = tasks.join_next() => continue,
            _ = closed.wait_for(|closed| *closed) => return,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, most likely: give others time to close theirs.
            sleep(shared.config.backoff_min).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            shared.count(|stats| stats.crowded += 1);
            continue;
        };
        let shared = Arc::clone(&shared);
        tasks.spawn(async move {
            let patience = shared.config.handshake_timeout;
            if let Ok(Ok((stream, hello, end))) = timeout(patience, shake(&shared, stream)).await {
                drop(permit);
                serve(&shared, stream, hello, end).await;
            }
        });
    }
}

/// Hears who it is, and says whether that is welcome.
async fn shake(
    shared: &Shared,
    mut stream: TcpStream,
) -> io::Result<(TcpStream, Hello, Arc<Notify>)> {
    stream.set_nodelay(true)?;
    let judged = match Hello::read(&mut stream).await? {
        Ok(hello) => judge(shared, &hello).map(|end| (hello, end)),
        Err(refusal) => Err(refusal),
    };
    answer(&mut stream, judged.as_ref().map(|_| ()).map_err(|refusal| *refusal)).await?;
    match judged {
        Ok((hello, end)) => Ok((stream, hello, end)),
        Err(refusal) => {
            shared.count(|stats| *stats.refused.entry(refusal).or_default() += 1);
            Err(io::Error::new(io::ErrorKind::PermissionDenied, refusal))
        }
    }
}

/// Welcomes a peer's newest life; what its earlier connections were is ended.
fn judge(shared: &Shared, hello: &Hello) -> Result<Arc<Notify>, Refusal> {
    if hello.cluster != shared.config.cluster {
        return Err(Refusal::WrongCluster);
    }
    if hello.to != shared.config.me.node {
        return Err(Refusal::WrongDestination);
    }
    let mut peers = lock(&shared.peers);
    let state = peers.get_mut(&hello.from.node).ok_or(Refusal::UnknownPeer)?;
    if hello.from.incarnation < state.incarnation {
        return Err(Refusal::OlderIncarnation);
    }
    if hello.from.incarnation > state.incarnation {
        state.incarnation = hello.from.incarnation;
        state.incoming.values().for_each(|end| end.notify_one());
        state.incoming.clear();
    }
    let end = Arc::new(Notify::new());
    if let Some(before) = state.incoming.insert(hello.class, Arc::clone(&end)) {
        before.notify_one();
    }
    // It is there: whoever waits to dial it need not wait longer.
    state.nudge.notify_waiters();
    Ok(end)
}

async fn serve(shared: &Shared, mut stream: TcpStream, hello: Hello, end: Arc<Notify>) {
    let mut closed = shared.closed.subscribe();
    tokio::select! {
        result = read(shared, &mut stream, hello.from, hello.class) => {
            if result.is_err_and(|error| error.kind() == io::ErrorKind::InvalidData) {
                shared.count(|stats| stats.malformed += 1);
            }
        }
        () = end.notified() => return, // a newer connection has taken its place
        _ = closed.wait_for(|closed| *closed) => return,
    }
    if hello.class == Class::Urgent {
        shared.link(hello.from.node, LinkState::Down);
        // If only this connection broke, the one that was dialed says so at its next write; if the
        // peer lives, it dials again and is told to be up by a fresh dial of ours.
        if let Some(queue) = shared.outgoing.get(&(hello.from.node, Class::Urgent)) {
            queue.wake.notify_one();
        }
    }
}

async fn read(shared: &Shared, stream: &mut TcpStream, from: Peer, class: Class) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    loop {
        while let Some(flat) = split(&mut buffer, shared.config.frame_bytes_max)? {
            let frame = Frame::from_flat(&flat)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            deliver(shared, Incoming::Frame { from, class, frame }, flat.len(), class).await?;
        }
        if buffer.capacity() - buffer.len() < READ_BYTES / 4 {
            let want = wanted(&buffer).saturating_sub(buffer.len()).min(4 << 20);
            buffer.reserve(want.max(READ_BYTES));
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn deliver(
    shared: &Shared,
    incoming: Incoming,
    bytes: usize,
    class: Class,
) -> io::Result<()> {
    shared.count(|stats| stats.received += 1);
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    if class == Class::Urgent {
        return shared.urgent.send(incoming).await.map_err(|_| gone(()));
    }
    // Larger than the whole budget: it goes alone.
    let kib = (bytes >> 10).clamp(1, shared.config.inbox_bytes_max >> 10) as u32;
    let permit = Arc::clone(&shared.budget).acquire_many_owned(kib).await;
    let permit = permit.map_err(|_| gone(()))?;
    shared.bulk.send((incoming, permit)).await.map_err(|_| gone(()))
}

/// How many bytes the frame at the front needs in all.
fn wanted(buffer: &[u8]) -> usize {
    match buffer.first_chunk::<4>() {
        Some(len) => 4 + u32::from_le_bytes(*len) as usize,
        None => 4,
    }
}

/// Takes a whole frame off the front. A small one is copied, so that it pins no large buffer.
pub(super) fn split(buffer: &mut BytesMut, max: usize) -> io::Result<Option<Bytes>> {
    if buffer.len() < 4 {
        return Ok(None);
    }
    let want = wanted(buffer);
    if want - 4 > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the frame is over the cap"));
    }
    if buffer.len() < want {
        return Ok(None);
    }
    if want < READ_BYTES / 4 {
        let flat = Bytes::copy_from_slice(&buffer[4..want]);
        buffer.advance(want);
        return Ok(Some(flat));
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(want - 4).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_where_they_end_and_hostile_lengths_are_refused() {
        let mut buffer = BytesMut::new();
        for len in [0u32, 3, 50_000] {
            buffer.extend_from_slice(&len.to_le_bytes());
            buffer.extend_from_slice(&std::vec![9; len as usize]);
        }
        for len in [0, 3, 50_000] {
            assert_eq!(split(&mut buffer, 50_000).unwrap().unwrap().len(), len);
        }
        assert!(split(&mut buffer, 50_000).unwrap().is_none());
        buffer.extend_from_slice(&u32::MAX.to_le_bytes());
        assert!(split(&mut buffer, 50_000).is_err());
    }
}
