//! `awooop completions`: a script that teaches a shell the words of this command line.
//!
//! Written from the same definitions as the help, so it cannot differ from it. Needs no server.

use std::process::ExitCode;

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArgs};
use crate::output::write_raw;

/// Prints the script.
pub(crate) fn run(args: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "awooop", &mut script);
    write_raw(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}
