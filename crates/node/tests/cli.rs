//! The binary as an operator runs it: what it says to mistakes, and how a node begins and ends.

use std::fs;
use std::net::TcpListener;

use rustix::process::Signal;

mod support;

use support::*;

#[test]
fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    for (peer, client) in [(&address[..], "127.0.0.1:0"), ("127.0.0.1:0", &address[..])] {
        let config = config(directory.path(), (1, 1), peer, client);
        let output = quorate(&["serve", "--config", &config]);
        check(&output, 1, &[&format!("cannot listen on {address}"), "in use"]);
    }
}

#[test]
fn the_data_directory_of_another_node_or_cluster_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    for (who, want) in [
        ((1, 1), "cannot listen"),
        ((1, 2), "belongs to n1 of cluster-1, not to n2 of cluster-1"),
        ((2, 1), "belongs to n1 of cluster-1, not to n1 of cluster-2"),
    ] {
        let config = config(directory.path(), who, &address, "127.0.0.1:0");
        check(&quorate(&["serve", "--config", &config]), 1, &[want]);
    }
}

#[test]
fn what_is_wrong_with_a_configuration_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bad.toml");
    let file = path.to_str().unwrap();
    let member = "[[members]]\nnode = 1\npeer = \"a:1\"\nclient = \"a:2\"\n";
    let fields = "node = 1\ndata_dir = \"d\"\npeer_listen = \"127.0.0.1:0\"\n";
    for (text, wants) in [
        (format!("foo = 2\n{fields}{member}"), &["line 1", "foo"][..]),
        (format!("cluster = true\n{fields}{member}"), &["line 1", "cluster", "u64"]),
        (format!("cluster = 1\n{fields}{member}"), &["client_listen is missing"]),
        (format!("cluster = 1\nclient_listen = \"x\"\n{fields}{member}"), &["client_listen"]),
        (format!("cluster = 1\nclient_listen = \"127.0.0.1:0\"\n{fields}"), &["members"]),
    ] {
        fs::write(&path, text).unwrap();
        check(&quorate(&["serve", "--config", file]), 1, wants);
    }
    check(&quorate(&["serve", "--cluster", "1"]), 1, &["node is missing"]);
    let output = quorate(&["serve", "--config", "/no/such/file"]);
    check(&output, 1, &["cannot read /no/such/file"]);
}

#[test]
fn variables_win_over_the_file_and_flags_over_variables() {
    let taken: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let address = |at: usize| taken[at].local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), (1, 1), "127.0.0.1:0", &address(0));
    for (variable, flag, want) in [(false, false, 0), (true, false, 1), (true, true, 2)] {
        let mut command = command(&["serve", "--config", &config]);
        if variable {
            command.env("QUORATE_CLIENT_LISTEN", address(1));
        }
        if flag {
            command.args(["--client-listen", &address(2)]);
        }
        let output = command.output().unwrap();
        check(&output, 1, &[&format!("cannot listen on {}", address(want))]);
    }
}

#[test]
fn what_is_wrong_with_a_table_is_named_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table");
    let file = path.to_str().unwrap();
    let long = "x".repeat(600 << 10);
    for (text, want) in [
        (b"key,value\nonly one column\n".to_vec(), "line 2: has no second column"),
        (b"key,value\n\n,value\n".to_vec(), "line 3: has an empty key"),
        (b"key,value\nk\xff,v\n".to_vec(), "line 2: is not UTF-8"),
        (format!("{},v\n", &long[..5000]).into_bytes(), "line 1: has a key over the limit"),
        (format!("k,{long}\n").into_bytes(), "line 1: has a value over the limit"),
    ] {
        fs::write(&path, text).unwrap();
        for arguments in [&["demo", "--exit", "--load", file][..], &["load", file]] {
            check(&quorate(arguments), 1, &[want]);
        }
    }
    let output = quorate(&["load", "/no/such/file"]);
    check(&output, 1, &["cannot read /no/such/file"]);
}

#[test]
fn no_quorum_is_said_with_the_time_waited() {
    let nodes = format!("1={}", free(1)[0]);
    let output = quorate(&["get", "key", "--timeout", "1", "--nodes", &nodes]);
    check(&output, 4, &["no leader", "within 1."]);
}

