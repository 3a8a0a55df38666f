//! Golden stories: text files in which each command is followed by what came of it.
//!
//! ```text
//! # What this story shows.
//! > timer 1
//! n1 -> n2 PreVote { .. }
//! ```
//!
//! A line that begins with `>` is a command; the lines up to the next blank line are what it led
//! to, and are compared. With `QUORATE_BLESS` set the file is written anew, to be read as a diff.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_transport::{LinkState, Machine, NodeId, Ticket};

use super::{Crash, Script};

/// Plays every `*.txt` of a folder; `play` gets a file's commands one by one, in order, each as
/// its words, and gives back what came of it. A fresh player is asked for per file.
///
/// # Panics
/// When a story is told otherwise than it is written, or a command makes no sense.
pub fn check_all<P: FnMut(&[&str]) -> Result<String, String>>(
    folder: &Path,
    mut player: impl FnMut() -> P,
) {
    let list = std::fs::read_dir(folder).expect("the folder of stories is there");
    let mut files: Vec<PathBuf> = list.map(|entry| entry.expect("readable").path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "txt"));
    files.sort();
    assert!(!files.is_empty(), "{} holds a story", folder.display());
    for file in files {
        let written = std::fs::read_to_string(&file).expect("a story is text");
        let told = tell(&written, &mut player())
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        if std::env::var_os("QUORATE_BLESS").is_some() {
            std::fs::write(&file, told).expect("a story can be written");
        } else if let Some(difference) = difference(&written, &told) {
            panic!("{}:{difference}\nread it, then: cargo xtask trace --bless", file.display());
        }
    }
}

/// The story with each command's outcome as it is now.
fn tell(
    written: &str,
    play: &mut impl FnMut(&[&str]) -> Result<String, String>,
) -> Result<String, String> {
    let mut told = String::new();
    let mut outcome = false;
    for (number, line) in written.lines().enumerate() {
        match line.strip_prefix('>') {
            Some(command) => {
                let words: Vec<&str> = command.split_whitespace().collect();
                let came = play(&words).map_err(|error| format!("line {}: {error}", number + 1))?;
                let _ = writeln!(told, "{line}\n{}", came.trim_end());
                if came.is_empty() {
                    told.pop();
                }
                outcome = true;
            }
            None if line.trim().is_empty() => {
                outcome = false;
                told.push('\n');
            }
            None if outcome => {}
            None => {
                told.push_str(line);
                told.push('\n');
            }
        }
    }
    Ok(told)
}

fn difference(written: &str, told: &str) -> Option<String> {
    let (mut one, mut two) = (written.lines(), told.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (one.next(), two.next()) {
            (None, None) => return None,
            (written, told) if written != told => {
                let show = |line: Option<&str>| line.unwrap_or("(the end)").to_owned();
                return Some(format!(
                    "{number}:\n written: {}\n now: {}",
                    show(written),
                    show(told)
                ));
            }
            _ => {}
        }
    }
}

/// Plays a command that makes sense for every machine; `None` where it is none of these.
///
/// `timer N`, `advance MS`, `settle N`, `sync N`, `deliver A B`, `lose A B`, `duplicate A B`,
/// `run`, `kill N`, `power N`, `start N`, `isolate N`, `cut A B`, `heal`, `link N P up|down|full`,
/// `checkpoint N TICKET`.
pub fn common<M: Machine>(
    script: &mut Script<'_, M>,
    words: &[&str],
) -> Option<Result<(), String>> {
    let number = |at: usize| {
        let word = words.get(at).ok_or(format!("`{}` wants more words", words[0]));
        word.and_then(|word| word.parse::<u64>().map_err(|_| format!("`{word}` is no number")))
    };
    let mut play = || -> Result<(), String> {
        let node = || number(1).map(NodeId);
        let pair = || Ok::<_, String>((NodeId(number(1)?), NodeId(number(2)?)));
        match words[0] {
            "timer" => script.timer(node()?),
            "advance" => script.advance(Duration::from_millis(number(1)?)),
            "settle" => script.settle(node()?),
            "sync" => script.sync(node()?),
            "deliver" => {
                let (from, to) = pair()?;
                if !script.deliver(from, to) {
                    return Err(format!("nothing is under way from {from} to {to}"));
                }
            }
            "lose" => {
                let (from, to) = pair()?;
                script.lose(|flight| flight.from.node == from && flight.to == to);
            }
            "duplicate" => {
                let (from, to) = pair()?;
                script.duplicate(from, to);
            }
            "run" => script.run(),
            "kill" => script.crash(node()?, Crash::Kill),
            "power" => script.crash(node()?, Crash::Power),
            "start" => script.start(node()?),
            "isolate" => script.isolate(node()?),
            "cut" => {
                let (from, to) = pair()?;
                script.cut(from, to);
            }
            "heal" => script.heal(),
            "link" => {
                let (node, peer) = pair()?;
                let state = match words.get(3) {
                    Some(&"up") => LinkState::Up,
                    Some(&"down") => LinkState::Down,
                    Some(&"full") => LinkState::Full,
                    other => return Err(format!("a link is not {other:?}")),
                };
                script.link(node, peer, state);
            }
            "checkpoint" => script.checkpoint(node()?, Ticket(number(2)?)),
            _ => return Err(String::new()),
        }
        Ok(())
    };
    match play() {
        Err(unknown) if unknown.is_empty() => None,
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(words: &[&str]) -> Result<String, String> {
        if words == ["fail"] { Err("it fails".into()) } else { Ok(format!("did {words:?}\n")) }
    }

    #[test]
    fn outcomes_are_told_anew_and_all_else_stays() {
        let written = "# a story\n\n> one 1\nold\n\n# more\n> two\n";
        let told = tell(written, &mut echo).unwrap();
        assert_eq!(
            told,
            "# a story\n\n> one 1\ndid [\"one\", \"1\"]\n\n# more\n> two\ndid [\"two\"]\n"
        );
        assert_eq!(tell(&told, &mut echo).unwrap(), told);
    }

    #[test]
    fn a_difference_and_a_senseless_command_name_their_line() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), None);
        assert!(difference("a\nb\n", "a\nc\n").unwrap().starts_with("2:"));
        assert!(difference("a\n", "a\nc\n").is_some());
        assert_eq!(tell("a\n> fail\n", &mut echo), Err("line 2: it fails".into()));
    }
}
