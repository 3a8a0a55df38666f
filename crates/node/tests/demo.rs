//! The binary as a person runs it: the demonstration, and what it says to mistakes.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn quorate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(arguments)
        .stdin(Stdio::null())
        .env("QUORATE_LOG", "warn")
        .output()
        .expect("the binary runs")
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// A configuration of one node that listens where it is told to.
fn config(directory: &Path, node: u64, peer: &str, client: &str) -> String {
    let path = directory.join("node.toml");
    let data = directory.join("data");
    let text = format!(
        "cluster = 1\nnode = {node}\ndata_dir = {data:?}\npeer_listen = {peer:?}\n\
         client_listen = {client:?}\n\
         [[members]]\nnode = {node}\npeer = {peer:?}\nclient = {client:?}\n"
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_demonstration_passes_its_own_check_with_three_nodes_and_with_one() {
    for nodes in ["3", "1"] {
        let output = quorate(&["demo", "--exit", "--nodes", nodes]);
        let text = text(&output);
        assert!(output.status.success(), "{text}");
        assert!(text.contains("CHECK PASSED") && text.contains("killed node"), "{text}");
    }
}

#[test]
fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), 1, &address, "127.0.0.1:0");
    let output = quorate(&["serve", "--config", &config]);
    assert!(!output.status.success());
    assert!(text(&output).contains(&format!("cannot listen on {address}")), "{}", text(&output));
}

#[test]
fn the_data_directory_of_another_node_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    for (node, want) in [(1, "cannot listen"), (2, "belongs to n1")] {
        let config = config(directory.path(), node, &address, "127.0.0.1:0");
        let output = quorate(&["serve", "--config", &config]);
        assert!(text(&output).contains(want), "{}", text(&output));
    }
}

#[test]
fn mistakes_in_configuration_and_files_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bad");
    std::fs::write(&path, "cluster = 1\nnode = 1\nfoo = 2\n").unwrap();
    let bad = path.to_str().unwrap();
    let output = quorate(&["serve", "--config", bad]);
    assert!(text(&output).contains("foo"), "{}", text(&output));
    let output = quorate(&["serve", "--cluster", "1"]);
    assert!(text(&output).contains("node is missing"), "{}", text(&output));

    std::fs::write(&path, "key,value\nonly one column\n").unwrap();
    let output = quorate(&["demo", "--exit", "--load", bad]);
    assert!(text(&output).contains("line 2"), "{}", text(&output));
    let output = quorate(&["demo", "--exit", "--load", "/no/such/file"]);
    assert!(text(&output).contains("cannot read /no/such/file"), "{}", text(&output));
}

#[test]
fn no_quorum_is_said_with_the_time_waited() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nodes = format!("1={nobody}");
    let output = quorate(&["get", "key", "--timeout", "1", "--nodes", &nodes]);
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output).contains("within 1."), "{}", text(&output));
}
