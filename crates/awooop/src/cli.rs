//! The words of the command line: what may be typed, and what each word means.
//!
//! Only definitions live here; `commands` and `server` do the work. Everything a person reads in `--help`
//! is written here, so what is absent from this file does not exist.
//! Invariants: a value that can be a secret is a `SecretString` and never prints; identifiers that become
//! part of an address are checked or encoded before they are sent. Wrong usage ends with exit code 2.

mod access;
mod approvals;
mod audit;
mod backup;
mod contract;
mod edge;
mod halt;
mod key;
mod project;
mod redact;
mod runs;
mod schedules;
mod tools;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use secrecy::SecretString;

pub(crate) use access::{
    KeyRotateArgs, LoginArgs, LogoutArgs, PrincipalArg, PrincipalsCommand, PrincipalsListArgs, RolesCommand,
    RolesGrantArgs, TakeAwayArgs, WhoamiArgs,
};
pub(crate) use approvals::{
    ApprovalArg, ApprovalsCommand, ApprovalsListArgs, ApproveArgs, DenyArgs, RecordArgs,
};
pub(crate) use audit::{
    AuditCommand, AuditExpireArgs, AuditExportArgs, AuditHeadArgs, AuditProveArgs, AuditSearchArgs,
    AuditVerifyArgs,
};
pub(crate) use backup::{BackupArgs, RestoreArgs};
pub(crate) use contract::{
    ApplyArgs, ContractCommand, ContractName, DiffArgs, DraftArgs, FilesArgs, GetArgs, KeyringArgs,
    KeysCommand, KeysRetireArgs, KeysRotateArgs, NamedArgs, PinArgs, ProjectArgs, PublishArgs, ResignArgs,
    SchemaArgs, SignArgs, VersionArgs, VersionDiffArgs, Which,
};
pub(crate) use edge::{EdgeArgs, TlsArgs};
pub(crate) use halt::{HaltsArgs, PauseArgs, ResumeArgs, StartArgs, StopArgs, StopTarget};
pub(crate) use key::{KeyCommand, KeyCreateArgs, KeyListArgs, KeyRevokeArgs, KeyRole};
pub(crate) use project::{ProjectCommand, ProjectDeleteArgs, ProjectDeletionsArgs, ProjectExportArgs};
pub(crate) use redact::{Personal, RedactArgs, ReportFormat};
pub(crate) use runs::{
    RunArg, RunArgs, RunMode, RunsCancelArgs, RunsCommand, RunsExpireArgs, RunsListArgs, RunsRetryArgs,
    RunsTopArgs,
};
pub(crate) use schedules::{SchedulesCommand, SchedulesFireArgs, SchedulesListArgs};
pub(crate) use tools::{
    McpClient, McpCommand, McpConfigArgs, McpStdioArgs, ToolsCommand, ToolsDiffArgs, ToolsListArgs,
    ToolsWhyArgs,
};

