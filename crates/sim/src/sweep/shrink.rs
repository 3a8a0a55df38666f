//! From a seed that fails to the few faults that matter.
//!
//! The seed stays; what goes are kinds of fault, then single strikes, as long as the same invariant
//! breaks. All else is drawn as before, for each kind draws from a stream of its own.

use std::collections::BTreeSet;
use std::process::ExitCode;

use super::{Run, caught};
use crate::nemesis::{self, Fault, Limits};

/// Lines of the story after the last fault that are worth showing.
const LAST_LINES: usize = 40;
/// Tries at the most: a minute or two.
const TRIES_MAX: u32 = 1_000;
/// Strikes beyond this are not taken away one by one.
const STRIKES_MAX: u64 = 1_024;

/// What is left of a failure.
pub(super) struct Shrunk {
    pub(super) limits: Limits,
    /// Faults that still strike, those of single frames not counted.
    pub(super) faults: u64,
    pub(super) what: String,
    pub(super) tries: u32,
    story: Vec<String>,
}

/// Shrinks a seed, prints what is left, and writes it to `target/shrunk`.
pub(super) fn main(
    protocol: &str,
    seed: u64,
    masked: Vec<Fault>,
    run: &(impl Fn(u64, bool) -> Run + Sync),
) -> ExitCode {
    let Some(shrunk) = shrink(seed, masked, run) else {
        println!("{protocol}: seed {seed} does not fail");
        return ExitCode::FAILURE;
    };
    let masked: Vec<String> = shrunk.limits.masked.iter().map(|kind| format!("{kind:?}")).collect();
    let mut text = format!(
        "{protocol}: seed {seed}, {} faults left after {} tries; masked: {}\n{}\n",
        shrunk.faults,
        shrunk.tries,
        masked.join(","),
        shrunk.what
    );
    let last_fault = shrunk.story.iter().rposition(|line| line.contains(" fault "));
    let from = last_fault.map_or(0, |at| at + 1).min(shrunk.story.len());
    let is_fault = |line: &&String| line.contains(" fault ") || line.contains(" died: ");
    for line in shrunk.story[..from].iter().filter(is_fault) {
        text += &format!("{line}\n");
    }
    let rest = &shrunk.story[from..];
    for line in &rest[rest.len().saturating_sub(LAST_LINES)..] {
        text += &format!("{line}\n");
    }
    print!("{text}");
    let path = format!("target/shrunk/{protocol}-{seed}.txt");
    let written =
        std::fs::create_dir_all("target/shrunk").and_then(|()| std::fs::write(&path, text));
    match written {
        Ok(()) => println!("wrote {path}"),
        Err(error) => println!("cannot write {path}: {error}"),
    }
    ExitCode::SUCCESS
}

/// What is left of a seed's failure; `None` where it does not fail.
pub(super) fn shrink(
    seed: u64,
    masked: Vec<Fault>,
    run: &(impl Fn(u64, bool) -> Run + Sync),
) -> Option<Shrunk> {
    let limits = Limits { masked, ..Limits::default() };
    let mut search = Search { seed, run, limits: limits.clone(), tries: 0, id: String::new() };
    let first = search.run(&limits)?;
    search.id = id(&first);
    for kind in Fault::FOLLOW.into_iter().chain(Fault::STRIKES) {
        let mut limits = search.limits.clone();
        limits.masked.push(kind);
        search.keep(limits);
    }
    search.spare_strikes();
    let limits = search.limits.clone();
    nemesis::limit(limits.clone());
    let last = caught(seed, true, run);
    nemesis::limit(Limits::default());
    let what = last.violation?.to_string();
    Some(Shrunk { limits, faults: last.faults, what, tries: search.tries, story: last.trace })
}

struct Search<'a, F> {
    seed: u64,
    run: &'a F,
    limits: Limits,
    tries: u32,
    /// The invariant that breaks.
    id: String,
}

impl<F: Fn(u64, bool) -> Run + Sync> Search<'_, F> {
    /// What breaks under these limits.
    fn run(&mut self, limits: &Limits) -> Option<String> {
        self.tries += 1;
        nemesis::limit(limits.clone());
        let run = caught(self.seed, false, self.run);
        nemesis::limit(Limits::default());
        run.violation.map(|violation| violation.what)
    }

    /// Keeps the limits if the same invariant still breaks.
    fn keep(&mut self, limits: Limits) -> bool {
        if self.tries >= TRIES_MAX {
            return false;
        }
        let same = self.run(&limits).is_some_and(|what| id(&what) == self.id);
        if same {
            self.limits = limits;
        }
        same
    }

    /// Delta debugging over the strikes, by number.
    fn spare_strikes(&mut self) {
        let mut left: Vec<u64> = (0..STRIKES_MAX).collect();
        let mut chunk = left.len() / 2;
        while chunk > 0 {
            let mut at = 0;
            while at < left.len() {
                let end = (at + chunk).min(left.len());
                let without: BTreeSet<u64> = left[at..end].iter().copied().collect();
                let mut limits = self.limits.clone();
                limits.spared.extend(&without);
                if self.keep(limits) {
                    left.drain(at..end);
                } else {
                    at = end;
                }
            }
            chunk /= 2;
        }
    }
}

/// What names the failure: the id of the invariant; of liveness, and where there is no id, all the
/// words, for one id has many ways to fail. Numbers do not count.
fn id(what: &str) -> String {
    let first = what.split([' ', ':', ',']).next().unwrap_or_default();
    if first.ends_with(|c: char| c.is_ascii_digit()) && first != "R29" {
        return first.to_owned();
    }
    what.chars().filter(|c| !c.is_ascii_digit()).collect()
}

#[cfg(test)]
mod tests {
    use quorate_transport::NodeId;

    use super::*;
    use crate::world::Violation;

    #[test]
    fn what_does_not_matter_goes() {
        // Breaks where strike 7 and strike 40 happen, and kills are on.
        let run = |_: u64, _: bool| {
            let limits = nemesis::limits();
            let strikes = |number| !limits.spared.contains(&number);
            let breaks = strikes(7) && strikes(40) && !limits.masked.contains(&Fault::Kill);
            let what = "X1 broken".to_owned();
            let mut run = Run::failed(Violation { at: 1, node: NodeId(1), what });
            if !breaks {
                run.violation = None;
            }
            run.faults = (0..STRIKES_MAX).filter(|number| strikes(*number)).count() as u64;
            run
        };
        let shrunk = shrink(3, Vec::new(), &run).expect("it fails");
        assert_eq!(shrunk.faults, 2);
        assert_eq!(shrunk.limits.masked.len(), 49);
        assert!(shrunk.what.contains("X1 broken") && shrunk.tries < 200);
        assert!(
            shrink(3, Vec::new(), &|_, _| {
                let mut ok = run(0, false);
                ok.violation = None;
                ok
            })
            .is_none()
        );
    }
}
