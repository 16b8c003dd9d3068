//! The words of `awooop approvals …`.

use clap::{Args, Subcommand, ValueEnum};
use uuid::Uuid;

use super::{ClientArgs, PageArgs};

/// `awooop approvals …`.
#[derive(Subcommand)]
pub(crate) enum ApprovalsCommand {
    /// List what waits for people, newest first
    List(ApprovalsListArgs),
    /// Show one: what would happen, who asks, what people said
    Get(ApprovalArg),
    /// Allow the call, exactly as shown; where nobody knows whether it happened, make it again
    Approve(ApproveArgs),
    /// Do not allow it; the agent is told why
    Deny(DenyArgs),
    /// Say what a call gave of which nobody knows whether it happened
    Record(RecordArgs),
}

/// Where an approval stands, as the API spells it.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the states of an approval, spelled as in the API")]
pub(crate) enum ApprovalFilter {
    Pending,
    Approved,
    Denied,
    Expired,
    Withdrawn,
    Consumed,
    All,
}

/// `awooop approvals list`.
#[derive(Args)]
pub(crate) struct ApprovalsListArgs {
    /// Only those in this state
    #[arg(long, value_enum, default_value = "pending")]
    pub(crate) state: ApprovalFilter,
    /// Only those of this run, in any state unless one is named
    #[arg(long, value_name = "RUN_ID")]
    pub(crate) run: Option<Uuid>,
    /// Which part of the list.
    #[command(flatten)]
    pub(crate) page: PageArgs,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// One approval.
#[derive(Args)]
pub(crate) struct ApprovalArg {
    /// The approval's id
    pub(crate) approval_id: Uuid,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop approvals approve`.
#[derive(Args)]
pub(crate) struct ApproveArgs {
    /// Which.
    #[command(flatten)]
    pub(crate) approval: ApprovalArg,
    /// Why
    #[arg(long)]
    pub(crate) reason: Option<String>,
}

/// `awooop approvals deny`.
#[derive(Args)]
pub(crate) struct DenyArgs {
    /// Which.
    #[command(flatten)]
    pub(crate) approval: ApprovalArg,
    /// Why: the agent is told
    #[arg(long)]
    pub(crate) reason: String,
}

/// `awooop approvals record`.
#[derive(Args)]
pub(crate) struct RecordArgs {
    /// Which.
    #[command(flatten)]
    pub(crate) approval: ApprovalArg,
    /// What the call gave, as text
    #[arg(long, required_unless_present = "json_result")]
    pub(crate) text: Option<String>,
    /// What the call gave, as JSON
    #[arg(long, value_name = "JSON", conflicts_with = "text")]
    pub(crate) json_result: Option<String>,
    /// The call failed, and this is its error
    #[arg(long)]
    pub(crate) failed: bool,
    /// Why
    #[arg(long)]
    pub(crate) reason: Option<String>,
}
