//! The text that Prometheus reads: exposition format 0.0.4, checked as it is written.

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use core::fmt::Write;

use thiserror::Error;

use crate::snapshot::Snapshot;

/// What a family of samples is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number that only grows; its name ends in `_total`.
    Counter,
    /// A number that rises and falls.
    Gauge,
    /// A histogram; see [`Text::histogram`].
    Histogram,
}

/// What would make the text wrong: the caller's fault. Nothing of the sample was written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TextError {
    /// A name that Prometheus does not take.
    #[error("{name}: {rule}")]
    Name {
        /// The name of the family or the label.
        name: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A family that was written before, as another kind or with another text of help.
    #[error("{0}: is written as two different families")]
    Family(String),
    /// A sample that was written before.
    #[error("{0}: is written twice")]
    Twice(String),
}

struct Family {
    kind: Kind,
    help: String,
    samples: String,
    seen: BTreeSet<String>,
}

/// Samples on their way out, grouped by family, whatever the order in which they come.
#[derive(Default)]
pub struct Text {
    families: BTreeMap<String, Family>,
}

impl Text {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A sample of a counter.
    ///
    /// # Errors
    /// [`TextError`].
    pub fn counter(
        &mut self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        value: u64,
    ) -> Result<(), TextError> {
        let rule = "the name of a counter ends in _total";
        if !name.ends_with("_total") {
            return Err(TextError::Name { name: name.to_owned(), rule });
        }
        let (family, labels) = self.sample(name, help, Kind::Counter, labels)?;
        line(&mut family.samples, name, &labels, &value.to_string());
        Ok(())
    }

    /// A sample of a gauge.
    ///
    /// # Errors
    /// [`TextError`].
    pub fn gauge(
        &mut self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) -> Result<(), TextError> {
        let (family, labels) = self.sample(name, help, Kind::Gauge, labels)?;
        line(&mut family.samples, name, &labels, &number(value));
        Ok(())
    }

    /// The samples of a histogram: for each of `bounds`, in rising order, how many values are at
    /// most it, then all, their sum and their number. Values and bounds are written divided by
    /// `unit`: nanoseconds as seconds with 10^9.
    ///
    /// # Errors
    /// [`TextError`].
    pub fn histogram(
        &mut self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        snapshot: &Snapshot,
        bounds: &[u64],
        unit: f64,
    ) -> Result<(), TextError> {
        if labels.iter().any(|(label, _)| *label == "le") {
            let rule = "the label of a histogram's bounds is its own";
            return Err(TextError::Name { name: "le".to_owned(), rule });
        }
        let (family, labels) = self.sample(name, help, Kind::Histogram, labels)?;
        let out = &mut family.samples;
        let bucket = |out: &mut String, bound: &str, count: u64| {
            let comma = if labels.is_empty() { "" } else { "," };
            let labels = alloc::format!("{labels}{comma}le=\"{bound}\"");
            line(out, &alloc::format!("{name}_bucket"), &labels, &count.to_string());
        };
        for bound in bounds {
            bucket(out, &number(*bound as f64 / unit), snapshot.at_most(*bound));
        }
        bucket(out, "+Inf", snapshot.count());
        line(out, &alloc::format!("{name}_sum"), &labels, &number(snapshot.sum() / unit));
        line(out, &alloc::format!("{name}_count"), &labels, &snapshot.count().to_string());
        Ok(())
    }

    /// All of it: families in order of their names, each with its help and its kind.
    #[must_use]
    pub fn finish(self) -> String {
        let mut out = String::new();
        for (name, family) in self.families {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let help = escaped(&family.help, false);
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            out += &family.samples;
        }
        out
    }

    fn sample(
        &mut self,
        name: &str,
        help: &str,
        kind: Kind,
        labels: &[(&str, &str)],
    ) -> Result<(&mut Family, String), TextError> {
        check_name(name, ":")?;
        for (label, _) in labels {
            check_name(label, "")?;
            if label.starts_with("__") {
                let rule = "a label does not begin with two underscores";
                return Err(TextError::Name { name: (*label).to_owned(), rule });
            }
        }
        let labels = rendered(labels)?;
        if !self.families.contains_key(name) {
            let (samples, seen) = (String::new(), BTreeSet::new());
            let family = Family { kind, help: help.to_owned(), samples, seen };
            self.families.insert(name.to_owned(), family);
        }
        let Some(family) = self.families.get_mut(name) else {
            return Err(TextError::Family(name.to_owned()));
        };
        if family.kind != kind || family.help != help {
            return Err(TextError::Family(name.to_owned()));
        }
        if !family.seen.insert(labels.clone()) {
            return Err(TextError::Twice(alloc::format!("{name}{{{labels}}}")));
        }
        Ok((family, labels))
    }
}

/// Labels in the order of their names, so that two orders are one series.
fn rendered(labels: &[(&str, &str)]) -> Result<String, TextError> {
    let mut sorted: BTreeMap<&str, &str> = BTreeMap::new();
    for (label, value) in labels {
        if sorted.insert(label, value).is_some() {
            let rule = "a label is named once";
            return Err(TextError::Name { name: (*label).to_owned(), rule });
        }
    }
    let mut out = String::new();
    for (label, value) in sorted {
        let comma = if out.is_empty() { "" } else { "," };
        let _ = write!(out, "{comma}{label}=\"{}\"", escaped(value, true));
    }
    Ok(out)
}

fn check_name(name: &str, more: &str) -> Result<(), TextError> {
    let rule = "begins with a letter or _, and has letters, digits and _ only";
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || more.contains(c);
    let good = name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit());
    if good { Ok(()) } else { Err(TextError::Name { name: name.to_owned(), rule }) }
}

fn line(out: &mut String, name: &str, labels: &str, value: &str) {
    let _ = if labels.is_empty() {
        writeln!(out, "{name} {value}")
    } else {
        writeln!(out, "{name}{{{labels}}} {value}")
    };
}

fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

fn escaped(text: &str, quotes: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '"' if quotes => out += "\\\"",
            c => out.push(c),
        }
    }
    out
}

impl core::fmt::Debug for Text {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_set().entries(self.families.keys()).finish()
    }
}
