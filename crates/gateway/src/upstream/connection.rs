//! One conversation with one server, shared by every call of its spec, and the task that keeps it.
//!
//! A request goes out once. Its answer belongs to it by JSON-RPC id, so any number of calls share the
//! conversation. A transport failure retires the connection: calls in flight fail, the pool forgets it,
//! the next call opens another. The keeper ends it when it is retired, idle, dead, or the pool closes.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::RoleClient;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientRequest, ListToolsRequest, PaginatedRequestParams,
    RequestMetaObject,
};
use rmcp::service::{Peer, PeerRequestOptions, RunningService, ServiceError};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::child::ServerProcess;
use super::config::UpstreamConfig;
use super::error::{CallFailure, UpstreamError};
use super::notice::{Hearers, Notices};
use super::open::{Listener, Opened, closed, is_session_over, is_unsent, transport_error};
use super::stdio::Fate;
use super::tool::{ToolCallRequest, ToolDefinition, ToolResult};
use super::wire;

const MAX_TOOLS: usize = 2000;
/// How long rmcp may take to tell the server that a request was given up.
const CANCEL_GRACE: Duration = Duration::from_millis(500);
/// Calls in a row without any answer after which the server counts as hung.
const MAX_SILENT_CALLS: u32 = 3;
const CLOSE_GRACE: Duration = Duration::from_secs(3);

/// A conversation past its handshake.
pub(super) struct Connection {
    peer: Peer<RoleClient>,
    listener: Listener,
    hearers: Hearers,
    fate: Fate,
    config: UpstreamConfig,
    tools: tokio::sync::Mutex<Option<ListedTools>>,
    in_flight: watch::Sender<usize>,
    last_used: Mutex<Instant>,
    silent_calls: AtomicU32,
    retired: CancellationToken,
}

struct ListedTools {
    tools: Arc<Vec<ToolDefinition>>,
    at: Instant,
    list_changes: u64,
}

/// Counts a request for as long as it lives.
struct InFlight<'a>(&'a Connection);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        *self.0.last_used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.in_flight.send_modify(|count| *count -= 1);
    }
}

impl Connection {
    /// Splits what was opened into what calls use and what the keeper owns.
    pub(super) fn new(opened: Opened, config: UpstreamConfig) -> (Arc<Self>, Keeper) {
        let Opened { service, listener, hearers, process, fate } = opened;
        let connection = Arc::new(Self {
            peer: service.peer().clone(),
            listener,
            hearers,
            fate,
            config,
            tools: tokio::sync::Mutex::new(None),
            in_flight: watch::Sender::new(0),
            last_used: Mutex::new(Instant::now()),
            silent_calls: AtomicU32::new(0),
            retired: CancellationToken::new(),
        });
        let keeper = Keeper { connection: Arc::clone(&connection), service, process };
        (connection, keeper)
    }

    /// No further call may use it.
    pub(super) fn is_retired(&self) -> bool {
        self.retired.is_cancelled() || self.peer.is_transport_closed()
    }

