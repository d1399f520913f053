//! `hither`: see the library of the same package.

use std::process::ExitCode;

fn main() -> ExitCode {
    hither_cli::main()
}
