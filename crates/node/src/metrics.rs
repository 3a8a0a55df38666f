//! `metrics`: what one node has counted, as a table or as Prometheus reads it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use quorate_node::client::Client;
use quorate_node::wire::{Answer, Body};

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The quantiles that are exported of each kind of request.
pub(crate) const QUANTILES: [&str; 5] = ["0.5", "0.9", "0.99", "0.999", "1"];

/// The metrics of `node`, or of the first that answers.
pub(crate) async fn fetch(
    client: &Client,
    nodes: &BTreeMap<u64, String>,
    node: Option<u64>,
) -> Option<(u64, String)> {
    for candidate in nodes.keys().filter(|id| node.is_none_or(|node| node == **id)) {
        let asked = client.ask_node(*candidate, Body::Metrics, PATIENCE).await;
        if let Some(Answer::Metrics(text)) = asked {
            return Some((*candidate, text));
        }
    }
    None
}

/// One sample of the text.
struct Sample<'a> {
    name: &'a str,
    labels: BTreeMap<&'a str, &'a str>,
    value: &'a str,
}

/// The samples of a text of our own; what is no sample is passed over.
fn samples(text: &str) -> impl Iterator<Item = Sample<'_>> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').split(',');
        let labels = labels.filter_map(|label| {
            let (label, value) = label.split_once('=')?;
            Some((label, value.trim_matches('"')))
        });
        Some(Sample { name, labels: labels.collect(), value })
    })
}

/// Requests with their quantiles, then every other number that is not 0.
pub(crate) fn table(text: &str) -> String {
    let mut out = requests(text);
    let (mut group, mut zeros) = ("", 0);
    for sample in samples(text).filter(|sample| !sample.name.starts_with("quorate_request")) {
        let name = sample.name.trim_start_matches("quorate_");
        if sample.value == "0" {
            zeros += 1;
            continue;
        }
        let (first, rest) = name.split_once('_').unwrap_or((name, ""));
        if first != group {
            group = first;
            let _ = writeln!(out, "\n{first}");
        }
        let labels = sample.labels.iter().map(|(label, value)| format!("{label} {value}"));
        let labels = labels.collect::<Vec<_>>().join(", ");
        let shown = if rest.is_empty() { first } else { rest };
        let _ = writeln!(out, "  {shown:<28} {labels:<24} {}", sample.value);
    }
    let _ = writeln!(out, "\n{zeros} series are 0 and not shown; --raw shows all");
    out
}

/// Requests by kind and outcome: how many, and how long they took.
pub(crate) fn requests(text: &str) -> String {
    let mut counts: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    let mut quantiles: BTreeMap<(&str, &str, &str), f64> = BTreeMap::new();
    for Sample { name, labels, value } in samples(text) {
        let of = |label| labels.get(label).copied().unwrap_or_default();
        let (kind, outcome) = (of("kind"), of("outcome"));
        match name {
            "quorate_requests_total" => drop(counts.insert((kind, outcome), value)),
            "quorate_request_quantile_seconds" => {
                let seconds = value.parse().unwrap_or(f64::NAN);
                quantiles.insert((kind, outcome, of("q")), seconds);
            }
            _ => {}
        }
    }
    let mut out =
        String::from("requests  outcome    count      p50      p90      p99    p99.9      max\n");
    for ((kind, outcome), count) in counts {
        let _ = write!(out, "{kind:<9} {outcome:<8} {count:>7}");
        for quantile in QUANTILES {
            let shown = quantiles.get(&(kind, outcome, quantile)).copied().map_or("-".into(), time);
            let _ = write!(out, " {shown:>8}");
        }
        out.push('\n');
    }
    out
}

fn time(seconds: f64) -> String {
    match seconds {
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 1e-3 => format!("{:.2} ms", s * 1e3),
        s => format!("{:.0} us", s * 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# HELP quorate_raft_term The term.
# TYPE quorate_raft_term gauge
quorate_raft_term 3
quorate_raft_busy_total 0
quorate_transport_up{peer="2"} 1
quorate_requests_total{kind="apply",outcome="success"} 42
quorate_request_quantile_seconds{kind="apply",outcome="success",q="0.99"} 0.0035
quorate_request_seconds_bucket{kind="apply",outcome="success",le="0.1"} 42
"#;

    #[test]
    fn a_table_has_requests_with_quantiles_and_what_is_not_zero() {
        let table = table(TEXT);
        assert!(table.contains("apply     success       42"), "{table}");
        assert!(table.contains("3.50 ms"), "{table}");
        assert!(table.contains("\nraft\n  term"), "{table}");
        assert!(table.contains("peer 2"), "{table}");
        assert!(!table.contains("busy") && table.contains("\n1 series are 0"), "{table}");
    }

    #[test]
    fn times_are_short() {
        let shown = [2e-7, 0.00042, 0.25, 1.5].map(time);
        assert_eq!(shown, ["0 us", "420 us", "250.00 ms", "1.50 s"]);
    }
}
