//! What is said on the way: a line at a time, kept for later too; a bar on a terminal.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

/// The lines of one run.
pub(crate) struct Voice {
    begun: Instant,
    bar: Option<ProgressBar>,
    /// All of them.
    pub(crate) told: String,
}

impl Voice {
    /// For a run whose faults take this long.
    pub(crate) fn new(length: Duration) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(length.as_secs());
            let style = ProgressStyle::with_template("[{bar:40}] {pos}/{len} s  {msg}");
            if let Ok(style) = style {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        Self { begun: Instant::now(), bar, told: String::new() }
    }

    /// Says a line, with the time.
    pub(crate) fn say(&mut self, line: &str) {
        let line = format!("[{:7.1} s] {line}", self.begun.elapsed().as_secs_f64());
        self.plain(&line);
    }

    /// Says a line as it is.
    pub(crate) fn plain(&mut self, line: &str) {
        let _ = writeln!(self.told, "{line}"); // a String takes everything
        match &self.bar {
            Some(bar) => bar.suspend(|| println!("{line}")),
            None => println!("{line}"),
        }
    }

    /// How far the run is.
    pub(crate) fn at(&self, elapsed: Duration, what: String) {
        if let Some(bar) = &self.bar {
            bar.set_position(elapsed.as_secs());
            bar.set_message(what);
        }
    }

    /// No bar from now on.
    pub(crate) fn end_bar(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
