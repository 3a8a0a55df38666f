//! The table of invariants in `docs/simulation.md`: what it names must be there.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{Violation, rust_files};

const PAGE: &str = "docs/simulation.md";
const BEGIN: &str = "<!-- invariants -->";
const END: &str = "<!-- /invariants -->";

/// One row: whose it is, its function, and the test that shows it a broken thing.
#[derive(Debug, PartialEq, Eq)]
struct Row<'a> {
    line: usize,
    package: &'a str,
    functions: [&'a str; 2],
}

/// Every function and every test in the table is one of the tests of its crate.
pub(super) fn check(root: &Path, found: &mut Vec<Violation>) -> Result<()> {
    let text = fs::read_to_string(root.join(PAGE)).with_context(|| format!("no {PAGE}"))?;
    let rows = rows(&text);
    let mut violation = |line, advice| {
        found.push(Violation { file: PAGE.into(), line, rule: "invariants", advice });
    };
    if rows.is_empty() {
        violation(1, format!("has no table between `{BEGIN}` and `{END}`"));
    }
    for row in rows {
        let mut code = String::new();
        for file in rust_files(&root.join("crates").join(row.package).join("tests"))? {
            code += &fs::read_to_string(file)?;
        }
        for function in row.functions.into_iter().filter(|name| *name != "–") {
            if !code.contains(&format!("fn {function}(")) {
                let package = row.package;
                violation(row.line, format!("`{function}` is not in the tests of {package}"));
            }
        }
    }
    Ok(())
}

fn rows(text: &str) -> Vec<Row<'_>> {
    let lines = text.lines().enumerate().skip_while(|(_, line)| *line != BEGIN);
    let lines = lines.skip(1).take_while(|(_, line)| *line != END);
    let mut rows = Vec::new();
    for (at, line) in lines {
        let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        if let ["", _, _, package, function, test, ""] = cells[..]
            && package != "crate"
            && !package.starts_with("--")
        {
            rows.push(Row { line: at + 1, package, functions: [function, test] });
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "<!-- invariants -->\n\n| id | what | crate | function | self-test |\n\
        |---|---|---|---|---|\n| R1 | one | raft | `r1` | `r1_sees` |\n| M1 | once | smr | `apply` \
        | – |\n<!-- /invariants -->\n| X | no row | raft | `x` | – |\n";

    #[test]
    fn rows_are_those_of_the_table() {
        let row = |line, package, functions| Row { line, package, functions };
        assert_eq!(rows(TABLE), [row(5, "raft", ["r1", "r1_sees"]), row(6, "smr", ["apply", "–"])]);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("docs")).unwrap();
        fs::create_dir_all(root.join("crates/raft/tests")).unwrap();
        fs::create_dir_all(root.join("crates/smr/tests")).unwrap();
        fs::write(root.join(PAGE), TABLE).unwrap();
        fs::write(root.join("crates/raft/tests/a.rs"), "fn r1() {} fn r1_sees() {}").unwrap();
        let mut found = Vec::new();
        check(root, &mut found).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].line, &*found[0].advice), (6, "`apply` is not in the tests of smr"));
    }
}
