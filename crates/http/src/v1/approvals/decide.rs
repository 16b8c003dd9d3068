//! A person's decision. Only people decide: a service account or an agent is refused, whatever its role. Saying the
//! same twice is the same as once.

use awooop_core::ErrorCode;
use awooop_core::approval::{ApprovalKind, Decision};
use awooop_store::approval::{Decided, Ruling};
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::ApprovalPath;
use super::view::{self, ApprovalItem};
use crate::body::Body;
use crate::caller::Access;
use crate::problem::Problem;
use crate::state::AppState;
use crate::v1::runs::deliver::ToolOutput;

/// What the person says.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DecideApproval {
    /// `approve`: make the call, or make it again. `deny`: do not; of an unknown outcome, the run ends with E-RUN-014.
    /// `record`: of an unknown outcome, take `result` as what the call gave.
    #[schema(pattern = "^(approve|deny|record)$")]
    decision: String,
    /// Why. The agent is told the reason of a denial.
    #[schema(max_length = 1000)]
    reason: Option<String>,
    /// What the call gave; goes together with `record`.
    #[schema(inline)]
    result: Option<ToolOutput>,
}

/// Decides as the person whose key this is.
#[utoipa::path(post, path = "/v1/platform/approvals/{approval_id}/decide", operation_id = "decide_approval",
    tag = "approvals", request_body = DecideApproval,
    responses(
        (status = 200, description = "The decision counts, now or before", body = ApprovalItem),
        (status = 403, description = "E-APPROVAL-003: only people decide"),
        (status = 409, description = "E-APPROVAL-001: it was settled otherwise"),
        (status = 410, description = "E-APPROVAL-002: nobody decided in time")))]
pub(crate) async fn decide_approval(
    State(state): State<AppState>,
    access: Access,
    ApprovalPath(approval_id): ApprovalPath,
    body: Body<DecideApproval>,
) -> Result<Json<ApprovalItem>, Problem> {
    let found = state.store.find_approval(access.scope(), approval_id).await?;
    let found = found.ok_or_else(|| Problem::absent("approval"))?;
    let Some(person) = access.caller.person() else {
        let detail = "only people decide, and this key belongs to none; an admin makes one with \
                      `awooop key create NAME --role approver --person PERSON`";
        return Err(Problem::new(ErrorCode::Approval003, detail));
    };
    let shown = crate::v1::runs::shown(&state, &access).await?;
    let ruling = ruling(&state, &access, body.value, found.kind).await?;
    match state.store.decide_approval(&access.caller, person, approval_id, &ruling).await? {
        Decided::Done(approval) => Ok(Json(view::item(&shown, approval))),
        Decided::Settled(approval) => {
            let detail =
                format!("the approval is {}, or you decided otherwise before", approval.state.as_str());
            Err(Problem::new(ErrorCode::Approval001, detail))
        }
        Decided::Expired(approval) => {
            let detail = format!("the approval expired at {}", approval.expires_at);
            Err(Problem::new(ErrorCode::Approval002, detail))
        }
        Decided::Absent => Err(Problem::absent("approval")),
    }
}

async fn ruling(
    state: &AppState,
    access: &Access,
    body: DecideApproval,
    kind: ApprovalKind,
) -> Result<Ruling, Problem> {
    let invalid = |path: &str, rule: &str, message: &str| Err(Problem::invalid_at(path, rule, message));
    let Some(decision) = Decision::parse(&body.decision) else {
        return invalid("/decision", "enum", "a decision is approve, deny or record");
    };
    if body.reason.as_ref().is_some_and(|reason| reason.chars().count() > awooop_store::approval::MOST_REASON)
    {
        return invalid("/reason", "maxLength", "a reason has at most 1000 characters");
    }
    let output: Option<Value> = match (decision, body.result) {
        (Decision::Record, _) if kind == ApprovalKind::Call => {
            return invalid("/decision", "enum", "only the outcome of a call that was begun can be recorded");
        }
        (Decision::Record, Some(result)) => Some(result.shape(state, access).await?.output()),
        (Decision::Record, None) => return invalid("/result", "required", "`record` needs the result"),
        (_, Some(_)) => return invalid("/result", "dependentRequired", "only `record` takes a result"),
        (_, None) => None,
    };
    Ok(Ruling { decision, reason: body.reason, output })
}