    fn begin(&self) -> InFlight<'_> {
        self.in_flight.send_modify(|count| *count += 1);
        InFlight(self)
    }

    /// The server's tools; one `tools/list` serves everybody who waits. `None` as in [`Self::call`].
    pub(super) async fn tools(&self) -> Result<Option<Arc<Vec<ToolDefinition>>>, UpstreamError> {
        let _in_flight = self.begin();
        let limit = self.config.list_timeout;
        let late = UpstreamError::Timeout { doing: "listing its tools", after: limit };
        let listed = timeout(limit + CANCEL_GRACE, async {
            let mut known = self.tools.lock().await;
            let list_changes = self.listener.list_changes();
            if let Some(known) = known.as_ref()
                && known.at.elapsed() < self.config.list_ttl
                && known.list_changes == list_changes
            {
                return Ok(Some(Arc::clone(&known.tools)));
            }
            let Some(tools) = self.list(limit).await?.map(Arc::new) else { return Ok(None) };
            *known = Some(ListedTools { tools: Arc::clone(&tools), at: Instant::now(), list_changes });
            Ok(Some(tools))
        });
        self.judge(listed.await.unwrap_or(Err(late)))
    }

    async fn list(&self, limit: Duration) -> Result<Option<Vec<ToolDefinition>>, UpstreamError> {
        let deadline = Instant::now() + limit;
        let mut tools: Vec<ToolDefinition> = Vec::new();
        let mut cursor = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(page) = self.list_page(cursor, left, limit).await? else { return Ok(None) };
            cursor = page.get("nextCursor").and_then(Value::as_str).map(str::to_owned);
            add_page(&mut tools, page)?;
            if cursor.is_none() {
                return Ok(Some(tools));
            }
        }
    }

    async fn list_page(
        &self,
        cursor: Option<String>,
        left: Duration,
        limit: Duration,
    ) -> Result<Option<Value>, UpstreamError> {
        let params = PaginatedRequestParams::default().with_cursor(cursor);
        let request = ClientRequest::ListToolsRequest(ListToolsRequest::with_param(params));
        match self.request(request, None, None, left).await {
            Ok(page) => Ok(Some(page)),
            Err(Failure::SessionOver) => Ok(None),
            Err(Failure::Answered { code, .. }) => {
                Err(UpstreamError::Protocol(format!("it answers tools/list with error {code}")))
            }
            Err(Failure::Late) => Err(UpstreamError::Timeout { doing: "listing its tools", after: limit }),
            Err(Failure::Unsent(error) | Failure::Upstream(error)) => Err(error),
        }
    }

    /// Calls a tool: one request, never repeated. `None` when the server refused it because the session is
    /// over: it was not carried out, and another connection may send it.
    pub(super) async fn call(&self, call: ToolCallRequest) -> Result<Option<ToolResult>, CallFailure> {
        let _in_flight = self.begin();
        let limit = call.timeout.unwrap_or(self.config.call_timeout).min(self.config.call_timeout);
        let meta = call_meta(&call);
        let notices = call.notices;
        let params = CallToolRequestParams::new(call.name).with_arguments(call.arguments);
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        let answer = self.request(request, Some(meta), notices, limit).await;
        let may_have_run = !matches!(answer, Err(Failure::Unsent(_)));
        let judged = self.judge(match answer {
            Ok(value) => ToolResult::from_value(value).map(Some),
            Err(Failure::Answered { code, message }) => Ok(Some(ToolResult::from_rpc_error(code, &message))),
            Err(Failure::SessionOver) => Ok(None),
            Err(Failure::Late) => Err(UpstreamError::Timeout { doing: "the call", after: limit }),
            Err(Failure::Unsent(error) | Failure::Upstream(error)) => Err(error),
        });
        judged.map_err(|error| CallFailure { error, may_have_run })
    }

    async fn request(
        &self,
        request: ClientRequest,
        meta: Option<RequestMetaObject>,
        notices: Option<Notices>,
        limit: Duration,
    ) -> Result<Value, Failure> {
        let mut options = PeerRequestOptions::with_timeout(limit);
        options.meta = meta;
        let exchange = async {
            let handle = self.peer.send_request_with_option(request, options).await?;
            let _hearing = notices.map(|notices| self.hearers.listen(&handle, notices));
            handle.await_response().await
        };
        // The outer limit is for a server that does not even read the notice that it is too late.
        match timeout(limit + CANCEL_GRACE, exchange).await {
            Err(_) => Err(Failure::Late),
            Ok(Err(error)) => Err(self.failure(error)),
            Ok(Ok(result)) => {
                let no_result = || UpstreamError::protocol("its answer is no result");
                Ok(wire::take_result(result).ok_or_else(no_result)?)
            }
        }
    }

    fn failure(&self, error: ServiceError) -> Failure {
        match error {
            ServiceError::Timeout { .. } => Failure::Late,
            ServiceError::McpError(error) if wire::is_too_large(&error) => {
                UpstreamError::too_large(self.config.max_result_bytes).into()
            }
            ServiceError::McpError(error) if wire::is_stream_closed(&error) => closed(&self.fate).into(),
            ServiceError::McpError(error) => {
                Failure::Answered { code: error.code.0, message: error.message.into_owned() }
            }
            ServiceError::TransportSend(error) if is_session_over(&error) => {
                self.retired.cancel();
                Failure::SessionOver
            }
            ServiceError::TransportSend(error) if is_unsent(&error) => {
                Failure::Unsent(transport_error(&error))
            }
            ServiceError::TransportSend(error) => transport_error(&error).into(),
            ServiceError::TransportClosed | ServiceError::Cancelled { .. } => closed(&self.fate).into(),
            _ => UpstreamError::protocol("its answer is not MCP's").into(),
        }
    }

    /// Retires the connection after a failure of its transport, or when the server stays silent.
    fn judge<T>(&self, outcome: Result<T, UpstreamError>) -> Result<T, UpstreamError> {
        let is_broken = match &outcome {
            Ok(_) | Err(UpstreamError::Protocol(_)) => {
                self.silent_calls.store(0, Ordering::Relaxed);
                false
            }
            Err(UpstreamError::Timeout { .. }) => {
                self.silent_calls.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_SILENT_CALLS
            }
            Err(
                UpstreamError::Unreachable(_)
                | UpstreamError::CredentialRefused(_)
                | UpstreamError::Refused(_),
            ) => true,
        };
        if is_broken {
            self.retired.cancel();
        }
        outcome
    }

    /// Waits until nobody has used the connection for the idle time.
    async fn idle(&self) {
        let mut in_flight = self.in_flight.subscribe();
        loop {
            let _ = in_flight.wait_for(|count| *count == 0).await;
            let last_used = *self.last_used.lock().unwrap_or_else(PoisonError::into_inner);
            let deadline = last_used + self.config.idle_timeout;
            if deadline <= Instant::now() {
                return;
            }
            sleep_until(deadline).await;
        }
    }

    /// Waits until no request is in flight.
    async fn drained(&self) {
        let _ = self.in_flight.subscribe().wait_for(|count| *count == 0).await;
    }
}

