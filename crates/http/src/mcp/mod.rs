//! `/mcp`: the project's tools for any MCP client (Streamable HTTP), without sessions, answered as JSON.
//! `/mcp/{provider_id}` shows one tool server's, under their own names. The key is checked before a byte of the body is
//! read, `Host` and `Origin` before anything is done.
//!
//! Revision 2026-07-28 is `stateless`'s; of those before it rmcp speaks what is not a tool (`handshake`). `tools/list`
//! and `tools/call` take a thin path of our own in all of them (`tools`), because rmcp's types drop members they do not know and a definition must reach the client as
//! its server wrote it. Every refusal is a JSON-RPC error with `data.code`.

mod answer;
mod handshake;
mod reply;
mod site;
mod stateless;
mod tools;

pub(crate) use handshake::{McpServer, server};

use awooop_core::ProviderId;
use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderMap, header};
use serde::Deserialize;
use serde_json::Value;

use crate::body;
use crate::caller::{self, Access};
use crate::edge::Client;
use crate::query::PathPart;
use crate::state::AppState;
use crate::telemetry::Trace;
use reply::{Asked, Refusal};

/// Which tools a client sees here, and under which names.
#[derive(Debug)]
enum View {
    /// All of its agent, under full names.
    All,
    /// One server's, under its own names; `None` for a name that no server can have.
    Of(Option<ProviderId>),
}

impl View {
    /// The operation id of this endpoint in the table of roles.
    fn operation(&self) -> &'static str {
        match self {
            View::All => "use_mcp",
            View::Of(_) => "use_mcp_of_provider",
        }
    }
}

/// A JSON-RPC message from a client, as far as it must be known to be routed.
#[derive(Debug, Deserialize)]
struct Message {
    jsonrpc: String,
    id: Option<Value>,
    method: Option<String>,
    params: Option<Value>,
}

impl Message {
    fn param(&self, name: &str) -> Option<&Value> {
        self.params.as_ref()?.get(name)
    }

    fn meta(&self, name: &str) -> Option<&Value> {
        self.param("_meta")?.get(name)
    }
}

/// One JSON-RPC message of the Model Context Protocol.
#[utoipa::path(post, path = "/mcp", operation_id = "use_mcp", tag = "mcp",
    params(("MCP-Protocol-Version" = Option<String>, Header, description = "The revision that was agreed on")),
    request_body(content = Object, content_type = "application/json", description = "A JSON-RPC 2.0 message"),
    responses(
        (status = 200, description = "The JSON-RPC response, or an error of the request itself", body = Object),
        (status = 202, description = "A notification was taken")))]
pub(crate) async fn use_mcp(State(state): State<AppState>, request: Request) -> Response {
    answer(&state, View::All, request).await
}

/// One JSON-RPC message of the Model Context Protocol, with the tools of one server under their own names.
#[utoipa::path(post, path = "/mcp/{provider_id}", operation_id = "use_mcp_of_provider", tag = "mcp",
    params(("provider_id" = String, Path, description = "The tool server; one that the project does not have has no tools"),
        ("MCP-Protocol-Version" = Option<String>, Header, description = "The revision that was agreed on")),
    request_body(content = Object, content_type = "application/json", description = "A JSON-RPC 2.0 message"),
    responses(
        (status = 200, description = "The JSON-RPC response, or an error of the request itself", body = Object),
        (status = 202, description = "A notification was taken")))]
pub(crate) async fn use_mcp_of_provider(
    State(state): State<AppState>,
    PathPart(provider): PathPart,
    request: Request,
) -> Response {
    answer(&state, View::Of(ProviderId::parse(&provider).ok()), request).await
}

async fn answer(state: &AppState, view: View, request: Request) -> Response {
    match serve(state, &view, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

async fn serve(state: &AppState, view: &View, request: Request) -> Result<Response, Refusal> {
    site::check(request.headers(), request.uri(), &state.hosts)?;
    let client = request.extensions().get::<Client>().copied().unwrap_or_default();
    let access = identify(request.headers(), &client, state, view.operation()).await?;
    if matches!(view, View::Of(None)) {
        return Err(Refusal::transport(404, "no tool server can have this name"));
    }
    check_headers(request.headers())?;
    let (parts, body) = request.into_parts();
    let trace = parts.extensions.get::<Trace>().cloned();
    let mut request = Request::new(body);
    // the limit of the body's size travels in the extensions
    *request.extensions_mut() = parts.extensions.clone();
    let bytes = body::read(request, state).await.map_err(|p| Refusal::of_problem(&p))?;
    let message = message(&bytes)?;
    let trace_id = trace.and_then(|t| t.given());
    if stateless::is_asked(&parts.headers, &message) {
        return stateless::serve(state, &access, view, &parts.headers, message, trace_id).await;
    }
    match (message.method.as_deref(), message.id) {
        (Some("tools/list"), Some(id)) => {
            Ok(tools::list(state, &access, view, &Asked::legacy(id), message.params).await)
        }
        (Some("tools/call"), Some(id)) => {
            Ok(tools::call(state, &access, view, &Asked::legacy(id), message.params, trace_id).await)
        }
        _ => handshake::forward(state, access, parts, bytes).await,
    }
}

/// Who calls. A key that is bound to no agent reaches no tool whatever its role, and is told so.
async fn identify(
    headers: &HeaderMap,
    client: &Client,
    state: &AppState,
    operation: &'static str,
) -> Result<Access, Refusal> {
    let access = caller::identify(headers, client, state).await.map_err(|p| Refusal::of_problem(&p))?;
    if access.caller.agent().is_some() && !access.caller.may(operation) {
        state.store.note_refused_call(access.scope(), operation, awooop_core::ErrorCode::Auth002);
        return Err(Refusal::of_problem(&caller::not_allowed(&access.caller, operation)));
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
