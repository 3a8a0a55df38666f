//! What is written is what Prometheus reads, and what it would not read is refused.
#![cfg(not(loom))]

use std::io::Write;
use std::process::{Command, Stdio};

use quorate_metrics::{Histogram, Registry, RegistryError, Text, TextError};

fn golden() -> String {
    let mut registry = Registry::new(10);
    let odd = "a \"quoted\" \\ word\nand a line";
    registry.counter("app_done_total", "What is\ndone \\ now.", &[("kind", odd)]).unwrap().add(3);
    registry.gauge("app_level", "How high.", &[]).unwrap().set(-4);
    let latencies = registry
        .latencies("app_took_seconds", "How long.", &[("op", "get")], &[1_000_000, 1_000_000_000])
        .unwrap();
    [500_000, 2_000_000, 5_000_000_000].iter().for_each(|nanos| latencies.record(*nanos));
    let mut text = Text::new();
    registry.render(&mut text).unwrap();
    // Of a family that is there already: they stand together all the same.
    text.counter("app_done_total", "What is\ndone \\ now.", &[("kind", "b")], u64::MAX).unwrap();
    text.gauge("app_ratio", "How much.", &[("b", "2"), ("a", "1")], 0.25).unwrap();
    text.gauge("app_limit", "None.", &[], f64::INFINITY).unwrap();
    text.finish()
}

#[test]
fn the_text_is_as_the_format_wants_it() {
    let want = r#"# HELP app_done_total What is\ndone \\ now.
# TYPE app_done_total counter
app_done_total{kind="a \"quoted\" \\ word\nand a line"} 3
app_done_total{kind="b"} 18446744073709551615
# HELP app_level How high.
# TYPE app_level gauge
app_level -4
# HELP app_limit None.
# TYPE app_limit gauge
app_limit +Inf
# HELP app_ratio How much.
# TYPE app_ratio gauge
app_ratio{a="1",b="2"} 0.25
# HELP app_took_seconds How long.
# TYPE app_took_seconds histogram
app_took_seconds_bucket{op="get",le="0.001"} 1
app_took_seconds_bucket{op="get",le="1"} 2
app_took_seconds_bucket{op="get",le="+Inf"} 3
"#;
    let have = golden();
    assert!(have.starts_with(want), "{have}");
    let rest = &have[want.len()..];
    assert!(rest.starts_with("app_took_seconds_sum{op=\"get\"} 5.0"), "{rest}");
    assert!(rest.ends_with("\napp_took_seconds_count{op=\"get\"} 3\n"), "{rest}");
}

#[test]
fn promtool_takes_it() {
    let text = golden();
    let spawned = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = spawned else {
        println!("skipped: there is no promtool here");
        return;
    };
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}\n{text}");
}

#[test]
fn what_prometheus_would_not_read_is_refused_by_name() {
    let name = |result: Result<(), TextError>| match result {
        Err(TextError::Name { name, .. }) => name,
        other => panic!("{other:?}"),
    };
    let mut text = Text::new();
    assert_eq!(name(text.counter("a", "", &[], 1)), "a", "a counter ends in _total");
    for bad in ["", "1a", "a-b", "ä"] {
        assert_eq!(name(text.gauge(bad, "", &[], 1.0)), bad);
        assert_eq!(name(text.gauge("good", "", &[(bad, "")], 1.0)), bad);
    }
    assert_eq!(name(text.gauge("good", "", &[("a:b", "")], 1.0)), "a:b");
    assert_eq!(name(text.gauge("good", "", &[("__a", "")], 1.0)), "__a");
    assert_eq!(name(text.gauge("good", "", &[("a", "1"), ("a", "2")], 1.0)), "a");
    let none = Histogram::with(9, 1).snapshot();
    assert_eq!(name(text.histogram("good", "", &[("le", "1")], &none, &[], 1.0)), "le");
    assert_eq!(text.finish(), "", "and nothing of it is written");
}

#[test]
fn a_series_appears_once_and_a_family_is_of_one_kind() {
    let mut text = Text::new();
    text.gauge("a_total", "help", &[("x", "1"), ("y", "2")], 1.0).unwrap();
    let twice = text.gauge("a_total", "help", &[("y", "2"), ("x", "1")], 1.0);
    assert_eq!(twice, Err(TextError::Twice("a_total{x=\"1\",y=\"2\"}".into())));
    let family = Err(TextError::Family("a_total".into()));
    assert_eq!(text.counter("a_total", "help", &[], 1), family);
    assert_eq!(text.gauge("a_total", "other help", &[], 1.0), family);
}

#[test]
fn a_registry_is_bounded_and_refuses_what_could_not_be_written() {
    let mut registry = Registry::new(2);
    registry.counter("a_total", "", &[("x", "1")]).unwrap();
    let twice = registry.counter("a_total", "", &[("x", "1")]).unwrap_err();
    assert!(matches!(twice, RegistryError::Text(TextError::Twice(_))), "{twice}");
    let doubled = registry.gauge("b", "", &[("x", "1"), ("x", "2")]).unwrap_err();
    assert!(matches!(doubled, RegistryError::Text(TextError::Name { .. })), "{doubled}");
    registry.counter("a_total", "", &[("x", "2")]).unwrap();
    let full = registry.gauge("b", "", &[]).unwrap_err();
    assert_eq!((full, registry.refused()), (RegistryError::Full(2), 1));
}
