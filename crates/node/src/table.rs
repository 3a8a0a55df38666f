//! Reading a table from a file: a line a row, tabs or commas between columns, keys first.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// The table that is loaded when no file is given: countries of Europe and their capitals.
pub(crate) const DEFAULT: &str = include_str!("../data/capitals.tsv");

/// A row: its key, and the rest of the line.
pub(crate) type Row = (Vec<u8>, Vec<u8>);

/// Why a file is no table. Nothing was loaded.
#[derive(Debug, Error)]
pub(crate) enum TableError {
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{name}, line {line}: {what}")]
    Line { name: String, line: usize, what: &'static str },
    #[error("{0} holds no row")]
    Empty(String),
}

/// Reads a file, or the default table.
pub(crate) fn read(path: Option<&Path>) -> Result<Vec<Row>, TableError> {
    let Some(path) = path else { return parse("the default table", DEFAULT) };
    let unreadable = |source| TableError::Unreadable { path: path.into(), source };
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let name = path.display().to_string();
    decode(&name, &bytes)
}

/// The rows of a file's bytes.
pub(crate) fn decode(name: &str, bytes: &[u8]) -> Result<Vec<Row>, TableError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(name, text),
        Err(error) => {
            let good = &bytes[..error.valid_up_to()];
            let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
            Err(TableError::Line { name: name.into(), line, what: "is not UTF-8" })
        }
    }
}

fn parse(name: &str, text: &str) -> Result<Vec<Row>, TableError> {
    let mut rows = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fail = |what| Err(TableError::Line { name: name.into(), line: number + 1, what });
        let Some((key, value)) = line.split_once('\t').or_else(|| line.split_once(',')) else {
            return fail("has no second column (tabs or commas separate columns)");
        };
        if key.is_empty() {
            return fail("has an empty key");
        }
        if key.len() > quorate_node::kv::KEY_BYTES_MAX {
            return fail("has a key over the limit");
        }
        if value.len() > quorate_node::kv::VALUE_BYTES_MAX {
            return fail("has a value over the limit");
        }
        rows.push((key.as_bytes().to_vec(), value.as_bytes().to_vec()));
    }
    if rows.is_empty() { Err(TableError::Empty(name.into())) } else { Ok(rows) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_table_is_one_and_bad_lines_are_named() {
        assert!(read(None).unwrap().len() > 40);
        assert_eq!(parse("t", "a,b,c\n\n# no\nd\te").unwrap()[0].1, b"b,c");
        for (text, line) in [("a,b\nnothing", 2), (",x", 1)] {
            let Err(TableError::Line { line: at, .. }) = parse("t", text) else { panic!("{text}") };
            assert_eq!(at, line);
        }
        assert!(matches!(parse("t", "# only"), Err(TableError::Empty(_))));
    }
}
