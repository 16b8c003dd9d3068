//! Everything of the revisions before 2026-07-28 that is not a tool: initialize, ping, notifications, unknown methods. rmcp
//! answers them, one service a request. Its plain-text refusals are put into JSON-RPC's form.

#![expect(deprecated, reason = "these revisions have logging, which the newest deprecates")]

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Request, StatusCode, header, request};
use rmcp::ServerHandler;
use rmcp::model::{
    Implementation, InitializeRequestParams, InitializeResult, ProtocolVersion, ServerCapabilities,
    SetLevelRequestParams,
};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio_util::sync::CancellationToken;

use super::reply::Refusal;
use super::tools::WITHOUT_AGENT;
use crate::caller::Access;
use crate::state::AppState;

/// The newest revision that begins with a handshake.
const NEWEST: ProtocolVersion = ProtocolVersion::V_2025_11_25;

/// rmcp's side of `/mcp`.
pub(crate) type McpServer = StreamableHttpService<Handshake, NeverSessionManager>;

/// Builds rmcp's side: no sessions, JSON answers. `Host`, `Origin` and size were checked before it.
pub(crate) fn server(draining: CancellationToken) -> McpServer {
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_cancellation_token(draining)
        .disable_allowed_hosts();
    StreamableHttpService::new(|| Ok(Handshake), Arc::new(NeverSessionManager::default()), config)
}

/// The server as rmcp sees it: its name, its revisions, and that it has tools and what they log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Handshake;

impl ServerHandler for Handshake {
    fn get_info(&self) -> InitializeResult {
        let capabilities = ServerCapabilities::builder().enable_tools().enable_logging().build();
        let name = Implementation::new("awooop", env!("CARGO_PKG_VERSION"));
        InitializeResult::new(capabilities).with_protocol_version(NEWEST).with_server_info(name)
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(ProtocolVersion::known_up_to(&NEWEST))
    }

    /// Without sessions no level is kept: a client is told everything of its own calls.
    async fn set_level(
        &self,
        _request: SetLevelRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), rmcp::ErrorData> {
        Ok(())
    }

    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, rmcp::ErrorData> {
        let access = context
            .extensions
            .get::<request::Parts>()
            .and_then(|parts| parts.extensions.get::<Access>().cloned());
        let info = self.negotiate_initialize(&request)?;
        context.peer.set_peer_info(request);
        Ok(match access {
            Some(access) if access.caller.agent().is_some() => info,
            _ => info.with_instructions(WITHOUT_AGENT),
        })
    }
}

/// Hands the request, with its caller, to rmcp.
pub(super) async fn forward(
    state: &AppState,
    access: Access,
    mut parts: request::Parts,
    bytes: Bytes,
) -> Result<Response, Refusal> {
    parts.extensions.insert(access);
    // the essence was checked; rmcp knows only this spelling
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    parts.headers.remove("mcp-session-id");
    let response = state.mcp.handle(Request::from_parts(parts, Body::from(bytes))).await.into_response();
    let is_json = super::body::is_json(response.headers());
    match response.status() {
        status if status.is_success() || is_json => Ok(response),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            Err(Refusal::transport(400, "this is not a message of the protocol"))
        }
        status => Err(Refusal::transport(status.as_u16(), "this message cannot be taken here")),
    }
}
