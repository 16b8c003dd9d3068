//! An MCP server for tests that has everything: each tool, resource and prompt that the official conformance
//! suite asks of a server, in revision 2025-11-25 (sessions, streams that are taken up again, requests to
//! the client), in 2026-07-28 (no sessions, `input_required`, `subscriptions/listen`), or in both.
//!
//! It is written by hand over axum, so that it owes nothing to the SDK that the gateway uses. It remembers
//! every message with its headers and what was cancelled, can hold or delay its answers, and as a server of
//! one revision refuses the other as real servers do. It lives in the test's process.

mod asks;
mod catalog;
mod methods;
mod stateful;
mod stateless;
mod stream;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use stream::Log;

const STATEFUL: &str = "2025-11-25";
const STATELESS: &str = "2026-07-28";
/// Revisions with sessions that a client may name.
const WITH_SESSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", STATEFUL];
const VERSION_HEADER: &str = "mcp-protocol-version";
const SESSION_HEADER: &str = "mcp-session-id";
const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const META_LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
const META_SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// Which revisions a fixture speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// 2025-11-25 and 2026-07-28, as each request asks.
    Both,
    /// 2025-11-25; a request of the other gets HTTP 400 and -32000.
    Only2025,
    /// 2026-07-28; a request of the other gets HTTP 400 and -32022 with the supported revisions.
    Only2026,
}

/// One HTTP request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The HTTP method.
    pub verb: String,
    /// Its headers, names in small letters.
    pub headers: BTreeMap<String, String>,
    /// The JSON-RPC message; null when the body was none.
    pub message: Value,
}

impl Seen {
    /// The JSON-RPC method; empty for an answer and for what is no message.
    pub fn method(&self) -> &str {
        self.message["method"].as_str().unwrap_or_default()
    }

    /// `params._meta`.
    pub fn meta(&self) -> &Value {
        &self.message["params"]["_meta"]
    }

    /// A header by its name in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// The URIs of resources whose changes somebody wants to hear of.
type Watched = Arc<Mutex<BTreeSet<String>>>;

/// What hears of changes, as long as somebody reads it.
struct Listener {
    log: Weak<Log>,
    /// `tools`, `prompts`, `resources`.
    kinds: Vec<String>,
    watched: Watched,
    /// The subscription that each message names; none on a session's own stream.
    subscription: Option<Value>,
}

struct Shared {
    speaks: Speaks,
    seen: Mutex<Vec<Seen>>,
    cancelled: Mutex<Vec<Value>>,
    is_held: watch::Sender<bool>,
    delay: Mutex<Duration>,
    sessions: Mutex<HashMap<String, Arc<stateful::Session>>>,
    listeners: Mutex<Vec<Listener>>,
    signer: asks::Signer,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Tells every listener that wants to know that the list of `kind` has changed.
    fn announce(&self, kind: &str) {
        let is_wanted = |listener: &Listener| listener.kinds.iter().any(|wanted| wanted == kind);
        self.tell(is_wanted, &notification(&format!("notifications/{kind}/list_changed"), json!({})));
    }

    /// Tells every listener by whom it `is_wanted`, on its own stream and under its subscription.
    fn tell(&self, is_wanted: impl Fn(&Listener) -> bool, notice: &Value) {
        lock(&self.listeners).retain(|listener| {
            let Some(log) = listener.log.upgrade() else { return false };
            if is_wanted(listener) {
                let mut notice = notice.clone();
                if let Some(id) = &listener.subscription {
                    notice["params"]["_meta"] = json!({META_SUBSCRIPTION: id});
                }
                log.say(&notice);
            }
            true
        });
    }

    async fn let_go(&self) {
        // the sender lives as long as this
        let _ = self.is_held.subscribe().wait_for(|is_held| !is_held).await;
    }
}

/// A running server. Dropping it closes its port.
pub struct FixtureEverything {
    url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl FixtureEverything {
    /// Listens on a free port of 127.0.0.1.
    pub async fn start(speaks: Speaks) -> anyhow::Result<FixtureEverything> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/mcp", listener.local_addr()?);
        let shared = Arc::new(Shared {
            speaks,
            seen: Mutex::default(),
            cancelled: Mutex::default(),
            is_held: watch::Sender::new(false),
            delay: Mutex::default(),
            sessions: Mutex::default(),
            listeners: Mutex::default(),
            signer: asks::Signer::new(),
        });
        let router = Router::new().route("/mcp", any(answer)).with_state(Arc::clone(&shared));
        let task = spawn(async move {
            // ends with the task
            let _ = axum::serve(listener, router).await;
        });
        Ok(FixtureEverything { url, shared, task })
    }

