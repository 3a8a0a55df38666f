//! A link on loopback, a sender at one end and a receiver at the other.

use std::time::Duration;

use quorate_transport::tcp::wire::HELLO_BYTES;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use super::{Link, Rules};

/// Longer than anything takes that is to happen.
const PATIENCE: Duration = Duration::from_secs(10);
/// As long as is waited for what is not to happen.
const MOMENT: Duration = Duration::from_millis(100);

struct Ends {
    link: Link,
    listener: TcpListener,
    dialed: TcpStream,
    accepted: TcpStream,
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// Both ends, after the hello.
async fn ends() -> Ends {
    let listener = listener().await;
    let any = "127.0.0.1:0".parse().unwrap();
    let link = Link::open(any, listener.local_addr().unwrap(), 1).await.unwrap();
    let mut dialed = TcpStream::connect(link.address()).await.unwrap();
    dialed.write_all(&[9; HELLO_BYTES]).await.unwrap();
    let (mut accepted, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let mut hello = [0; HELLO_BYTES];
    accepted.read_exact(&mut hello).await.unwrap();
    assert_eq!(hello, [9; HELLO_BYTES]);
    Ends { link, listener, dialed, accepted }
}

impl Ends {
    async fn send(&mut self, number: u8) {
        self.dialed.write_all(&[3, 0, 0, 0, number, number, number]).await.unwrap();
    }

    /// The next frame's number; none when nothing comes within a moment.
    async fn next(&mut self, patience: Duration) -> Option<u8> {
        let mut frame = [0; 7];
        timeout(patience, self.accepted.read_exact(&mut frame)).await.ok()?.ok()?;
        assert_eq!(frame[..4], [3, 0, 0, 0]);
        assert!(frame[4..].iter().all(|byte| *byte == frame[4]));
        Some(frame[4])
    }

    async fn take(&mut self, count: usize) -> Vec<u8> {
        let mut numbers = Vec::new();
        for _ in 0..count {
            numbers.push(self.next(PATIENCE).await.expect("a frame comes"));
        }
        assert_eq!(self.next(MOMENT).await, None, "no more come");
        numbers
    }
}

fn rules(change: impl FnOnce(&mut Rules)) -> Rules {
    let mut rules = Rules::default();
    change(&mut rules);
    rules
}

#[tokio::test]
async fn a_clean_link_passes_frames_forth_and_bytes_back() {
    let mut ends = ends().await;
    for number in 1..=3 {
        ends.send(number).await;
    }
    assert_eq!(ends.take(3).await, [1, 2, 3]);
    ends.accepted.write_all(b"pong").await.unwrap();
    let mut back = [0; 4];
    timeout(PATIENCE, ends.dialed.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(&back, b"pong");
}

#[tokio::test]
async fn a_delay_holds_frames_back_and_keeps_their_order() {
    let mut ends = ends().await;
    let delay = Duration::from_millis(80);
    let jitter = Duration::from_millis(40);
    ends.link.set(rules(|rules| (rules.delay, rules.jitter) = (delay, jitter)));
    let begun = Instant::now();
    for number in 1..=5 {
        ends.send(number).await;
    }
    assert_eq!(ends.next(PATIENCE).await, Some(1));
    assert!(begun.elapsed() >= delay);
    assert_eq!(ends.take(4).await, [2, 3, 4, 5]);
}

#[tokio::test]
async fn a_narrow_link_takes_the_time_its_bytes_need() {
    let mut ends = ends().await;
    ends.link.set(rules(|rules| rules.bytes_per_second = Some(70)));
    let begun = Instant::now();
    ends.send(1).await;
    ends.send(2).await;
    assert_eq!(ends.take(2).await, [1, 2]);
    assert!(begun.elapsed() >= Duration::from_millis(200), "14 bytes at 70 a second");
}

#[tokio::test]
async fn one_way_means_one_way() {
    let mut ends = ends().await;
    ends.link.set(rules(|rules| rules.cut = true));
    ends.send(1).await;
    assert_eq!(ends.next(MOMENT).await, None);
    ends.accepted.write_all(b"x").await.unwrap();
    let mut back = [0; 1];
    timeout(PATIENCE, ends.dialed.read_exact(&mut back)).await.unwrap().unwrap();
    ends.link.set(rules(|rules| rules.cut_back = true));
    assert_eq!(ends.next(PATIENCE).await, Some(1), "what waited comes after the cut");
    ends.accepted.write_all(b"y").await.unwrap();
    assert!(timeout(MOMENT, ends.dialed.read_exact(&mut back)).await.is_err());
}

#[tokio::test]
async fn a_cut_link_connects_nobody_until_it_heals() {
    let ends = ends().await;
    ends.link.set(Rules::CUT);
    let _second = TcpStream::connect(ends.link.address()).await.unwrap();
    assert!(timeout(MOMENT, ends.listener.accept()).await.is_err());
    ends.link.set(Rules::default());
    timeout(PATIENCE, ends.listener.accept()).await.unwrap().unwrap();
}

#[tokio::test]
async fn frames_are_lost_doubled_and_reordered_whole() {
    let mut ends = ends().await;
    ends.link.set(rules(|rules| rules.duplicate = 1000));
    ends.send(1).await;
    assert_eq!(ends.take(2).await, [1, 1]);
    ends.link.set(rules(|rules| rules.lose = 1000));
    ends.send(2).await;
    assert_eq!(ends.next(MOMENT).await, None);
    ends.link.set(rules(|rules| rules.reorder = 1000));
    for number in 3..=6 {
        ends.send(number).await;
    }
    assert_eq!(ends.take(4).await, [4, 3, 6, 5]);
    ends.send(7).await;
    assert_eq!(ends.take(1).await, [7], "one without a successor is not held for ever");
}

#[tokio::test]
async fn garbage_comes_between_frames() {
    let mut ends = ends().await;
    ends.link.set(rules(|rules| rules.garbage = 1000));
    ends.send(1).await;
    let mut bytes = [0; 11];
    timeout(PATIENCE, ends.accepted.read_exact(&mut bytes)).await.unwrap().unwrap();
    assert_eq!(&bytes, b"\xff\xffgarbage\xff\xff");
    assert_eq!(ends.next(PATIENCE).await, Some(1));
}

#[tokio::test]
async fn a_reset_ends_both_ends_and_a_half_open_connection_only_one() {
    let mut one = ends().await;
    one.link.half_open();
    let mut byte = [0; 1];
    assert!(timeout(PATIENCE, one.accepted.read(&mut byte)).await.unwrap().is_err());
    assert!(timeout(MOMENT, one.dialed.read(&mut byte)).await.is_err(), "it is not told");
    one.link.reset();
    assert!(timeout(PATIENCE, one.dialed.read(&mut byte)).await.unwrap().is_err());

    let mut two = ends().await;
    two.link.reset();
    assert!(timeout(PATIENCE, two.dialed.read(&mut byte)).await.unwrap().is_err());
    assert!(timeout(PATIENCE, two.accepted.read(&mut byte)).await.unwrap().is_err());
}
