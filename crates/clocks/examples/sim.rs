//! Runs seeds of the clocks on all cores: `cargo xtask sim clocks --seeds 2000`.

#[cfg(not(loom))]
#[path = "../tests/support/mod.rs"]
mod support;

#[cfg(not(loom))]
fn main() -> std::process::ExitCode {
    quorate_sim::sweep::main_of("clocks", support::MARKS, support::LEAST, support::run)
}

#[cfg(loom)]
fn main() {}
