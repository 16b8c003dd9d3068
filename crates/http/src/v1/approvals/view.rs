//! Approvals as callers see them: what would happen, who asks, where it stands.

use awooop_store::approval::{Approval, PersonsDecision};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::run_view::Shown;

/// A call that waits for people, or waited.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ApprovalItem {
    /// UUID v7: ids sort by the time of the request.
    approval_id: Uuid,
    run_id: Uuid,
    /// The step of the run.
    step: i32,
    /// `call`: may it be made? `outcome`: it was begun, and nobody knows whether it happened.
    #[schema(pattern = "^(call|outcome)$")]
    kind: &'static str,
    #[schema(pattern = "^(pending|approved|denied|expired|withdrawn|consumed)$")]
    state: &'static str,
    agent_id: String,
    /// The tool's full name.
    tool: String,
    /// What the tool does to the world: `read_only`, `write` or `destructive`.
    risk: String,
    /// What the tool would get, as people may see it.
    arguments: Value,
    /// What an approval allows, and nothing else: the hash of tool, arguments, run, step and contract version.
    action_sha256: String,
    /// What asks: `mode suggest`, `policy <id>`, `untrusted output of step <n> (<tool>)` or `outcome unknown`.
    asked_by: String,
    /// Distinct people who must approve.
    needed: i16,
    /// What people said so far.
    decisions: Vec<DecisionItem>,
    #[schema(format = DateTime)]
    requested_at: String,
    /// Then it counts as denied.
    #[schema(format = DateTime)]
    expires_at: String,
    #[schema(format = DateTime)]
    decided_at: Option<String>,
    /// Until when an approved call may be begun.
    #[schema(format = DateTime)]
    execute_by: Option<String>,
    /// What whoever settled it said.
    reason: Option<String>,
}

/// What one person said.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DecisionItem {
    person: String,
    /// `approve`, `deny` or `record`.
    decision: String,
    reason: Option<String>,
    #[schema(format = DateTime)]
    decided_at: String,
}

/// An approval as people may see it.
pub(super) fn item(shown: &Shown, approval: Approval) -> ApprovalItem {
    let decision = |said: PersonsDecision| DecisionItem {
        person: said.person,
        decision: said.decision,
        reason: said.reason.map(|reason| shown.text(&reason)),
        decided_at: said.decided_at.to_string(),
    };
    ApprovalItem {
        approval_id: approval.approval_id,
        run_id: approval.run_id,
        step: approval.n,
        kind: approval.kind.as_str(),
        state: approval.state.as_str(),
        agent_id: approval.agent_id,
        tool: shown.text(&approval.tool),
        risk: approval.risk,
        arguments: shown.json(approval.arguments),
        action_sha256: approval.action_sha256,
        asked_by: approval.asked_by,
        needed: approval.needed,
        decisions: approval.decisions.into_iter().map(decision).collect(),
        requested_at: approval.requested_at.to_string(),
        expires_at: approval.expires_at.to_string(),
        decided_at: approval.decided_at.map(|at| at.to_string()),
        execute_by: approval.execute_by.map(|at| at.to_string()),
        reason: approval.reason.map(|reason| shown.text(&reason)),
    }
}
