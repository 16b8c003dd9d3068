//! `tools/list` and `tools/call`: what the gateway lets through, in JSON as it came. A definition keeps
//! every member its server wrote, only its name is the full one where several servers are seen; a result is the
//! gateway's, redacted and within its cap.

use awooop_core::{AgentId, ErrorCode};
use awooop_gateway::upstream::Notices;
use awooop_gateway::{CallError, ClientResult, ListedTool};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::View;
use super::answer::with_notices;
use super::reply::{Asked, INVALID_PARAMS, REFUSED};
use crate::caller::Access;
use crate::state::AppState;

/// Why a key lists nothing.
pub(super) const WITHOUT_AGENT: &str = "This key is bound to no agent, so it has no tools. Make one that is: \
                                        awooop key create NAME --agent AGENT";

/// Parameters of `tools/call`; what else a client sends is not ours to judge.
#[derive(Debug, Deserialize)]
struct CallParams {
    name: String,
    #[serde(default)]
    arguments: Option<Map<String, Value>>,
}

/// The tools of the caller's agent that the view has, on one page.
pub(super) async fn list(
    state: &AppState,
    access: &Access,
    view: &View,
    asked: &Asked,
    params: Option<Value>,
) -> Response {
    if params.is_some_and(|p| p.get("cursor").is_some_and(|cursor| !cursor.is_null())) {
        return asked.error(INVALID_PARAMS, "no page of this list gave a cursor", ErrorCode::Req007);
    }
    let Some(agent) = access.caller.agent() else {
        let reason = json!({"awooop/reason": WITHOUT_AGENT, "awooop/code": ErrorCode::Gate001});
        return asked.listing(json!({"tools": [], "_meta": reason}));
    };
    let provider = match view {
        View::All => None,
        View::Of(provider) => provider.as_ref(),
    };
    match state.gateway.list_tools(access.scope(), agent, provider).await {
        Ok(tools) => {
            let tools: Vec<Value> = tools.into_iter().map(|tool| definition(view, tool)).collect();
            asked.listing(json!({"tools": tools}))
        }
        Err(error) => axum::Json(asked.store_error_document(error)).into_response(),
    }
}

/// The server's own definition, under the full name where several servers' tools are seen.
fn definition(view: &View, tool: ListedTool) -> Value {
    let mut raw = tool.definition.raw;
    if let (View::All, Some(members)) = (view, raw.as_object_mut()) {
        members.insert("name".to_owned(), Value::String(tool.name));
    }
    raw
}

/// One call through the gates.
pub(super) async fn call(
    state: &AppState,
    access: &Access,
    view: &View,
    asked: &Asked,
    params: Option<Value>,
    trace_id: Option<String>,
) -> Response {
    let Some(agent) = access.caller.agent() else {
        return asked.error(REFUSED, WITHOUT_AGENT, ErrorCode::Gate001);
    };
    let wishes = asked.wishes(params.as_ref());
    let Ok(mut params) = serde_json::from_value::<CallParams>(params.unwrap_or_default()) else {
        let message = "params are an object with name and, where the tool has some, arguments";
        return asked.error(INVALID_PARAMS, message, ErrorCode::Req003);
    };
    if let View::Of(Some(provider)) = view {
        params.name = format!("{provider}__{}", params.name);
    }
    let (listener, told) = awooop_gateway::notices();
    let listener = wishes.are_any().then_some(listener);
    let finishing = finish(state, access, agent.clone(), params, trace_id, listener);
    let asked = asked.clone();
    let answer = async move {
        match finishing.await {
            Some(Ok(result)) => asked.result_document(wire(result)),
            Some(Err(CallError::Refused(refusal))) => {
                let number = if refusal.code == ErrorCode::Gate002 { INVALID_PARAMS } else { REFUSED };
                asked.refusal_document(number, &refusal)
            }
            Some(Err(CallError::Store(error))) => asked.store_error_document(error),
            None => asked.error_document(REFUSED, "the call ended without an answer", ErrorCode::Upstream003),
        }
    };
    with_notices(wishes, told, answer).await
}

/// Calls in a task of its own: a client that goes away does not cut a call before its row is written.
/// `None` when the call itself broke.
fn finish(
    state: &AppState,
    access: &Access,
    agent: AgentId,
    params: CallParams,
    trace_id: Option<String>,
    listener: Option<Notices>,
) -> impl Future<Output = Option<Result<ClientResult, CallError>>> + use<> {
    let (gateway, scope) = (state.gateway.clone(), access.scope().clone());
    let call = async move {
        let arguments = params.arguments.unwrap_or_default();
        gateway.call_for_client(&scope, &agent, &params.name, arguments, trace_id, listener).await
    };
    let called = awooop_store::scope::spawn(access.scope(), "mcp_call", call);
    async { called.await.ok() }
}

fn wire(result: ClientResult) -> Value {
    let mut wire = json!({"content": result.content, "isError": result.is_error});
    for (member, value) in [("structuredContent", result.structured_content), ("_meta", result.meta)] {
        if let Some(value) = value {
            wire[member] = value;
        }
    }
    wire
}
