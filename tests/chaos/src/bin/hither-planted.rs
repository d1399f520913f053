//! `hither`, with the bugs of `hither_protocol::planted` in it: one of them strikes if `HITHER_PLANTED` names it.

use std::process::ExitCode;

fn main() -> ExitCode {
    hither_cli::main()
}
