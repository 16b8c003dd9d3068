//! Doing many ended runs again: a new run each, newest first, with the input that is kept of the old one, the agent's
//! active version, no parent and the trigger `retry`. With an idempotency key the same request again gives the same
//! new runs: each takes a key of its own, made of the request's and the old run's id, and no run newer than the
//! request is ever meant by it.

use awooop_core::run::StateName;
use awooop_core::{ErrorCode, Mode, RunId, json};
use awooop_store::bulk::{Asked, BulkFilter};
use awooop_store::run::{Created, Idempotency, NewRun};
use axum::Json;
use axum::extract::State;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::bulk_cancel::{DEFAULT_LIMIT, ago, require_some};
use super::create;
use crate::body::Body;
use crate::caller::Access;
use crate::page::List;
use crate::problem::Problem;
use crate::query;
use crate::state::AppState;

/// Which runs are to be done again; only such as have ended are meant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BulkRetry {
    /// Only this run.
    run_id: Option<Uuid>,
    /// Only runs in this state.
    #[schema(pattern = "^(completed|failed|cancelled|timeout)$")]
    state: Option<String>,
    /// Only runs of this agent.
    #[schema(pattern = "^[a-z0-9][a-z0-9_-]{1,63}$")]
    agent_id: Option<String>,
    /// Only runs that ended with this code.
    #[schema(pattern = "^E-[A-Z-]+-[0-9]{3}$", max_length = 40)]
    error_code: Option<String>,
    /// Only runs made at least this many seconds ago.
    #[schema(minimum = 1, maximum = 315_360_000)]
    older_than_s: Option<u64>,
    /// Only runs made within this many seconds.
    #[schema(minimum = 1, maximum = 315_360_000)]
    newer_than_s: Option<u64>,
    /// Without any other filter: yes, all of the project's.
    all: Option<bool>,
    /// Only say what would be done.
    dry_run: Option<bool>,
    /// How many at most; 50 without it.
    #[schema(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// `next_cursor` of the answer before.
    cursor: Option<String>,
}

/// What came of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulkRetried {
    /// One an ended run, newest first; a page may have none and not be the last.
    items: Vec<RetryItem>,
    /// Runs that were looked at, whether they fit or not.
    #[schema(minimum = 0, maximum = 5000)]
    looked_at: i64,
    /// Give this as `cursor`, under another idempotency key, for the next; null at the end.
    next_cursor: Option<String>,
}

/// One ended run of many.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RetryItem {
    /// The run that ended.
    run_id: Uuid,
    /// `created`, `replayed` (this key made it before), `would_create` or `refused`.
    result: &'static str,
    /// The new run.
    new_run_id: Option<Uuid>,
    /// Was the input masked when the first run was made? The new run gets the masked one, as the first one did.
    is_input_masked: bool,
    /// Why it was refused.
    code: Option<&'static str>,
    /// The same in words.
    message: Option<String>,
}

/// Starts a new run for each ended one that fits a filter, newest first.
#[utoipa::path(post, path = "/v1/platform/runs/bulk-retry", operation_id = "bulk_retry_runs", tag = "runs",
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[!-~]+$",
        description = "The same key with the same body starts the same runs, for a day")),
    request_body = BulkRetry,
    responses((status = 200, description = "What came of each run", body = BulkRetried)))]
pub(crate) async fn bulk_retry_runs(
    State(state): State<AppState>,
    access: Access,
    headers: HeaderMap,
    body: Body<BulkRetry>,
) -> Result<Json<BulkRetried>, Problem> {
    let key = create::idempotency(&headers, &access, &body.document)?;
    let body = body.value;
    let list = List { name: "bulk-retry", project: access.scope().project() };
    let cursor: Option<RunId> = list.read(body.cursor.as_deref(), |key| key.parse().ok())?;
    let filter = filter(&state, &body)?;
    let (store, scope, is_dry) = (&state.store, access.scope(), body.dry_run == Some(true));
    let begun = match key.as_ref().filter(|_| !is_dry) {
        Some(key) => store.begin_bulk(scope, key).await?.ok_or_else(|| {
            Problem::new(ErrorCode::Req006, "this idempotency key came with another body before")
        })?,
        None => store.clock().new_id(),
    };
    let before = cursor.map_or(begun, |cursor| cursor.min(begun));
    let limit = body.limit.unwrap_or(DEFAULT_LIMIT);
    let page = store.page_of(scope, &filter, before, limit).await?;
    let next_cursor = page.next_before.map(|run_id| list.cursor(&run_id.to_string()));
    let mut items = Vec::with_capacity(page.runs.len());
    for (run_id, _) in page.runs {
        let key = key.as_ref().map(|key| key_of(key, run_id));
        items.extend(retry(&state, &access, run_id, key, is_dry).await?);
    }
    Ok(Json(BulkRetried { items, looked_at: page.looked_at, next_cursor }))
}

