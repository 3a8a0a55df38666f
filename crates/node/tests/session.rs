//! Sessions over real sockets: each command once, whoever is killed and whatever is dropped.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::BytesMut;
use quorate_node::client::{Client, ClientError};
use quorate_node::kv;
use quorate_node::wire::{self, Answer, Ask, Body, Filter, Said};
use quorate_smr::Retry;
use rustix::process::Signal;
use support::*;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// How often each key was put after an index, once the key `end` was: every application is told to
/// watchers.
async fn applied(client: &Client, after: u64) -> BTreeMap<String, usize> {
    let mut watcher = client.watch(after, Filter::All);
    let mut count = BTreeMap::new();
    while !count.contains_key("end") {
        for change in watcher.next().await.unwrap() {
            *count.entry(String::from_utf8(change.key.to_vec()).unwrap()).or_default() += 1;
        }
    }
    count
}

fn check_once(applied: &BTreeMap<String, usize>, keys: usize) {
    assert_eq!(applied.len(), keys + 1);
    assert!(applied.values().all(|count| *count == 1), "{applied:?}");
}

#[test]
fn many_commands_of_one_session_are_under_way_and_each_is_applied_once_while_leaders_die() {
    run(async {
        let mut cluster = Cluster::start(3);
        cluster.leader(None);
        let client = cluster.client(PATIENCE);
        let begin = client.read_index().await.unwrap();
        let session = client.session().await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..600 {
            let session = session.clone();
            tasks.spawn(async move {
                session.put(format!("key-{number}").as_bytes(), b"").await.unwrap()
            });
            if number % 200 == 100 {
                let leader = cluster.leader(None);
                cluster.end(leader, Some(Signal::KILL));
                cluster.leader(Some(leader));
                cluster.run(leader);
            }
        }
        while let Some(existed) = tasks.join_next().await {
            assert!(!existed.unwrap(), "the first answer is the answer");
        }
        session.put(b"end", b"").await.unwrap();
        check_once(&applied(&client, begin).await, 600);
    });
}

#[test]
fn a_dropped_wait_for_an_outcome_can_be_taken_up_again_and_the_command_is_applied_once() {
    run(async {
        let cluster = Cluster::start(1);
        let client = cluster.client(PATIENCE);
        let begin = client.read_index().await.unwrap();
        let session = client.session().await.unwrap();
        let mut dropped = 0;
        for number in 0..100_u64 {
            let mut pending =
                session.submit(kv::put(format!("key-{number}").as_bytes(), b"")).await;
            // Every second one is looked at once and dropped, however quick the answer is.
            if number % 2 == 0 {
                dropped += u32::from(tokio::select! {
                    biased;
                    _ = pending.outcome() => false,
                    () = std::future::ready(()) => true,
                });
            }
            let mut patience = Duration::from_micros(number % 10 * 10);
            // Dropped before it is sent, while it is under way, and while its answer is.
            while tokio::time::timeout(patience, pending.outcome()).await.is_err() {
                dropped += 1;
                patience += Duration::from_micros(50);
            }
        }
        assert!(dropped > 10, "{dropped} were dropped");
        session.put(b"end", b"").await.unwrap();
        check_once(&applied(&client, begin).await, 100);
    });
}

#[test]
fn dropped_commands_do_not_jam_their_session() {
    run(async {
        let cluster = Cluster::start(1);
        let client = cluster.client(PATIENCE);
        let session = client.session().await.unwrap();
        let mut dropped = 0;
        // More than may be under way at a time.
        while dropped < 300 {
            let put = session.put(b"key", b"value");
            dropped += u32::from(tokio::time::timeout(Duration::ZERO, put).await.is_err());
        }
        session.put(b"last", b"").await.unwrap();
        assert!(client.get(b"last", false).await.unwrap().is_some());
    });
}

/// Adds one so often, each time to what it has read.
async fn count_up(client: Client, times: u64) {
    let session = client.session().await.unwrap();
    for _ in 0..times {
        loop {
            let seen = client.get(b"count", false).await.unwrap();
            let number = seen
                .as_deref()
                .map_or(0, |seen| std::str::from_utf8(seen).unwrap().parse::<u64>().unwrap());
            let next = (number + 1).to_string();
            let set = session.compare_and_set(b"count", seen.as_deref(), Some(next.as_bytes()));
            if set.await.unwrap() {
                break;
            }
        }
    }
}

