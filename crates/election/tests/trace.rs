//! Golden stories: `tests/traces/*.txt`, each readable on its own; `cargo xtask trace`.

#[path = "support/stage.rs"]
mod stage;

use std::path::Path;

use quorate_election::{Request, bully};
use quorate_sim::script::golden::{check_all, common};
use quorate_transport::NodeId;
use stage::{Bullies, Leases, bullies, guard, leases, led_bullies, led_leases};

enum Stage {
    Bullies(Bullies),
    Leases(Leases),
}

/// `bullies COUNT` and `leases COUNT` begin with a group that has just started, `led-bullies COUNT`
/// with one that the highest leads, `led-leases COUNT LEADER` with one that this node leads.
/// `elect N` asks a bully to hold an election, `resign N` a leader to give its lease up; `who`
/// shows what everybody thinks.
fn command(stage: &mut Option<Stage>, words: &[&str]) -> Result<String, String> {
    let number = |at: usize| {
        let word = words.get(at).and_then(|word| word.parse::<u64>().ok());
        word.ok_or(format!("`{}` wants a number", words[0]))
    };
    let begun = match words[0] {
        "bullies" => Some(Stage::Bullies(bullies(number(1)?))),
        "led-bullies" => Some(Stage::Bullies(led_bullies(number(1)?))),
        "leases" => Some(Stage::Leases(leases(number(1)?))),
        "led-leases" => Some(Stage::Leases(led_leases(number(1)?, NodeId(number(2)?)))),
        _ => None,
    };
    if let Some(begun) = begun {
        *stage = Some(begun);
        return Ok(String::new());
    }
    match stage.as_mut().ok_or("a story begins with a group")? {
        Stage::Bullies(stage) => {
            match (words[0], common(stage, words)) {
                (_, Some(played)) => played?,
                ("elect", None) => {
                    stage.request(NodeId(number(1)?), bully::Request::Elect);
                }
                ("who", None) => return Ok(opinions(stage)),
                (other, None) => return Err(format!("`{other}` is no command of bullies")),
            }
            Ok(stage.take_story())
        }
        Stage::Leases(stage) => {
            match (words[0], common(stage, words)) {
                (_, Some(played)) => played?,
                ("resign", None) => {
                    stage.request(NodeId(number(1)?), Request::Resign);
                }
                ("who", None) => return Ok(leaders(stage)),
                (other, None) => return Err(format!("`{other}` is no command of leases")),
            }
            Ok(stage.take_story())
        }
    }
}

fn opinions(stage: &Bullies) -> String {
    let up = stage.nodes().filter(|node| stage.is_up(*node));
    let opinions = up.map(|node| match stage.node(node).advisory() {
        Some(advisory) => format!("{advisory:?}\n"),
        None => format!("{node} believes in nobody\n"),
    });
    opinions.collect()
}

fn leaders(stage: &Leases) -> String {
    let up = stage.nodes().filter(|node| stage.is_up(*node));
    let lines = up.map(|node| {
        let leader = stage.node(node).leader();
        let lease = guard(stage, node).map_or(String::new(), |guard| {
            format!(", and holds a lease until {}", guard.valid_until())
        });
        match leader {
            Some(leader) => format!("{node} follows {leader}{lease}\n"),
            None => format!("{node} follows nobody\n"),
        }
    });
    format!("at {}\n{}", stage.now(), lines.collect::<String>())
}

#[test]
fn every_story_is_told_as_it_is_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    check_all(&folder, || {
        let mut stage = None;
        move |words: &[&str]| command(&mut stage, words)
    });
}
