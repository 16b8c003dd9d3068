//! `awooop mcp …`: an agent's tools for other programs, by settings to paste or by a process to spawn.

mod config;
mod stdio;

pub(super) use config::shell_word;

use super::Session;
use crate::cli::McpCommand;
use crate::failure::Failure;
use crate::output::Reply;

/// Carries out the command.
pub(crate) async fn run(command: McpCommand, _session: &Session) -> Result<Reply, Failure> {
    match command {
        McpCommand::Config(args) => config::run(args).await,
        McpCommand::Stdio(args) => stdio::run(args).await,
    }
}
