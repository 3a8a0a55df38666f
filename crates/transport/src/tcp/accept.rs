//! The receiving half: accepts, shakes hands, reads frames into the inbox.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::ids::Peer;
use crate::tcp::peer::{Connection, PeerState};
use crate::tcp::shared::{Handshake, Phase, Shared};
use crate::tcp::stats::End;
use crate::tcp::wire::{
    Answer, HELLO_BYTES, Hello, PONG, Piece, Refusal, SplitError, VERSION_MAX, VERSION_MIN, split,
};
use crate::wire::Class;

/// One read asks for this much.
const READ_BYTES: usize = 256 << 10;
/// With less room than this the buffer grows before the next read.
const READ_BYTES_LEAST: usize = 16 << 10;
/// The pause after the system refused to accept, so that it is not asked in a tight loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Accepts until the transport closes.
pub(super) async fn run(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.reached(Phase::Flushing) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let handshake = shared.handshake();
                shared.spawn(serve(Arc::clone(&shared), stream, handshake));
            }
            Err(_) => {
                shared.count_accept_error();
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Who was accepted, and for what.
struct Guest {
    peer: Arc<PeerState>,
    from: Peer,
    class: Class,
    connection: Connection,
}

async fn serve(shared: Arc<Shared>, mut stream: TcpStream, handshake: Handshake) {
    let shaken = tokio::select! {
        biased;
        () = shared.reached(Phase::Flushing) => return,
        () = handshake.end.notified() => return,
        shaken = timeout(shared.config.handshake_timeout, shake(&shared, &mut stream)) => shaken,
    };
    drop(handshake);
    let guest = match shaken {
        Ok(Ok(guest)) => guest,
        Ok(Err(Rejected::Refused)) => return,
        Ok(Err(Rejected::Garbage)) => return shared.count_garbage(),
        Ok(Err(Rejected::Gone)) | Err(_) => return shared.count_unfinished(),
    };
    let Guest { peer, from, class, connection } = guest;
    let answer = answer(None, shared.config.me);
    let (read, mut write) = stream.into_split();
    let end = tokio::select! {
        biased;
        () = connection.end.notified() => End::Replaced,
        () = shared.stopped(&peer, Phase::Flushing) => End::Stopped,
        end = async {
            match timeout(shared.config.write_timeout, write.write_all(&answer.encode())).await {
                Ok(Ok(())) => receive(read, write, &shared, &peer, from, class).await,
                _ => End::Closed,
            }
        } => end,
    };
    peer.counters.ended(end);
    peer.accepted_ended(&shared.inbox, class, connection.id);
}

enum Rejected {
    /// Answered and counted.
    Refused,
    Garbage,
    Gone,
}

/// Reads a hello and judges it; a refusal is answered at once.
async fn shake(shared: &Shared, stream: &mut TcpStream) -> Result<Guest, Rejected> {
    let _ = stream.set_nodelay(true);
    let mut bytes = [0; HELLO_BYTES];
    let read = stream.read_exact(&mut bytes).await;
    read.map_err(|_| Rejected::Gone)?;
    let hello = Hello::decode(&bytes).map_err(|_| Rejected::Garbage)?;
    let (refusal, named) = match judge(shared, &hello) {
        Ok(guest) => return Ok(guest),
        Err(verdict) => verdict,
    };
    match shared.peer(hello.from.node) {
        Some(peer) => peer.refused(refusal),
        None => shared.refused_stranger(refusal),
    }
    let answer = answer(Some(refusal), named);
    let _ = stream.write_all(&answer.encode()).await;
    let _ = stream.shutdown().await;
    Err(Rejected::Refused)
}

/// Accepts a hello, or says why not and whom the answer names.
fn judge(shared: &Shared, hello: &Hello) -> Result<Guest, (Refusal, Peer)> {
    let me = shared.config.me;
    let refuse = |refusal| Err((refusal, me));
    if hello.version_max < VERSION_MIN || hello.version_min > VERSION_MAX {
        return refuse(Refusal::Version);
    }
    if hello.cluster != shared.config.cluster {
        return refuse(Refusal::WrongCluster);
    }
    if hello.to != me.node {
        return refuse(Refusal::WrongNode);
    }
    let Some(peer) = shared.peer(hello.from.node) else {
        return refuse(Refusal::UnknownPeer);
    };
    let Some(class) = Class::from_byte(hello.class) else {
        return refuse(Refusal::BadClass);
    };
    match peer.accepted(&shared.inbox, class, hello.from.incarnation) {
        Ok(connection) => Ok(Guest { peer, from: hello.from, class, connection }),
        Err(older) => {
            let node = hello.from.node;
            let incarnation = older.newest;
            Err((Refusal::OlderIncarnation, Peer { node, incarnation }))
        }
    }
}

fn answer(refusal: Option<Refusal>, peer: Peer) -> Answer {
    Answer { refusal, version_min: VERSION_MIN, version_max: VERSION_MAX, peer }
}

/// Reads until the connection ends. While the inbox has no room nothing is read: the sender
/// then waits, and after its write timeout gives up.
async fn receive(
    mut read: impl AsyncRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
    shared: &Shared,
    peer: &PeerState,
    from: Peer,
    class: Class,
) -> End {
    let config = &shared.config;
    let mut buffer = BytesMut::new();
    let mut frames = VecDeque::new();
    loop {
        if buffer.capacity() - buffer.len() < READ_BYTES_LEAST {
            buffer.reserve(READ_BYTES);
        }
        match timeout(config.idle_timeout, read.read_buf(&mut buffer)).await {
            Err(_) => return End::Idle,
            Ok(Ok(0) | Err(_)) => return End::Closed,
            Ok(Ok(count)) => peer.counters.received_bytes(count),
        }
        let mut pinged = false;
        let broken = loop {
            match split(&mut buffer, config.frame_bytes_max) {
                Ok(Some(Piece::Frame(frame))) => frames.push_back(frame),
                Ok(Some(Piece::Ping)) => pinged = true,
                Ok(None) => break None,
                Err(SplitError::OverCap { .. }) => break Some(End::OverCap),
                Err(SplitError::Frame(_)) => break Some(End::Garbage),
            }
        };
        peer.counters.received_frames(frames.len());
        let pushed = shared.inbox.push_all(from, class, &mut frames).await;
        if pushed.is_err() {
            return End::Stopped;
        }
        if let Some(end) = broken {
            return end;
        }
        // One pong for all that one read brought: pings cannot be made to cost a call each.
        if pinged {
            match timeout(config.write_timeout, write.write_all(&[PONG])).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return End::Closed,
                Err(_) => return End::Slow,
            }
        }
    }
}
