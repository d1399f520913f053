//! `hither`: see the library of the same package.

#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
mod allocator;

use std::process::ExitCode;

fn main() -> ExitCode {
    hither_cli::main()
}
