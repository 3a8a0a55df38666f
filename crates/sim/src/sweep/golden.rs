//! A failure made small, as a file that replays: the seed, what is left out, what breaks, and the
//! story.

use std::collections::BTreeSet;
use std::process::ExitCode;

use quorate_transport::NodeId;

use super::program::kinds;
use super::shrink::{Shrunk, limited};
use super::{Run, show};
use crate::limits::{Choice, Limits};

/// The story begins behind this.
const STORY: &str = "---";
/// Lines of the story after the last fault that are worth showing.
const LAST_LINES: usize = 40;

/// What a file says but for the story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Golden {
    pub(super) protocol: String,
    pub(super) seed: u64,
    pub(super) limits: Limits,
    pub(super) breaks: String,
    pub(super) digest: u128,
}

impl Golden {
    pub(super) fn of(protocol: &str, shrunk: &Shrunk) -> Self {
        let seed = shrunk.seed;
        let (protocol, limits) = (protocol.to_owned(), shrunk.limits.clone());
        let breaks = shrunk.last.violation.as_ref().map(ToString::to_string).unwrap_or_default();
        let breaks = breaks.lines().next().unwrap_or_default().to_owned();
        Self { protocol, seed, limits, breaks, digest: shrunk.last.digest }
    }

    /// The file.
    pub(super) fn text(&self, shrunk: &Shrunk) -> String {
        let mut text = format!("# {}\n{}{STORY}\n", shrunk.summary(), self.head());
        for line in story(&shrunk.last.trace) {
            text += &format!("{line}\n");
        }
        text
    }

    fn head(&self) -> String {
        let Self { protocol, seed, limits, breaks, digest } = self;
        let masked: Vec<String> = limits.masked.iter().map(|kind| format!("{kind:?}")).collect();
        let absent: Vec<String> = limits.absent.iter().map(|node| node.0.to_string()).collect();
        let mut text = format!("protocol {protocol}\nseed {seed}\nsalt {}\n", limits.salt);
        text += &format!("masked {}\nabsent {}\n", masked.join(","), absent.join(","));
        if let Some(at) = limits.calm_at {
            text += &format!("calm-at {at}\n");
        }
        if let Some(pace) = limits.chaos_pace {
            text += &format!("pace {pace}\n");
        }
        if limits.small {
            text += "small yes\n";
        }
        if limits.hurry > 1 {
            text += &format!("hurry {}\n", limits.hurry);
        }
        if let Some(judges) = &limits.judges {
            text += &format!("judges {}\n", judges.join(","));
        }
        for (choice, only) in &limits.only {
            let numbers: Vec<String> = only.iter().map(u64::to_string).collect();
            text += &format!("only {} {}\n", name(*choice), numbers.join(","));
        }
        text + &format!("breaks {breaks}\ndigest {digest:032x}\n")
    }

    pub(super) fn read(text: &str) -> Result<Self, String> {
        let limits = Limits { record: true, ..Limits::default() };
        let (protocol, breaks) = (String::new(), String::new());
        let mut golden = Self { protocol, seed: 0, limits, breaks, digest: 0 };
        let lines = text.lines().take_while(|line| *line != STORY);
        for line in lines.filter(|line| !line.starts_with('#')) {
            golden.line(line).ok_or_else(|| format!("`{line}` is not understood"))?;
        }
        Ok(golden)
    }

    fn line(&mut self, line: &str) -> Option<()> {
        let (word, rest) = line.split_once(' ')?;
        match word {
            "protocol" => rest.clone_into(&mut self.protocol),
            "seed" => self.seed = rest.parse().ok()?,
            "salt" => self.limits.salt = rest.parse().ok()?,
            "calm-at" => self.limits.calm_at = Some(rest.parse().ok()?),
            "pace" => self.limits.chaos_pace = Some(rest.parse().ok()?),
            "small" => self.limits.small = rest == "yes",
            "hurry" => self.limits.hurry = rest.parse().ok()?,
            "masked" if rest.is_empty() => {}
            "masked" => self.limits.masked = kinds(rest).ok()?,
            "absent" => self.limits.absent = numbers(rest)?.into_iter().map(NodeId).collect(),
            "judges" => {
                self.limits.judges = Some(rest.split(',').map(str::to_owned).collect());
            }
            "only" => {
                let (name, rest) = rest.split_once(' ')?;
                self.limits.only.insert(choice(name)?, numbers(rest)?);
            }
            "breaks" => rest.clone_into(&mut self.breaks),
            "digest" => self.digest = u128::from_str_radix(rest, 16).ok()?,
            _ => return None,
        }
        Some(())
    }
}

fn name(choice: Choice) -> String {
    match choice {
        Choice::Frame(fault) => format!("{fault:?}"),
        other => format!("{other:?}"),
    }
}

fn choice(name: &str) -> Option<Choice> {
    match name {
        "Strike" => Some(Choice::Strike),
        "Ask" => Some(Choice::Ask),
        fault => Some(Choice::Frame(*kinds(fault).ok()?.first()?)),
    }
}

