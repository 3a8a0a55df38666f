//! Runs seeds of the simulated group on all cores: `cargo xtask sim bully --seeds 2000`.

#[path = "../tests/support/bullies.rs"]
mod bullies;

fn main() -> std::process::ExitCode {
    quorate_sim::sweep::main("bully", &["two bullies led at once"], bullies::run)
}
