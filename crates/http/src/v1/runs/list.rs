//! The project's runs, newest first.

use awooop_store::run::{Run, RunFilter};
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::caller::Access;
use crate::page::{List, Page};
use crate::problem::Problem;
use crate::query::{self, Params};
use crate::run_view::RunItem;
use crate::state::AppState;

/// Which runs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RunQuery {
    /// Only runs in this state.
    #[param(
        pattern = "^(pending|running|waiting_approval|waiting_tool|completed|failed|cancelled|timeout)$"
    )]
    state: Option<String>,
    /// Only runs of this agent.
    #[param(pattern = "^[a-z0-9][a-z0-9_-]{1,63}$")]
    agent_id: Option<String>,
    /// Only children of this run.
    #[param(value_type = Option<Uuid>)]
    parent_run_id: Option<Uuid>,
    /// How many items at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The project's runs, newest first.
#[utoipa::path(get, path = "/v1/platform/runs", operation_id = "list_runs", tag = "runs", params(RunQuery),
    responses((status = 200, description = "A page of runs", body = Page<RunItem>)))]
pub(crate) async fn list_runs(
    State(state): State<AppState>,
    access: Access,
    Params(query): Params<RunQuery>,
) -> Result<Json<Page<RunItem>>, Problem> {
    let limit = query::limit(query.limit.as_deref())?;
    let list = List { name: "runs", project: access.scope().project() };
    let filter = RunFilter {
        state: query::state(query.state.as_deref())?,
        agent_id: query::agent_id(query.agent_id.as_deref())?.map(String::from),
        parent: query.parent_run_id,
        before: list.read(query.cursor.as_deref(), |key| key.parse().ok())?,
        limit: limit as i64 + 1,
    };
    let runs = state.store.list_runs(access.scope(), &filter).await?;
    let shown = super::shown(&state, &access).await?;
    Ok(Json(list.page(runs, limit, |run: &Run| run.run_id.to_string(), |run| shown.item(&run))))
}
