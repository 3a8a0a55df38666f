//! The demonstration, as a person runs it.

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

#[test]
fn the_demonstration_passes_its_own_check_with_three_nodes_and_with_one() {
    for nodes in ["3", "1"] {
        let output = quorate(&["demo", "--exit", "--nodes", nodes]);
        let text = text(&output);
        assert!(output.status.success(), "{text}");
        assert!(text.contains("CHECK PASSED") && text.contains("killed node"), "{text}");
        let reads = text.split(" writes, ").nth(1).and_then(|rest| rest.split(' ').next());
        let reads: usize = reads.and_then(|reads| reads.parse().ok()).expect(&text);
        assert!(reads >= 4, "{reads} reads among the writes");
    }
}
