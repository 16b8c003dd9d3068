//! The words of `awooop audit …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use uuid::Uuid;

use super::{ClientArgs, PageArgs};

/// `awooop audit …`.
#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// Look for events, newest first
    Search(AuditSearchArgs),
    /// Write every event and every seal to files, for a check elsewhere
    Export(AuditExportArgs),
    /// Print the newest seal as one line, to be kept elsewhere: awooop audit head >> heads.ndjson
    Head(AuditHeadArgs),
    /// Check that no event was altered, deleted, added or reordered: on the server, or in files
    Verify(AuditVerifyArgs),
    /// Delete the events of old seals, as the server does by itself where it is told to; the seals stay
    Expire(AuditExpireArgs),
    /// Print the proof that an event is in its seal, for docs/audit_proof.py
    Prove(AuditProveArgs),
}

/// `awooop audit search`.
#[derive(Args)]
pub(crate) struct AuditSearchArgs {
    /// Only by this actor, such as shop/admin
    #[arg(long)]
    pub(crate) actor: Option<String>,
    /// Only this action, such as run.create
    #[arg(long)]
    pub(crate) action: Option<String>,
    /// Only this subject, such as agent/clerk
    #[arg(long)]
    pub(crate) subject: Option<String>,
    /// Only about this run
    #[arg(long, value_name = "RUN")]
    pub(crate) run: Option<Uuid>,
    /// Not before this time, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Which part of the list.
    #[command(flatten)]
    pub(crate) page: PageArgs,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop audit export`.
#[derive(Args)]
pub(crate) struct AuditExportArgs {
    /// Where events are written, a line each; must not exist
    #[arg(long, value_name = "FILE")]
    pub(crate) events: PathBuf,
    /// Where seals are written, a line each; must not exist
    #[arg(long, value_name = "FILE")]
    pub(crate) seals: PathBuf,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop audit head`.
#[derive(Args)]
pub(crate) struct AuditHeadArgs {
    /// Print the public keys of the seals instead, as `--public-key` takes them
    #[arg(long)]
    pub(crate) public_keys: bool,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop audit verify`.
#[derive(Args)]
#[command(
    after_help = "Exit codes: 0 everything is as it was written, 1 something is not: one line each, its kind first."
)]
pub(crate) struct AuditVerifyArgs {
    /// A file of heads that were kept, a line each; several may be named
    #[arg(long, value_name = "FILE")]
    pub(crate) head: Vec<PathBuf>,
    /// Check these exported events instead of asking a server
    #[arg(long, value_name = "FILE", requires = "seals", requires = "public_key")]
    pub(crate) export: Option<PathBuf>,
    /// The seals that were exported with them
    #[arg(long, value_name = "FILE", requires = "export")]
    pub(crate) seals: Option<PathBuf>,
    /// A key of the seals, `<key id>:<64 hexadecimal digits>`, as `awooop keys list` shows it; several may be named
    #[arg(long, value_name = "KEY", requires = "export")]
    pub(crate) public_key: Vec<String>,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop audit prove`.
#[derive(Args)]
pub(crate) struct AuditProveArgs {
    /// The event's id
    pub(crate) event: Uuid,
    /// A file of heads that were kept: the proof leads to the newest of them
    #[arg(long, value_name = "FILE")]
    pub(crate) head: Option<PathBuf>,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop audit expire`.
#[derive(Args)]
#[command(after_help = "The database is named by AWOOOP_DATABASE_URL, AWOOOP_DISPATCH_DATABASE_URL and \
AWOOOP_RETENTION_DATABASE_URL.")]
pub(crate) struct AuditExpireArgs {
    /// Keep what was sealed within this many days
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=36_500))]
    pub(crate) days: u16,
    /// Only say what would be deleted
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The directory of the server's own keys: what expires is recorded under them
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: PathBuf,
    /// Print exactly one JSON document on stdout
    #[arg(long)]
    pub(crate) json: bool,
}
