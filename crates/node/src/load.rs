//! Loading a table and checking it: many rows under way, every answer recorded.

use std::collections::BTreeMap;
use std::fmt;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::table::Row;
use quorate_node::client::{Client, ClientError};
use quorate_smr::Retry;

/// Rows under way at a time.
const UNDER_WAY: usize = 128;

/// What loading came to.
pub(crate) struct Report {
    pub(crate) rows: usize,
    pub(crate) unknown: usize,
    pub(crate) took: Duration,
    /// The longest time without an acknowledged write.
    pub(crate) longest_gap: Duration,
    /// When each write was asked for and acknowledged, in nanoseconds since the load began; by row.
    pub(crate) history: Vec<(usize, u64, Option<u64>)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, seconds) = (self.rows, self.took.as_secs_f64());
        write!(f, "{rows} rows in {seconds:.2} s ({:.0} a second)", rows as f64 / seconds)?;
        write!(f, ", longest gap between two acknowledged writes {:.1?}", self.longest_gap)?;
        if self.unknown > 0 {
            write!(f, ", {} with unknown outcome", self.unknown)?;
        }
        Ok(())
    }
}

/// A progress bar on a terminal, plain lines elsewhere.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    unit: &'static str,
    total: usize,
    told: usize,
}

impl Progress {
    pub(crate) fn new(what: &'static str, unit: &'static str, total: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len}");
            let bar = ProgressBar::new(total as u64).with_message(what);
            if let Ok(style) = style {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        Self { bar, unit, total, told: 0 }
    }

    /// What the bar is about; plain lines have no room for it.
    pub(crate) fn say(&self, what: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(what);
        }
    }

    pub(crate) fn at(&mut self, done: usize) {
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
        } else if done * 10 / self.total > self.told {
            self.told = done * 10 / self.total;
            println!("  {done} of {} {}", self.total, self.unit);
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

/// Writes every row once, however often it takes. `at` hears of each acknowledged row; no further
/// row is begun until the receiver it gives back is done.
///
/// Times are counted from `begun`.
pub(crate) async fn load(
    client: &Client,
    rows: &[Row],
    begun: Instant,
    mut at: impl FnMut(usize) -> Option<oneshot::Receiver<()>>,
) -> Result<Report, ClientError> {
    let session = Arc::new(client.session().await?);
    let room = Arc::new(Semaphore::new(UNDER_WAY.min(rows.len().div_ceil(8))));
    let mut held: Option<oneshot::Receiver<()>> = None;
    let mut progress = Progress::new("loading", "rows", rows.len());
    let mut tasks = JoinSet::new();
    let mut history = Vec::with_capacity(rows.len());
    let (mut done, mut unknown) = (0, 0);
    let mut last = Instant::now();
    let mut longest_gap = Duration::ZERO;
    let since = |at: Instant| (at - begun).as_nanos() as u64;
    let mut next = 0;
    while done + unknown < rows.len() {
        if tasks.is_empty()
            && let Some(held) = held.take()
        {
            let _ = held.await;
        }
        held = held.filter(|held| !held.is_terminated() && held.is_empty());
        while held.is_none()
            && next < rows.len()
            && let Ok(permit) = Arc::clone(&room).try_acquire_owned()
        {
            let (session, (key, value)) = (Arc::clone(&session), rows[next].clone());
            let row = next;
            next += 1;
            tasks.spawn(async move {
                let asked = Instant::now();
                let result = session.put(&key, &value).await;
                drop(permit);
                (row, asked, Instant::now(), result)
            });
        }
        let Some(Ok((row, asked, answered, result))) = tasks.join_next().await else { break };
        match result {
            Ok(_) => {
                done += 1;
                longest_gap = longest_gap.max(answered.saturating_duration_since(last));
                last = last.max(answered);
                history.push((row, since(asked), Some(since(answered))));
                progress.at(done);
                held = at(done).or(held);
            }
            Err(error) if error.retry() == Retry::Unsafe => {
                unknown += 1;
                history.push((row, since(asked), None));
            }
            Err(error) => return Err(error),
        }
    }
    let took = begun.elapsed();
    Ok(Report { rows: done, unknown, took, longest_gap, history })
}

/// How many rows are not there as the file has them. Of rows with the same key the last counts.
pub(crate) async fn verify(client: &Client, rows: &[Row]) -> Result<usize, ClientError> {
    let want: BTreeMap<_, _> = rows.iter().map(|(key, value)| (&key[..], &value[..])).collect();
    let have = client.list(b"").await?;
    let have: BTreeMap<_, _> = have.iter().map(|(key, value)| (&key[..], &value[..])).collect();
    Ok(want.iter().filter(|(key, value)| have.get(*key) != Some(value)).count())
}
