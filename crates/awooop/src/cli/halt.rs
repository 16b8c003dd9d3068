//! The words of `awooop pause`, `resume`, `stop`, `start` and `halts`.

use clap::Args;

use super::ClientArgs;

/// `awooop pause`.
#[derive(Args)]
#[command(after_help = "Runs under way go on to their end; queued and new ones wait for `awooop resume`.")]
pub(crate) struct PauseArgs {
    /// Only this agent [default: the project]
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// Why, for those who find it paused
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop resume`.
#[derive(Args)]
pub(crate) struct ResumeArgs {
    /// Only this agent [default: the project]
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// What is stopped or started.
#[derive(Args)]
#[group(multiple = false)]
pub(crate) struct StopTarget {
    /// Everything, in every project (the platform's operators)
    #[arg(long)]
    pub(crate) all: bool,
    /// Only this agent [default: the project]
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// Only calls of this provider: its models, or its tools
    #[arg(long, value_name = "PROVIDER")]
    pub(crate) provider: Option<String>,
    /// Only calls of this tool, by its full name
    #[arg(long, value_name = "TOOL")]
    pub(crate) tool: Option<String>,
}

/// `awooop stop`.
#[derive(Args)]
#[command(
    after_help = "From now on no model call, no tool call and no run of it begins, on any node; those under way \
are cut and their runs wait, unharmed, for `awooop start`. What is stopped: `awooop halts`."
)]
pub(crate) struct StopArgs {
    /// What.
    #[command(flatten)]
    pub(crate) target: StopTarget,
    /// Why, for those who find it stopped
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop start`.
#[derive(Args)]
pub(crate) struct StartArgs {
    /// What.
    #[command(flatten)]
    pub(crate) target: StopTarget,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop halts`.
#[derive(Args)]
pub(crate) struct HaltsArgs {
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}