/// One run; none when it is not there any more. What the database refuses ends the request: under its key it is sent
/// again.
async fn retry(
    state: &AppState,
    access: &Access,
    run_id: RunId,
    key: Option<Idempotency>,
    is_dry: bool,
) -> Result<Option<RetryItem>, Problem> {
    let Some(asked) = state.store.find_asked(access.scope(), run_id).await? else { return Ok(None) };
    let is_input_masked = asked.is_masked;
    let item = |result, new_run_id| RetryItem {
        run_id,
        result,
        new_run_id,
        is_input_masked,
        code: None,
        message: None,
    };
    if !is_dry
        && let Some(key) = &key
        && let Some(Created::Replayed(made)) = state.store.replay(access.scope(), key).await?
    {
        return Ok(Some(item("replayed", Some(made))));
    }
    let new = match renewed(state, access, run_id, asked, key).await {
        Ok(new) => new,
        Err(problem) if problem.code() == ErrorCode::Store001 => return Err(problem),
        Err(problem) => {
            let (code, message) = (Some(problem.code().as_str()), Some(problem.detail().to_owned()));
            return Ok(Some(RetryItem { code, message, ..item("refused", None) }));
        }
    };
    if is_dry {
        return Ok(Some(item("would_create", None)));
    }
    Ok(Some(match state.store.create_run(access.scope(), &new).await? {
        Created::New(made) => item("created", Some(made)),
        Created::Replayed(made) => item("replayed", Some(made)),
        Created::QueueFull => {
            let code = Some(ErrorCode::Limit002.as_str());
            let message =
                Some("as many runs of the project wait to be started as its contract allows".to_owned());
            RetryItem { code, message, ..item("refused", None) }
        }
        Created::OtherRequest | Created::ParentEnded | Created::TooDeep => item("refused", None),
    }))
}

/// The run that does `asked` again, checked as any new one.
async fn renewed(
    state: &AppState,
    access: &Access,
    run_id: RunId,
    asked: Asked,
    idempotency: Option<Idempotency>,
) -> Result<NewRun, Problem> {
    let facts = create::agent(state, access, &asked.agent).await?;
    let mode = Mode::resolve(None, facts.spec.mode, Some(asked.mode))
        .map_err(|code| Problem::new(code, "the mode of the run is not available any more"))?;
    create::check_ask(&facts, &asked.input)?;
    Ok(NewRun {
        agent: asked.agent,
        agent_version_id: facts.version_id,
        mode,
        priority: asked.priority,
        trace_id: None,
        parent_run_id: None,
        retry_of: Some(run_id),
        triggered_by: access.scope().actor().to_owned(),
        max_attempts: facts.spec.max_attempts,
        timeout: asked.timeout.min(std::time::Duration::from_millis(facts.spec.timeout_ms)),
        input: asked.input,
        idempotency,
    })
}

/// The key of one new run: nobody else's, and the same whenever the request is sent again.
fn key_of(request: &Idempotency, run_id: RunId) -> Idempotency {
    let hash = |text: String| json::hex(&json::sha256(text.as_bytes()));
    Idempotency {
        principal: request.principal.clone(),
        key: hash(format!("bulk-retry:{}:{run_id}", request.key)),
        request_sha256: hash(run_id.to_string()),
    }
}

fn filter(state: &AppState, body: &BulkRetry) -> Result<BulkFilter, Problem> {
    let is_narrow = body.run_id.is_some()
        || body.state.is_some()
        || body.agent_id.is_some()
        || body.error_code.is_some()
        || body.older_than_s.is_some()
        || body.newer_than_s.is_some();
    require_some(is_narrow, body.all)?;
    let one = query::state(body.state.as_deref())?;
    let ended = StateName::ALL.into_iter().filter(|state| state.is_terminal());
    Ok(BulkFilter {
        states: ended.filter(|state| one.is_none_or(|one| one == *state)).collect(),
        run_id: body.run_id,
        agent_id: query::agent_id(body.agent_id.as_deref())?.map(String::from),
        parent: None,
        error_code: body.error_code.clone(),
        made_before: body.older_than_s.map(|seconds| ago(state, seconds)),
        made_after: body.newer_than_s.map(|seconds| ago(state, seconds)),
    })
}
