//! A world of our own for nodes, links and mounts, where root allows: namespaces that end, with
//! all that is in them, when their first process does.
//!
//! The first process starts itself again under `unshare(1)` and waits. The one inside stops when
//! its standard input ends, so that it goes whatever becomes of the first.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// Set for the process inside, to the directory of the run.
const INSIDE: &str = "QUORATE_CHAOS_INSIDE";
const UNSHARE: [&str; 6] =
    ["--mount", "--pid", "--net", "--fork", "--kill-child=SIGKILL", "--mount-proc"];
/// How long the process inside has to clear up.
const CLEAR_UP_MAX: Duration = Duration::from_secs(20);

/// The directory that the process outside has made, inside.
pub(crate) fn inside() -> Option<PathBuf> {
    std::env::var_os(INSIDE).map(PathBuf::from)
}

/// Whether a world of our own can be had; else why not.
pub(crate) async fn probe() -> Result<(), String> {
    let mut unshare = Command::new("unshare");
    unshare.args(UNSHARE).args(["ip", "link", "set", "lo", "up"]).stdin(Stdio::null());
    match unshare.output().await {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("unshare: {error}")),
    }
}

/// Runs this very command line inside, and gives back its exit code.
pub(crate) async fn run_inside(directory: &Path) -> anyhow::Result<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut child = Command::new("unshare")
        .args(UNSHARE)
        .arg(std::env::current_exe()?)
        .args(arguments)
        .env(INSIDE, directory)
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start unshare")?;
    let stdin = child.stdin.take();
    let status = tokio::select! {
        status = child.wait() => status?,
        () = interrupted() => {
            drop(stdin); // it sees the end of its input
            match tokio::time::timeout(CLEAR_UP_MAX, child.wait()).await {
                Ok(status) => status?,
                Err(_) => bail!("interrupted; what ran inside did not end in time and was killed"),
            }
        }
    };
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Sets the world up from inside: loopback, and a place for the names of network namespaces.
pub(crate) async fn furnish() -> anyhow::Result<()> {
    command(&["ip", "link", "set", "lo", "up"]).await?;
    command(&["mount", "-t", "tmpfs", "tmpfs", "/run"]).await
}

/// Waits for a signal to end.
pub(crate) async fn interrupted() {
    let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let mut listening: Vec<_> = signals.into_iter().filter_map(|kind| signal(kind).ok()).collect();
    let waits = listening.iter_mut().map(|signal| Box::pin(signal.recv()));
    first(waits.collect()).await;
}

async fn first<F: Future + Unpin>(mut all: Vec<F>) {
    std::future::poll_fn(|context| {
        let ready = all.iter_mut().any(|one| std::pin::Pin::new(one).poll(context).is_ready());
        if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

/// Waits for the process outside to go or to say so; for ever when this is not inside.
pub(crate) async fn abandoned() {
    if inside().is_none() {
        return std::future::pending().await;
    }
    let mut byte = [0; 1];
    while tokio::io::stdin().read(&mut byte).await.is_ok_and(|count| count > 0) {}
}

/// Runs a command to its end.
///
/// # Errors
/// It could not be started or did not succeed; with what it said.
pub(crate) async fn command(words: &[&str]) -> anyhow::Result<()> {
    let (program, arguments) = words.split_first().context("no command")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let output = command.output().await.with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!("`{}`: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
