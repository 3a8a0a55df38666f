//! Golden stories: `tests/traces/*.txt`, each readable on its own; `cargo xtask trace`.

#[path = "support/stage.rs"]
mod stage;

use std::path::Path;

use quorate_dmutex::Request;
use quorate_sim::script::golden::{check_all, common};
use quorate_transport::{NodeId, RequestId};
use stage::{Stage, acquire, strangers};

/// `group COUNT` begins with nodes that have joined, `strangers COUNT` with nodes that have not;
/// `acquire N NAME`, `release N ID`, `cancel N ID` are requests.
fn command(stage: &mut Option<Stage>, words: &[&str]) -> Result<String, String> {
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
    let first = number(1);
    if let ("group" | "strangers", Some(count)) = (words[0], first) {
        let stage = stage.insert(strangers(count));
        if words[0] == "group" {
            stage.run();
            stage.take_story(); // the story of joining tells it
        }
        return Ok(String::new());
    }
    let stage = stage.as_mut().ok_or("a story begins with `group` or `strangers`")?;
    if let Some(played) = common(stage, words) {
        played?;
        return Ok(stage.take_story());
    }
    let node = first.map(NodeId).ok_or(format!("`{}` wants a node", words[0]))?;
    let id = || number(2).map(RequestId).ok_or(format!("`{}` wants a request", words[0]));
    match words[0] {
        "acquire" => {
            acquire(stage, node, words.get(2).unwrap_or(&"lock"));
        }
        "release" => {
            stage.request(node, Request::Release { acquired: id()? });
        }
        "cancel" => {
            stage.request(node, Request::Cancel { waiting: id()? });
        }
        other => return Err(format!("`{other}` is no command")),
    }
    Ok(stage.take_story())
}

#[test]
fn every_story_is_told_as_it_is_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    check_all(&folder, || {
        let mut stage = None;
        move |words: &[&str]| command(&mut stage, words)
    });
}
