//! `/mcp`: the project's tools for any MCP client (Streamable HTTP, revision 2025-11-25 and older), without
//! sessions, answered as JSON. The key is checked before a byte of the body is read, `Host` and `Origin`
//! before anything is done.
//!
//! rmcp speaks the protocol (`handshake`); `tools/list` and `tools/call` take a thin path of our own
//! (`tools`), because rmcp's types drop members they do not know and a definition must reach the client as
//! its server wrote it. Every refusal is a JSON-RPC error with `data.code`.

mod handshake;
mod reply;
mod site;
mod tools;

pub(crate) use handshake::{McpServer, server};

use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderMap, header};
use serde::Deserialize;
use serde_json::Value;

use crate::body;
use crate::caller::{self, Access};
use crate::edge::Client;
use crate::state::AppState;
use crate::telemetry::Trace;
use reply::Refusal;

/// The operation id of this endpoint in the table of roles.
const OPERATION: &str = "use_mcp";

/// A JSON-RPC message from a client, as far as it must be known to be routed.
#[derive(Debug, Deserialize)]
struct Message {
    jsonrpc: String,
    id: Option<Value>,
    method: Option<String>,
    params: Option<Value>,
}

/// One JSON-RPC message of the Model Context Protocol.
#[utoipa::path(post, path = "/mcp", operation_id = "use_mcp", tag = "mcp",
    params(("MCP-Protocol-Version" = Option<String>, Header, description = "The revision that was agreed on")),
    request_body(content = Object, content_type = "application/json", description = "A JSON-RPC 2.0 message"),
    responses(
        (status = 200, description = "The JSON-RPC response, or an error of the request itself", body = Object),
        (status = 202, description = "A notification was taken"),
        (status = 400, description = "Not a JSON-RPC message, or an unknown revision", body = Object),
        (status = 401, description = "E-MCP-GATE-001: no valid key", body = Object),
        (status = 403, description = "E-AUTH-002 or E-AUTH-003, or a foreign Host or Origin", body = Object),
        (status = 404, description = "Not here", body = Object),
        (status = 406, description = "Accept must name application/json and text/event-stream", body = Object),
        (status = 408, description = "E-REQ-008: the body came too slowly", body = Object),
        (status = 413, description = "E-REQ-002: larger than 1 MiB", body = Object),
        (status = 414, description = "E-REQ-010: path and query are too long", body = Object),
        (status = 415, description = "Content-Type must be application/json", body = Object),
        (status = 429, description = "E-LIMIT-004: too many requests with the key, E-LIMIT-005: too many keys that are not valid", body = Object),
        (status = 431, description = "E-REQ-009: the head is too large", body = Object),
        (status = 503, description = "E-STORE-001: the database cannot answer; E-LIMIT-003: no room for the connection", body = Object)))]
pub(crate) async fn use_mcp(State(state): State<AppState>, request: Request) -> Response {
    match serve(&state, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

async fn serve(state: &AppState, request: Request) -> Result<Response, Refusal> {
    site::check(request.headers(), request.uri(), &state.hosts)?;
    let client = request.extensions().get::<Client>().copied().unwrap_or(Client(None));
    let access = identify(request.headers(), &client, state).await?;
    check_headers(request.headers())?;
    let (parts, body) = request.into_parts();
    let trace = parts.extensions.get::<Trace>().cloned();
    let mut request = Request::new(body);
    // the limit of the body's size travels in the extensions
    *request.extensions_mut() = parts.extensions.clone();
    let bytes = body::read(request, state).await.map_err(|p| Refusal::of_problem(&p))?;
    let message = message(&bytes)?;
    let is_legacy = handshake::check_revision(&parts.headers, message.params.as_ref())?;
    match (message.method.as_deref(), message.id) {
        (Some("tools/list"), Some(id)) if is_legacy => {
            Ok(tools::list(state, &access, id, message.params).await)
        }
        (Some("tools/call"), Some(id)) if is_legacy => {
            Ok(tools::call(state, &access, id, message.params, trace.and_then(|t| t.given())).await)
        }
        _ => handshake::forward(state, access, parts, bytes).await,
    }
}

/// Who calls. A key that is bound to no agent reaches no tool whatever its role, and is told so.
async fn identify(headers: &HeaderMap, client: &Client, state: &AppState) -> Result<Access, Refusal> {
    let access = caller::identify(headers, client, state).await.map_err(|p| Refusal::of_problem(&p))?;
    if access.caller.agent().is_some() && !access.caller.may(OPERATION) {
        state.store.note_refused_call(access.scope(), "use_mcp", awooop_core::ErrorCode::Auth002);
        return Err(Refusal::of_problem(&caller::not_allowed(&access.caller, OPERATION)));
    }
    Ok(access)
}

/// What the transport asks of a POST.
fn check_headers(headers: &HeaderMap) -> Result<(), Refusal> {
    let accepted: String =
        headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect::<Vec<_>>().join(",");
    let accepts = |wanted: &str| {
        accepted
            .split(',')
            .any(|a| a.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(wanted))
    };
    if !accepts("application/json") || !accepts("text/event-stream") {
        return Err(Refusal::transport(406, "Accept must name application/json and text/event-stream"));
    }
    if !body::is_json(headers) {
        return Err(Refusal::transport(415, "Content-Type must be application/json"));
    }
    Ok(())
}

fn message(bytes: &[u8]) -> Result<Message, Refusal> {
    let document = body::parse(bytes).map_err(|p| Refusal::parse_error(p.detail()))?;
    let refuse = || Refusal::transport(400, "the body is one JSON-RPC 2.0 message");
    let message: Message = serde_json::from_value(document).map_err(|_| refuse())?;
    let is_id = message.id.as_ref().is_none_or(|id| id.is_string() || id.is_i64() || id.is_u64());
    if message.jsonrpc != "2.0" || !is_id {
        return Err(refuse());
    }
    Ok(message)
}
