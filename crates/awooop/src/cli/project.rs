//! The words of `awooop project`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ClientArgs, PageArgs};

/// `awooop project …`.
#[derive(Subcommand)]
pub(crate) enum ProjectCommand {
    /// Write everything the project holds to files: contracts, runs, audit, and the rest
    Export(ProjectExportArgs),
    /// Delete a project and everything in it, for good (the platform's admins)
    Delete(ProjectDeleteArgs),
    /// List projects that are being deleted, or were
    Deletions(ProjectDeletionsArgs),
}

/// `awooop project export`.
#[derive(Args)]
#[command(
    after_help = "All files show the project at one moment. MANIFEST.json is written last: a directory without it is \
no whole export. Keys, secrets and signatures' keys are in none of them, and what is stored masked stays masked."
)]
pub(crate) struct ProjectExportArgs {
    /// The project [default: the key's own]
    #[arg(value_name = "ID")]
    pub(crate) id: Option<String>,
    /// Where to; made when absent, and has to be empty
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop project delete`.
#[derive(Args)]
#[command(
    after_help = "There is no way back, but from a backup. From the answer on nothing of the project is served and no key \
of it works; its rows go in the background: `awooop project deletions` shows how far that is. Nobody gets the id again. \
To keep what it holds, run `awooop project export` first."
)]
pub(crate) struct ProjectDeleteArgs {
    /// The project
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// The project's id once more
    #[arg(long, value_name = "ID")]
    pub(crate) confirm: String,
    /// Why, for whoever reads the audit
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
    /// Count what would go, and delete nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop project deletions`.
#[derive(Args)]
pub(crate) struct ProjectDeletionsArgs {
    /// Which part of the list.
    #[command(flatten)]
    pub(crate) page: PageArgs,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}
