//! `hither completion`: what a shell needs to complete commands.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::exit::Failure;

pub(crate) fn run<C: CommandFactory>(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(shell, &mut C::command(), "hither", &mut script);
    Ok(io::stdout().write_all(&script)?)
}
