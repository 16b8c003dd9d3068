//! Cancelling a run: at once, whatever holds it. Cancelling twice is the same as once.

use awooop_core::ErrorCode;
use awooop_store::run::Cancelled;
use axum::Json;
use axum::extract::State;

use crate::caller::Access;
use crate::problem::Problem;
use crate::query::RunPath;
use crate::run_view::RunDocument;
use crate::state::AppState;

/// Ends a run for good; nothing its worker still does is recorded, and its descendants end soon after.
#[utoipa::path(post, path = "/v1/platform/runs/{run_id}/cancel", operation_id = "cancel_run", tag = "runs",
    responses(
        (status = 200, description = "It is cancelled, now or before", body = RunDocument),
        (status = 409, description = "E-RUN-001: it had ended otherwise")))]
pub(crate) async fn cancel_run(
    State(state): State<AppState>,
    access: Access,
    RunPath(run_id): RunPath,
) -> Result<Json<RunDocument>, Problem> {
    match state.store.cancel_run(access.scope(), run_id).await? {
        Cancelled::Done(run) => Ok(Json(super::document(&state, &access, &run).await?)),
        Cancelled::Ended(run) => {
            let detail = format!("the run is {} and stays so", run.state.as_str());
            Err(Problem::new(ErrorCode::Run001, detail))
        }
        Cancelled::Absent => Err(Problem::absent("run")),
    }
}
