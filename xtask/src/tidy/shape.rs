//! Sizes and opening lines: files, functions, lines, module docs.

use crate::tidy::Violation;
use crate::tidy::source::Source;

/// Lines of a file before its tests.
const FILE_LINES_MAX: usize = 600;
/// Lines of a function, its signature and closing brace included.
const FUNCTION_LINES_MAX: usize = 70;
/// Characters of a line.
const LINE_CHARS_MAX: usize = 100;

/// All rules about shape.
pub(super) fn check(source: &Source, found: &mut Vec<Violation>) {
    let mut report = |line: usize, rule: &'static str, advice: String| {
        found.push(Violation { file: source.shown.clone(), line, rule, advice });
    };
    let opening = source.raw.first().map_or("", String::as_str);
    if !opening.starts_with("//!") && !opening.starts_with("#![doc") {
        report(1, "module-doc", "open with `//!`: what this file is for".to_owned());
    }
    let lines = source.tests_from;
    if lines > FILE_LINES_MAX {
        let advice = format!("{lines} lines before the tests; split it below {FILE_LINES_MAX}");
        report(FILE_LINES_MAX + 1, "file-length", advice);
    }
    for (at, line) in source.raw.iter().enumerate() {
        let chars = line.chars().count();
        // A link cannot be broken.
        if chars > LINE_CHARS_MAX && !line.contains("://") {
            report(at + 1, "line-length", format!("{chars} characters; at most {LINE_CHARS_MAX}"));
        }
    }
    for (at, lines) in functions(source) {
        if lines > FUNCTION_LINES_MAX {
            let advice = format!("{lines} lines; split it below {FUNCTION_LINES_MAX}");
            report(at, "function-length", advice);
        }
    }
}

/// `(first line, lines)` of every function before the tests, by rustfmt's indentation.
fn functions(source: &Source) -> Vec<(usize, usize)> {
    let code = &source.code[..source.tests_from];
    let starts = (0..code.len()).filter(|&at| is_function(&code[at]));
    starts.filter_map(|at| Some((at + 1, closing(code, at)? - at + 1))).collect()
}

fn is_function(line: &str) -> bool {
    for word in line.split_whitespace() {
        let qualifier = word.starts_with("pub") || matches!(word, "in" | "extern" | "default");
        match word {
            "fn" => return true,
            "const" | "async" | "unsafe" => {}
            // The path of `pub(in path)`.
            _ if qualifier || word.ends_with(')') => {}
            _ => return false,
        }
    }
    false
}

/// The line that closes the function at `at`: none for a declaration without a body.
fn closing(code: &[String], at: usize) -> Option<usize> {
    let indent = indentation(&code[at]);
    let mut in_body = false;
    for (offset, line) in code[at..].iter().enumerate() {
        let text = line.trim();
        let at_margin = indentation(line) == indent && !text.is_empty();
        if in_body {
            if at_margin && text.starts_with('}') {
                return Some(at + offset);
            }
        } else if text.ends_with(';') {
            return None;
        } else if at_margin && text.ends_with('}') {
            return Some(at + offset);
        } else if at_margin && text.ends_with('{') {
            in_body = true;
        }
    }
    None
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::source::tests::planted;

    fn rules(text: &str) -> Vec<(usize, &'static str)> {
        let mut found = Vec::new();
        check(&planted(text), &mut found);
        found.iter().map(|violation| (violation.line, violation.rule)).collect()
    }

    fn function(signature: &str, lines: usize) -> String {
        format!("//! A.\n{signature}\n{}}}\n", "    a();\n".repeat(lines))
    }

    #[test]
    fn a_file_opens_with_its_purpose() {
        assert_eq!(rules("use a;\n"), [(1, "module-doc")]);
        assert_eq!(rules("//! A.\n"), []);
        assert_eq!(rules("#![doc = include_str!(\"../README.md\")]\n"), []);
    }

    #[test]
    fn a_file_is_short_without_its_tests() {
        let long = format!("//! A.\n{}", "// b\n".repeat(600));
        assert_eq!(rules(&long), [(601, "file-length")]);
        let tests = "// b\n".repeat(900);
        assert_eq!(rules(&format!("//! A.\n#[cfg(test)]\nmod tests {{\n{tests}}}\n")), []);
    }

    #[test]
    fn a_line_is_short_unless_it_is_a_link() {
        let long = "x".repeat(101);
        assert_eq!(rules(&format!("//! A.\n// {long}\n")), [(2, "line-length")]);
        assert_eq!(rules(&format!("//! A.\n// https://{long}\n")), []);
    }

    #[test]
    fn a_function_is_short() {
        let signatures = [
            "fn f() {",
            "pub(crate) async fn f<T>(a: u8) -> [u8; 4] {",
            "pub(in crate::a) const unsafe fn f(\n    a: u8,\n) -> u8\nwhere\n    T: A,\n{",
        ];
        for signature in signatures {
            assert_eq!(rules(&function(signature, 60)), [], "{signature}");
            assert_eq!(rules(&function(signature, 70)), [(2, "function-length")], "{signature}");
        }
    }

    #[test]
    fn declarations_and_one_liners_do_not_swallow_what_follows() {
        let rest = "// a\n".repeat(100);
        let text = format!("//! A.\ntrait T {{\n    fn a(\n        b: u8,\n    );\n{rest}}}\n");
        assert_eq!(rules(&text), []);
        assert_eq!(rules(&format!("//! A.\nfn a() {{}}\n{rest}")), []);
    }
}
