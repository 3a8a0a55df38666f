//! Runs seeds of the simulated group on all cores: `cargo xtask sim lease --seeds 2000`.

#[path = "../tests/support/leases.rs"]
mod leases;

fn main() -> std::process::ExitCode {
    quorate_sim::sweep::main("lease", &[], |seed, trace| leases::run(seed, 50_000, trace))
}
