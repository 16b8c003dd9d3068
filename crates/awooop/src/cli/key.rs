//! `awooop key …`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{ClientArgs, KeyRotateArgs, parse_duration};

/// `awooop key …`.
#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key and print it, once
    Create(KeyCreateArgs),
    /// List keys, without their secrets
    List(KeyListArgs),
    /// Make a key's successor and print it, once; the former goes on for a while
    Rotate(KeyRotateArgs),
    /// Refuse a key from now on
    Revoke(KeyRevokeArgs),
}

/// What a key may do.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyRole {
    /// Everything in its project.
    Admin,
    /// Runs to start and stop; reads.
    Operator,
    /// Signs for contracts; reads.
    Approver,
    /// Reads.
    Viewer,
}

impl KeyRole {
    /// As the API spells it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            KeyRole::Admin => "admin",
            KeyRole::Operator => "operator",
            KeyRole::Approver => "approver",
            KeyRole::Viewer => "viewer",
        }
    }
}

/// `awooop key create`.
#[derive(Args)]
pub(crate) struct KeyCreateArgs {
    /// Whose key it is [default: the agent's name, or the role's]
    pub(crate) name: Option<String>,
    /// What it may do [default: viewer; an agent's key needs none]
    #[arg(long, value_enum, conflicts_with = "agent")]
    pub(crate) role: Option<KeyRole>,
    /// The person it belongs to, by the one name they have in every project: signatures are people's. Only a
    /// platform admin may name another [default: nobody; a service account's]
    #[arg(long, value_name = "NAME", conflicts_with = "agent")]
    pub(crate) person: Option<String>,
    /// Bind it to this agent: it may call the agent's tools and nothing else
    #[arg(long)]
    pub(crate) agent: Option<String>,
    /// Narrow it to these scopes, such as runs:read,create_run: groups or operation ids, as docs/access.md lists them
    /// [default: all that its principal may]
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',')]
    pub(crate) scopes: Vec<String>,
    /// How long it is valid, such as 90s, 30m, 12h, 30d, 2w [default: until revoked]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) expires_in: Option<Duration>,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop key list`.
#[derive(Args)]
pub(crate) struct KeyListArgs {
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop key revoke`.
#[derive(Args)]
pub(crate) struct KeyRevokeArgs {
    /// The key's public id, as `key list` shows it
    pub(crate) key_id: String,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}
