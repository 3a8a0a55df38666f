//! Golden stories: `tests/traces/*.txt`, each readable on its own; `cargo xtask trace`.

use std::path::Path;
use std::time::Duration;

use quorate_detector::{Config, Fixed, Heartbeats, Monitor};
use quorate_sim::script::{Script, golden};
use quorate_transport::{Machine, NodeId};

type Stage = Script<'static, Heartbeats>;

/// `fixed COUNT` begins with nodes that tolerate 350 ms of silence, `phi COUNT` with nodes that
/// learn how much to tolerate; `status N` shows what a node thinks of the others, `beat COUNT` lets
/// so many timers fire, each that is due next, and their heartbeats arrive 1 ms later.
fn command(stage: &mut Option<Stage>, words: &[&str]) -> Result<String, String> {
    let number = |at: usize| {
        let word = words.get(at).and_then(|word| word.parse::<u64>().ok());
        word.ok_or(format!("`{}` wants a number", words[0]))
    };
    if let "fixed" | "phi" = words[0] {
        let (count, is_fixed) = (number(1)?, words[0] == "fixed");
        *stage = Some(Script::new(count, move |start| {
            let peers = (1..=count).map(NodeId).filter(|node| *node != start.node);
            let mut config = Config::new(peers);
            if is_fixed {
                config.monitor = Monitor::Fixed(Fixed { timeout: Duration::from_millis(350) });
            }
            Heartbeats::new(start, config).expect("a valid configuration")
        }));
        return Ok(String::new());
    }
    let stage = stage.as_mut().ok_or("a story begins with `fixed` or `phi`")?;
    if let Some(played) = golden::common(stage, words) {
        played?;
        return Ok(stage.take_story());
    }
    match words[0] {
        "beat" => {
            for _ in 0..number(1)? {
                let up = stage.nodes().filter(|node| stage.is_up(*node));
                let due = up.min_by_key(|node| stage.node(*node).deadline());
                stage.timer(due.ok_or("nobody is up")?);
                stage.advance(Duration::from_millis(1));
                stage.run();
            }
            // Heartbeats are all alike: what came of them is what counts.
            let story = stage.take_story();
            let told = story.lines().filter(|line| line.contains("emits"));
            Ok(told.map(|line| format!("{line}\n")).collect())
        }
        "status" => Ok(status(stage, NodeId(number(1)?))),
        other => Err(format!("`{other}` is no command")),
    }
}

fn status(stage: &Stage, node: NodeId) -> String {
    let others = stage.nodes().filter_map(|peer| stage.node(node).status(stage.now(), peer));
    let lines = others.map(|peer| {
        let (id, status, level) = (peer.node, peer.status, peer.level);
        format!("{id} is {status:?}, level {level:.1}, life {}\n", peer.incarnation)
    });
    format!("at {}\n{}", stage.now(), lines.collect::<String>())
}

#[test]
fn every_story_is_told_as_it_is_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    golden::check_all(&folder, || {
        let mut stage = None;
        move |words: &[&str]| command(&mut stage, words)
    });
}
