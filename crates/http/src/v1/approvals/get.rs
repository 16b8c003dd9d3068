//! One approval.

use axum::Json;
use axum::extract::State;

use super::ApprovalPath;
use super::view::{self, ApprovalItem};
use crate::caller::Access;
use crate::problem::Problem;
use crate::state::AppState;

/// What would happen, who asks, and what people said.
#[utoipa::path(get, path = "/v1/platform/approvals/{approval_id}", operation_id = "get_approval", tag = "approvals",
    responses((status = 200, description = "The approval", body = ApprovalItem)))]
pub(crate) async fn get_approval(
    State(state): State<AppState>,
    access: Access,
    ApprovalPath(approval_id): ApprovalPath,
) -> Result<Json<ApprovalItem>, Problem> {
    let found = state.store.find_approval(access.scope(), approval_id).await?;
    let found = found.ok_or_else(|| Problem::absent("approval"))?;
    let shown = crate::v1::runs::shown(&state, &access).await?;
    Ok(Json(view::item(&shown, found)))
}
