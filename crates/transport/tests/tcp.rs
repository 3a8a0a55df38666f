//! What is TCP's own: refusals, hostile bytes, slow readers, dying and returning peers.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use quorate_transport::tcp::wire::{ANSWER_BYTES, Answer, HELLO_BYTES, Hello};
use quorate_transport::tcp::{PeerStats, Refusal, TcpConfig, TcpError, TcpStats, TcpTransport};
use quorate_transport::{
    Attachment, Attachments, Class, ClusterId, Frame, Incarnation, Incoming, LinkState, NodeId,
    Peer, QueueCap, QueueCaps, Rng, SendError, Transport,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{interval, timeout};

const CLUSTER: ClusterId = ClusterId(7);
const PATIENCE: Duration = Duration::from_secs(30);

fn peer(node: u64, incarnation: u64) -> Peer {
    Peer { node: NodeId(node), incarnation: Incarnation(incarnation) }
}

fn config(me: Peer) -> TcpConfig {
    let mut config = TcpConfig::new(CLUSTER, me);
    config.frame_bytes_max = 1 << 20;
    config
}

fn bind(me: Peer, peers: &[(u64, String)]) -> TcpTransport {
    bind_with(config(me), peers)
}

fn bind_with(mut config: TcpConfig, peers: &[(u64, String)]) -> TcpTransport {
    let peers = peers.iter().cloned();
    config.peers = peers.map(|(node, at)| (NodeId(node), at)).collect();
    TcpTransport::bind(config).unwrap()
}

fn address(of: &TcpTransport) -> String {
    of.local_addr().to_string()
}

/// Where nobody listens: port 9 of an address of this machine.
fn nowhere() -> String {
    "127.0.0.1:9".to_owned()
}

fn frame(number: u32, size: usize) -> Frame {
    let bytes = Bytes::from(vec![number as u8; size]);
    Frame {
        head: Bytes::copy_from_slice(&number.to_le_bytes()),
        attachments: Attachments::One(Attachment::new(bytes)),
    }
}

fn number_of(frame: &Frame) -> u32 {
    u32::from_le_bytes(frame.head.as_ref().try_into().unwrap())
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// Looks at counters until they are as wanted: there is no event to wait for.
async fn counted(of: &TcpTransport, what: &str, wanted: impl Fn(&TcpStats) -> bool) {
    let mut ticks = interval(Duration::from_millis(2));
    let look = async {
        while !wanted(&of.stats()) {
            ticks.tick().await;
        }
    };
    if timeout(PATIENCE, look).await.is_err() {
        panic!("never {what}: {:#?}", of.stats());
    }
}

fn stats_of(stats: &TcpStats, node: u64) -> PeerStats {
    stats.peers.get(&NodeId(node)).cloned().unwrap_or_default()
}

async fn link(of: &TcpTransport, node: u64, wanted: LinkState) {
    let wait = async {
        let mut into = Vec::new();
        loop {
            of.recv_many(&mut into, 1).await.unwrap();
            let peer = NodeId(node);
            let state = wanted;
            if into.pop() == Some(Incoming::Link { peer, state }) {
                return;
            }
        }
    };
    within("a change of the link", wait).await;
}

async fn next_frame(of: &TcpTransport) -> (Peer, Class, Frame) {
    let wait = async {
        let mut into = Vec::new();
        loop {
            of.recv_many(&mut into, 1).await.unwrap();
            if let Some(Incoming::Frame { from, class, frame }) = into.pop() {
                return (from, class, frame);
            }
        }
    };
    within("a frame", wait).await
}

async fn pair() -> (TcpTransport, TcpTransport) {
    let a = bind(peer(1, 1), &[(2, nowhere())]);
    let b = bind(peer(2, 1), &[(1, address(&a))]);
    a.set_peer(NodeId(2), address(&b));
    link(&a, 2, LinkState::Up).await;
    link(&b, 1, LinkState::Up).await;
    (a, b)
}

/// A hello of n2, life 1, for the urgent class of n1, as it should be.
fn hello() -> Hello {
    Hello {
        version_min: 1,
        version_max: 1,
        class: Class::Urgent as u8,
        cluster: CLUSTER,
        from: peer(2, 1),
        to: NodeId(1),
    }
}

/// Dials by hand; the stream and what was answered, if anything was.
async fn dial(to: &TcpTransport, hello: &Hello) -> (TcpStream, Option<Answer>) {
    let mut stream = TcpStream::connect(to.local_addr()).await.unwrap();
    stream.write_all(&hello.encode()).await.unwrap();
    let mut bytes = [0; ANSWER_BYTES];
    let read = within("an answer", stream.read_exact(&mut bytes)).await;
    let answer = read.ok().map(|_| Answer::decode(&bytes).unwrap());
    (stream, answer)
}

/// Waits until the other side has closed.
async fn closed(stream: &mut TcpStream) {
    let mut bytes = [0; 64];
    within("the end of the connection", async {
        while stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
    })
    .await;
}

#[tokio::test]
async fn the_acceptor_refuses_by_reason_and_counts_it() {
    let a = bind(peer(1, 1), &[(2, nowhere())]);
    let mut newer = hello();
    newer.from.incarnation = Incarnation(5);
    let (_stream, answer) = dial(&a, &newer).await;
    assert_eq!(answer.unwrap().refusal, None);

    type Change = fn(&mut Hello);
    let cases: [(Refusal, Change); 6] = [
        (Refusal::Version, |h| (h.version_min, h.version_max) = (7, 9)),
        (Refusal::WrongCluster, |h| h.cluster = ClusterId(8)),
        (Refusal::WrongNode, |h| h.to = NodeId(3)),
        (Refusal::UnknownPeer, |h| h.from.node = NodeId(9)),
        (Refusal::BadClass, |h| h.class = 3),
        (Refusal::OlderIncarnation, |_| ()),
    ];
    for (refusal, change) in cases {
        let mut hello = hello();
        change(&mut hello);
        let (mut stream, answer) = dial(&a, &hello).await;
        let answer = answer.unwrap();
        assert_eq!(answer.refusal, Some(refusal));
        if refusal == Refusal::OlderIncarnation {
            assert_eq!(answer.peer, newer.from, "it says which life is newer");
        }
        closed(&mut stream).await;
        let stats = a.stats();
        let strangers = stats.refused_strangers.of(refusal);
        assert_eq!(stats_of(&stats, 2).refused.of(refusal) + strangers, 1);
    }
    assert_eq!(a.stats().refused_strangers.total(), 1);
}

#[tokio::test]
async fn the_dialer_sees_every_reason_and_counts_it() {
    for refusal in Refusal::ALL {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let a = bind(peer(1, 1), &[(2, at)]);
        let (mut stream, _) = within("a dial", listener.accept()).await.unwrap();
        let mut bytes = [0; HELLO_BYTES];
        stream.read_exact(&mut bytes).await.unwrap();
        let hello = Hello::decode(&bytes).unwrap();
        assert_eq!((hello.from, hello.to), (peer(1, 1), NodeId(2)));
        let answer =
            Answer { refusal: Some(refusal), version_min: 1, version_max: 1, peer: peer(2, 1) };
        stream.write_all(&answer.encode()).await.unwrap();
        let seen = |stats: &TcpStats| stats_of(stats, 2).refused_by_peer.of(refusal) == 1;
        counted(&a, "counted the refusal", seen).await;
        assert_eq!(stats_of(&a.stats(), 2).last_refusal, Some(refusal));
        let sent = a.try_send(NodeId(2), Class::Urgent, frame(1, 1));
        assert_eq!(sent, Err(SendError::Down));
    }
}

#[tokio::test]
async fn two_transports_refuse_each_other_on_both_sides() {
    let mut other = config(peer(2, 1));
    other.cluster = ClusterId(8);
    let a = bind(peer(1, 1), &[(2, nowhere())]);
    let b = bind_with(other, &[(1, address(&a))]);
    a.set_peer(NodeId(2), address(&b));
    for (one, node) in [(&a, 2), (&b, 1)] {
        let both = |stats: &TcpStats| {
            let peer = stats_of(stats, node);
            let wrong = Refusal::WrongCluster;
            peer.refused.of(wrong) > 0 && peer.refused_by_peer.of(wrong) > 0
        };
        counted(one, "refused and was refused", both).await;
    }
    // n3's address leads to n1.
    let c = bind(peer(4, 1), &[(3, address(&a))]);
    let wrong = |stats: &TcpStats| stats_of(stats, 3).refused_by_peer.of(Refusal::WrongNode) > 0;
    counted(&c, "reached another node", wrong).await;
}

#[tokio::test]
async fn garbage_is_counted_and_harms_no_other_connection() {
    let (a, b) = pair().await;
    let mut rng = Rng::new(5);
    for _ in 0..20 {
        let mut stream = TcpStream::connect(a.local_addr()).await.unwrap();
        let bytes: Vec<u8> = (0..200).map(|_| rng.next_u64() as u8).collect();
        let _ = stream.write_all(&bytes).await;
        closed(&mut stream).await;
    }
    counted(&a, "counted garbage", |stats| stats.handshakes_garbage == 20).await;
    b.try_send(NodeId(1), Class::Bulk, frame(1, 10)).unwrap();
    assert_eq!(next_frame(&a).await, (peer(2, 1), Class::Bulk, frame(1, 10)));
}

#[tokio::test]
async fn hostile_frames_close_their_connection_only() {
    let a = bind(peer(1, 1), &[(2, nowhere()), (3, nowhere())]);
    let mut good = BytesMut::new();
    good.put_u32_le(frame(1, 100).flat_len() as u32);
    frame(1, 100).put_flat(&mut good);
    let mut altered = good.to_vec();
    altered[60] ^= 1;
    type Counter = fn(&PeerStats) -> u64;
    let cases: [(&[u8], Counter); 4] = [
        (&u32::MAX.to_le_bytes(), |peer| peer.closed_over_cap),
        (&altered, |peer| peer.closed_garbage),
        (&[1, 0, 0, 0, 0], |peer| peer.closed_garbage),
        (&[20; 4], |peer| peer.closed_over_cap),
    ];
    let mut neighbour = hello();
    neighbour.from = peer(3, 1);
    let (mut neighbour, _) = dial(&a, &neighbour).await;
    let mut bulk = hello();
    bulk.class = Class::Bulk as u8;
    let (mut bulk, _) = dial(&a, &bulk).await;
    for (bytes, counter) in cases {
        let before = counter(&stats_of(&a.stats(), 2));
        let (mut stream, answer) = dial(&a, &hello()).await;
        assert_eq!(answer.unwrap().refusal, None);
        stream.write_all(&good).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        assert_eq!(next_frame(&a).await.2, frame(1, 100), "what came before");
        closed(&mut stream).await;
        let more = |stats: &TcpStats| counter(&stats_of(stats, 2)) == before + 1;
        counted(&a, "counted it", more).await;
    }
    // Half a frame, then nothing: the connection ends, and nothing is delivered.
    let (mut stream, _) = dial(&a, &hello()).await;
    stream.write_all(&good[..50]).await.unwrap();
    drop(stream);
    for (stream, node) in [(&mut neighbour, 3), (&mut bulk, 2)] {
        stream.write_all(&good).await.unwrap();
        assert_eq!(next_frame(&a).await.0, peer(node, 1));
    }
}

#[tokio::test]
async fn unfinished_handshakes_are_bounded_and_do_not_lock_out_a_peer() {
    let mut few = config(peer(1, 1));
    few.handshakes_max = 8;
    few.handshake_timeout = PATIENCE;
    let a = bind_with(few, &[(2, nowhere())]);
    let mut flood = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(a.local_addr()).await.unwrap();
        stream.write_all(&[1, 2, 3]).await.unwrap();
        flood.push(stream);
    }
    let dropped = |stats: &TcpStats| stats.handshakes_dropped == 42;
    counted(&a, "dropped all but eight", dropped).await;
    assert_eq!(a.stats().handshakes_pending, 8);
    let (_stream, answer) = dial(&a, &hello()).await;
    assert_eq!(answer.unwrap().refusal, None);
}

#[tokio::test]
async fn an_unfinished_handshake_ends_in_time() {
    let mut quick = config(peer(1, 1));
    quick.handshake_timeout = Duration::from_millis(50);
    let a = bind_with(quick, &[(2, nowhere())]);
    let mut stream = TcpStream::connect(a.local_addr()).await.unwrap();
    closed(&mut stream).await;
    counted(&a, "gave up", |stats| stats.handshakes_unfinished == 1).await;
    assert_eq!(a.stats().handshakes_pending, 0);
}

/// Accepts, answers, and then reads only as far as asked.
async fn accept(listener: &TcpListener, life: u64) -> (TcpStream, Hello) {
    let (mut stream, _) = within("a dial", listener.accept()).await.unwrap();
    let mut bytes = [0; HELLO_BYTES];
    stream.read_exact(&mut bytes).await.unwrap();
    let answer = Answer { refusal: None, version_min: 1, version_max: 1, peer: peer(2, life) };
    stream.write_all(&answer.encode()).await.unwrap();
    (stream, Hello::decode(&bytes).unwrap())
}

#[tokio::test]
async fn a_slow_reader_loses_its_connection_and_no_other() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut impatient = config(peer(1, 1));
    impatient.write_timeout = Duration::from_millis(200);
    let at = listener.local_addr().unwrap().to_string();
    let a = bind_with(impatient, &[(2, at)]);
    let mut streams = Vec::new();
    for _ in Class::ALL {
        streams.push(accept(&listener, 1).await);
    }
    link(&a, 2, LinkState::Up).await;
    // Nobody reads the bulk connection: the queue fills, then the connection ends.
    let mut ticks = interval(Duration::from_millis(1));
    let slow = async {
        while stats_of(&a.stats(), 2).closed_slow == 0 {
            while a.try_send(NodeId(2), Class::Bulk, frame(0, 500_000)).is_ok() {}
            ticks.tick().await;
        }
    };
    within("the slow reader's end", slow).await;
    a.try_send(NodeId(2), Class::Urgent, frame(1, 5)).unwrap();
    let urgent = |hello: &Hello| hello.class == Class::Urgent as u8;
    let (stream, _) = streams.iter_mut().find(|(_, h)| urgent(h)).unwrap();
    let mut length = [0; 4];
    within("a frame", stream.read_exact(&mut length)).await.unwrap();
    assert_eq!(u32::from_le_bytes(length) as usize, frame(1, 5).flat_len());
    let stats = stats_of(&a.stats(), 2);
    assert!(stats.is_up && stats.frames_refused > 0);
}

