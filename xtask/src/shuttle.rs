//! `shuttle`: whole pieces of threads and tasks, in very many of the orders in which they can run.

use anyhow::{Result, bail};

use crate::run::say;
use crate::workspace::Workspace;

/// `(crate, features)`: each has an integration test named `shuttle` under `#![cfg(shuttle)]`.
const CRATES: &[(&str, &str)] = &[("transport", "mem"), ("driver", "")];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// One crate only: transport, driver
    #[arg(value_name = "CRATE")]
    only: Option<String>,
    /// How many orders of each model (QUORATE_SCHEDULES)
    #[arg(long, default_value_t = SCHEDULES)]
    schedules: u64,
}

/// Some seconds.
const SCHEDULES: u64 = 10_000;

/// Runs the models of one crate, or of all.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if let Some(only) = &args.only
        && !CRATES.iter().any(|(name, _)| name == only)
    {
        let known: Vec<&str> = CRATES.iter().map(|(name, _)| *name).collect();
        bail!("no shuttle models in `{only}`; there are in: {}", known.join(", "));
    }
    let wanted = |name: &str| args.only.as_deref().is_none_or(|only| only == name);
    for (name, features) in CRATES.iter().filter(|(name, _)| wanted(name)) {
        models(workspace, name, features, args.schedules)?;
    }
    Ok(())
}

/// Runs all of them, for `test`.
pub(crate) fn run_all(workspace: &Workspace) -> Result<()> {
    run(workspace, &Args { only: None, schedules: SCHEDULES })
}

fn models(workspace: &Workspace, name: &str, features: &str, schedules: u64) -> Result<()> {
    let package = format!("quorate-{name}");
    workspace.require(&package, "test", "shuttle")?;
    // Flags of its own need a target folder of its own, or every ordinary build starts over.
    let target = workspace.target.join("shuttle");
    let flags = match std::env::var("RUSTFLAGS") {
        Ok(flags) => format!("{flags} --cfg shuttle"),
        Err(_) => "--cfg shuttle".to_owned(),
    };
    let test = ["test", "--profile", "sim", "-p", &package, "--features", features];
    let cmd = workspace.cargo().args(test).args(["--test", "shuttle", "--target-dir"]).arg(target);
    let cmd = cmd.env("QUORATE_SCHEDULES", schedules.to_string()).env("RUSTFLAGS", flags);
    let line = cmd.line();
    cmd.run().inspect_err(|_| {
        say(
            "-",
            "to replay the order that failed: put the schedule printed above into a file, then",
        );
        say(" ", &format!("QUORATE_SCHEDULE=$PWD/FILE {line} -- NAME"));
    })
}
