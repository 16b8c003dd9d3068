//! The steps of a run, oldest first: the finished ones, and a call that was announced and has no result.

use awooop_store::journal::Step;
use axum::Json;
use axum::extract::State;

use crate::caller::Access;
use crate::page::{List, Page};
use crate::problem::Problem;
use crate::query::{PageQuery, Params, RunPath};
use crate::run_view::StepItem;
use crate::state::AppState;

/// What a run did, step by step, with each gate's verdict.
#[utoipa::path(get, path = "/v1/platform/runs/{run_id}/steps", operation_id = "list_steps", tag = "runs",
    params(PageQuery),
    responses((status = 200, description = "A page of steps, oldest first", body = Page<StepItem>)))]
pub(crate) async fn list_steps(
    State(state): State<AppState>,
    access: Access,
    RunPath(run_id): RunPath,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<StepItem>>, Problem> {
    let limit = query.limit()?;
    let name = format!("steps/{run_id}");
    let list = List { name: &name, project: access.scope().project() };
    let after = list.read(query.cursor.as_deref(), |key| key.parse().ok())?.unwrap_or(0);
    let run = super::visible_run(&state, &access, run_id).await?;
    let steps = state.store.list_steps_and_open(access.scope(), run.run_id, after, limit as i64 + 1).await?;
    let shown = super::shown(&state, &access).await?;
    Ok(Json(list.page(steps, limit, |step: &Step| step.n.to_string(), |step| shown.step(step))))
}
