//! The words of `awooop schedules …`.

use clap::{Args, Subcommand};

use super::{ClientArgs, parse_from};

/// `awooop schedules …`.
#[derive(Subcommand)]
pub(crate) enum SchedulesCommand {
    /// List schedules: when each fires next, and what it started last
    List(SchedulesListArgs),
    /// Fire one now, besides its times
    Fire(SchedulesFireArgs),
}

/// `awooop schedules list`.
#[derive(Args)]
pub(crate) struct SchedulesListArgs {
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// A schedule's name.
#[derive(Clone)]
pub(crate) struct ScheduleName {
    /// Its agent.
    pub(crate) agent: String,
    /// Its id within the agent.
    pub(crate) id: String,
}

impl std::str::FromStr for ScheduleName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').filter(|(agent, id)| !agent.is_empty() && !id.is_empty());
        let (agent, id) = parts.ok_or("a schedule is named AGENT/ID, as `awooop schedules list` shows it")?;
        Ok(Self { agent: agent.to_owned(), id: id.to_owned() })
    }
}

/// `awooop schedules fire`.
#[derive(Args)]
pub(crate) struct SchedulesFireArgs {
    /// Which one
    #[arg(value_name = "AGENT/ID", value_parser = parse_from::<ScheduleName>)]
    pub(crate) name: ScheduleName,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}
