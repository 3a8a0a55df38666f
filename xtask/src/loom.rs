//! `loom`: every interleaving of the code that shares memory between threads.

use anyhow::{Result, bail};

use crate::run::say;
use crate::workspace::Workspace;

/// `(crate, features)`: each has an integration test named `loom` under `#![cfg(loom)]`.
const CRATES: &[(&str, &str)] = &[("transport", "mem"), ("clocks", ""), ("metrics", "")];

/// Two preemptions find nearly every bug and finish; three can take hours.
pub(crate) const PREEMPTIONS_MAX: u32 = 2;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// One crate only: transport, clocks, metrics
    #[arg(value_name = "CRATE")]
    only: Option<String>,
    /// How many forced switches a schedule may have (LOOM_MAX_PREEMPTIONS)
    #[arg(long, default_value_t = PREEMPTIONS_MAX)]
    preemptions: u32,
}

/// Runs the models of one crate, or of all.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if let Some(only) = &args.only {
        let known: Vec<&str> = CRATES.iter().map(|(name, _)| *name).collect();
        if !known.contains(&only.as_str()) {
            bail!("no loom models in `{only}`; there are in: {}", known.join(", "));
        }
        workspace.require(&format!("quorate-{only}"), "test", "loom")?;
    }
    for (name, features) in CRATES {
        if args.only.as_deref().is_some_and(|only| only != *name) {
            continue;
        }
        if has_models(workspace, name) {
            models(workspace, name, features, args.preemptions)?;
        } else {
            say("-", &format!("no test `loom` in `quorate-{name}` yet: skipped"));
        }
    }
    Ok(())
}

/// Whether any listed crate has its models by now.
pub(crate) fn any(workspace: &Workspace) -> bool {
    CRATES.iter().any(|(name, _)| has_models(workspace, name))
}

/// Runs all of them with the usual bound, for `test`.
pub(crate) fn run_all(workspace: &Workspace) -> Result<()> {
    run(workspace, &Args { only: None, preemptions: PREEMPTIONS_MAX })
}

fn has_models(workspace: &Workspace, name: &str) -> bool {
    workspace.has(&format!("quorate-{name}"), "test", "loom")
}

fn models(workspace: &Workspace, name: &str, features: &str, preemptions: u32) -> Result<()> {
    let package = format!("quorate-{name}");
    // Flags of its own need a target folder of its own, or every ordinary build starts over.
    let target = workspace.target.join("loom");
    let flags = match std::env::var("RUSTFLAGS") {
        Ok(flags) => format!("{flags} --cfg loom"),
        Err(_) => "--cfg loom".to_owned(),
    };
    let test = [
        "test",
        "--release",
        "-p",
        &package,
        "--features",
        features,
        "--test",
        "loom",
        "--target-dir",
    ];
    let cmd = workspace.cargo().args(test).arg(target);
    let cmd = cmd.env("LOOM_MAX_PREEMPTIONS", preemptions.to_string()).env("RUSTFLAGS", flags);
    let line = cmd.line();
    cmd.run().inspect_err(|_| {
        say("-", "to replay the schedule that failed, with its history:");
        say(" ", &format!("LOOM_CHECKPOINT_FILE=loom.json LOOM_LOG=trace {line} -- NAME"));
    })
}
