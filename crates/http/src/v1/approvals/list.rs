//! The project's approvals, newest first: with `state=pending` the inbox.

use awooop_core::approval::ApprovalState;
use awooop_store::approval::{Approval, ApprovalFilter};
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::view::{self, ApprovalItem};
use crate::caller::Access;
use crate::page::{List, Page};
use crate::problem::Problem;
use crate::query::{self, Params};
use crate::state::AppState;

/// Which approvals.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ApprovalQuery {
    /// Only in this state.
    #[param(pattern = "^(pending|approved|denied|expired|withdrawn|consumed)$")]
    state: Option<String>,
    /// Only of this run.
    #[param(value_type = Option<uuid::Uuid>)]
    run_id: Option<String>,
    /// How many items at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// What waits for people, and what was decided.
#[utoipa::path(get, path = "/v1/platform/approvals", operation_id = "list_approvals", tag = "approvals",
    params(ApprovalQuery),
    responses((status = 200, description = "A page of approvals", body = Page<ApprovalItem>)))]
pub(crate) async fn list_approvals(
    State(state): State<AppState>,
    access: Access,
    Params(query): Params<ApprovalQuery>,
) -> Result<Json<Page<ApprovalItem>>, Problem> {
    let limit = query::limit(query.limit.as_deref())?;
    let list = List { name: "approvals", project: access.scope().project() };
    let states = || ApprovalState::ALL.map(ApprovalState::as_str).join(", ");
    let no_state = || Problem::invalid_at("/state", "enum", format!("a state is one of {}", states()));
    let no_run = |_| Problem::invalid_at("/run_id", "format", "run_id is a UUID");
    let filter = ApprovalFilter {
        state: query.state.map(|s| ApprovalState::parse(&s).ok_or_else(no_state)).transpose()?,
        run_id: query.run_id.map(|id| id.parse().map_err(no_run)).transpose()?,
        before: list.read(query.cursor.as_deref(), |key| key.parse().ok())?,
        limit: limit as i64 + 1,
    };
    let found = state.store.list_approvals(access.scope(), &filter).await?;
    let shown = crate::v1::runs::shown(&state, &access).await?;
    let key = |approval: &Approval| approval.approval_id.to_string();
    Ok(Json(list.page(found, limit, key, |approval| view::item(&shown, approval))))
}