#[tokio::test]
async fn silence_ends_a_connection_on_both_sides() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut impatient = config(peer(1, 1));
    impatient.idle_timeout = Duration::from_millis(90);
    let at = listener.local_addr().unwrap().to_string();
    let a = bind_with(impatient, &[(2, at)]);
    // This one accepts and never answers a ping; that one dials and never sends one.
    let _mute = accept(&listener, 1).await;
    let (mut stream, _) = dial(&a, &hello()).await;
    closed(&mut stream).await;
    let both = |stats: &TcpStats| stats_of(stats, 2).closed_idle >= 2;
    counted(&a, "closed both", both).await;
}

#[tokio::test]
async fn an_idle_pair_stays_connected() {
    let quick = |me| {
        let mut quick = config(me);
        quick.idle_timeout = Duration::from_millis(150);
        quick
    };
    let a = bind_with(quick(peer(1, 1)), &[(2, nowhere())]);
    let b = bind_with(quick(peer(2, 1)), &[(1, address(&a))]);
    link(&b, 1, LinkState::Up).await;
    // Three classes, ten pings each: 30 lengths of 4 bytes.
    let pinged = |stats: &TcpStats| stats_of(stats, 2).bytes_received >= 120;
    counted(&a, "heard pings", pinged).await;
    let stats = stats_of(&b.stats(), 1);
    assert_eq!((stats.closed_idle, stats.dials), (0, 3));
    assert!(stats.is_up);
}

