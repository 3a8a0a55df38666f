//! The instruments of one program or part of it, by name. There is no global one.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use thiserror::Error;

use crate::counter::{Counter, Gauge};
use crate::histogram::Histogram;
use crate::text::{Text, TextError};

/// Why an instrument is not registered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RegistryError {
    /// The name, a label or the family is wrong: the caller's fault.
    #[error(transparent)]
    Text(#[from] TextError),
    /// There are as many as there may be: labels with too many values, most likely.
    #[error("series_max: there are {0} series already")]
    Full(usize),
}

enum Instrument {
    Counter(Arc<Counter>),
    Gauge(Arc<Gauge>),
    Histogram { histogram: Arc<Histogram>, bounds: Vec<u64>, unit: f64 },
}

struct Series {
    name: String,
    help: String,
    labels: Vec<(String, String)>,
    instrument: Instrument,
}

/// Series that are exported together. Registering takes `&mut self`; the instruments are shared and
/// used without it. Memory is bounded by `series_max`.
pub struct Registry {
    series: Vec<Series>,
    series_max: usize,
    refused: u64,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new(1024)
    }
}

impl core::fmt::Debug for Registry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Registry").field("series", &self.series.len()).finish_non_exhaustive()
    }
}

impl Registry {
    /// A registry of at most `series_max` series.
    #[must_use]
    pub fn new(series_max: usize) -> Self {
        Self { series: Vec::new(), series_max, refused: 0 }
    }

    /// A counter under this name, which ends in `_total`, with these labels.
    ///
    /// # Errors
    /// [`RegistryError`]; nothing was registered.
    pub fn counter(
        &mut self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
    ) -> Result<Arc<Counter>, RegistryError> {
        let counter = Arc::new(Counter::new());
        self.add(name, help, labels, Instrument::Counter(Arc::clone(&counter)))?;
        Ok(counter)
    }

    /// A gauge under this name with these labels.
    ///
    /// # Errors
    /// [`RegistryError`]; nothing was registered.
    pub fn gauge(
        &mut self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
    ) -> Result<Arc<Gauge>, RegistryError> {
        let gauge = Arc::new(Gauge::new());
        self.add(name, help, labels, Instrument::Gauge(Arc::clone(&gauge)))?;
        Ok(gauge)
    }

    /// A histogram of nanoseconds, exported in seconds with these bounds, in nanoseconds.
    ///
    /// # Errors
    /// [`RegistryError`]; nothing was registered.
    pub fn latencies(
        &mut self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        bounds: &[u64],
    ) -> Result<Arc<Histogram>, RegistryError> {
        let histogram = Arc::new(Histogram::new());
        let (bounds, unit) = (bounds.to_vec(), 1e9);
        let instrument = Instrument::Histogram { histogram: Arc::clone(&histogram), bounds, unit };
        self.add(name, help, labels, instrument)?;
        Ok(histogram)
    }

    /// Writes every series.
    ///
    /// # Errors
    /// [`TextError`]: `text` holds one of them already.
    pub fn render(&self, text: &mut Text) -> Result<(), TextError> {
        self.series.iter().try_for_each(|series| series.render(text))
    }

    /// How many series were refused because there were as many as there may be.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn add(
        &mut self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        instrument: Instrument,
    ) -> Result<(), RegistryError> {
        if self.series.len() >= self.series_max {
            self.refused += 1;
            return Err(RegistryError::Full(self.series_max));
        }
        let labels = labels
            .iter()
            .map(|(label, value)| ((*label).to_owned(), (*value).to_owned()))
            .collect();
        let (name, help) = (name.to_owned(), help.to_owned());
        let series = Series { name, help, labels, instrument };
        // Written beside the rest once, whatever is wrong with it shows now and not at a scrape.
        let mut text = Text::new();
        self.render(&mut text)?;
        series.render(&mut text)?;
        self.series.push(series);
        Ok(())
    }
}

impl Series {
    fn render(&self, text: &mut Text) -> Result<(), TextError> {
        let labels: Vec<_> =
            self.labels.iter().map(|(label, value)| (label.as_str(), value.as_str())).collect();
        let (name, help) = (self.name.as_str(), self.help.as_str());
        match &self.instrument {
            Instrument::Counter(counter) => text.counter(name, help, &labels, counter.get()),
            Instrument::Gauge(gauge) => text.gauge(name, help, &labels, gauge.get() as f64),
            Instrument::Histogram { histogram, bounds, unit } => {
                text.histogram(name, help, &labels, &histogram.snapshot(), bounds, *unit)
            }
        }
    }
}
