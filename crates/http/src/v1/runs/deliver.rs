//! Delivering the result of a tool that answered later. The same result twice is the same as once; another one is
//! refused. A tool that is faster than its run's waiting is waited for a moment.

use std::time::Duration;

use awooop_core::{ErrorCode, RunId};
use awooop_gateway::result::{Shaped, shape};
use awooop_gateway::upstream::ToolResult;
use awooop_store::delivery::{Delivered, Delivery};
use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use http::request::Parts;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::body::Body;
use crate::caller::Access;
use crate::problem::Problem;
use crate::run_view::RunDocument;
use crate::sse::changed;
use crate::state::AppState;

/// How long to wait for a run whose tool delivers before the run has begun to wait.
const EARLY: Duration = Duration::from_secs(5);
/// Longest time between two looks meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// What a tool gave, as MCP's `CallToolResult`; at least one of `content` and `structuredContent`.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ToolOutput {
    /// Content parts, such as `{"type": "text", "text": "…"}`.
    #[serde(default)]
    content: Vec<serde_json::Map<String, Value>>,
    /// Structured content: any JSON.
    structured_content: Option<Value>,
    /// Did the tool fail?
    #[serde(default)]
    is_error: bool,
}

impl ToolOutput {
    /// As the journal keeps it: redacted, and within the cap of a tool's result.
    pub(crate) async fn shape(self, state: &AppState, access: &Access) -> Result<Shaped, Problem> {
        if self.content.is_empty() && self.structured_content.is_none() {
            return Err(Problem::invalid_at("", "anyOf", "a result has `content` or `structuredContent`"));
        }
        let redactors = state.store.redactors(access.scope()).await?;
        let result = ToolResult {
            content: self.content.into_iter().map(Value::Object).collect(),
            structured_content: self.structured_content,
            is_error: self.is_error,
            meta: None,
        };
        let refuse =
            |blocked| Problem::new(ErrorCode::Redact001, format!("the result is refused: {blocked}"));
        shape(&redactors.to_journal, &redactors.observed, result).map_err(refuse)
    }
}

/// The `{run_id}` and `{n}` of a path.
pub(crate) struct StepPath {
    run_id: RunId,
    n: i32,
}

impl FromRequestParts<AppState> for StepPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let absent = || Problem::absent("step");
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((run_id, n)) = path.map_err(|_| absent())?;
        let run_id =
            Some(run_id).filter(|id| id.len() == 36).and_then(|id| id.parse().ok()).ok_or_else(absent)?;
        let is_plain = n.bytes().all(|b| b.is_ascii_digit());
        let n = n.parse().ok().filter(|n| is_plain && *n > 0).ok_or_else(absent)?;
        Ok(Self { run_id, n })
    }
}

/// Gives the result of a step whose tool answers later; the run goes on.
#[utoipa::path(post, path = "/v1/platform/runs/{run_id}/steps/{n}/result", operation_id = "deliver_result",
    tag = "runs", request_body = ToolOutput,
    responses(
        (status = 200, description = "It is the step's result, now or before", body = RunDocument),
        (status = 409, description = "E-RUN-001: the step has another result, or its run does not wait for one")))]
pub(crate) async fn deliver_result(
    State(state): State<AppState>,
    access: Access,
    StepPath { run_id, n }: StepPath,
    body: Body<ToolOutput>,
) -> Result<Json<RunDocument>, Problem> {
    let sha256 = awooop_core::json::sha256_hex(&json!({"n": n, "result": body.value}));
    let shaped = body.value.shape(&state, &access).await?;
    let chars = i32::try_from(shaped.chars).unwrap_or(i32::MAX);
    let delivery = Delivery { n, output: shaped.output(), chars, sha256 };
    let run = super::visible_run(&state, &access, run_id).await?;
    match deliver(&state, &access, run_id, &delivery).await? {
        Delivered::Done | Delivered::Replayed => {
            let run = state.store.find_run(access.scope(), run_id).await?.unwrap_or(run);
            Ok(Json(super::shown(&state, &access).await?.document(&run)?))
        }
        Delivered::Other => Err(Problem::new(ErrorCode::Run001, "the step has another result already")),
        Delivered::TooEarly => Err(Problem::new(
            ErrorCode::Run001,
            "the run does not wait for this result yet: deliver it again",
        )),
        Delivered::NotWaiting(state) => {
            let detail = format!("the run is {} and waits for no result", state.as_str());
            Err(Problem::new(ErrorCode::Run001, detail))
        }
        Delivered::Absent => Err(Problem::absent("step")),
    }
}

async fn deliver(
    state: &AppState,
    access: &Access,
    run_id: RunId,
    delivery: &Delivery,
) -> Result<Delivered, Problem> {
    let mut wakes = state.store.wake().runs();
    let deadline = tokio::time::Instant::now() + EARLY;
    loop {
        let delivered = state.store.deliver_result(access.scope(), run_id, delivery).await?;
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        if delivered != Delivered::TooEarly || left.is_zero() || state.draining.is_cancelled() {
            return Ok(delivered);
        }
        changed(&mut wakes, run_id, LOOK.min(left)).await;
    }
}
