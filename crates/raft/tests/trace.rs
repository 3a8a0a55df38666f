//! Golden stories: `tests/traces/*.txt`, each readable on its own; `cargo xtask trace`.

#[path = "support/stage.rs"]
mod stage;

use std::path::Path;

use quorate_sim::script::golden::check_all;
use quorate_transport::NodeId;
use stage::{Stage, elect, play, stage_of, status};

/// `group COUNT [of NODES] [chunk BYTES] [append BYTES] [window COUNT] [drift PPM]
/// [led NODE]` begins: `of` are all nodes, those who may join among them. `status` shows all.
fn command(stage: &mut Option<Stage>, words: &[&str]) -> Result<String, String> {
    if words[0] == "group" {
        let numbers: Vec<_> = words.iter().map(|word| word.parse::<u64>().ok()).collect();
        let value = |name: &str| {
            let at = words.iter().position(|word| *word == name)?;
            numbers.get(at + 1).copied().flatten()
        };
        let count = numbers.get(1).copied().flatten().ok_or("`group` wants a count")?;
        let (chunk, append, window) = (value("chunk"), value("append"), value("window"));
        let drift = value("drift");
        let all = value("of").unwrap_or(count);
        let stage = stage.insert(stage_of(count, all, move |config| {
            config.snapshot_chunk_bytes = chunk.map_or(config.snapshot_chunk_bytes, |n| n as usize);
            config.append_bytes_max = append.map_or(config.append_bytes_max, |n| n as usize);
            config.clock_drift_ppm = drift.map(|ppm| ppm as u32);
            config.window_count_max = window.map_or(config.window_count_max, |n| n as usize);
        }));
        if let Some(leader) = value("led") {
            elect(stage, NodeId(leader));
            stage.take_story(); // the story of elections tells it
        }
        return Ok(String::new());
    }
    let stage = stage.as_mut().ok_or("a story begins with `group`")?;
    if words[0] == "status" {
        return Ok(status(stage));
    }
    play(stage, words)?;
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
