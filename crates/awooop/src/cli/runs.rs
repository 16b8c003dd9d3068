//! The words of `awooop run` and `awooop runs …`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use uuid::Uuid;

use super::{ClientArgs, PageArgs, parse_duration};

/// How far a run's effects may reach.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RunMode {
    /// Read-only tools run, effects are recorded and answered with a stub.
    Shadow,
    /// Every effect waits for a person.
    Suggest,
    /// Policy decides.
    Live,
}

impl RunMode {
    /// As the API spells it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            RunMode::Shadow => "shadow",
            RunMode::Suggest => "suggest",
            RunMode::Live => "live",
        }
    }
}

/// `awooop run`.
#[derive(Args)]
#[command(after_help = "Ctrl-C while waiting leaves the run alone and says how to watch or cancel it.")]
pub(crate) struct RunArgs {
    /// The agent to ask
    pub(crate) agent: String,
    /// What to ask, as text; `-` reads it from stdin
    #[arg(required_unless_present = "input_json")]
    pub(crate) input: Option<String>,
    /// The input as JSON instead of text; `-` reads it from stdin
    #[arg(long, value_name = "JSON", conflicts_with = "input")]
    pub(crate) input_json: Option<String>,
    /// How far effects may reach; at most the agent's own mode
    #[arg(long, value_enum)]
    pub(crate) mode: Option<RunMode>,
    /// Show steps on stderr while they happen
    #[arg(long)]
    pub(crate) watch: bool,
    /// Print the run's id and do not wait
    #[arg(long, conflicts_with = "watch")]
    pub(crate) detach: bool,
    /// Give up the run after this many milliseconds
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1_000..=86_400_000))]
    pub(crate) timeout_ms: Option<u64>,
    /// The same key with the same input within 24 h is the same run [default: a fresh one]
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop runs …`.
#[derive(Subcommand)]
pub(crate) enum RunsCommand {
    /// List runs, newest first
    List(RunsListArgs),
    /// Show one run with its steps
    Get(RunArg),
    /// Cancel a run, or all that fit a filter
    Cancel(RunsCancelArgs),
    /// Do an ended run again as a new one, or all that fit a filter
    Retry(RunsRetryArgs),
    /// Show a run's steps while they happen, then its answer
    Watch(RunArg),
    /// Show what goes on: queued, running and waiting runs by project, and the workers
    Top(RunsTopArgs),
    /// Delete runs that ended longer ago than their project's contract keeps them
    Expire(RunsExpireArgs),
}

/// `awooop runs expire`.
#[derive(Args)]
#[command(after_help = "The database is named by AWOOOP_DATABASE_URL, AWOOOP_DISPATCH_DATABASE_URL and \
AWOOOP_RETENTION_DATABASE_URL. A server that has the last one does the same once an hour.")]
pub(crate) struct RunsExpireArgs {
    /// Only say what would be deleted
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The directory of the server's own keys: what is deleted is recorded under them
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: PathBuf,
    /// Print exactly one JSON document on stdout
    #[arg(long)]
    pub(crate) json: bool,
}

/// `awooop runs top`.
#[derive(Args)]
#[command(
    after_help = "A platform admin who names no project sees all of them. On a terminal the table is drawn \
anew until Ctrl-C. A count of 1000 means that many or more."
)]
pub(crate) struct RunsTopArgs {
    /// Show it once and end; so it is with --json, and where stdout is no terminal
    #[arg(long)]
    pub(crate) once: bool,
    /// Seconds between two looks
    #[arg(long, default_value_t = 2, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=60))]
    pub(crate) every: u64,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// A state as the API spells it.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the states of the run contract, spelled as there")]
pub(crate) enum StateFilter {
    Pending,
    Running,
    WaitingApproval,
    WaitingTool,
    Completed,
    Failed,
    Cancelled,
    Timeout,
}

/// `awooop runs list`.
#[derive(Args)]
pub(crate) struct RunsListArgs {
    /// Only runs in this state
    #[arg(long, value_enum)]
    pub(crate) state: Option<StateFilter>,
    /// Only runs of this agent
    #[arg(long)]
    pub(crate) agent: Option<String>,
    /// Only children of this run
    #[arg(long, value_name = "RUN")]
    pub(crate) parent: Option<Uuid>,
    /// Which part of the list.
    #[command(flatten)]
    pub(crate) page: PageArgs,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// One run.
#[derive(Args)]
pub(crate) struct RunArg {
    /// The run's id
    pub(crate) run_id: Uuid,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// A state that a run can be cancelled in.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the states of the run contract, spelled as there")]
pub(crate) enum OpenState {
    Pending,
    Running,
    WaitingApproval,
    WaitingTool,
}

/// A state that a run ends in.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the states of the run contract, spelled as there")]
pub(crate) enum EndState {
    Completed,
    Failed,
    Cancelled,
    Timeout,
}

/// `awooop runs cancel`.
#[derive(Args)]
#[group(id = "which", required = true, multiple = true, args = ["run_id", "state", "agent", "parent", "older_than", "all"])]
#[command(after_help = "Descendants of a run that is cancelled are cancelled soon after.")]
pub(crate) struct RunsCancelArgs {
    /// One run's id
    #[arg(conflicts_with_all = ["state", "agent", "parent", "older_than", "all", "dry_run"])]
    pub(crate) run_id: Option<Uuid>,
    /// All in this state
    #[arg(long, value_enum)]
    pub(crate) state: Option<OpenState>,
    /// All of this agent
    #[arg(long)]
    pub(crate) agent: Option<String>,
    /// All children of this run
    #[arg(long, value_name = "RUN")]
    pub(crate) parent: Option<Uuid>,
    /// All made at least this long ago, such as 90s, 30m, 12h, 30d
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) older_than: Option<Duration>,
    /// All of the project's that have not ended
    #[arg(long, conflicts_with_all = ["state", "agent", "parent", "older_than"])]
    pub(crate) all: bool,
    /// Only count them and show the oldest
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop runs retry`.
#[derive(Args)]
#[group(id = "which", required = true, multiple = true, args = ["run_id", "state", "agent", "code", "older_than", "newer_than", "all"])]
#[command(
    after_help = "A new run gets the input that is kept of the old one: masked, as the old one got it."
)]
pub(crate) struct RunsRetryArgs {
    /// One run's id
    #[arg(conflicts_with_all = ["state", "agent", "code", "older_than", "newer_than", "all"])]
    pub(crate) run_id: Option<Uuid>,
    /// All that ended in this state
    #[arg(long, value_enum)]
    pub(crate) state: Option<EndState>,
    /// All of this agent
    #[arg(long)]
    pub(crate) agent: Option<String>,
    /// All that ended with this error code
    #[arg(long, value_name = "CODE")]
    pub(crate) code: Option<String>,
    /// All made at least this long ago, such as 90s, 30m, 12h, 30d
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) older_than: Option<Duration>,
    /// All made within this time
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) newer_than: Option<Duration>,
    /// All of the project's that have ended
    #[arg(long, conflicts_with_all = ["state", "agent", "code", "older_than", "newer_than"])]
    pub(crate) all: bool,
    /// Only count them and show the newest
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The same key with the same filter within 24 h makes the same runs [default: a fresh one]
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}