/// The control plane for AI agents: contracts, durable runs, gated tools, budgets.
#[derive(Parser)]
#[command(name = "awooop", version, max_term_width = 110, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done, 1 the run or operation failed, 2 usage or invalid input, \
3 refused (key, role, gate, budget), 4 the server cannot be reached, 5 it waits for other people, \
130 interrupted.\n\
With --json exactly one JSON document goes to stdout; everything else goes to stderr.")]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Start everything in one process, with its own PostgreSQL, on this machine
    Dev(DevArgs),
    /// Start the server against a PostgreSQL that you run
    Serve(ServeArgs),
    /// Make or upgrade the database: schema, roles, grants
    Migrate(MigrateArgs),
    /// Take a backup of the database while servers work, or check one
    Backup(BackupArgs),
    /// Put a backup into an empty database
    Restore(RestoreArgs),
    /// Say what is wrong with this installation, if anything
    Doctor(DoctorArgs),
    /// Look at the server's settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Write a small project to begin with: an agent, a model, a tool server
    Init(InitArgs),
    /// Apply manifests: check all of them, publish and sign what changed, activate what enough people signed
    Apply(ApplyArgs),
    /// Show what applying manifests would change
    Diff(DiffArgs),
    /// List active contracts, or print one's manifest
    Get(GetArgs),
    /// Show how a contract stands: what is active, drafted, waits for signatures, and what to do next
    Describe(NamedArgs),
    /// End a contract
    Retire(NamedArgs),
    /// The single steps of a contract's life
    #[command(subcommand)]
    Contract(ContractCommand),
    /// Give an agent an input and wait for its answer
    Run(RunArgs),
    /// Look at runs, watch one, cancel or retry one or many
    #[command(subcommand)]
    Runs(RunsCommand),
    /// Let no run of a project or an agent begin; those under way end
    Pause(PauseArgs),
    /// Let the runs of what was paused begin again
    Resume(ResumeArgs),
    /// Stop a project, an agent, a provider or a tool at once, or everything: calls under way are cut
    Stop(StopArgs),
    /// Start again what was stopped
    Start(StartArgs),
    /// List what is paused or stopped, since when, by whom and why
    Halts(HaltsArgs),
    /// Look at what runs by itself, and fire a schedule by hand
    #[command(subcommand)]
    Schedules(SchedulesCommand),
    /// Look at the calls that wait for people, allow or deny them
    #[command(subcommand)]
    Approvals(ApprovalsCommand),
    /// Write all that a project holds to files, delete a project, list what was deleted
    #[command(subcommand)]
    Project(ProjectCommand),
    /// Look at the tools of a project, and at what the gates would say of a call
    #[command(subcommand)]
    Tools(ToolsCommand),
    /// Make, list, rotate and revoke API keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Look at whom keys and tokens prove, disable and enable them
    #[command(subcommand)]
    Principals(PrincipalsCommand),
    /// Look at who has which role in a project, grant roles and take them back
    #[command(subcommand)]
    Roles(RolesCommand),
    /// Sign in as a person, with the server's issuer, in a browser
    Login(LoginArgs),
    /// Forget the sign-in of this machine
    Logout(LogoutArgs),
    /// Say who the server takes you for, in which project, and by which key or sign-in
    Whoami(WhoamiArgs),
    /// Look at the server's own keys on this machine, rotate and retire them
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Look things up in the audit, and show that nobody changed it
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Give MCP clients an agent's tools
    #[command(subcommand)]
    Mcp(McpCommand),
    /// Mask credentials and personal data in files or standard input; needs no server
    Redact(RedactArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

/// Where the server is, and in which project to act.
#[derive(Args, Clone)]
pub(crate) struct ServerArgs {
    /// The server's address; without it the one in `dev.env`, else http://127.0.0.1:7700
    #[arg(long, env = "AWOOOP_URL", value_name = "URL", help_heading = "Server")]
    pub(crate) url: Option<String>,
    /// Act in this project (a platform admin's key may act in any)
    #[arg(long, value_name = "PROJECT", help_heading = "Server")]
    pub(crate) project: Option<String>,
    /// Where `awooop dev` keeps its data, and `dev.env` with the address and key
    #[arg(long, value_name = "PATH", help_heading = "Server")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Trust the certificates of this authority (PEM) as well as the host's, for an https address
    #[arg(long, env = "AWOOOP_CA_FILE", value_name = "FILE", help_heading = "Server")]
    pub(crate) ca_file: Option<String>,
}

/// What every command that talks to the server takes.
#[derive(Args, Clone)]
pub(crate) struct ClientArgs {
    /// Address and project.
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// The API key; without it the one in `dev.env`. Other users of this machine can read a command
    /// line: prefer the environment
    #[arg(long, env = "AWOOOP_KEY", hide_env_values = true, value_name = "KEY", help_heading = "Server")]
    pub(crate) key: Option<SecretString>,
    /// Print exactly one JSON document on stdout
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which part of a list is wanted.
#[derive(Args, Clone)]
pub(crate) struct PageArgs {
    /// At most this many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=200))]
    pub(crate) limit: u16,
    /// Go on where a list ended: its `next_cursor`
    #[arg(long)]
    pub(crate) cursor: Option<String>,
}

/// `awooop dev`.
#[derive(Args)]
pub(crate) struct DevArgs {
    /// Port on 127.0.0.1; 0 picks a free one
    #[arg(long, default_value_t = 7700)]
    pub(crate) port: u16,
    /// Where data, keys and `dev.env` are kept [default: /var/lib/awooop as root, else
    /// $XDG_DATA_HOME/awooop or ~/.local/share/awooop]
    #[arg(long, value_name = "PATH")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Carry runs out in a process of their own, as `serve --role worker` does
    #[arg(long)]
    pub(crate) separate_worker: bool,
}

/// Which part of the server a process plays.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServeRole {
    /// Answers HTTP.
    Api,
    /// Carries out runs.
    Worker,
    /// Both.
    All,
}

/// `awooop serve`.
#[derive(Args)]
#[command(after_help = "The database is named by AWOOOP_DATABASE_URL and AWOOOP_DISPATCH_DATABASE_URL.")]
pub(crate) struct ServeArgs {
    /// What this process does
    #[arg(long, value_enum, default_value = "all")]
    pub(crate) role: ServeRole,
    /// The address to answer on; for a worker only health and figures [default: 127.0.0.1:7700, for a worker none]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Where this node keeps its identity [default: as for dev]
    #[arg(long, value_name = "PATH")]
    pub(crate) data_dir: Option<PathBuf>,
    /// What projects may name on this host (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) operator: Option<PathBuf>,
    /// The directory of the server's own keys
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: Option<PathBuf>,
    /// Runs at the same time, for a worker
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) slots: u16,
    /// A worker that was not heard for so many seconds is dead and its runs go to others; the same on every node
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) silent_after: u64,
    /// How many seconds a stop waits for runs to end before it gives them back
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=600))]
    pub(crate) drain_for: u64,
    /// End at once when standard input ends: for a supervisor that must leave no process behind
    #[arg(long)]
    pub(crate) end_with_stdin: bool,
    /// What is let in at the address.
    #[command(flatten)]
    pub(crate) edge: EdgeArgs,
}

