//! One run with what came of it.

use axum::Json;
use axum::extract::State;

use crate::caller::Access;
use crate::problem::Problem;
use crate::query::RunPath;
use crate::run_view::RunDocument;
use crate::state::AppState;

/// A run, with its output or error once it ended.
#[utoipa::path(get, path = "/v1/platform/runs/{run_id}", operation_id = "get_run", tag = "runs",
    responses((status = 200, description = "The run", body = RunDocument)))]
pub(crate) async fn get_run(
    State(state): State<AppState>,
    access: Access,
    RunPath(run_id): RunPath,
) -> Result<Json<RunDocument>, Problem> {
    let run = super::visible_run(&state, &access, run_id).await?;
    Ok(Json(super::document(&state, &access, &run).await?))
}
