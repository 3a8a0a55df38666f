//! Watching over real sockets: clients of real processes, which are killed.

mod support;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use quorate_node::client::Change;
use quorate_node::wire::Filter;
use rustix::process::Signal;
use support::*;

fn words(change: &Change) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match &change.value {
        Some(value) => format!("{}={}", text(&change.key), text(value)),
        None => format!("-{}", text(&change.key)),
    }
}

#[test]
fn watchers_are_told_every_change_once_and_in_order_while_nodes_are_killed() {
    run(async {
        let mut cluster = Cluster::start(3);
        cluster.leader(None);
        let client = cluster.client(PATIENCE);
        let begin = client.read_index().await.unwrap();
        // One begins at each node, and each goes on elsewhere when its node is killed.
        let watchers: Vec<_> = (0..3)
            .map(|_| {
                let mut watcher = client.watch(begin, Filter::Prefix(b"w/".to_vec()));
                tokio::spawn(async move {
                    let mut told = Vec::new();
                    while told.len() < 121 {
                        told.extend(watcher.next().await.unwrap());
                    }
                    (told, watcher.position())
                })
            })
            .collect();
        let session = client.session().await.unwrap();
        let mut want = Vec::new();
        for number in 0..120 {
            let (key, value) = (format!("w/{}", number % 7), number.to_string());
            session.put(key.as_bytes(), value.as_bytes()).await.unwrap();
            session.put(b"other", value.as_bytes()).await.unwrap();
            want.push(format!("{key}={value}"));
            if number % 40 == 20 {
                let leader = cluster.leader(None);
                cluster.end(leader, Some(Signal::KILL));
                cluster.leader(Some(leader));
                cluster.run(leader);
            }
        }
        assert!(!session.delete(b"w/none").await.unwrap(), "which changes nothing");
        assert!(session.delete(b"w/3").await.unwrap());
        want.push("-w/3".into());
        let mut all = Vec::new();
        for watcher in watchers {
            let (told, position) = watcher.await.unwrap();
            assert_eq!(told.iter().map(words).collect::<Vec<_>>(), want);
            assert!(told.windows(2).all(|pair| pair[0].index < pair[1].index));
            assert!(told.iter().all(|change| begin < change.index && change.index <= position));
            all.push(told);
        }
        assert!(all.iter().all(|told| *told == all[0]), "the same at every node");
        // Another watcher goes on from the middle.
        let middle = all[0][60].index;
        let mut later = client.watch(middle, Filter::Key(b"w/3".to_vec()));
        let mut told = Vec::new();
        while told.last().is_none_or(|change: &Change| change.value.is_some()) {
            told.extend(later.next().await.unwrap());
        }
        let of_key = |change: &&Change| change.index > middle && &change.key[..] == b"w/3";
        assert_eq!(told, all[0].iter().filter(of_key).cloned().collect::<Vec<_>>());
    });
}

#[test]
fn a_dropped_wait_for_a_change_loses_none_and_repeats_none() {
    run(async {
        let cluster = Cluster::start(1);
        let client = cluster.client(PATIENCE);
        let session = client.session().await.unwrap();
        let mut watcher = client.watch(client.read_index().await.unwrap(), Filter::All);
        let mut told = Vec::new();
        let mut dropped = 0;
        for number in 0..200_u32 {
            session.put(b"key", &number.to_le_bytes()).await.unwrap();
            // Dropped before, while and after the answer is under way.
            let patience = Duration::from_micros(u64::from(number % 20) * 20);
            match tokio::time::timeout(patience, watcher.next()).await {
                Ok(changes) => told.extend(changes.unwrap()),
                Err(_) => dropped += 1,
            }
        }
        assert!(dropped > 0, "no wait was dropped");
        while told.len() < 200 {
            told.extend(watcher.next().await.unwrap());
        }
        let numbers = told.iter().map(|change| change.value.clone().unwrap());
        let want = (0..200_u32).map(|number| number.to_le_bytes().to_vec());
        assert!(numbers.eq(want), "{told:?}");
    });
}

#[test]
fn the_command_line_watches_and_goes_on_after_an_index() {
    let cluster = Cluster::start(1);
    cluster.leader(None);
    let nodes = format!("1={}", cluster.clients[0]);
    let mut command = command(&["watch", "--prefix", "a/", "--count", "3", "--nodes", &nodes]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(said.next().unwrap().unwrap().starts_with("watching after index "));
    for arguments in [&["put", "a/1", "one"][..], &["put", "b", "no"], &["put", "a/2", "two"]] {
        assert!(cluster.ask(arguments).status.success());
    }
    assert!(cluster.ask(&["del", "a/1"]).status.success());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let lines: Vec<Vec<String>> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect();
    let after_index: Vec<_> = lines.iter().map(|words| words[1..].join(" ")).collect();
    assert_eq!(after_index, ["put a/1 one", "put a/2 two", "del a/1"]);
    let again = cluster.ask(&["watch", "a/1", "--after", &lines[0][0], "--count", "1"]);
    let told = String::from_utf8(again.stdout).unwrap();
    assert_eq!(told, format!("{}\tdel\ta/1\n", lines[2][0]));
}
