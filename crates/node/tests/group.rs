//! Real processes whose group changes: nodes join, leave, and come back with nothing.

mod support;

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use support::*;
use tokio::time::Instant;

fn group(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = cluster.ask(&[&["group"], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    text(&output).trim().to_owned()
}

/// Waits for a line in a node's log.
async fn logs(cluster: &Cluster, node: usize, what: &str) {
    let begun = Instant::now();
    while !cluster.log(node).contains(what) {
        assert!(begun.elapsed() < PATIENCE, "no {what:?} in: {}", cluster.log(node));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn a_node_joins_a_running_cluster_and_another_leaves_it() {
    run(async {
        let mut cluster = Cluster::start(3);
        cluster.leader(None);
        let session = cluster.client(PATIENCE).session().await.unwrap();
        for number in 0..50 {
            session.put(format!("k{number}").as_bytes(), b"v").await.unwrap();
        }
        assert_eq!(group(&cluster, &[]), "voters 1 2 3");
        let (fourth, address) = cluster.join();
        let told = group(&cluster, &["add", "4", &address]);
        assert_eq!(told, "voters 1 2 3 4");
        let leader = cluster.leader(None);
        let removed = leader.to_string();
        let told = group(&cluster, &["remove", &removed]);
        assert!(!told.contains(&removed), "{told}");
        cluster.end(leader, Some(Signal::KILL));
        cluster.leader(Some(leader));
        // Two of the three that are left are a majority, the new one among them.
        let other = (1..=3).find(|node| *node != leader).unwrap();
        cluster.end(other, Some(Signal::KILL));
        let client = cluster.client(PATIENCE);
        let session = client.session().await.unwrap();
        session.put(b"after", b"all").await.unwrap();
        assert_eq!(client.get(b"k49", false).await.unwrap().unwrap(), "v");
        assert_eq!(cluster.children[fourth - 1].as_mut().unwrap().try_wait().unwrap(), None);
        // Both that are left were restarted by nobody; after a restart they know the group still.
        cluster.end(fourth, Some(Signal::KILL));
        cluster.run(fourth);
        let session = cluster.client(PATIENCE).session().await.unwrap();
        session.put(b"after", b"that").await.unwrap();
    });
}

#[test]
fn a_node_that_was_removed_while_it_was_down_learns_it_when_it_is_back() {
    run(async {
        let mut cluster = Cluster::start(3);
        let leader = cluster.leader(None);
        let away = leader % 3 + 1;
        cluster.end(away, Some(Signal::KILL));
        assert!(!group(&cluster, &["remove", &away.to_string()]).contains(&away.to_string()));
        // Longer than those who leave are told so: nobody sends it anything unasked.
        tokio::time::sleep(Duration::from_secs(3)).await;
        cluster.run(away);
        let client = cluster.client(PATIENCE);
        let begun = Instant::now();
        while client.status(away as u64).await.is_none_or(|status| status.role != "removed") {
            assert!(begun.elapsed() < PATIENCE, "in: {}", cluster.log(away));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let members = group(&cluster, &[]);
        assert!(!members.contains(&away.to_string()), "{members}");
    });
}

#[test]
fn a_new_node_that_is_not_there_is_waited_for_until_that_is_cancelled() {
    run(async {
        let cluster = Cluster::start(3);
        cluster.leader(None);
        let nowhere = free(1)[0].to_string();
        let late = cluster.ask(&["group", "add", "4", &nowhere, "--timeout", "3"]);
        check(&late, 1, &["not complete", "learners 4", "cancel"]);
        let busy = cluster.ask(&["group", "remove", "1", "--timeout", "1"]);
        assert!(!busy.status.success(), "one change at a time");
        assert_eq!(group(&cluster, &["cancel"]), "voters 1 2 3, learners 4");
        assert_eq!(group(&cluster, &["remove", "4"]), "voters 1 2 3");
        let wrong = cluster.ask(&["group", "promote", "9"]);
        check(&wrong, 1, &["only a member is promoted"]);
    });
}

#[test]
fn a_node_that_comes_back_with_an_empty_directory_stops_and_says_what_to_do() {
    run(async {
        let mut cluster = Cluster::start(3);
        let leader = cluster.leader(None);
        let session = cluster.client(PATIENCE).session().await.unwrap();
        session.put(b"a", b"1").await.unwrap();
        // The leader has heard of all disks, and the group knows them.
        let client = cluster.client(PATIENCE);
        let begun = Instant::now();
        while client.group(leader as u64).await.is_none_or(|group| group.index == 0) {
            assert!(begun.elapsed() < PATIENCE, "the group knows no disks");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let wiped = leader % 3 + 1;
        cluster.end(wiped, Some(Signal::KILL));
        fs::remove_dir_all(cluster.path(wiped, "data")).unwrap();
        // Directories are told apart by the second in which they were made.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        cluster.run(wiped);
        logs(&cluster, wiped, "another data directory").await;
        session.put(b"a", b"2").await.unwrap();
        assert_eq!(client.get(b"a", false).await.unwrap().unwrap(), "2");
    });
}
