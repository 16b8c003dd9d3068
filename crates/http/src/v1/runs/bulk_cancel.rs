//! Cancelling many runs: those that fit a filter, newest first, one after the other. A page looks at a bounded number of
//! runs, and may have found none; its cursor goes on from there.

use awooop_core::RunId;
use awooop_core::run::StateName;
use awooop_store::bulk::BulkFilter;
use awooop_store::run::Cancelled;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::body::Body;
use crate::caller::Access;
use crate::page::List;
use crate::problem::Problem;
use crate::query;
use crate::state::AppState;

/// Runs one request handles when it names no `limit`.
pub(super) const DEFAULT_LIMIT: i64 = 50;

/// Which runs are to be cancelled; only such as have not ended are meant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BulkCancel {
    /// Only runs in this state.
    #[schema(pattern = "^(pending|running|waiting_approval|waiting_tool)$")]
    state: Option<String>,
    /// Only runs of this agent.
    #[schema(pattern = "^[a-z0-9][a-z0-9_-]{1,63}$")]
    agent_id: Option<String>,
    /// Only children of this run.
    parent_run_id: Option<Uuid>,
    /// Only runs made at least this many seconds ago.
    #[schema(minimum = 1, maximum = 315_360_000)]
    older_than_s: Option<u64>,
    /// Without any other filter: yes, all of the project's.
    all: Option<bool>,
    /// Only say what would be cancelled.
    dry_run: Option<bool>,
    /// How many at most; 50 without it.
    #[schema(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// `next_cursor` of the answer before.
    cursor: Option<String>,
}

/// What came of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulkCancelled {
    /// One a run, newest first; a page may have none and not be the last.
    items: Vec<CancelItem>,
    /// Runs that were looked at, whether they fit or not.
    #[schema(minimum = 0, maximum = 5000)]
    looked_at: i64,
    /// Give this as `cursor` for the next; null at the end.
    next_cursor: Option<String>,
}

/// One run of many.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CancelItem {
    run_id: Uuid,
    /// `cancelled`, `would_cancel`, or `ended`: it had ended otherwise by then.
    result: &'static str,
    /// The state it is in now.
    state: &'static str,
}

/// Cancels the runs that fit a filter, newest first.
#[utoipa::path(post, path = "/v1/platform/runs/bulk-cancel", operation_id = "bulk_cancel_runs", tag = "runs",
    request_body = BulkCancel,
    responses((status = 200, description = "What came of each run", body = BulkCancelled)))]
pub(crate) async fn bulk_cancel_runs(
    State(state): State<AppState>,
    access: Access,
    Body { value: body, .. }: Body<BulkCancel>,
) -> Result<Json<BulkCancelled>, Problem> {
    let filter = filter(&state, &body)?;
    let (store, scope) = (&state.store, access.scope());
    let list = List { name: "bulk-cancel", project: scope.project() };
    let cursor: Option<RunId> = list.read(body.cursor.as_deref(), |key| key.parse().ok())?;
    let limit = body.limit.unwrap_or(DEFAULT_LIMIT);
    let page = store.page_of(scope, &filter, cursor.unwrap_or(RunId::max()), limit).await?;
    let mut answer = BulkCancelled {
        items: Vec::with_capacity(page.runs.len()),
        looked_at: page.looked_at,
        next_cursor: page.next_before.map(|run_id| list.cursor(&run_id.to_string())),
    };
    let mut last_done: Option<RunId> = None;
    for (run_id, found) in page.runs {
        if body.dry_run == Some(true) {
            answer.items.push(CancelItem { run_id, result: "would_cancel", state: found.as_str() });
            continue;
        }
        match store.cancel_run(scope, run_id).await {
            Ok(Cancelled::Done(run)) => {
                answer.items.push(CancelItem { run_id, result: "cancelled", state: run.state.as_str() });
            }
            Ok(Cancelled::Ended(run)) => {
                answer.items.push(CancelItem { run_id, result: "ended", state: run.state.as_str() });
            }
            Ok(Cancelled::Absent) => {}
            // what was done until now is told; the caller goes on after it
            Err(error) => {
                let Some(done) = last_done else { return Err(error.into()) };
                Problem::from(error).log();
                answer.next_cursor = Some(list.cursor(&done.to_string()));
                break;
            }
        }
        last_done = Some(run_id);
    }
    Ok(Json(answer))
}

fn filter(state: &AppState, body: &BulkCancel) -> Result<BulkFilter, Problem> {
    let is_narrow = body.state.is_some()
        || body.agent_id.is_some()
        || body.parent_run_id.is_some()
        || body.older_than_s.is_some();
    require_some(is_narrow, body.all)?;
    let one = query::state(body.state.as_deref())?;
    let open = StateName::ALL.into_iter().filter(|state| !state.is_terminal());
    Ok(BulkFilter {
        states: open.filter(|state| one.is_none_or(|one| one == *state)).collect(),
        run_id: None,
        agent_id: query::agent_id(body.agent_id.as_deref())?.map(String::from),
        parent: body.parent_run_id,
        error_code: None,
        made_before: body.older_than_s.map(|seconds| ago(state, seconds)),
        made_after: None,
    })
}

/// Nobody means all of a project's runs by accident.
pub(super) fn require_some(is_narrow: bool, all: Option<bool>) -> Result<(), Problem> {
    match (is_narrow, all) {
        (false, None | Some(false)) => {
            Err(Problem::invalid_at("", "filter", "a filter is needed, or \"all\": true"))
        }
        (true, Some(true)) => Err(Problem::invalid_at("/all", "filter", "\"all\" goes with no other filter")),
        _ => Ok(()),
    }
}

pub(super) fn ago(state: &AppState, seconds: u64) -> jiff::Timestamp {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    let now = state.store.clock().now();
    now.saturating_sub(jiff::SignedDuration::from_secs(seconds)).unwrap_or(jiff::Timestamp::MIN)
}