#[tokio::test]
async fn a_killed_peer_is_down_within_a_moment() {
    let (a, b) = pair().await;
    drop(b);
    let moment = Duration::from_secs(2);
    timeout(moment, link(&a, 2, LinkState::Down)).await.unwrap();
}

#[tokio::test]
async fn the_end_of_the_incoming_connection_alone_says_down_and_the_next_says_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let a = bind(peer(1, 1), &[(2, at)]);
    let mut outgoing = Vec::new();
    for _ in Class::ALL {
        outgoing.push(accept(&listener, 1).await);
    }
    link(&a, 2, LinkState::Up).await;
    for _ in 0..3 {
        let (incoming, _) = dial(&a, &hello()).await;
        drop(incoming);
        link(&a, 2, LinkState::Down).await;
        let (_again, _) = dial(&a, &hello()).await;
        link(&a, 2, LinkState::Up).await;
    }
}

#[tokio::test]
async fn a_newer_life_replaces_the_connections_of_the_older() {
    let a = bind(peer(1, 1), &[(2, nowhere())]);
    let (mut older, _) = dial(&a, &hello()).await;
    let mut bulk = hello();
    bulk.class = Class::Bulk as u8;
    let (mut older_bulk, _) = dial(&a, &bulk).await;
    let mut newer = hello();
    newer.from.incarnation = Incarnation(2);
    let (_newer, answer) = dial(&a, &newer).await;
    assert_eq!(answer.unwrap().refusal, None);
    closed(&mut older).await;
    closed(&mut older_bulk).await;
    let replaced = |stats: &TcpStats| stats_of(stats, 2).closed_replaced == 2;
    counted(&a, "replaced both", replaced).await;
    assert_eq!(stats_of(&a.stats(), 2).incarnation, Some(Incarnation(2)));
}