fn numbers(text: &str) -> Option<BTreeSet<u64>> {
    text.split(',').filter(|word| !word.is_empty()).map(|word| word.parse().ok()).collect()
}

/// The faults, who died, and what happened after the last fault.
fn story(trace: &[String]) -> Vec<&String> {
    let last_fault = trace.iter().rposition(|line| line.contains(" fault "));
    let (before, rest) = trace.split_at(last_fault.map_or(0, |at| at + 1));
    let is_fault = |line: &&String| line.contains(" fault ") || line.contains(" died: ");
    let rest = rest.iter().skip(rest.len().saturating_sub(LAST_LINES));
    before.iter().filter(is_fault).chain(rest).collect()
}

/// Runs a file's failure again: it breaks as it did, to the letter.
pub(super) fn main(
    protocol: &str,
    path: &str,
    trace: bool,
    run: &(impl Fn(u64, bool) -> Run + Sync),
) -> ExitCode {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
    let golden = match text.and_then(|text| Golden::read(&text)) {
        Ok(golden) if golden.protocol == protocol => golden,
        Ok(golden) => {
            println!("{path} is a failure of {}, not of {protocol}", golden.protocol);
            return ExitCode::from(2);
        }
        Err(what) => {
            println!("{path}: {what}");
            return ExitCode::from(2);
        }
    };
    let (run, same) = replay(&golden, run);
    if trace {
        run.trace.iter().for_each(|line| println!("{line}"));
    } else {
        story(&run.trace).into_iter().for_each(|line| println!("{line}"));
    }
    println!("{}", show(protocol, golden.seed, &run));
    println!("{protocol}: {path} {}", if same { "replays" } else { "does NOT replay" });
    if same { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The run that a file tells of, and whether it is that run still.
fn replay(golden: &Golden, run: &(impl Fn(u64, bool) -> Run + Sync)) -> (Run, bool) {
    let run = limited(golden.seed, true, &golden.limits, run);
    let breaks = run.violation.as_ref().map(ToString::to_string).unwrap_or_default();
    let breaks = breaks.lines().next().unwrap_or_default();
    let same = breaks == golden.breaks && run.digest == golden.digest;
    (run, same)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::limits::Choices;
    use crate::nemesis::Fault;
    use crate::sweep::shrink::shrink;
    use crate::world::Violation;

    /// Breaks where strike 5 and the loss of frame 8 happen; what breaks is told with the seed.
    fn run(seed: u64, _: bool) -> Run {
        let mut choices = Choices::default();
        let (strike, loss) = (Choice::Strike, Choice::Frame(Fault::Loss));
        let breaks = choices.happens(strike, 5) & choices.happens(loss, 8);
        let _ = choices.happens(Choice::Ask, 1);
        let what = format!("X1 seed {seed}");
        let mut run = Run::failed(Violation { at: 1_500_000_000, node: NodeId(1), what });
        if !breaks {
            run.violation = None;
        }
        run.nodes = 2;
        run.digest = 77;
        run.taken = choices.taken().to_vec();
        run
    }

    #[test]
    fn a_failure_is_written_and_replays() {
        let time = Duration::from_secs(9);
        let judges = Some(vec!["X".to_owned(), "law 8".to_owned()]);
        let limits = Limits { judges, ..Limits::default() };
        let shrunk = shrink(9, limits, 2, time, &run).expect("it fails");
        let golden = Golden::of("test", &shrunk);
        let text = golden.text(&shrunk);
        assert!(text.contains(
            "\njudges X,law 8\nonly Strike 5\nonly Ask \nonly Loss 8\nbreaks n1 at 1.500000 s: X1"
        ));
        let mut read = Golden::read(&text).unwrap();
        assert_eq!(read, golden);
        let (calm_at, chaos_pace, hurry) = (Some(2_000_000_000), Some(25), 8);
        let other = Limits { calm_at, chaos_pace, hurry, small: true, ..golden.limits.clone() };
        let other = Golden { limits: other, ..golden.clone() };
        assert_eq!(Golden::read(&other.head()).unwrap(), other);
        assert!(replay(&read, &run).1);
        read.limits.only.insert(Choice::Strike, BTreeSet::new());
        assert!(!replay(&read, &run).1, "what it needs is gone");
        assert!(!replay(&Golden { digest: 1, ..golden }, &run).1, "it is another run");
        assert_eq!(Golden::read("only Lost 1"), Err("`only Lost 1` is not understood".into()));
    }

    #[test]
    fn a_story_has_the_faults_and_the_end() {
        let mut trace: Vec<String> = (0..9).map(|n| format!("{n} step")).collect();
        trace.insert(2, "2 fault Kill".into());
        trace.insert(1, "1 n1 died: killed".into());
        let told: Vec<&str> = story(&trace).into_iter().map(String::as_str).collect();
        assert_eq!(told[..3], ["1 n1 died: killed", "2 fault Kill", "2 step"]);
        assert_eq!(told.len(), 9);
    }
}
