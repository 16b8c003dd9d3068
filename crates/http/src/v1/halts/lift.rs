//! Letting go of what was paused or stopped: its runs are claimed again.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::HaltRequest;
use crate::body::Body;
use crate::caller::Access;
use crate::problem::Problem;
use crate::state::AppState;

/// What was let go.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Lifted {
    /// `pause` or `stop`.
    kind: &'static str,
    /// `all`, `project`, `agent`, `provider` or `tool`.
    target: &'static str,
    /// Which agent, provider or tool; else null.
    name: Option<String>,
}

/// Resumes what was paused, or starts what was stopped.
#[utoipa::path(post, path = "/v1/platform/halts/lift", operation_id = "lift_halt", tag = "halts",
    request_body = HaltRequest,
    responses(
        (status = 200, description = "It is held back no more", body = Lifted),
        (status = 404, description = "E-REQ-004: it was not held back in this way")))]
pub(crate) async fn lift_halt(
    State(state): State<AppState>,
    access: Access,
    Body { value: body, .. }: Body<HaltRequest>,
) -> Result<Json<Lifted>, Problem> {
    let (kind, target) = body.read(&access)?;
    if !state.store.lift_halt(access.scope(), kind, &target).await? {
        return Err(Problem::absent(kind.as_str()));
    }
    let name = Some(target.name()).filter(|name| !name.is_empty());
    Ok(Json(Lifted { kind: kind.as_str(), target: target.sort(), name }))
}
