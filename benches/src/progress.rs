//! How far a comparison is: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// Counts the steps of one comparison.
pub struct Progress {
    bar: Option<ProgressBar>,
    steps: usize,
    done: usize,
}

impl Progress {
    /// Nothing is done of `steps`.
    #[must_use]
    pub fn new(steps: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(steps as u64);
            if let Ok(style) = ProgressStyle::with_template("[{bar:40}] {pos}/{len} {msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        Self { bar, steps, done: 0 }
    }

    /// One more step is done, with this result.
    pub fn step(&mut self, result: &str) {
        self.done += 1;
        match &self.bar {
            Some(bar) => {
                bar.println(result);
                bar.inc(1);
            }
            None => eprintln!("[{}/{}] {result}", self.done, self.steps),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
