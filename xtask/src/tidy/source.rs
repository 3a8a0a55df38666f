//! One file, with comments and the insides of literals blanked out so that rules see code only.

use std::path::PathBuf;

/// A Rust file as the rules see it.
pub(super) struct Source {
    /// The path from the workspace root, for reports.
    pub(super) shown: PathBuf,
    /// The path from the package's folder: `src/lib.rs`.
    pub(super) inner: PathBuf,
    /// The lines as written.
    pub(super) raw: Vec<String>,
    /// The lines with comments and the insides of literals as spaces.
    pub(super) code: Vec<String>,
    /// How many lines come before the tests at the foot.
    pub(super) tests_from: usize,
}

impl Source {
    /// Reads `text`; `is_test` where the whole file is a test.
    pub(super) fn new(shown: PathBuf, inner: PathBuf, text: &str, is_test: bool) -> Self {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let (raw, code) = (lines(text), lines(&blank(text)));
        let is_test = is_test || inner.file_name().is_some_and(|name| name == "tests.rs");
        let tests_from = if is_test { 0 } else { foot(&code) };
        Self { shown, inner, raw, code, tests_from }
    }

    /// The code before the tests, with line numbers from 1.
    pub(super) fn shipped(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.iter().take(self.tests_from).enumerate().map(|(i, line)| (i + 1, line.as_str()))
    }
}

/// Where the test module begins: a `#[cfg(.. test ..)]` at the margin, followed by `mod`.
fn foot(code: &[String]) -> usize {
    let is_gate = |line: &str| {
        let test = line.contains("(test") || line.contains(" test)") || line.contains(" test,");
        line.starts_with("#[cfg(") && test && !line.contains("not(test")
    };
    let opens = |line: &String| line.starts_with("mod ") && line.ends_with('{');
    let at = (0..code.len()).find(|&at| {
        is_gate(&code[at])
            && code[at + 1..].iter().find(|line| !line.starts_with("#[")).is_some_and(opens)
    });
    at.unwrap_or(code.len())
}

/// Blanks comments and the insides of string and character literals; keeps every line break.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => line_comment(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => block_comment(&chars, at),
            '"' => string(&chars, at),
            'r' if is_raw(&chars, at) => raw_string(&chars, at),
            '\'' => character(&chars, at),
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    let trimmed: Vec<&str> = out.split('\n').map(str::trim_end).collect();
    trimmed.join("\n")
}

fn line_comment(chars: &[char], at: usize) -> usize {
    (at..chars.len()).find(|&i| chars[i] == '\n').unwrap_or(chars.len())
}

fn block_comment(chars: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0_u32, at);
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => depth += 1,
            ('*', Some('/')) => depth -= 1,
            _ => {
                i += 1;
                continue;
            }
        }
        i += 2;
        if depth == 0 {
            return i;
        }
    }
    chars.len()
}

fn string(chars: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

/// Whether `r"`, `r#"`, .. begins here, and not a name that ends in `r` or a raw identifier.
fn is_raw(chars: &[char], at: usize) -> bool {
    let inside_name = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    let byte = at > 0 && chars[at - 1] == 'b';
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    (!inside_name || byte) && chars.get(at + 1 + hashes) == Some(&'"')
}

fn raw_string(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let begin = at + 2 + hashes;
    let closes = |i: usize| {
        chars[i] == '"' && (1..=hashes).all(|offset| chars.get(i + offset) == Some(&'#'))
    };
    (begin..chars.len()).find(|&i| closes(i)).map_or(chars.len(), |i| i + 1 + hashes)
}

/// A character literal, and not a lifetime: the quote closes after one character or an escape.
fn character(chars: &[char], at: usize) -> usize {
    if chars.get(at + 1) == Some(&'\\') {
        let close = (at + 3..chars.len()).find(|&i| chars[i] == '\'');
        return close.map_or(at, |i| i + 1);
    }
    if chars.get(at + 2) == Some(&'\'') { at + 3 } else { at }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A shipped file of a package, for the tests of the rules.
    pub(in crate::tidy) fn planted(text: &str) -> Source {
        Source::new("crates/x/src/a.rs".into(), "src/a.rs".into(), text, false)
    }

    #[test]
    fn comments_and_literals_hide_what_they_hold() {
        let cases = [
            ("a(); // dbg!(x)", "a();"),
            ("a(\"todo!() \\\" x\"); b()", "a( ); b()"),
            ("r#\"one \" two\"#; b()", "; b()"),
            ("/* a /* b */ c */ d", "d"),
            ("f::<'a>('\"', '\\'')", "f::<'a>( , )"),
        ];
        for (text, code) in cases {
            let words: Vec<_> = blank(text).split_whitespace().map(str::to_owned).collect();
            assert_eq!(words.join(" "), code, "{text}");
        }
        assert_eq!(blank("\"a\nb\" c"), "\n   c");
    }

    #[test]
    fn the_tests_at_the_foot_are_told_apart() {
        let text =
            "#[cfg(test)]\nuse a;\nfn f() {}\n#[cfg(all(test, not(loom)))]\n#[x]\nmod t {\n}";
        assert_eq!(planted(text).tests_from, 3);
        assert_eq!(planted("#[cfg(not(test))]\nmod a {\n}").tests_from, 3);
        assert_eq!(Source::new("t".into(), "tests/t.rs".into(), "a\n", true).tests_from, 0);
    }
}
