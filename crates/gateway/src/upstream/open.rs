//! From a spec to a running conversation: address check or child, transport, handshake (2025-11-25,
//! older when the server asks for it). No capability is declared, so a server may not ask us for
//! sampling, elicitation or roots.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rmcp::model::{ClientCapabilities, ClientConfig, Implementation, ProtocolVersion};
use rmcp::service::{ClientInitializeError, NotificationContext, RunningService, serve_client};
use rmcp::transport::DynamicTransportError;
use rmcp::transport::common::client_side_sse::ExponentialBackoff;
use rmcp::transport::streamable_http_client::{
    StreamableHttpClientTransport, StreamableHttpClientTransportConfig, StreamableHttpError,
};
use rmcp::{ClientHandler, RoleClient};
use tokio::time::timeout;

use super::address;
use super::child::{self, Program, ServerProcess};
use super::config::UpstreamConfig;
use super::error::UpstreamError;
use super::http::{HttpClient, HttpFault};
use super::notice::Hearers;
use super::spec::{Transport, UpstreamSpec};
use super::stdio::{Fate, StdioTransport};
use super::wire::Reading;

/// Calls one HTTP connection carries at the same time; rmcp's own default is 16.
const CONCURRENT_REQUESTS: usize = 256;

/// Our side of the conversation: counts the server's notices that its list changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Listener {
    list_changes: Arc<AtomicU64>,
}

impl Listener {
    /// How often the server said that its tool list changed.
    pub(super) fn list_changes(&self) -> u64 {
        self.list_changes.load(Ordering::Acquire)
    }
}

impl ClientHandler for Listener {
    fn get_info(&self) -> ClientConfig {
        let us = Implementation::new("awooop", env!("CARGO_PKG_VERSION"));
        ClientConfig::new(ClientCapabilities::default(), us)
            .with_protocol_version(ProtocolVersion::V_2025_11_25)
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.list_changes.fetch_add(1, Ordering::AcqRel);
    }
}

/// A conversation past its handshake.
pub(super) struct Opened {
    pub(super) service: RunningService<RoleClient, Listener>,
    pub(super) listener: Listener,
    pub(super) hearers: Hearers,
    pub(super) process: Option<ServerProcess>,
    pub(super) fate: Fate,
}

/// Opens `spec` within the connect timeout. Nothing is left running when it fails.
pub(super) async fn open(spec: &UpstreamSpec, config: &UpstreamConfig) -> Result<Opened, UpstreamError> {
    let late = UpstreamError::Timeout { doing: "connecting", after: config.connect_timeout };
    timeout(config.connect_timeout, connect(spec, config)).await.unwrap_or(Err(late))
}

async fn connect(spec: &UpstreamSpec, config: &UpstreamConfig) -> Result<Opened, UpstreamError> {
    let listener = Listener::default();
    let (fate, hearers) = (Fate::default(), Hearers::default());
    let (known_of, project) = (Arc::clone(&config.known), spec.project.clone());
    let reading = Reading {
        max_bytes: config.max_result_bytes,
        known: Arc::new(move || known_of(&project)),
        hearers: hearers.clone(),
    };
    match &spec.transport {
        Transport::Http { url, header, allowed_private } => {
            let pinned = address::pin(url, allowed_private).await.map_err(|error| {
                UpstreamError::Unreachable(format!("its name cannot be resolved ({})", error.kind()))
            })??;
            let client = HttpClient::new(&pinned, header.as_ref(), config.connect_timeout, reading)?;
            let transport = StreamableHttpClientTransport::with_client(client, http_config(url.as_str()));
            let service =
                serve_client(listener.clone(), transport).await.map_err(|error| handshake(error, &fate))?;
            Ok(Opened { service, listener, hearers, process: None, fate })
        }
        Transport::Stdio { program, args, uid, env } => {
            let program = Program { path: program, args, uid: *uid, env };
            let (process, pipes) = child::start(&program, spec, config).await?;
            let transport = StdioTransport::new(pipes.stdout, pipes.stdin, reading, Arc::clone(&fate));
            let service =
                serve_client(listener.clone(), transport).await.map_err(|error| handshake(error, &fate))?;
            Ok(Opened { service, listener, hearers, process: Some(process), fate })
        }
    }
}

fn http_config(url: &str) -> StreamableHttpClientTransportConfig {
    let mut config =
        StreamableHttpClientTransportConfig::with_uri(url).max_concurrent_requests(CONCURRENT_REQUESTS);
    // A broken event stream is resumed a few times (a server may close it on purpose), then given up.
    let mut resume = ExponentialBackoff::default();
    resume.max_times = Some(3);
    resume.base_duration = Duration::from_millis(250);
    resume.max_delay = Some(Duration::from_secs(1));
    config.retry_config = Arc::new(resume);
    // An ended session is opened again by the pool, which knows what else is in flight.
    config.reinit_on_expired_session(false)
}

fn handshake(error: ClientInitializeError, fate: &Fate) -> UpstreamError {
    match error {
        ClientInitializeError::TransportError { error, .. } => transport_error(&error),
        ClientInitializeError::ConnectionClosed(_) => closed(fate),
        ClientInitializeError::JsonRpcError(error) => {
            UpstreamError::Protocol(format!("it answers the handshake with error {}", error.code.0))
        }
        ClientInitializeError::NoCompatibleProtocolVersion { .. } => {
            UpstreamError::protocol("it speaks no protocol revision known here")
        }
        _ => UpstreamError::protocol("its handshake is not MCP's"),
    }
}

/// Why the conversation ended.
pub(super) fn closed(fate: &Fate) -> UpstreamError {
    fate.get().cloned().unwrap_or_else(|| UpstreamError::unreachable("it closed the connection"))
}

/// Did the server answer that the session is over (HTTP 404)? Then it has not carried the request out.
pub(super) fn is_session_over(error: &DynamicTransportError) -> bool {
    let error = error.error.downcast_ref::<StreamableHttpError<HttpFault>>();
    matches!(error, Some(StreamableHttpError::SessionExpired))
}

/// Was there no connection to send the request on, so that nothing of it has arrived, or did the server answer that it
/// was not applied for want of a credential (HTTP 401)?
pub(super) fn is_unsent(error: &DynamicTransportError) -> bool {
    let error = error.error.downcast_ref::<StreamableHttpError<HttpFault>>();
    let Some(StreamableHttpError::Client(fault)) = error else { return false };
    matches!(fault, HttpFault::Connect(_) | HttpFault::Status(http::StatusCode::UNAUTHORIZED))
}

/// The fault behind a send that failed.
pub(super) fn transport_error(error: &DynamicTransportError) -> UpstreamError {
    let Some(error) = error.error.downcast_ref::<StreamableHttpError<HttpFault>>() else {
        // a pipe that broke under a send and one whose end was read first are the same event
        return UpstreamError::unreachable("it closed the connection");
    };
    match error {
        StreamableHttpError::Client(fault) => fault.clone().into(),
        StreamableHttpError::SessionExpired => UpstreamError::unreachable("it ended the session"),
        StreamableHttpError::Deserialize(_) | StreamableHttpError::UnexpectedServerResponse(_) => {
            UpstreamError::protocol("its answer is not MCP's")
        }
        _ => UpstreamError::unreachable("the connection broke off"),
    }
}