/// Why a request has no result.
enum Failure {
    /// The server answered a JSON-RPC error.
    Answered {
        code: i32,
        message: String,
    },
    Late,
    /// The session is over and the request was not carried out.
    SessionOver,
    /// There was no connection to send it on.
    Unsent(UpstreamError),
    Upstream(UpstreamError),
}

impl From<UpstreamError> for Failure {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(error)
    }
}

fn call_meta(call: &ToolCallRequest) -> RequestMetaObject {
    let mut meta = RequestMetaObject::default();
    meta.insert("awooop/idempotency-key".to_owned(), Value::String(call.idempotency_key.clone()));
    if let Some(traceparent) = &call.traceparent {
        meta.insert("traceparent".to_owned(), Value::String(traceparent.clone()));
    }
    meta
}

fn add_page(tools: &mut Vec<ToolDefinition>, mut page: Value) -> Result<(), UpstreamError> {
    let Some(Value::Array(listed)) = page.get_mut("tools").map(Value::take) else {
        return Err(UpstreamError::protocol("its answer to tools/list has no list of tools"));
    };
    for raw in listed {
        let Some(tool) = ToolDefinition::from_raw(raw) else {
            tracing::warn!("a tool without a usable name or input schema is left out");
            continue;
        };
        if tools.iter().any(|known| known.name == tool.name) {
            return Err(UpstreamError::protocol("it lists two tools of one name"));
        }
        tools.push(tool);
    }
    if tools.len() > MAX_TOOLS {
        return Err(UpstreamError::Protocol(format!("it lists more than {MAX_TOOLS} tools")));
    }
    Ok(())
}

/// Owns a conversation and its process until their end.
pub(super) struct Keeper {
    connection: Arc<Connection>,
    service: RunningService<RoleClient, Listener>,
    process: Option<ServerProcess>,
}

impl Keeper {
    /// Keeps the connection until it is dead, idle, retired, or `closing`; calls `forget` as soon as no
    /// further call may use it; then lets calls in flight finish (not when `closing`) and ends everything.
    pub(super) async fn keep(self, closing: CancellationToken, forget: impl FnOnce()) {
        let Self { connection, service, mut process } = self;
        let stop = service.cancellation_token();
        let mut conversation = std::pin::pin!(service.waiting());
        let is_over = tokio::select! {
            _ = &mut conversation => true,
            () = exited(&mut process) => {
                // What the process wrote before it ended is still in the pipe.
                timeout(CLOSE_GRACE, &mut conversation).await.is_ok()
            }
            () = closing.cancelled() => false,
            () = connection.retired.cancelled() => false,
            () = connection.idle() => false,
        };
        connection.retired.cancel();
        forget();
        if !is_over {
            let ended = tokio::select! {
                _ = &mut conversation => true,
                () = closing.cancelled() => false,
                () = connection.drained() => false,
            };
            stop.cancel();
            if !ended {
                let _ = timeout(CLOSE_GRACE, conversation).await;
            }
        }
        if let Some(process) = process {
            process.end().await;
        }
    }
}

async fn exited(process: &mut Option<ServerProcess>) {
    match process {
        Some(process) => process.exited().await,
        None => std::future::pending().await,
    }
}
