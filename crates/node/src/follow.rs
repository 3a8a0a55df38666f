//! `watch`: what changes in the map, as it does.

use std::io::Write;

use quorate_node::client::{Change, Client, ClientError};
use quorate_node::wire::Filter;

/// What the arguments ask for.
pub(crate) fn filter(key: Option<String>, prefix: Option<String>) -> Filter {
    match (key, prefix) {
        (Some(key), _) => Filter::Key(key.into()),
        (None, Some(prefix)) => Filter::Prefix(prefix.into()),
        (None, None) => Filter::All,
    }
}

/// Prints changes until there were `count` of them.
pub(crate) async fn run(
    client: &Client,
    filter: Filter,
    after: Option<u64>,
    count: Option<u64>,
) -> Result<(), ClientError> {
    let after = match after {
        Some(after) => after,
        None => client.read_index().await?,
    };
    eprintln!("watching after index {after}");
    let mut watcher = client.watch(after, filter);
    let mut left = count.unwrap_or(u64::MAX);
    while left > 0 {
        let changes = match watcher.next().await {
            Ok(changes) => changes,
            // It goes on where it was as soon as one answers.
            Err(ClientError::NoAnswer(waited)) => {
                eprintln!("no node has answered for {waited:.0?}");
                continue;
            }
            Err(error) => return Err(error),
        };
        let mut out = std::io::stdout().lock();
        for change in changes {
            if left == 0 || writeln!(out, "{}", line(&change)).is_err() {
                return Ok(()); // nobody reads any more
            }
            left -= 1;
        }
        if out.flush().is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn line(Change { index, key, value }: &Change) -> String {
    let key = String::from_utf8_lossy(key);
    match value {
        Some(value) => format!("{index}\tput\t{key}\t{}", String::from_utf8_lossy(value)),
        None => format!("{index}\tdel\t{key}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_a_line() {
        let (key, value) = ("a/b".into(), Some("two words".into()));
        let put = Change { index: 7, key, value };
        assert_eq!(line(&put), "7\tput\ta/b\ttwo words");
        assert_eq!(line(&Change { value: None, ..put }), "7\tdel\ta/b");
    }
}
