//! A tool server that asks who calls and repeats what it was shown: for tests of credentials. What it accepts can be
//! changed while it runs, and a closure says what it answers, given the message and the credential that came with it.
//!
//! The same server issues tokens at `/token`, to whoever shows the client secret of the moment.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

type Script = dyn Fn(&Value, &str) -> Response + Send + Sync;

struct Shared {
    script: Box<Script>,
    /// What is accepted; everything while it is empty.
    accepted: Mutex<BTreeSet<String>>,
    /// What was shown with each message, and its method.
    shown: Mutex<Vec<(String, String)>>,
    client_secret: Mutex<String>,
    issued: AtomicUsize,
    expires_in: Mutex<f64>,
    /// Calls of `slow` that wait, and whether they may go on.
    waiting: AtomicUsize,
    is_free: watch::Sender<bool>,
}

/// A running server. Dropping it closes its port.
pub(crate) struct Guarded {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Guarded {
    /// Listens on a free port of 127.0.0.1.
    #[expect(clippy::disallowed_methods, reason = "test support: the server belongs to no project")]
    pub(crate) async fn start(script: impl Fn(&Value, &str) -> Response + Send + Sync + 'static) -> Guarded {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            accepted: Mutex::default(),
            shown: Mutex::default(),
            client_secret: Mutex::default(),
            issued: AtomicUsize::new(0),
            expires_in: Mutex::new(3600.0),
            waiting: AtomicUsize::new(0),
            is_free: watch::Sender::new(false),
        });
        let router = Router::new()
            .route("/mcp", post(answer))
            .route("/token", post(issue))
            .with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            // ends with the task
            let _ = axum::serve(listener, router).await;
        });
        Guarded { address, shared, task }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on only these credentials are accepted.
    pub(crate) fn accept(&self, credentials: &[&str]) {
        *self.shared.accepted.lock().unwrap() = credentials.iter().map(|c| (*c).to_owned()).collect();
    }

    /// From now on tokens are issued for this client secret.
    pub(crate) fn issue_for(&self, client_secret: &str) {
        client_secret.clone_into(&mut self.shared.client_secret.lock().unwrap());
    }

    /// How long the next tokens live, in seconds.
    pub(crate) fn tokens_live(&self, seconds: f64) {
        *self.shared.expires_in.lock().unwrap() = seconds;
    }

    /// Does a call of `slow` wait?
    pub(crate) fn is_waiting(&self) -> bool {
        self.shared.waiting.load(Ordering::SeqCst) > 0
    }

    /// Calls of `slow` are answered from now on.
    pub(crate) fn let_go(&self) {
        self.shared.is_free.send_replace(true);
    }

    /// Tokens issued so far.
    pub(crate) fn issued(&self) -> usize {
        self.shared.issued.load(Ordering::SeqCst)
    }

    /// The credentials that came with calls of tools, oldest first, refused ones as well.
    pub(crate) fn shown_with_calls(&self) -> Vec<String> {
        let shown = self.shared.shown.lock().unwrap();
        shown.iter().filter(|(method, _)| method == "tools/call").map(|(_, shown)| shown.clone()).collect()
    }

    /// The spec of a provider of these tools that shows `credential`.
    pub(crate) fn spec(&self, tools: &[&str], auth: &Value) -> Value {
        let tools: Vec<Value> = tools.iter().map(|name| json!({"name": name, "risk": "read_only"})).collect();
        json!({"type": "mcp", "transport": "http", "url": self.url("/mcp"), "auth": auth, "tools": tools})
    }

    /// How a tool server of this is shown a token of its own issuing.
    pub(crate) fn oauth(&self, client_secret: &str) -> Value {
        json!({"oauth": {"token_url": self.url("/token"), "client_id": "awooop", "client_secret": client_secret,
            "scope": "orders.read"}})
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A header with a bearer credential.
pub(crate) fn bearer(credential: &str) -> Value {
    json!({"header": "Authorization", "prefix": "Bearer ", "credential": credential})
}

async fn answer(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let shown = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let shown = shown.trim_start_matches("Bearer ").to_owned();
    let method = message["method"].as_str().unwrap_or_default().to_owned();
    shared.shown.lock().unwrap().push((method, shown.clone()));
    let is_accepted = {
        let accepted = shared.accepted.lock().unwrap();
        accepted.is_empty() || accepted.contains(&shown)
    };
    if !is_accepted {
        let refused = json!({"error": format!("{shown} is not accepted")});
        return (StatusCode::UNAUTHORIZED, axum::Json(refused)).into_response();
    }
    if message["params"]["name"] == "slow" {
        shared.waiting.fetch_add(1, Ordering::SeqCst);
        // the sender lives as long as the server
        let _ = shared.is_free.subscribe().wait_for(|is_free| *is_free).await;
    }
    (shared.script)(&message, &shown)
}

/// Client credentials by header or body; the token is what no pattern knows.
async fn issue(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: String) -> Response {
    let wanted = shared.client_secret.lock().unwrap().clone();
    let basic = format!("Basic {}", STANDARD.encode(format!("awooop:{wanted}")));
    let is_basic = headers.get("authorization").is_some_and(|value| *value == basic);
    let is_body = body.contains(&format!("client_secret={wanted}"));
    if !(is_basic || is_body) || !body.contains("grant_type=client_credentials") {
        let refused = json!({"error": "invalid_client", "error_description": format!("not {body}")});
        return (StatusCode::UNAUTHORIZED, axum::Json(refused)).into_response();
    }
    let n = shared.issued.fetch_add(1, Ordering::SeqCst);
    let token = format!("issued-{n}-{wanted}");
    let mut accepted = shared.accepted.lock().unwrap();
    if !accepted.is_empty() {
        accepted.insert(token.clone());
    }
    drop(accepted);
    let expires_in = *shared.expires_in.lock().unwrap();
    axum::Json(json!({"access_token": token, "token_type": "Bearer", "expires_in": expires_in}))
        .into_response()
}

/// What a well-behaved server answers to everything but a call; `call` answers that.
pub(crate) fn serve(message: &Value, tools: &Value, call: impl FnOnce(&str) -> Response) -> Response {
    let result = |result: Value| {
        axum::Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result})).into_response()
    };
    match message["method"].as_str().unwrap_or_default() {
        _ if message["id"].is_null() => StatusCode::ACCEPTED.into_response(),
        "initialize" => result(json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
            "serverInfo": {"name": "guarded", "version": "1"}})),
        "tools/list" => result(json!({ "tools": tools })),
        "tools/call" => call(message["params"]["name"].as_str().unwrap_or_default()),
        _ => result(json!({})),
    }
}

/// The result of a call that says this.
pub(crate) fn said(message: &Value, result: Value) -> Response {
    axum::Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result})).into_response()
}
