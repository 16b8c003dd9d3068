//! Firing a schedule now, besides its times: its next time stays as it is.

use awooop_core::AgentId;
use awooop_store::schedule::FiredNow;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use crate::caller::Access;
use crate::problem::Problem;
use crate::run_view::{RunQueued, Shown};
use crate::state::AppState;

/// Starts one run of the schedule, as if its time had come.
#[utoipa::path(post, path = "/v1/platform/schedules/{agent_id}/{schedule_id}/fire",
    operation_id = "fire_schedule", tag = "schedules",
    responses(
        (status = 202, description = "The run is queued", body = RunQueued, headers(("Location" = String))),
        (status = 402, description = "E-BUDGET-001: the project's budget is spent; E-LIMIT-006: its storage is"),
        (status = 409, description = "E-CONTRACT-002: the agent's contract is not what was signed"),
        (status = 422, description = "E-REDACT-001: the project blocks what the input holds"),
        (status = 429, description = "E-LIMIT-002: the project's queue is full")))]
pub(crate) async fn fire_schedule(
    State(state): State<AppState>,
    access: Access,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, Problem> {
    let absent = || Problem::absent("schedule");
    let Path((agent, schedule_id)) = path.map_err(|_| absent())?;
    let agent = AgentId::parse(&agent).map_err(|_| absent())?;
    // no schedule has this name, and PostgreSQL takes no NUL
    if schedule_id.contains('\0') {
        return Err(absent());
    }
    let run_id = match state.store.fire_schedule(access.scope(), &agent, &schedule_id).await? {
        FiredNow::Run(run_id) => run_id,
        FiredNow::Refused(code) => {
            let title = code.title().to_lowercase();
            return Err(Problem::new(code, format!("no run of this schedule can begin: {title}")));
        }
        FiredNow::Absent => return Err(absent()),
    };
    let run = state.store.find_run(access.scope(), run_id).await?.ok_or_else(|| Problem::absent("run"))?;
    let shown = Shown::under(state.store.redactors(access.scope()).await?);
    let headers = [(header::LOCATION, format!("/v1/platform/runs/{run_id}"))];
    Ok((StatusCode::ACCEPTED, headers, Json(shown.queued(&run))).into_response())
}
