//! Starting a run. Checks, in this order: who may name whom, the agent, the mode, the input, what it holds, the budget.
//! Nothing is written before all of them hold; then one statement creates the run and queues it.

use std::time::Duration;

use awooop_core::contract::AgentSpec;
use awooop_core::error::Violation;
use awooop_core::schema::Schema;
use awooop_core::{AgentId, ErrorCode, Mode, RunId, json};
use awooop_store::run::{AgentFacts, Created, Idempotency, MAX_DEPTH, NewRun, Run};
use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::wait;
use crate::admission::Admitted;
use crate::body::Body;
use crate::caller::Access;
use crate::problem::Problem;
use crate::run_view::{RunDocument, RunQueued};
use crate::state::AppState;
use crate::telemetry::Trace;

const PARENT_ENDED: &str = "the parent run has ended, and starts nothing any more";

/// A run to be started.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateRun {
    /// The agent that is asked.
    #[schema(pattern = "^[a-z0-9][a-z0-9_-]{1,63}$")]
    agent_id: String,
    /// What it is asked: any JSON that fits the agent's input schema.
    input: Value,
    /// At most the agent's own; without it, the agent's own.
    #[schema(pattern = "^(shadow|suggest|live)$")]
    mode: Option<String>,
    /// 0 first, 9 last; 5 without it.
    #[schema(minimum = 0, maximum = 9)]
    priority: Option<i16>,
    /// Longest time to the end, in milliseconds; never above the agent's.
    #[schema(minimum = 1000, maximum = 86_400_000)]
    timeout_ms: Option<u64>,
    /// The run that starts this one.
    parent_run_id: Option<Uuid>,
    /// Who asks; only an admin may name somebody.
    #[schema(pattern = "^[!-~]([ -~]{0,198}[!-~])?$")]
    triggered_by: Option<String>,
}

/// Starts a run. `Prefer: wait=30` answers when it has ended, if it ends in time.
#[utoipa::path(post, path = "/v1/platform/runs", operation_id = "create_run", tag = "runs",
    params(
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[!-~]+$",
            description = "The same key with the same body starts one run, for a day"),
        ("Prefer" = Option<String>, Header, description = "`wait=N` waits N seconds, at most 60, for the end"),
        ("traceparent" = Option<String>, Header, description = "W3C trace the run belongs to")),
    request_body = CreateRun,
    responses(
        (status = 202, description = "The run is queued", body = RunQueued,
            headers(("Location" = String), ("Idempotency-Replayed" = String))),
        (status = 200, description = "The run has ended while the caller waited", body = RunDocument,
            headers(("Location" = String), ("Preference-Applied" = String), ("Idempotency-Replayed" = String))),
        (status = 402, description = "E-BUDGET-001: the project's budget is spent; E-LIMIT-006: its storage is"),
        (status = 409, description = "E-RUN-001: the parent has ended; E-CONTRACT-002: the agent's contract is not what was signed"),
        (status = 429, description = "E-LIMIT-002: the project's queue, or the node, is full; `Retry-After` says when to try again",
            headers(("Retry-After" = String)))))]
pub(crate) async fn create_run(
    State(state): State<AppState>,
    Admitted { access, place }: Admitted,
    Extension(trace): Extension<Trace>,
    headers: HeaderMap,
    body: Body<CreateRun>,
) -> Result<Response, Problem> {
    let idempotency = idempotency(&headers, &access, &body.document)?;
    let used = match &idempotency {
        Some(key) => state.store.replay(access.scope(), key).await?,
        None => None,
    };
    let created = match used {
        Some(used) => used,
        None => {
            let new = check(&state, &access, body.value, trace.given(), idempotency).await?;
            state.store.create_run(access.scope(), &new).await?
        }
    };
    drop(place);
    let (run_id, is_replayed) = match created {
        Created::New(run_id) => (run_id, false),
        Created::Replayed(run_id) => (run_id, true),
        Created::OtherRequest => {
            return Err(Problem::new(
                ErrorCode::Req006,
                "this idempotency key came with another body before",
            ));
        }
        Created::ParentEnded => return Err(Problem::new(ErrorCode::Run001, PARENT_ENDED)),
        Created::TooDeep => {
            let message = format!("runs stand at most {MAX_DEPTH} deep below the first of their family");
            return Err(Problem::invalid_at("/parent_run_id", "depth", message));
        }
        Created::QueueFull => {
            return Err(Problem::new(
                ErrorCode::Limit002,
                "as many runs of the project wait to be started as its contract allows",
            ));
        }
    };
    answer(&state, &access, run_id, wait::preferred(&headers), is_replayed).await
}

async fn check(
    state: &AppState,
    access: &Access,
    body: CreateRun,
    trace_id: Option<String>,
    idempotency: Option<Idempotency>,
) -> Result<NewRun, Problem> {
    let agent = AgentId::parse(&body.agent_id)
        .map_err(|e| Problem::invalid_at("/agent_id", "pattern", e.to_string()))?;
    check_caller(access, &agent, &body)?;
    let parent = check_parent(state, access, body.parent_run_id).await?;
    let facts = self::agent(state, access, &agent).await?;
    let mode = mode(body.mode.as_deref(), &facts, parent.map(|run| run.mode))?;
    check_ask(&facts, &body.input)?;
    let timeout_ms = body.timeout_ms.unwrap_or(facts.spec.timeout_ms).min(facts.spec.timeout_ms);
    Ok(NewRun {
        agent,
        agent_version_id: facts.version_id,
        mode,
        priority: body.priority.unwrap_or(5),
        trace_id,
        parent_run_id: body.parent_run_id,
        retry_of: None,
        triggered_by: body.triggered_by.unwrap_or_else(|| access.scope().actor().to_owned()),
        max_attempts: facts.spec.max_attempts,
        timeout: Duration::from_millis(timeout_ms),
        input: body.input,
        idempotency,
    })
}

