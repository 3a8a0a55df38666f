//! Runs seeds of the simulated group on all cores: `cargo xtask sim smr --seeds 2000`.

#[path = "../tests/support/mod.rs"]
mod support;

fn main() -> std::process::ExitCode {
    quorate_sim::sweep::main("smr", support::MARKS, support::run)
}
