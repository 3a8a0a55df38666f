//! A short run of everything, and that nothing of it stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

const CHAOS: &str = env!("CARGO_BIN_EXE_quorate-chaos");

/// The binary under test, built as this one was: another package's is not there by itself.
fn quorate() -> PathBuf {
    let folder = Path::new(CHAOS).parent().expect("it is in a folder");
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        None | Some("debug") => "dev",
        Some(name) => name,
    };
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--profile", profile, "-p", "quorate-node", "--bin", "quorate"])
        .status();
    assert!(built.expect("cargo runs").success());
    folder.join("quorate")
}

fn chaos(place: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(CHAOS);
    command.arg("--binary").arg(quorate()).args(arguments);
    command.stdin(Stdio::null()).env("TMPDIR", place);
    command
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// No file in `place`, and no process that was told of it.
fn assert_nothing_is_left(place: &Path, text: &str) {
    let left: Vec<_> = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}\n{text}");
    assert_eq!(processes(place), Vec::<String>::new(), "{text}");
}

fn processes(place: &Path) -> Vec<String> {
    let command_line = |entry: fs::DirEntry| fs::read(entry.path().join("cmdline")).ok();
    let all = fs::read_dir("/proc").unwrap().flatten().filter_map(command_line);
    let all = all.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    all.filter(|line| line.contains(place.to_str().unwrap())).collect()
}

#[test]
fn a_short_run_passes_and_leaves_nothing_behind() {
    for net in ["proxy", "auto"] {
        let place = tempfile::tempdir().unwrap();
        let arguments = ["--seconds", "5", "--nodes", "3", "--seed", "7", "--net", net];
        let output = chaos(place.path(), &arguments).output().unwrap();
        let text = text(&output);
        assert!(output.status.success(), "{text}");
        assert!(text.contains("CHAOS PASSED") && text.contains("is linearizable"), "{text}");
        assert_nothing_is_left(place.path(), &text);
    }
}

#[test]
fn disks_that_lie_are_found_out_and_honest_ones_are_not_blamed() {
    let place = tempfile::tempdir().unwrap();
    let output = chaos(place.path(), &["--self-test", "--seed", "7"]).output().unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("honest disks: pass") && text.contains("lying disks: found out"),
        "{text}"
    );
    assert!(text.contains("acknowledged writes are lost"), "{text}");
    assert_nothing_is_left(place.path(), &text);
}

#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    for signal in [Signal::INT, Signal::TERM] {
        let place = tempfile::tempdir().unwrap();
        let mut command = chaos(place.path(), &["--seconds", "60", "--nodes", "3"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        while processes(place.path()).len() < 3 {
            wait(Duration::from_millis(50));
        }
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, signal).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = text(&output);
        assert_eq!(output.status.code(), Some(130), "{text}");
        assert_nothing_is_left(place.path(), &text);
    }
}

#[expect(clippy::disallowed_methods, reason = "until another process has got that far")]
fn wait(time: Duration) {
    std::thread::sleep(time);
}