/// `awooop migrate`.
#[derive(Args)]
#[command(after_help = "Without an option: upgrades the schema as AWOOOP_OWNER_DATABASE_URL names it.")]
pub(crate) struct MigrateArgs {
    /// A superuser's connection URL, used once to make the roles
    #[arg(long, value_name = "URL")]
    pub(crate) admin_url: Option<SecretString>,
    /// Print the SQL that makes the roles, for a DBA to run, and do nothing
    #[arg(long, conflicts_with = "admin_url")]
    pub(crate) print_roles: bool,
    /// Make the server's own keys in this directory, where there are none, and print the platform's first
    /// admin key, once
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: Option<PathBuf>,
    /// Say what would run and which tables it locks, and change nothing
    #[arg(long, conflicts_with_all = ["admin_url", "print_roles", "keys"])]
    pub(crate) plan: bool,
    /// With --plan: print exactly one JSON document on stdout
    #[arg(long, requires = "plan")]
    pub(crate) json: bool,
}

/// `awooop doctor`.
#[derive(Args)]
pub(crate) struct DoctorArgs {
    /// The data directory to look at [default: as for dev]
    #[arg(long, value_name = "PATH")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The operator's list [default: the one in the data directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) operator: Option<PathBuf>,
    /// The directory of the server's own keys [default: the one in the data directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: Option<PathBuf>,
    /// The listener's certificate.
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    /// Print exactly one JSON document on stdout
    #[arg(long)]
    pub(crate) json: bool,
}

/// `awooop config …`.
#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check every setting of the server, start nothing and change nothing
    Check(ConfigCheckArgs),
}

/// Whose settings are checked.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckedRole {
    /// `awooop dev`.
    Dev,
    /// `awooop serve --role api`.
    Api,
    /// `awooop serve --role worker`.
    Worker,
    /// `awooop serve`.
    All,
    /// `awooop migrate`.
    Migrate,
}

/// `awooop config check`.
#[derive(Args)]
#[command(
    after_help = "Exit codes: 0 all is well, 2 something is invalid, 4 the database cannot be reached. \
Every setting is described in docs/configuration.md."
)]
pub(crate) struct ConfigCheckArgs {
    /// Whose settings to check [default: all where AWOOOP_DATABASE_URL is set, else dev]
    #[arg(long, value_enum)]
    pub(crate) role: Option<CheckedRole>,
    /// The data directory to look at [default: as for dev]
    #[arg(long, value_name = "PATH")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The operator's list [default for dev: the one in the data directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) operator: Option<PathBuf>,
    /// The directory of the server's own keys [default for dev: the one in the data directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: Option<PathBuf>,
    /// The listener's certificate.
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    /// Connect to nothing: only parse the URLs
    #[arg(long)]
    pub(crate) offline: bool,
    /// Print exactly one JSON document on stdout
    #[arg(long)]
    pub(crate) json: bool,
}

/// `awooop init`.
#[derive(Args)]
pub(crate) struct InitArgs {
    /// Where to write it; made when absent, and nothing in it is overwritten
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// The project's id [default: the directory's name, as far as an id may hold it]
    #[arg(long, value_name = "ID")]
    pub(crate) project: Option<String>,
    /// Print exactly one JSON document on stdout
    #[arg(long)]
    pub(crate) json: bool,
}

/// `awooop completions`.
#[derive(Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// Reads what knows how to be read.
fn parse_from<T: std::str::FromStr<Err = String>>(text: &str) -> Result<T, String> {
    text.parse()
}

/// Reads a length of time: a whole number above 0 and one of `s`, `m`, `h`, `d`, `w`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let help = || "expected a whole number and a unit, such as 90s, 30m, 12h, 30d or 2w".to_owned();
    let unit = text.chars().last().ok_or_else(help)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(help()),
    };
    let digits = &text[..text.len() - unit.len_utf8()];
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(help());
    }
    let count: u64 = digits.parse().map_err(|_| help())?;
    let total = count.checked_mul(seconds).filter(|&s| s <= i64::MAX as u64).ok_or("too long")?;
    if total == 0 {
        return Err("must be longer than nothing".to_owned());
    }
    Ok(Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_contradict_nothing() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        let seconds = |t: &str| parse_duration(t).map(|d| d.as_secs());
        assert_eq!(seconds("30d"), Ok(2_592_000));
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("2w"), Ok(1_209_600));
        for bad in ["", "d", "30", "0d", "-1d", "+1d", "1.5h", "1 d", "30天", "99999999999999999999s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert!(parse_duration(&format!("{}w", u64::MAX)).is_err());
    }
}
