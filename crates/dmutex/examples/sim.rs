//! Runs seeds of the simulated group on all cores: `cargo xtask sim dmutex --seeds 2000`.

#[path = "../tests/support/mod.rs"]
mod support;

fn main() -> std::process::ExitCode {
    quorate_sim::sweep::main("dmutex", support::MARKS, support::run)
}