#[tokio::test]
async fn a_peer_that_returns_on_its_port_is_up_again() {
    let (a, b) = pair().await;
    let listen = b.local_addr();
    for life in 2..5 {
        if life == 2 {
            b.close().await;
        }
        link(&a, 2, LinkState::Down).await;
        let mut again = config(peer(2, life));
        again.listen = listen;
        let again = bind_with(again, &[(1, address(&a))]);
        link(&a, 2, LinkState::Up).await;
        a.try_send(NodeId(2), Class::Urgent, frame(9, 9)).unwrap();
        assert_eq!(next_frame(&again).await.2, frame(9, 9));
        again.close().await;
    }
}

#[tokio::test]
async fn an_accepted_peer_is_dialed_at_once() {
    let mut patient = config(peer(1, 1));
    patient.backoff_min = PATIENCE * 10;
    patient.backoff_max = PATIENCE * 10;
    let a = bind_with(patient, &[(2, nowhere())]);
    let failed = |stats: &TcpStats| stats_of(stats, 2).dials_failed >= 3;
    counted(&a, "found nobody", failed).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    a.set_peer(NodeId(2), listener.local_addr().unwrap().to_string());
    let first = accept(&listener, 1).await;
    // Its class's connection ends; the next dial would be minutes away, but for the nudge.
    let class = first.1.class;
    drop(first);
    let mut nudge = hello();
    nudge.class = class;
    let ended = |stats: &TcpStats| stats_of(stats, 2).dials == 1;
    counted(&a, "dialed once", ended).await;
    let (_nudge, _) = dial(&a, &nudge).await;
    for _ in 0..3 {
        let (_stream, hello) = accept(&listener, 1).await;
        if hello.class == class {
            return;
        }
    }
    panic!("three dials, and none of the class that was nudged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_frames_of_all_sizes_arrive_in_order() {
    const EACH: u32 = 10_000 / 3 + 1;
    let (a, b) = pair().await;
    let cap = config(peer(1, 1)).frame_bytes_max - frame(0, 0).flat_len();
    let size = move |number: u32| match number % 500 {
        0 => cap,
        1..20 => number as usize * 7 % 100_000,
        _ => number as usize % 300,
    };
    let send = async {
        for number in 0..EACH {
            for class in Class::ALL {
                while let Err(error) = a.try_send(NodeId(2), class, frame(number, size(number))) {
                    assert_eq!(error, SendError::Full);
                    tokio::task::yield_now().await;
                }
            }
        }
    };
    let receive = async {
        let mut next = [0; 3];
        let mut into = Vec::new();
        while next != [EACH; 3] {
            b.recv_many(&mut into, 100).await.unwrap();
            for one in into.drain(..) {
                if let Incoming::Frame { class, frame: got, .. } = one {
                    let number = number_of(&got);
                    assert_eq!(number, next[class as usize]);
                    assert_eq!(got, frame(number, size(number)));
                    next[class as usize] += 1;
                }
            }
        }
    };
    within("all frames", async { tokio::join!(send, receive) }).await;
    let sent = stats_of(&a.stats(), 2).frames_sent;
    assert_eq!(sent, u64::from(EACH) * 3);
}

#[tokio::test]
async fn a_full_inbox_holds_back_its_class_only_and_memory_stays_bounded() {
    let a = bind(peer(1, 1), &[(2, nowhere())]);
    let mut small = config(peer(2, 1));
    let (frames_max, bytes_max) = (4, 1 << 16);
    small.queues = QueueCaps::all(QueueCap { frames_max, bytes_max });
    let b = bind_with(small, &[(1, address(&a))]);
    a.set_peer(NodeId(2), address(&b));
    link(&a, 2, LinkState::Up).await;
    for number in 0..200 {
        a.try_send(NodeId(2), Class::Bulk, frame(number, 100)).unwrap();
    }
    let arrived = |stats: &TcpStats| stats_of(stats, 1).frames_received > 0;
    counted(&b, "received some", arrived).await;
    a.try_send(NodeId(2), Class::Urgent, frame(7, 7)).unwrap();
    let mut bulk = 0;
    let mut urgent = 0;
    while bulk < 200 || urgent < 1 {
        match next_frame(&b).await {
            (_, Class::Urgent, _) => urgent += 1,
            (_, _, frame) => {
                assert_eq!(number_of(&frame), bulk);
                bulk += 1;
            }
        }
    }
}

#[tokio::test]
async fn a_forgotten_peer_is_unknown_and_refused() {
    let (a, b) = pair().await;
    a.remove_peer(NodeId(2));
    let sent = a.try_send(NodeId(2), Class::Urgent, frame(1, 1));
    assert_eq!(sent, Err(SendError::Unknown));
    link(&b, 1, LinkState::Down).await;
    let refused =
        |stats: &TcpStats| stats_of(stats, 1).refused_by_peer.of(Refusal::UnknownPeer) > 0;
    counted(&b, "was refused", refused).await;
}

#[tokio::test]
async fn close_ends_every_task_and_is_idempotent() {
    let (a, b) = pair().await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert!(tasks() > 0);
    tokio::join!(a.close(), b.close(), a.close());
    b.close().await;
    assert_eq!(tasks(), 0);
    let sent = a.try_send(NodeId(2), Class::Urgent, frame(1, 1));
    assert_eq!(sent, Err(SendError::Closed));
}

#[tokio::test]
async fn close_sends_what_waits_for_a_connection_that_is_not_up_yet() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut patient = config(peer(1, 1));
    patient.flush_timeout = PATIENCE;
    let at = listener.local_addr().unwrap().to_string();
    let a = bind_with(patient, &[(2, at)]);
    // The dials are held up until the urgent one is found; it alone is answered.
    let mut held = Vec::new();
    let mut bytes = [0; HELLO_BYTES];
    for _ in Class::ALL {
        let (mut stream, _) = within("a dial", listener.accept()).await.unwrap();
        stream.read_exact(&mut bytes).await.unwrap();
        held.push((stream, Hello::decode(&bytes).unwrap()));
    }
    let answer = Answer { refusal: None, version_min: 1, version_max: 1, peer: peer(2, 1) };
    held.sort_by_key(|(_, hello)| hello.class);
    held[0].0.write_all(&answer.encode()).await.unwrap();
    link(&a, 2, LinkState::Up).await;
    a.try_send(NodeId(2), Class::Bulk, frame(3, 50)).unwrap();
    let read = async {
        closed(&mut held[0].0).await;
        held.remove(0);
        let bulk = &mut held[0].0;
        bulk.write_all(&answer.encode()).await.unwrap();
        let mut flat = vec![0; 4 + frame(3, 50).flat_len()];
        within("the frame", bulk.read_exact(&mut flat)).await.unwrap();
        held.clear();
        Frame::from_flat(&Bytes::from(flat).slice(4..)).unwrap()
    };
    let (_, got) = tokio::join!(a.close(), read);
    assert_eq!(got, frame(3, 50));
}

#[tokio::test]
async fn close_gives_up_on_a_peer_that_does_not_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut quick = config(peer(1, 1));
    quick.flush_timeout = Duration::from_millis(100);
    let at = listener.local_addr().unwrap().to_string();
    let a = bind_with(quick, &[(2, at)]);
    let mut streams = Vec::new();
    for _ in Class::ALL {
        streams.push(accept(&listener, 1).await);
    }
    link(&a, 2, LinkState::Up).await;
    while a.try_send(NodeId(2), Class::Bulk, frame(0, 500_000)).is_ok() {}
    timeout(Duration::from_secs(5), a.close()).await.unwrap();
}

#[test]
fn without_a_runtime_or_with_a_bad_field_nothing_starts() {
    let bound = TcpTransport::bind(config(peer(1, 1)));
    assert!(matches!(bound, Err(TcpError::NoRuntime)));
    let mut bad = config(peer(1, 1));
    bad.handshakes_max = 0;
    let field = "handshakes_max";
    assert!(matches!(
        TcpTransport::bind(bad),
        Err(TcpError::Config { field: found, .. }) if found == field
    ));
}
