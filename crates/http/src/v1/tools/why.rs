//! What the gates would say of a call, for whoever asks why an agent may or may not.

use awooop_core::{AgentId, Mode};
use awooop_gateway::{Why, Word};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::body::Body;
use crate::caller::Access;
use crate::problem::Problem;
use crate::state::AppState;

/// The call in question.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExplainToolCall {
    #[schema(pattern = "^[a-z0-9][a-z0-9_-]{1,63}$")]
    agent_id: String,
    /// The full name, `<provider>__<tool>`.
    #[schema(max_length = 200)]
    tool: String,
    /// What the tool would get; nothing, when absent.
    #[serde(default)]
    #[schema(value_type = Object)]
    arguments: Map<String, Value>,
    /// The run's `shadow`, `suggest` or `live`; the highest that the agent may, when absent.
    #[schema(pattern = "^(shadow|suggest|live)$")]
    mode: Option<String>,
}

/// What would become of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ToolCallExplained {
    agent_id: String,
    mode: &'static str,
    /// `call`, `stub`, `ask`, `refused`, `stopped` or `unreachable`.
    prospect: &'static str,
    /// All five, in order.
    gates: Vec<GateWord>,
    /// What people would be asked.
    approval: Option<ApprovalAsked>,
}

/// One gate's word.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GateWord {
    /// `identity`, `registry`, `authorization`, `arguments` or `clearance`.
    gate: &'static str,
    /// `pass`, `stub`, `ask`, `refuse`, `unknown` (the tool's server did not answer) or `not_asked`.
    verdict: &'static str,
    /// The code that a call would get.
    code: Option<&'static str>,
    reason: Option<String>,
}

/// What people would be asked.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ApprovalAsked {
    /// `mode suggest`, `policy <id>`, or after untrusted output the step it came from.
    asked_by: String,
    /// Distinct people who must allow it.
    needed: u8,
    /// How long the request would wait.
    expires_in_s: u32,
}

/// Says what each gate would say of a call, and makes none. Nothing is written; the tool's server is asked which tools it
/// has.
#[utoipa::path(post, path = "/v1/platform/tools/why", operation_id = "explain_tool_call", tag = "tools",
    request_body = ExplainToolCall,
    responses((status = 200, description = "What would become of the call", body = ToolCallExplained),
        (status = 403, description = "E-AUTH-002, E-AUTH-003, or E-RUN-003: the mode is above what the agent may do"),
        (status = 422, description = "E-REQ-003, or E-RUN-002: the project has no such agent")))]
pub(crate) async fn explain_tool_call(
    State(state): State<AppState>,
    access: Access,
    Body { value: body, .. }: Body<ExplainToolCall>,
) -> Result<Json<ToolCallExplained>, Problem> {
    let agent = AgentId::parse(&body.agent_id)
        .map_err(|e| Problem::invalid_at("/agent_id", "pattern", e.to_string()))?;
    let agent = super::agent(&access, Some(agent.clone()))?.unwrap_or(agent);
    let asked = body.mode.as_deref().map(|text| {
        let message = "one of shadow, suggest, live";
        Mode::parse(text).ok_or_else(|| Problem::invalid_at("/mode", "enum", message))
    });
    let facts = crate::v1::runs::create::agent(&state, &access, &agent).await?;
    let mode = Mode::resolve(asked.transpose()?, facts.spec.mode, None)
        .map_err(|code| Problem::new(code, "the mode asked for is above what the agent may do"))?;
    let why = state.gateway.why(access.scope(), &agent, mode, &body.tool, body.arguments).await?;
    Ok(Json(explained(&agent, mode, why)))
}

fn explained(agent: &AgentId, mode: Mode, why: Why) -> ToolCallExplained {
    let word = |word: Word| GateWord {
        gate: word.gate,
        verdict: word.verdict,
        code: word.code.map(awooop_core::ErrorCode::as_str),
        reason: word.reason,
    };
    ToolCallExplained {
        agent_id: agent.to_string(),
        mode: mode.as_str(),
        prospect: why.prospect.as_str(),
        gates: why.gates.into_iter().map(word).collect(),
        approval: why.demand.map(|demand| ApprovalAsked {
            asked_by: demand.asked_by,
            needed: demand.needed,
            expires_in_s: demand.expires_in_s,
        }),
    }
}