#[test]
fn a_key_over_the_limit_is_refused_with_its_length() {
    let cluster = Cluster::start(1);
    let key = "k".repeat(5000);
    check(&cluster.ask(&["put", &key, "value"]), 1, &["5000 bytes long", "4096"]);
    check(&cluster.ask(&["put", "", "value"]), 1, &["the key is empty"]);
    assert!(cluster.ask(&["put", &key[..4096], "value"]).status.success());
    assert_eq!(text(&cluster.ask(&["get", &key[..4096]])), "value\n");
}

#[test]
fn cas_sets_what_is_as_expected_and_says_so_where_it_is_not() {
    let cluster = Cluster::start(1);
    for (arguments, code) in [
        (&["cas", "key", "one", "--expected", "none"][..], 1),
        (&["cas", "key", "one"], 0),
        (&["cas", "key", "two"], 1),
        (&["cas", "key", "two", "--expected", "one"], 0),
    ] {
        let output = cluster.ask(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr).contains("key is not as expected");
        assert_eq!(said, code == 1, "{arguments:?}");
    }
    assert_eq!(text(&cluster.ask(&["get", "key"])), "two\n");
}

#[test]
fn a_leader_that_is_told_to_terminate_hands_over_and_exits_with_0() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader(None);
    assert!(cluster.ask(&["put", "key", "value"]).status.success());
    assert_eq!(cluster.end(leader, Some(Signal::TERM)), Some(0), "{}", cluster.log(leader));
    assert!(cluster.log(leader).contains("leadership handed over"), "{}", cluster.log(leader));
    let next = cluster.leader(Some(leader));
    assert_eq!(text(&cluster.ask(&["get", "key"])), "value\n");
    cluster.run(leader);
    assert_eq!(cluster.end(next, Some(Signal::TERM)), Some(0), "{}", cluster.log(next));
    assert_eq!(text(&cluster.ask(&["get", "key"])), "value\n");
}

#[test]
fn a_journal_that_cannot_grow_stops_the_node_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::start(1);
    assert!(cluster.ask(&["put", "first", "value"]).status.success());
    let journal = cluster.path(1, "data").join("journal");
    let aside = cluster.path(1, "data").join("aside");
    fs::rename(&journal, &aside).unwrap();
    // The journal needs a new file after 16 MiB, and finds no directory to make it in.
    let value = "v".repeat(100 << 10);
    let mut acknowledged = 0;
    loop {
        let key = format!("key-{acknowledged:04}");
        if !cluster.ask(&["put", &key, &value, "--timeout", "1"]).status.success() {
            break;
        }
        acknowledged += 1;
        assert!(acknowledged < 1000, "the journal grows all the same");
    }
    assert!(acknowledged > 100, "{acknowledged}: {}", cluster.log(1));
    assert_eq!(cluster.end(1, None), Some(1));
    let log = cluster.log(1);
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains("the journal has failed: create"), "{log}");

    fs::rename(&aside, &journal).unwrap();
    cluster.run(1);
    let list = text(&cluster.ask(&["list"]));
    let keys: Vec<_> = list.lines().filter_map(|line| line.split('\t').next()).collect();
    for number in 0..acknowledged {
        let key = format!("key-{number:04}");
        assert!(keys.contains(&&key[..]), "{key} was acknowledged, and is lost");
    }
    assert!(keys.contains(&"first"));
}

#[test]
fn a_bench_prints_one_line_of_figures_and_writes_them_as_json() {
    let cluster = Cluster::start(1);
    let json = cluster.directory.path().join("figures.json");
    let file = json.to_str().unwrap();
    for (more, want) in [(&["--rate", "200"][..], " at 200 a second"), (&["--reads"], "reads")] {
        let mut arguments = vec!["bench", "--clients", "4", "--seconds", "1", "--json", file];
        arguments.extend(more);
        let output = cluster.ask(&arguments);
        let text = text(&output);
        assert!(output.status.success() && text.contains(want), "{text}");
        let figures = fs::read_to_string(&json).unwrap();
        let operations = figures.split("\"operations\": ").nth(1).and_then(|n| n.split(',').next());
        let operations: u64 = operations.and_then(|n| n.parse().ok()).expect(&figures);
        assert!(operations > 0 && figures.contains("\"version\": 1"), "{figures}");
        if want.contains("200") {
            assert!(operations <= 200, "{operations} are more than the rate");
        }
    }
}
