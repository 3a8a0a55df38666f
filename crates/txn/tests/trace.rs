//! Golden stories: `tests/traces/*.txt`, each readable on its own; `cargo xtask trace`.

use std::path::Path;

use bytes::Bytes;
use quorate_sim::script::{Script, golden};
use quorate_transport::{Machine, NodeId};
use quorate_txn::{Config, Request, TwoPhaseCommit, Vote};

type Stage = Script<'static, TwoPhaseCommit>;

/// `group COUNT` begins; `begin N P..`, `vote N yes|no|read-only` and `done N` ask, the latter two
/// about the first transaction that is open at the node; `status` shows what is open.
fn command(stage: &mut Option<Stage>, words: &[&str]) -> Result<String, String> {
    let number = |at: usize| {
        let word = words.get(at).and_then(|word| word.parse::<u64>().ok());
        word.ok_or(format!("`{}` wants a number", words[0]))
    };
    if words[0] == "group" {
        let count = number(1)?;
        *stage = Some(Script::new(count, move |start| {
            let config = Config::new((1..=count).map(NodeId));
            TwoPhaseCommit::new(start, config).expect("a valid configuration")
        }));
        return Ok(String::new());
    }
    let stage = stage.as_mut().ok_or("a story begins with `group`")?;
    if let Some(played) = golden::common(stage, words) {
        played?;
        return Ok(stage.take_story());
    }
    if words[0] == "status" {
        return Ok(status(stage));
    }
    let node = NodeId(number(1)?);
    let open = stage.node(node).held().next().map(|(txn, _)| txn);
    let open = open.ok_or("nothing is open there");
    let request = match words[0] {
        "begin" => {
            let nodes = (2..words.len()).map(number).collect::<Result<Vec<_>, _>>()?;
            let parts = nodes.into_iter().map(|id| (NodeId(id), Bytes::from("work"))).collect();
            Request::Begin { parts }
        }
        "vote" => {
            let vote = match words.get(2) {
                Some(&"yes") => Vote::Yes,
                Some(&"no") => Vote::No,
                _ => Vote::ReadOnly,
            };
            Request::Vote { txn: open?, vote }
        }
        "done" => Request::Done { txn: open? },
        other => return Err(format!("`{other}` is no command")),
    };
    stage.request(node, request);
    Ok(stage.take_story())
}

fn status(stage: &Stage) -> String {
    let mut lines = String::new();
    for node in stage.nodes().filter(|node| stage.is_up(*node)) {
        let machine = stage.node(node);
        let held: Vec<_> = machine.held().collect();
        let driven: Vec<_> = machine.driven().collect();
        lines += &format!("{node} holds {held:?}, coordinates {driven:?}\n");
    }
    lines
}

#[test]
fn every_story_is_told_as_it_is_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    golden::check_all(&folder, || {
        let mut stage = None;
        move |words: &[&str]| command(&mut stage, words)
    });
}