#[test]
fn who_sets_what_it_has_read_loses_nothing_of_others_while_a_leader_dies() {
    run(async {
        let mut cluster = Cluster::start(3);
        cluster.leader(None);
        let client = cluster.client(PATIENCE);
        let mut tasks = tokio::task::JoinSet::new();
        (0..4).for_each(|_| drop(tasks.spawn(count_up(client.clone(), 50))));
        let leader = cluster.leader(None);
        cluster.end(leader, Some(Signal::KILL));
        cluster.leader(Some(leader));
        cluster.run(leader);
        while let Some(counted) = tasks.join_next().await {
            counted.unwrap();
        }
        assert_eq!(client.get(b"count", false).await.unwrap().as_deref(), Some(&b"200"[..]));
        let session = client.session().await.unwrap();
        let both = vec![0; kv::VALUE_BYTES_MAX / 2 + 1];
        let error = session.compare_and_set(b"k", Some(&both), Some(&both)).await.unwrap_err();
        assert!(matches!(error, ClientError::ValueTooLong(_)), "{error}");
        assert!(session.compare_and_set(b"k", None, Some(&both)).await.unwrap());
        assert!(session.compare_and_set(b"k", Some(&both), None).await.unwrap());
        assert_eq!(client.get(b"k", false).await.unwrap(), None);
    });
}

#[test]
fn what_is_unknown_for_want_of_a_majority_is_resolved_when_there_is_one() {
    run(async {
        let mut cluster = Cluster::start(3);
        cluster.leader(None);
        let client = cluster.client(Duration::from_secs(3));
        let begin = client.read_index().await.unwrap();
        let session = client.session().await.unwrap();
        let mut pending = session.submit(kv::put(b"key", b"value")).await;
        for node in 2..=3 {
            cluster.end(node, Some(Signal::KILL));
        }
        let error = pending.outcome().await.unwrap_err();
        assert!(matches!(error, ClientError::NoQuorum(_)), "{error}");
        assert_eq!(error.retry(), Retry::Unsafe);
        (2..=3).for_each(|node| cluster.run(node));
        cluster.leader(None);
        assert!(!pending.outcome().await.unwrap());
        assert!(!pending.outcome().await.unwrap(), "the answer is the first one");
        session.put(b"end", b"").await.unwrap();
        check_once(&applied(&client, begin).await, 1);
    });
}

#[test]
fn a_session_that_was_not_used_expires_and_its_commands_are_refused_by_name() {
    run(async {
        let cluster = Cluster::start_with(1, &[("QUORATE_SESSION_TTL", "1")]);
        let client = cluster.client(PATIENCE);
        let session = client.session().await.unwrap();
        session.put(b"first", b"").await.unwrap();
        while client.status(1).await.is_none_or(|status| status.sessions > 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let error = session.put(b"second", b"").await.unwrap_err();
        assert!(matches!(error, ClientError::SessionExpired), "{error}");
        assert_eq!(error.retry(), Retry::Unsafe);
        assert_eq!(client.get(b"second", false).await.unwrap(), None, "it was not applied");
        client.session().await.unwrap().put(b"second", b"").await.unwrap();
    });
}

#[test]
fn commands_that_arrive_at_once_are_not_refused_for_what_they_are_together() {
    run(async {
        let cluster = Cluster::start(1);
        cluster.leader(None);
        let mut stream = TcpStream::connect(cluster.clients[0]).await.unwrap();
        let ask = |id, len| {
            let mut out = BytesMut::new();
            let body =
                Body::Apply { stamp: None, command: kv::put(b"key", &vec![0; len]).to_vec() };
            wire::put(&Ask { id, body }, &mut out);
            out
        };
        let mut buffer = BytesMut::new();
        for round in 0..5 {
            // Too long: the buffer of the connection has grown when it is refused.
            stream.write_all(&ask(0, 3 << 20)).await.unwrap();
            let mut burst = BytesMut::new();
            (1..=29).for_each(|id| burst.extend_from_slice(&ask(id, 25 << 10)));
            burst.extend_from_slice(&ask(30, kv::VALUE_BYTES_MAX));
            stream.write_all(&burst).await.unwrap();
            let mut answered = 0;
            while answered <= 30 {
                let Some(Said { id, answer }) = wire::take(&mut buffer).unwrap() else {
                    assert!(wire::fill(&mut stream, &mut buffer).await.unwrap());
                    continue;
                };
                answered += 1;
                assert_eq!(matches!(answer, Answer::Done(_)), id > 0, "{round} {id}: {answer:?}");
            }
        }
    });
}
