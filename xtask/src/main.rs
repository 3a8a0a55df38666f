//! `cargo xtask`: one place for everything a contributor runs.
//!
//! Every command prints each command line it starts, so that any of them can be run by hand.

mod bench;
mod bugs;
mod build;
mod chaos;
mod demo;
mod docs;
mod explore;
mod fuzz;
mod loom;
mod no_std;
mod outside;
mod run;
mod shuttle;
mod sim;
mod test;
mod tidy;
mod trace;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Builds, tests, checks and runs Quorate.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the release binary, each crate alone, and each feature alone
    ///
    /// A crate built alone shows what it uses without declaring it: in a workspace build another
    /// crate may have switched that feature on.
    Build,
    /// Run everything that must pass before a change goes in
    Test(test::Args),
    /// Check the source itself: sizes, docs, forbidden names, and who may depend on whom
    Tidy,
    /// Run the protocols under the simulator: many seeds, or one again
    Sim(sim::Args),
    /// Walk every reachable state of a small cluster
    Explore(explore::Args),
    /// Plant known bugs one by one, and see how many seeds it takes to catch each
    Bugs(bugs::Args),
    /// Try every interleaving of the code that shares memory between threads
    Loom(loom::Args),
    /// Try very many orders of whole pieces of threads and tasks
    Shuttle(shuttle::Args),
    /// Compare the golden interaction traces, or write them anew
    Trace(trace::Args),
    /// Measure: beside peers, in turns, into docs/benchmarks.md; then criterion
    Bench(bench::Args),
    /// Start a local cluster from a release build and watch it work
    Demo(demo::Args),
    /// Run a real cluster under faults, and judge what its clients saw
    Chaos(chaos::Args),
    /// Feed random and mutated bytes to everything that decodes
    Fuzz(fuzz::Args),
    /// Build the documentation; a warning is an error
    Docs,
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let outcome = Workspace::load().and_then(|workspace| match command {
        Command::Build => build::run(&workspace),
        Command::Test(args) => test::run(&workspace, &args),
        Command::Tidy => tidy::run(&workspace),
        Command::Sim(args) => sim::run(&workspace, &args),
        Command::Explore(args) => explore::run(&workspace, &args),
        Command::Bugs(args) => bugs::run(&workspace, &args),
        Command::Loom(args) => loom::run(&workspace, &args),
        Command::Shuttle(args) => shuttle::run(&workspace, &args),
        Command::Trace(args) => trace::run(&workspace, &args),
        Command::Bench(args) => bench::run(&workspace, &args),
        Command::Demo(args) => demo::run(&workspace, &args),
        Command::Chaos(args) => chaos::run(&workspace, &args),
        Command::Fuzz(args) => fuzz::run(&workspace, &args),
        Command::Docs => docs::run(&workspace),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
