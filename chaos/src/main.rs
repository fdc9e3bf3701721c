//! The `chaos` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    halcyon_chaos::cli::main()
}