    /// Its MCP endpoint.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Every tool's name.
    pub fn tools(&self) -> Vec<&'static str> {
        catalog::tool_names()
    }

    /// The spec of a provider contract for this server, with every tool.
    pub fn provider_spec(&self) -> Value {
        let tools: Vec<Value> =
            self.tools().into_iter().map(|name| json!({"name": name, "risk": "read_only"})).collect();
        json!({"type": "mcp", "transport": "http", "url": self.url, "tools": tools})
    }

    /// Every HTTP request so far, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// The calls of one tool so far, oldest first.
    pub fn calls(&self, tool: &str) -> Vec<Seen> {
        let mut seen = self.seen();
        seen.retain(|seen| seen.method() == "tools/call" && seen.message["params"]["name"] == tool);
        seen
    }

    /// The ids of the requests that were cancelled: by `notifications/cancelled` in 2025-11-25, by leaving
    /// before the answer in 2026-07-28.
    pub fn cancelled(&self) -> Vec<Value> {
        lock(&self.shared.cancelled).clone()
    }

    /// Forgets requests and cancellations so far.
    pub fn forget(&self) {
        lock(&self.shared.seen).clear();
        lock(&self.shared.cancelled).clear();
    }

    /// From now on `held` does not answer.
    pub fn hold(&self) {
        self.shared.is_held.send_replace(true);
    }

    /// Lets `held` answer again.
    pub fn let_go(&self) {
        self.shared.is_held.send_replace(false);
    }

    /// From now on every tool waits this long before it begins.
    pub fn delay(&self, delay: Duration) {
        *lock(&self.shared.delay) = delay;
    }

    /// Ends every session: a client that comes with one gets HTTP 404.
    pub fn end_sessions(&self) {
        lock(&self.shared.sessions).clear();
    }

    /// Tells the clients that listen that the list of `tools`, `prompts` or `resources` has changed.
    pub fn announce(&self, kind: &str) {
        self.shared.announce(kind);
    }

    /// Tells the clients that watch a resource that it has changed.
    pub fn touch(&self, uri: &str) {
        let is_wanted = |listener: &Listener| lock(&listener.watched).contains(uri);
        self.shared.tell(is_wanted, &notification("notifications/resources/updated", json!({"uri": uri})));
    }
}

impl Drop for FixtureEverything {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[expect(clippy::disallowed_methods, reason = "test support: the fixture belongs to no project")]
fn spawn<F: Future<Output: Send + 'static> + Send + 'static>(task: F) -> JoinHandle<F::Output> {
    tokio::spawn(task)
}

/// What a method says in the end, or asks on the way.
enum Step {
    Done(Value),
    Ask { questions: Map<String, Value>, state: Option<String> },
}

/// A JSON-RPC error, with the HTTP status that it has in 2026-07-28.
#[derive(Debug)]
struct Fault {
    status: StatusCode,
    code: i64,
    message: String,
    data: Value,
}

impl Fault {
    fn new(status: StatusCode, code: i64, message: &str) -> Fault {
        Fault { status, code, message: message.to_owned(), data: Value::Null }
    }

    fn invalid(message: &str) -> Fault {
        Fault::new(StatusCode::OK, -32602, message)
    }

    fn no_method(method: &str) -> Fault {
        Fault::new(StatusCode::NOT_FOUND, -32601, &format!("there is no method {method}"))
    }

    fn no_resource(uri: &str, is_stateless: bool) -> Fault {
        let code = if is_stateless { -32602 } else { -32002 };
        Fault { data: json!({"uri": uri}), ..Fault::new(StatusCode::OK, code, "Resource not found") }
    }

    fn needs(capability: &str) -> Fault {
        let data = json!({"requiredCapabilities": {capability: {}}});
        let message = format!("the client does not declare {capability}");
        Fault { data, ..Fault::new(StatusCode::BAD_REQUEST, -32021, &message) }
    }

