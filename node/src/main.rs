//! The `halcyon` command.

use std::process::ExitCode;

/// The overlay is allocated on one thread and freed on another, of which the system's allocator gives little back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    halcyon_node::cli::main()
}
