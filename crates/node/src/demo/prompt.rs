//! The prompt after the check: play with the cluster until `quit`.

use anyhow::Context;
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::cluster::Processes;
use super::print_status;
use quorate_node::client::Client;

const HELP: &str = "status, put KEY VALUE, get KEY, kill N, restart N, pause N, resume N, quit";

/// Reads and carries out commands until `quit` or the end of input.
pub(crate) async fn run(processes: &mut Processes, client: &Client) -> anyhow::Result<()> {
    println!("\nThe cluster stays up. Commands: {HELP}");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        eprint!("quorate> ");
        let line = tokio::select! {
            line = lines.next_line() => line?,
            _ = tokio::signal::ctrl_c() => None,
        };
        let Some(line) = line else { return Ok(()) };
        let words: Vec<_> = line.split_whitespace().collect();
        if words == ["quit"] {
            return Ok(());
        }
        if let Err(error) = one(&words, processes, client).await {
            println!("{error:#}");
        }
    }
}

async fn one(words: &[&str], processes: &mut Processes, client: &Client) -> anyhow::Result<()> {
    let number = |word: &str| word.parse().with_context(|| format!("{word} is no node's number"));
    match words {
        [] => {}
        ["status"] => print_status(client, &processes.clients()).await,
        ["put", key, value] => {
            client.session().await?.put(key.as_bytes(), value.as_bytes()).await?;
            println!("done");
        }
        ["get", key] => match client.get(key.as_bytes(), false).await? {
            Some(value) => println!("{}", String::from_utf8_lossy(&value)),
            None => println!("{key} is not there"),
        },
        ["kill", node] => processes.kill(number(node)?)?,
        ["restart", node] => processes.restart(number(node)?)?,
        ["pause", node] => processes.signal(number(node)?, Signal::STOP)?,
        ["resume", node] => processes.signal(number(node)?, Signal::CONT)?,
        _ => println!("commands: {HELP}"),
    }
    Ok(())
}
