//! Who may depend on whom: the manifests against the table in the architecture page.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::tidy::Violation;
use crate::workspace::{Package, short};

/// The page with the table.
pub(super) const PAGE: &str = "docs/ARCHITECTURE.md";
const BEGIN: &str = "<!-- edges -->";
const END: &str = "<!-- /edges -->";
/// Tests of any crate may use these.
const TEST_TOOLS: &[&str] = &["sim"];

/// What one row allows, and the line it stands on.
#[derive(Default)]
struct Row {
    line: usize,
    code: Vec<String>,
    tests: Vec<String>,
}

/// Compares every edge inside the workspace with the table.
pub(super) fn check(page: &str, packages: &[Package], found: &mut Vec<Violation>) {
    let table = table(page);
    let mut report = |line: usize, advice: String| {
        found.push(Violation { file: PathBuf::from(PAGE), line, rule: "edges", advice });
    };
    if table.is_empty() {
        return report(1, format!("no table between `{BEGIN}` and `{END}`"));
    }
    for package in packages {
        let name = package.short();
        let Some(row) = table.get(name) else {
            report(1, format!("`{name}` has no row in the table: add one, and say why"));
            continue;
        };
        for edge in &package.edges {
            let to = short(&edge.to);
            let in_code = row.code.iter().any(|allowed| allowed == to);
            let in_tests = TEST_TOOLS.contains(&to) || row.tests.iter().any(|test| test == to);
            if !(in_code || edge.dev && in_tests) {
                let kind = if edge.dev { "a dev-dependency" } else { "a dependency" };
                let advice = format!("`{name}` may not have `{to}` as {kind}: remove the edge");
                report(row.line, format!("{advice}, or change this row and say why"));
            }
        }
    }
}

/// The rows `| crate | may depend on | tests may also use |` between the markers.
fn table(page: &str) -> BTreeMap<String, Row> {
    let lines = page.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let inside = lines.skip_while(|(_, line)| *line != BEGIN).take_while(|(_, line)| *line != END);
    let mut table = BTreeMap::new();
    for (line, text) in inside.filter(|(_, line)| line.starts_with('|')) {
        let cells: Vec<Vec<String>> = text.trim_matches('|').split('|').map(names).collect();
        let [krate, rest @ ..] = cells.as_slice() else {
            continue;
        };
        if let [krate] = krate.as_slice() {
            let cell = |at: usize| rest.get(at).cloned().unwrap_or_default();
            table.insert(krate.clone(), Row { line, code: cell(0), tests: cell(1) });
        }
    }
    table
}

/// The names in backticks in one cell.
fn names(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Edge;

    const PLANTED: &str = "# A\n| `early` | `a` |\n<!-- edges -->\n\
        | crate | may depend on | tests may also use |\n|---|---|---|\n\
        | `transport` | nothing | |\n| `raft` | `transport` | `driver` |\n<!-- /edges -->\n";

    fn package(name: &str, edges: &[(&str, bool)]) -> Package {
        let edge = |&(to, dev): &(&str, bool)| Edge { to: format!("quorate-{to}"), dev };
        Package {
            name: format!("quorate-{name}"),
            dir: PathBuf::new(),
            features: Vec::new(),
            targets: Vec::new(),
            edges: edges.iter().map(edge).collect(),
        }
    }

    fn lines(page: &str, package: Package) -> Vec<usize> {
        let mut found = Vec::new();
        check(page, &[package], &mut found);
        found.iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn edges_of_the_table_are_allowed() {
        let edges = [("transport", false), ("sim", true), ("driver", true), ("transport", true)];
        assert_eq!(lines(PLANTED, package("raft", &edges)), [0; 0]);
    }

    #[test]
    fn other_edges_are_reported_at_their_row() {
        for edge in [("wal", false), ("sim", false), ("driver", false), ("wal", true)] {
            assert_eq!(lines(PLANTED, package("raft", &[edge])), [7], "{edge:?}");
        }
        assert_eq!(lines(PLANTED, package("transport", &[("raft", false)])), [6]);
    }

    #[test]
    fn a_crate_without_a_row_and_a_page_without_a_table_are_reported() {
        assert_eq!(lines(PLANTED, package("early", &[])), [1]);
        assert_eq!(lines("# A\n", package("raft", &[])), [1]);
    }
}
