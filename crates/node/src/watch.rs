//! `members` and `leader`: how the cluster looks, once or for as long as one watches.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use tokio::time::sleep;

use quorate_node::client::Client;
use quorate_node::wire::{Answer, Body, MemberInfo};

/// How often a watch looks.
const EVERY: Duration = Duration::from_millis(250);
/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who is in the cluster, by the first node that answers; false when none does.
pub(crate) async fn members(client: &Client, nodes: &BTreeMap<u64, String>, watch: bool) -> bool {
    let mut known: BTreeMap<u64, (String, u64)> = BTreeMap::new();
    loop {
        let seen = first_view(client, nodes).await;
        if !watch {
            if let Some((by, members)) = &seen {
                print!("{}", table(*by, members));
            }
            return seen.is_some();
        }
        for line in changes(&mut known, seen) {
            println!("{line}");
        }
        sleep(EVERY).await;
    }
}

async fn first_view(
    client: &Client,
    nodes: &BTreeMap<u64, String>,
) -> Option<(u64, Vec<MemberInfo>)> {
    for node in nodes.keys() {
        if let Some(members) = view(client, *node).await {
            return Some((*node, members));
        }
    }
    None
}

/// Every member, as one node sees it.
pub(crate) async fn view(client: &Client, node: u64) -> Option<Vec<MemberInfo>> {
    match client.ask_node(node, Body::Members, PATIENCE).await {
        Some(Answer::Members(members)) => Some(members),
        _ => None,
    }
}

/// The members as a table.
pub(crate) fn table(by: u64, members: &[MemberInfo]) -> String {
    let mut out = format!("as node {by} sees them\n");
    out += "node  standing   generation  phi      heartbeat  address\n";
    for member in members {
        let MemberInfo { node, standing, generation, address, .. } = member;
        let phi = member.milliphi as f64 / 1000.0;
        let ago = match member.heartbeat_ms {
            Some(ago) => format!("{ago} ms"),
            None if *node == by => "itself".into(),
            None => "never".into(),
        };
        let _ = writeln!(
            out,
            "{node:<5} {standing:<10} {generation:<11} {phi:<8.1} {ago:<10} {address}"
        );
    }
    out
}

/// One line for each member that is not as it was.
fn changes(
    known: &mut BTreeMap<u64, (String, u64)>,
    seen: Option<(u64, Vec<MemberInfo>)>,
) -> Vec<String> {
    let Some((by, members)) = seen else {
        let lost = !known.is_empty();
        known.clear();
        return lost.then(|| "no node answers".into()).into_iter().collect();
    };
    let mut lines = Vec::new();
    for MemberInfo { node, standing, generation, .. } in members {
        let now = (standing, generation);
        if known.get(&node) != Some(&now) {
            let was = known.get(&node).map_or("unknown", |(standing, _)| standing);
            lines.push(format!(
                "node {node}: {was} -> {}, generation {generation} (as node {by} sees it)",
                now.0
            ));
            known.insert(node, now);
        }
    }
    lines
}

/// Who leads: its term and number; false when nobody does.
pub(crate) async fn leader(client: &Client, nodes: &BTreeMap<u64, String>, watch: bool) -> bool {
    let mut known = None;
    loop {
        let mut seen = None;
        for node in nodes.keys() {
            if let Some(status) = client.status(*node).await
                && status.role == "leader"
            {
                seen = seen.max(Some((status.term, status.node)));
            }
        }
        if !watch || known != Some(seen) {
            match seen {
                Some((term, node)) => println!("node {node} leads in term {term}"),
                None => println!("no node leads"),
            }
        }
        if !watch {
            return seen.is_some();
        }
        known = Some(seen);
        sleep(EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: u64, standing: &str, generation: u64) -> MemberInfo {
        MemberInfo {
            node,
            address: "host:1".into(),
            standing: standing.into(),
            milliphi: 1500,
            heartbeat_ms: (node != 1).then_some(90),
            generation,
        }
    }

    #[test]
    fn a_watch_tells_what_has_changed_and_nothing_else() {
        let mut known = BTreeMap::new();
        let all = |standing: &str| Some((1, vec![member(1, "active", 1), member(2, standing, 4)]));
        assert_eq!(changes(&mut known, all("active")).len(), 2);
        assert_eq!(changes(&mut known, all("active")), Vec::<String>::new());
        let lines = changes(&mut known, all("suspended"));
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with("node 2: active -> suspended"), "{lines:?}");
        assert_eq!(changes(&mut known, None), ["no node answers"]);
        assert_eq!(changes(&mut known, None), Vec::<String>::new());
    }

    #[test]
    fn the_table_says_who_looks_and_how_long_ago_it_heard() {
        let text = table(1, &[member(1, "active", 1), member(2, "failed", 4)]);
        assert!(text.contains("as node 1 sees them"), "{text}");
        assert!(
            text.contains("itself") && text.contains("90 ms") && text.contains("1.5"),
            "{text}"
        );
    }
}
