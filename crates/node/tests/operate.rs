//! What an operator looks at: members, leader, metrics, health; and the tour.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use support::*;
use tokio::time::Instant;

/// One request over HTTP: the status code and the body.
fn http(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect(&answer);
    let body = answer.split_once("\r\n\r\n").expect(&answer).1;
    (code, body.to_owned())
}

/// Asks again until the output has all of `wants`.
fn until(cluster: &Cluster, arguments: &[&str], wants: &[&str]) -> String {
    let begun = Instant::now();
    loop {
        let said = text(&cluster.ask(arguments));
        if wants.iter().all(|want| said.contains(want)) {
            return said;
        }
        assert!(begun.elapsed() < PATIENCE, "no {wants:?} in: {said}");
    }
}

#[test]
fn members_leader_metrics_and_health_tell_of_a_node_that_stands_still() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader(None);
    let said = text(&cluster.ask(&["leader"]));
    assert!(said.starts_with(&format!("node {leader} leads in term ")), "{said}");
    assert!(cluster.ask(&["put", "a", "1"]).status.success());
    until(&cluster, &["members"], &["1     active", "2     active", "3     active", "itself"]);

    for address in &cluster.metrics {
        assert_eq!(http(*address, "/livez"), (200, "ok\n".into()));
        assert_eq!(http(*address, "/readyz"), (200, "ok\n".into()));
        assert_eq!(http(*address, "/elsewhere").0, 404);
    }
    let (code, metrics) = http(cluster.metrics[leader - 1], "/metrics");
    assert_eq!(code, 200);
    let applied = r#"quorate_requests_total{kind="apply",outcome="success"} "#;
    assert!(metrics.contains(applied) && metrics.contains("\nquorate_raft_leads 1\n"), "{metrics}");
    let node = leader.to_string();
    let raw = text(&cluster.ask(&["metrics", "--raw", "--node", &node]));
    assert!(raw.contains(applied), "{raw}");
    let shown = text(&cluster.ask(&["metrics", "--node", &node]));
    assert!(shown.contains("apply     success") && shown.contains("journal\n"), "{shown}");

    let other = 1 + leader % 3;
    cluster.signal(other, Signal::STOP);
    let suspended = format!("\n{other}     suspended");
    let failed = format!("\n{other}     failed");
    let watcher = format!("{leader}={}", cluster.clients[leader - 1]);
    let begun = Instant::now();
    loop {
        let said = text(&quorate(&["members", "--nodes", &watcher]));
        if said.contains(&failed) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "no {suspended:?} and {failed:?}: {said}");
    }
    cluster.signal(other, Signal::CONT);
    until(&cluster, &["members"], &["1     active", "2     active", "3     active"]);
    let third = (1..=3).find(|node| ![leader, other].contains(node)).unwrap();
    cluster.end(third, Some(Signal::KILL));
    cluster.run(third);
    until(&cluster, &["members"], &[&format!("{third}     active     2")]);
}

#[test]
fn a_node_alone_is_live_and_not_ready() {
    let mut cluster = Cluster::start(3);
    cluster.leader(None);
    cluster.end(1, Some(Signal::KILL));
    cluster.end(2, Some(Signal::KILL));
    let begun = Instant::now();
    while http(cluster.metrics[2], "/readyz").0 == 200 {
        assert!(begun.elapsed() < PATIENCE, "it is ready without a majority");
    }
    let (code, why) = http(cluster.metrics[2], "/readyz");
    assert_eq!((code, why.as_str()), (503, "no leader is known\n"));
    assert_eq!(http(cluster.metrics[2], "/livez").0, 200);
    let said = cluster.ask(&["leader"]);
    assert_eq!(said.status.code(), Some(1), "{}", text(&said));
    assert_eq!(text(&said), "no node leads\n");
}

#[test]
fn promtool_takes_the_metrics_of_a_node() {
    let cluster = Cluster::start(3);
    cluster.leader(None);
    assert!(cluster.ask(&["put", "a", "1"]).status.success());
    let (_, metrics) = http(cluster.metrics[0], "/metrics");
    let spawned = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = spawned else {
        println!("skipped: there is no promtool here");
        return;
    };
    child.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{metrics}", text(&output));
}

#[test]
fn what_cannot_be_answered_is_said_in_one_line() {
    let nobody = format!("1={}", free(1)[0]);
    for command in ["members", "metrics"] {
        check(&quorate(&[command, "--nodes", &nobody]), 1, &["no node answers"]);
    }
    let output = quorate(&["demo", "--tour", "--nodes", "1", "--exit"]);
    check(&output, 1, &["--tour", "at least 3 nodes"]);
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = config(directory.path(), (1, 1), "127.0.0.1:0", "127.0.0.1:0");
    let serve = ["serve", "--config", &config, "--metrics-listen", &address];
    check(&quorate(&serve), 1, &[&format!("cannot listen on {address} for metrics"), "in use"]);
    let output = quorate(&["serve", "--config", &config, "--metrics-listen", "nowhere"]);
    assert!(text(&output).contains("--metrics-listen"), "{}", text(&output));
}

#[test]
fn the_tour_holds_every_check() {
    let output = quorate(&["demo", "--tour", "--exit"]);
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("TOUR PASSED"), "{text}");
}
