//! Names that must not appear: leftovers anywhere, the outside world in the cores.

use crate::tidy::Violation;
use crate::tidy::source::Source;

/// Left behind by accident; checked in tests too.
const LEFTOVERS: &[(&str, &str)] = &[
    ("todo!", "write it, or return a typed error"),
    ("unimplemented!", "write it, or return a typed error"),
    ("dbg!", "remove it"),
    ("#[ignore", "make the test quick, or delete it"),
];

/// What a core takes as input instead.
const WORLD: &[(&str, &str)] = &[
    ("HashMap", "iteration order is hidden randomness: use BTreeMap"),
    ("HashSet", "iteration order is hidden randomness: use BTreeSet"),
    ("RandomState", "randomness comes from the seeded Rng"),
    ("Instant::now", "time is an input"),
    ("SystemTime::now", "wall-clock time is an explicit input"),
    ("thread::sleep", "wait for a deadline or an event"),
    ("thread::spawn", "a core runs on its caller's thread"),
    ("std::fs", "files are reached through `Disk`, in the shells"),
    ("std::net", "sockets are reached through `Transport`, in the shells"),
    ("tokio", "a core is sans-io; tokio belongs in the shells"),
];

/// The crates that are cores, and the places in each that are shells around it.
///
/// A place is a file or a folder below the crate; every other crate may do as it likes.
const CORES: &[(&str, &[&str])] = &[
    ("transport", &["src/mem", "src/tcp", "src/tls", "src/shell"]),
    ("wal", &["src/file", "src/real", "src/os"]),
    ("raft", &[]),
    ("smr", &[]),
    ("sim", &["src/script/golden", "src/sweep"]), // files of the tests; a tool's stopwatch
    ("clocks", &[]),
    ("metrics", &[]),
    ("detector", &[]),
    ("election", &[]),
    ("dmutex", &[]),
    ("txn", &[]),
];

/// Both lists, for a file of the crate with this short name.
pub(super) fn check(krate: &str, source: &Source, found: &mut Vec<Violation>) {
    let mut report = |line: usize, rule: &'static str, name: &str, advice: &str| {
        let advice = format!("`{name}`: {advice}");
        found.push(Violation { file: source.shown.clone(), line, rule, advice });
    };
    for (at, line) in source.code.iter().enumerate() {
        for (name, advice) in LEFTOVERS.iter().filter(|(name, _)| mentions(line, name)) {
            report(at + 1, "leftover", name, advice);
        }
    }
    if !is_core(krate, source) {
        return;
    }
    for (at, line) in source.shipped() {
        for (name, advice) in WORLD.iter().filter(|(name, _)| mentions(line, name)) {
            report(at, "core-purity", name, advice);
        }
    }
}

fn is_core(krate: &str, source: &Source) -> bool {
    let shells = CORES.iter().find(|(name, _)| *name == krate).map(|(_, shells)| shells);
    let in_shell = |shell: &&str| {
        source.inner.starts_with(shell) || source.inner.with_extension("").starts_with(shell)
    };
    source.inner.starts_with("src") && shells.is_some_and(|shells| !shells.iter().any(in_shell))
}

/// Whether `name` stands in `line` as a whole word.
fn mentions(line: &str, name: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(name).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + name.len()..]);
        !before.ends_with(word) && !after.starts_with(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::source::tests::planted;

    fn found(krate: &str, text: &str) -> Vec<(usize, &'static str)> {
        let mut found = Vec::new();
        check(krate, &planted(text), &mut found);
        found.iter().map(|violation| (violation.line, violation.rule)).collect()
    }

    #[test]
    fn leftovers_are_found_in_tests_too_but_not_in_comments() {
        let gate = "#[cfg(test)]\nmod tests {\n";
        assert_eq!(
            found("node", &format!("{gate}    #[ignore = \"slow\"]\n}}")),
            [(3, "leftover")]
        );
        for leftover in ["todo!()", "unimplemented!()", "dbg!(x)"] {
            assert_eq!(found("node", leftover), [(1, "leftover")]);
            assert_eq!(found("node", &format!("// {leftover}")), []);
        }
    }

    #[test]
    fn a_core_does_not_reach_the_world() {
        for (name, _) in WORLD {
            let text = format!("use {name};");
            assert_eq!(found("raft", &text), [(1, "core-purity")], "{name}");
            assert_eq!(found("node", &text), [], "{name}");
            assert_eq!(found("raft", &format!("#[cfg(test)]\nmod t {{\n{text}\n}}")), []);
        }
        assert_eq!(found("raft", "struct MyHashMapLike; let tokio_like = 1;"), []);
    }

    #[test]
    fn the_shell_of_a_core_is_exempt() {
        for inner in ["src/tcp.rs", "src/tcp/reader.rs"] {
            let source = Source::new("a".into(), inner.into(), "use tokio;", false);
            let mut found = Vec::new();
            check("transport", &source, &mut found);
            assert_eq!(found, []);
        }
        let source = Source::new("a".into(), "src/tcpish.rs".into(), "use tokio;", false);
        assert!(is_core("transport", &source));
    }
}
