//! The words of `awooop principals`, `roles`, `key rotate`, `login`, `logout` and `whoami`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{ClientArgs, KeyRole, ServerArgs, parse_duration};

/// `awooop principals …`.
#[derive(Subcommand)]
pub(crate) enum PrincipalsCommand {
    /// List them, newest first
    List(PrincipalsListArgs),
    /// Print one
    Get(PrincipalArg),
    /// Refuse all of its keys, and a person's sign-in, from now on
    Disable(TakeAwayArgs),
    /// Let its keys and sign-in count again
    Enable(PrincipalArg),
}

/// `awooop roles …`.
#[derive(Subcommand)]
pub(crate) enum RolesCommand {
    /// List who has which role
    List(PrincipalsListArgs),
    /// Give a principal a role in place of the one it has
    Grant(RolesGrantArgs),
    /// Take a principal's role; its keys are refused until it has one again
    Revoke(TakeAwayArgs),
}

/// `awooop principals list` and `awooop roles list`.
#[derive(Args)]
pub(crate) struct PrincipalsListArgs {
    /// Only those of this person
    #[arg(long, value_name = "NAME")]
    pub(crate) person: Option<String>,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// A principal.
#[derive(Args)]
pub(crate) struct PrincipalArg {
    /// Its name, as `principals list` shows it
    pub(crate) name: String,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop principals disable` and `awooop roles revoke`.
#[derive(Args)]
pub(crate) struct TakeAwayArgs {
    /// Its name, as `principals list` shows it
    pub(crate) name: String,
    /// Do it even if no admin of the project is left with a key that works
    #[arg(long)]
    pub(crate) even_if_last: bool,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop roles grant`.
#[derive(Args)]
pub(crate) struct RolesGrantArgs {
    /// The principal's name, as `principals list` shows it
    pub(crate) name: String,
    /// Its role from now on
    #[arg(value_enum)]
    pub(crate) role: KeyRole,
    /// Do it even if no admin of the project is left with a key that works
    #[arg(long)]
    pub(crate) even_if_last: bool,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop key rotate`.
#[derive(Args)]
pub(crate) struct KeyRotateArgs {
    /// The key's public id, as `key list` shows it
    pub(crate) key_id: String,
    /// How long the former key goes on working, such as 0s, 30m, 12h; at most 30d
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_overlap)]
    pub(crate) overlap: Duration,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop login`.
#[derive(Args)]
#[command(
    after_help = "The tokens are kept in $XDG_CONFIG_HOME/awooop/sign-in.json (or ~/.config), readable by this \
user only, and go to this server only. AWOOOP_KEY and --key go before a sign-in."
)]
pub(crate) struct LoginArgs {
    /// Address and project.
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Open no browser: only print the address to open on this machine
    #[arg(long)]
    pub(crate) no_browser: bool,
    /// Print exactly one JSON document on stdout
    #[arg(long)]
    pub(crate) json: bool,
}

/// `awooop logout`.
#[derive(Args)]
pub(crate) struct LogoutArgs {
    /// Address and project.
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Print exactly one JSON document on stdout
    #[arg(long)]
    pub(crate) json: bool,
}

/// `awooop whoami`.
#[derive(Args)]
pub(crate) struct WhoamiArgs {
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// A duration that may be nothing, such as `0s`.
fn parse_overlap(text: &str) -> Result<Duration, String> {
    if text == "0" || text == "0s" { Ok(Duration::ZERO) } else { parse_duration(text) }
}
