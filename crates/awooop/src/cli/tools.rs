//! `awooop tools …` and `awooop mcp …`.

use awooop_core::ProviderId;
use clap::{Args, Subcommand, ValueEnum};
use secrecy::SecretString;

use super::{ClientArgs, RunMode, ServerArgs};

/// `awooop tools …`.
#[derive(Subcommand)]
pub(crate) enum ToolsCommand {
    /// List tools, their risk, whether they can be called, and who may
    List(ToolsListArgs),
    /// Show how a tool's definition differs from the pinned one, and what a look at it found
    Diff(ToolsDiffArgs),
    /// Say what each gate would say of a call, and make none
    Why(ToolsWhyArgs),
}

/// `awooop tools list`.
#[derive(Args)]
pub(crate) struct ToolsListArgs {
    /// Only what this agent is granted
    #[arg(long)]
    pub(crate) agent: Option<String>,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop tools diff`.
#[derive(Args)]
#[command(
    after_help = "Exit codes: 0 it is the pinned one, 1 it differs (or the server could not tell), others as ever. \
Lines: `+` added, `-` removed, `~` changed, `!` found by a look at its texts."
)]
pub(crate) struct ToolsDiffArgs {
    /// The tool's full name, such as shop__refund
    pub(crate) tool: String,
    /// Compare this definition, which was seen, instead of what the tool's server shows now
    #[arg(long, value_name = "HASH")]
    pub(crate) sha256: Option<String>,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop tools why`.
#[derive(Args)]
#[command(
    after_help = "Exit codes: 0 it would be made (or answered in shadow), 3 a gate or a stop refuses it, 4 the tool's \
server does not answer, 5 people would be asked first."
)]
pub(crate) struct ToolsWhyArgs {
    /// The agent that would call
    pub(crate) agent: String,
    /// The tool's full name, such as shop__refund
    pub(crate) tool: String,
    /// What the tool would get, a JSON object; `-` reads it from stdin
    #[arg(default_value = "{}")]
    pub(crate) arguments: String,
    /// As a run in this mode [default: the highest that the agent may]
    #[arg(long, value_enum)]
    pub(crate) mode: Option<RunMode>,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop mcp …`.
#[derive(Subcommand)]
pub(crate) enum McpCommand {
    /// Print ready-to-paste settings that give an MCP client an agent's tools
    Config(McpConfigArgs),
    /// Be an MCP server on stdin and stdout, for clients that can only spawn a program
    Stdio(McpStdioArgs),
}

/// An MCP client whose settings are known.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum McpClient {
    /// A shell command.
    ClaudeCode,
    /// The contents of claude_desktop_config.json; spawns `awooop mcp stdio`.
    ClaudeDesktop,
    /// The contents of .cursor/mcp.json.
    Cursor,
    /// The contents of .vscode/mcp.json.
    Vscode,
    /// A table of ~/.codex/config.toml.
    Codex,
}

impl McpClient {
    /// The name as typed.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            McpClient::ClaudeCode => "claude-code",
            McpClient::ClaudeDesktop => "claude-desktop",
            McpClient::Cursor => "cursor",
            McpClient::Vscode => "vscode",
            McpClient::Codex => "codex",
        }
    }
}

/// `awooop mcp config`.
#[derive(Args)]
pub(crate) struct McpConfigArgs {
    /// The client to configure
    #[arg(long, value_enum)]
    pub(crate) client: McpClient,
    /// The agent whose tools it gets
    #[arg(long)]
    pub(crate) agent: String,
    /// Only the tools of this server, under their own names
    #[arg(long, value_name = "PROVIDER")]
    pub(crate) provider: Option<ProviderId>,
    /// Let the client spawn `awooop mcp stdio` instead of reaching the server itself
    #[arg(long)]
    pub(crate) stdio: bool,
    /// Use this key of the agent instead of making one. (The key that makes one comes from AWOOOP_KEY or
    /// `dev.env`)
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<SecretString>,
    /// Address and project.
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Print exactly one JSON document on stdout
    #[arg(long)]
    pub(crate) json: bool,
}

/// `awooop mcp stdio`.
#[derive(Args)]
#[command(after_help = "`awooop mcp config` prints the settings of a client that spawns this.")]
pub(crate) struct McpStdioArgs {
    /// Only the tools of this server, under their own names
    #[arg(long, value_name = "PROVIDER")]
    pub(crate) provider: Option<ProviderId>,
    /// A key of the agent. Other users of this machine can read a command line: prefer the environment
    #[arg(long, env = "AWOOOP_KEY", hide_env_values = true, value_name = "KEY")]
    pub(crate) key: Option<SecretString>,
    /// Address and project.
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}
