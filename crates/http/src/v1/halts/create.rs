//! Pausing or stopping something. It is durable when the answer comes, and within a quarter of a second every node
//! has cut what a stop covers. Doing it twice keeps the first time and its reason.

use axum::Json;
use axum::extract::State;
use http::StatusCode;

use super::{HaltItem, HaltRequest};
use crate::body::Body;
use crate::caller::Access;
use crate::problem::Problem;
use crate::state::AppState;

/// Pauses or stops everything, the project, an agent, a provider or a tool.
#[utoipa::path(post, path = "/v1/platform/halts", operation_id = "create_halt", tag = "halts",
    request_body = HaltRequest,
    responses(
        (status = 201, description = "It is held back from now on", body = HaltItem),
        (status = 200, description = "It was held back before, as the answer says", body = HaltItem),
        (status = 404, description = "E-REQ-004: the project has no such agent, provider or tool")))]
pub(crate) async fn create_halt(
    State(state): State<AppState>,
    access: Access,
    Body { value: body, .. }: Body<HaltRequest>,
) -> Result<(StatusCode, Json<HaltItem>), Problem> {
    let (kind, target) = body.read(&access)?;
    let reason = body.reason.as_deref().unwrap_or_default();
    let made = state.store.create_halt(access.scope(), kind, &target, reason).await?;
    let (halt, is_new) = made.ok_or_else(|| Problem::absent(target.sort()))?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(HaltItem::of(halt))))
}