/// The active agent with what a run of it depends on.
pub(crate) async fn agent(state: &AppState, access: &Access, agent: &AgentId) -> Result<AgentFacts, Problem> {
    let absent = || Problem::new(ErrorCode::Run002, format!("the project has no active agent `{agent}`"));
    state.store.find_agent(access.scope(), agent).await?.ok_or_else(absent)
}

/// May this be asked, as agent, contracts and budget stand now?
pub(super) fn check_ask(facts: &AgentFacts, input: &Value) -> Result<(), Problem> {
    check_input(&facts.spec, input)?;
    check_content(facts, input)?;
    if facts.is_budget_spent {
        return Err(Problem::new(ErrorCode::Budget001, "the project's token budget is used up"));
    }
    if facts.is_storage_full {
        let detail =
            "the project has stored as much as its contract allows (`spec.limits.max_storage_bytes`)";
        return Err(Problem::new(ErrorCode::Limit006, detail));
    }
    Ok(())
}

/// A key bound to an agent starts only runs of that agent, and only an admin speaks for others.
fn check_caller(access: &Access, agent: &AgentId, body: &CreateRun) -> Result<(), Problem> {
    let refuse = |detail: &str| Err(Problem::new(ErrorCode::Auth002, detail));
    if access.caller.agent().is_some_and(|own| own != agent) {
        return refuse("a key bound to an agent starts runs of that agent only");
    }
    if body.triggered_by.is_some() && !access.caller.is_admin() {
        return refuse("only an admin may say who triggered a run");
    }
    Ok(())
}

async fn check_parent(
    state: &AppState,
    access: &Access,
    parent: Option<RunId>,
) -> Result<Option<Run>, Problem> {
    let Some(run_id) = parent else { return Ok(None) };
    match super::visible_run(state, access, run_id).await {
        Ok(run) if run.state.is_terminal() => Err(Problem::new(ErrorCode::Run001, PARENT_ENDED)),
        Ok(run) => Ok(Some(run)),
        Err(problem) if problem.code() == ErrorCode::Req004 => {
            Err(Problem::invalid_at("/parent_run_id", "reference", "there is no such run here"))
        }
        Err(problem) => Err(problem),
    }
}

fn mode(asked: Option<&str>, facts: &AgentFacts, parent: Option<Mode>) -> Result<Mode, Problem> {
    let detail = "the mode asked for is above what the agent, or the parent run, may do";
    Mode::resolve(asked.and_then(Mode::parse), facts.spec.mode, parent)
        .map_err(|code| Problem::new(code, detail))
}

fn check_input(agent: &AgentSpec, input: &Value) -> Result<(), Problem> {
    let Some(schema) = &agent.input_schema else { return Ok(()) };
    let schema = Schema::compile(schema).map_err(|e| {
        Problem::invalid_at("/input", "schema", format!("the agent's input schema cannot be used: {e}"))
    })?;
    schema.validate(input).map_err(|found| {
        let below = |v: Violation| Violation { path: format!("/input{}", v.path), ..v };
        Problem::invalid(found.into_iter().map(below).collect())
    })
}

/// What the project blocks everywhere makes no run: the journal could only keep it masked, and the agent would be
/// asked something else.
fn check_content(facts: &AgentFacts, input: &Value) -> Result<(), Problem> {
    let passed = facts.redactors.to_journal.json(input.clone());
    passed
        .map(drop)
        .map_err(|blocked| Problem::new(ErrorCode::Redact001, format!("the input is refused: {blocked}")))
}

/// The caller's key, with the hash of the canonical body it stands for.
pub(super) fn idempotency(
    headers: &HeaderMap,
    access: &Access,
    document: &Value,
) -> Result<Option<Idempotency>, Problem> {
    let malformed = || {
        Problem::new(ErrorCode::Req001, "Idempotency-Key is one value of 1 to 255 visible ASCII characters")
    };
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.to_str().map_err(|_| malformed())?;
    let is_visible = (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
    if !is_visible || values.next().is_some() {
        return Err(malformed());
    }
    Ok(Some(Idempotency {
        principal: access.scope().actor().to_owned(),
        // its hash: what callers put into a key is theirs to know
        key: json::hex(&json::sha256(key.as_bytes())),
        request_sha256: json::sha256_hex(document),
    }))
}

/// 202 with the run as it is, or 200 with what came of it when the caller waited and it ended.
async fn answer(
    state: &AppState,
    access: &Access,
    run_id: RunId,
    wait_s: Option<u64>,
    is_replayed: bool,
) -> Result<Response, Problem> {
    let run = match wait_s {
        Some(seconds) => wait::until_ended(state, access.scope(), run_id, seconds).await?,
        None => state.store.find_run(access.scope(), run_id).await?,
    };
    let run = run.ok_or_else(|| Problem::absent("run"))?;
    let mut headers = vec![(header::LOCATION, format!("/v1/platform/runs/{run_id}"))];
    if is_replayed {
        headers.push((HeaderName::from_static("idempotency-replayed"), "true".to_owned()));
    }
    if let Some(seconds) = wait_s {
        headers.push((HeaderName::from_static("preference-applied"), format!("wait={seconds}")));
    }
    let response = if wait_s.is_some() && run.state.is_terminal() {
        (StatusCode::OK, axum::Json(super::document(state, access, &run).await?)).into_response()
    } else {
        (StatusCode::ACCEPTED, axum::Json(super::shown(state, access).await?.queued(&run))).into_response()
    };
    Ok((axum::response::AppendHeaders(headers), response).into_response())
}