    fn message(&self, id: &Value) -> Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if !self.data.is_null() {
            error["data"] = self.data.clone();
        }
        json!({"jsonrpc": "2.0", "id": id, "error": error})
    }

    fn respond(&self, id: &Value) -> Response {
        (self.status, Json(self.message(id))).into_response()
    }
}

fn result(id: &Value, result: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

fn notification(method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": params})
}

/// One request being carried out: who asks, and where what happens on the way is said.
struct Turn {
    shared: Arc<Shared>,
    is_stateless: bool,
    capabilities: Value,
    may_log: bool,
    progress_token: Option<Value>,
    out: Arc<Log>,
}

impl Turn {
    fn asking<'a>(&'a self, name: &'a str, spec: &'a Value, params: &'a Value) -> asks::Asking<'a> {
        asks::Asking { name, spec, params, capabilities: &self.capabilities, signer: &self.shared.signer }
    }

    fn progress(&self, progress: u32, total: u32) {
        if let Some(token) = &self.progress_token {
            let message = format!("{progress} of {total}");
            let params =
                json!({"progressToken": token, "progress": progress, "total": total, "message": message});
            self.out.say(&notification("notifications/progress", params));
        }
    }

    fn log(&self, text: &str) {
        if self.may_log {
            self.out.say(&notification("notifications/message", json!({"level": "info", "data": text})));
        }
    }

    /// Sends the client away in the revision in which it can come back.
    fn hang_up(&self) {
        if !self.is_stateless {
            self.out.hang_up();
        }
    }

    async fn wait(&self) {
        let delay = *lock(&self.shared.delay);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }
}

/// Does a client that set this level want to read what happens?
fn wants_info(level: &str) -> bool {
    matches!(level, "debug" | "info")
}

/// Does a tool say something before its answer?
fn streams(method: &str, params: &Value) -> bool {
    let tool = params["name"].as_str().unwrap_or_default();
    method == "tools/call"
        && catalog::find("tools", "name", tool).is_some_and(|tool| tool["fixture"]["streams"] == true)
}

/// May the client be from this machine? A page of another site names its own host.
fn is_local(headers: &HeaderMap) -> bool {
    let is_loopback = |text: &str| {
        let uri: Option<Uri> = text.parse().ok();
        let host = uri.as_ref().and_then(Uri::host);
        host.is_some_and(|host| matches!(host, "localhost" | "127.0.0.1" | "[::1]"))
    };
    [header::HOST, header::ORIGIN]
        .iter()
        .all(|name| headers.get(name).is_none_or(|value| value.to_str().is_ok_and(is_loopback)))
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    verb: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    lock(&shared.seen).push(Seen {
        verb: verb.to_string(),
        headers: headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        message: message.clone(),
    });
    if !is_local(&headers) {
        return StatusCode::FORBIDDEN.into_response();
    }
    if verb != Method::POST {
        return stateful::other_verb(&shared, &verb, &headers);
    }
    if !message.is_object() {
        return Fault::new(StatusCode::BAD_REQUEST, -32700, "this is no message").respond(&Value::Null);
    }
    match is_stateless(&headers, &message) {
        true if shared.speaks == Speaks::Only2025 => {
            let said = format!("Bad Request: Unsupported protocol version (supported: {STATEFUL})");
            Fault::new(StatusCode::BAD_REQUEST, -32000, &said).respond(&message["id"])
        }
        false if shared.speaks == Speaks::Only2026 => {
            let asked = message["params"]["protocolVersion"].as_str().or(header(&headers, VERSION_HEADER));
            stateless::unsupported(asked.unwrap_or_default()).respond(&message["id"])
        }
        true => stateless::answer(shared, &headers, &message).await,
        false => stateful::answer(shared, &headers, &message).await,
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
}

/// Is this a request of the revision without sessions?
fn is_stateless(headers: &HeaderMap, message: &Value) -> bool {
    let names_version = message["params"]["_meta"].get(META_VERSION).is_some();
    let is_new = |version: &str| !WITH_SESSIONS.contains(&version);
    let method = message["method"].as_str().unwrap_or_default();
    !headers.contains_key(SESSION_HEADER)
        && (names_version
            || header(headers, VERSION_HEADER).is_some_and(is_new)
            || matches!(method, "server/discover" | "subscriptions/listen"))
}

#[cfg(test)]
mod tests;
