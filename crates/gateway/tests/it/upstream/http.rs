//! Streamable HTTP upstreams: an in-process server on 127.0.0.1, answering as JSON or as events.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use awooop_core::ErrorCode;
use awooop_gateway::upstream::{Transport, UpstreamConfig, UpstreamError, UpstreamSpec, Upstreams};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::future::join_all;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::fixture::answer;
use super::{call, check_list_and_call, pool, spec};

#[derive(Clone, Copy, PartialEq)]
enum Form {
    Json,
    Events,
}

/// What the server was asked.
struct Server {
    form: Form,
    sessions: AtomicUsize,
    calls: AtomicUsize,
    ends_session: AtomicBool,
}

struct Running {
    server: Arc<Server>,
    port: u16,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    fn spec(&self) -> UpstreamSpec {
        self.spec_at("/mcp", &["127.0.0.1"])
    }

    fn spec_at(&self, path: &str, allowed: &[&str]) -> UpstreamSpec {
        spec(Transport::Http {
            url: format!("http://127.0.0.1:{}{path}", self.port).parse().unwrap(),
            header: Some((header::AUTHORIZATION, SecretString::from("Bearer canary"))),
            allowed_private: allowed.iter().map(|entry| (*entry).to_owned()).collect(),
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own server")]
async fn serve(form: Form) -> Running {
    let server = Arc::new(Server {
        form,
        sessions: AtomicUsize::new(0),
        calls: AtomicUsize::new(0),
        ends_session: AtomicBool::new(false),
    });
    let redirect = || async { (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/mcp")]) };
    let router = Router::new()
        .route("/mcp", post(mcp).get(|| async { StatusCode::METHOD_NOT_ALLOWED }))
        .route("/moved", post(redirect))
        .route("/page", post(|| async { axum::response::Html("<p>no MCP here, canary</p>") }))
        .route("/broken", post(|| async { (StatusCode::INTERNAL_SERVER_ERROR, "canary") }))
        .with_state(Arc::clone(&server));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Running { server, port, task }
}

async fn mcp(State(server): State<Arc<Server>>, headers: HeaderMap, body: Bytes) -> Response {
    if headers.get(header::AUTHORIZATION).is_none_or(|value| value != "Bearer canary") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let message: Value = serde_json::from_slice(&body).unwrap();
    let is_handshake = message["method"] == "initialize";
    if is_handshake {
        server.sessions.fetch_add(1, Ordering::SeqCst);
    } else {
        let current = server.sessions.load(Ordering::SeqCst).to_string();
        let is_current = headers.get("mcp-session-id").is_some_and(|session| session == current.as_str());
        if !is_current || server.ends_session.swap(false, Ordering::SeqCst) {
            return StatusCode::NOT_FOUND.into_response();
        }
        assert_eq!(headers["mcp-protocol-version"], "2025-11-25");
    }
    if message["method"] == "tools/call" {
        server.calls.fetch_add(1, Ordering::SeqCst);
        if message["params"]["name"] == "hang" {
            std::future::pending::<()>().await;
        }
    }
    let Some(answer) = answer(&message) else { return StatusCode::ACCEPTED.into_response() };
    let session = [("mcp-session-id", server.sessions.load(Ordering::SeqCst).to_string())];
    match server.form {
        Form::Json => (session, axum::Json(answer)).into_response(),
        Form::Events => {
            let progress = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": 1}});
            let events =
                format!(": hello\n\nevent: message\ndata: {progress}\n\nevent: message\ndata: {answer}\n\n");
            (session, [(header::CONTENT_TYPE, "text/event-stream")], events).into_response()
        }
    }
}

#[tokio::test]
async fn a_server_that_answers_json_lists_and_answers() {
    let running = serve(Form::Json).await;
    check_list_and_call(&pool(), &running.spec()).await;
    assert_eq!(running.server.calls.load(Ordering::SeqCst), 2, "one request a call");
}

#[tokio::test]
async fn a_server_that_answers_events_lists_and_answers() {
    let running = serve(Form::Events).await;
    check_list_and_call(&pool(), &running.spec()).await;
    assert_eq!(running.server.calls.load(Ordering::SeqCst), 2, "one request a call");
}

#[tokio::test]
async fn fifty_parallel_calls_share_one_session_and_get_their_own_answers() {
    for form in [Form::Json, Form::Events] {
        let (running, pool) = (serve(form).await, pool());
        let spec = running.spec();
        let calls = (0..50).map(|n| {
            let (pool, spec) = (&pool, &spec);
            async move {
                let result = pool.call_tool(spec, call("echo", json!({"n": n}))).await.unwrap();
                assert_eq!(result.structured_content, Some(json!({"n": n})));
            }
        });
        join_all(calls).await;
        assert_eq!(running.server.sessions.load(Ordering::SeqCst), 1);
        pool.shutdown().await;
    }
}

#[tokio::test]
async fn an_answer_over_the_limit_names_the_limit_in_either_form() {
    for form in [Form::Json, Form::Events] {
        let running = serve(form).await;
        let pool = Upstreams::new(UpstreamConfig { max_result_bytes: 100_000, ..UpstreamConfig::default() });
        let spec = running.spec();
        let error = pool.call_tool(&spec, call("big", json!({"bytes": 3_000_000}))).await.unwrap_err();
        assert_eq!(error.error, UpstreamError::Protocol("its answer is larger than 100000 bytes".to_owned()));
        let near = pool.call_tool(&spec, call("big", json!({"bytes": 90_000}))).await.unwrap();
        assert_eq!(near.text().len(), 90_000);
        assert_eq!(running.server.sessions.load(Ordering::SeqCst), 1, "the session goes on");
        pool.shutdown().await;
    }
}

#[tokio::test]
async fn a_slow_tool_times_out() {
    let running = serve(Form::Json).await;
    let mut slow = call("hang", json!({}));
    slow.timeout = Some(std::time::Duration::from_millis(100));
    let error = pool().call_tool(&running.spec(), slow).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Upstream002);
}

#[tokio::test]
async fn a_call_refused_because_its_session_ended_goes_once_into_a_new_session() {
    let (running, pool) = (serve(Form::Json).await, pool());
    let spec = running.spec();
    pool.list_tools(&spec).await.unwrap();
    running.server.ends_session.store(true, Ordering::SeqCst);
    let result = pool.call_tool(&spec, call("echo", json!({"n": 1}))).await.unwrap();
    assert_eq!(result.structured_content, Some(json!({"n": 1})));
    assert_eq!(running.server.calls.load(Ordering::SeqCst), 1);
    assert_eq!(running.server.sessions.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_server_that_goes_away_fails_the_call_and_the_next_connects_anew() {
    let pool = pool();
    let mut running = serve(Form::Json).await;
    let spec = running.spec();
    pool.list_tools(&spec).await.unwrap();
    let port = running.port;
    running.task.abort();
    let _ = (&mut running.task).await;
    let refused = pool.call_tool(&spec, call("hang", json!({}))).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Upstream001, "{refused} on {port}");
    let again = pool.list_tools(&spec).await.unwrap_err();
    assert_eq!(again, UpstreamError::Unreachable("no connection (connection refused)".to_owned()));
}

#[tokio::test]
async fn what_is_no_mcp_server_is_told_apart_without_its_words() {
    let running = serve(Form::Json).await;
    let check = async |path: &str, code: ErrorCode, expected: &str| {
        let error = pool().list_tools(&running.spec_at(path, &["127.0.0.0/8"])).await.unwrap_err();
        assert_eq!(error.code(), code, "{path}: {error}");
        assert!(error.to_string().contains(expected), "{path}: {error}");
        assert!(!error.to_string().contains("canary"), "{path}: {error}");
    };
    check("/moved", ErrorCode::Upstream001, "redirect (HTTP 307), which is not followed").await;
    check("/page", ErrorCode::Upstream003, "neither JSON-RPC nor an event stream").await;
    check("/broken", ErrorCode::Upstream001, "HTTP 500").await;
    check("/nowhere", ErrorCode::Upstream001, "HTTP 404").await;
    assert_eq!(running.server.sessions.load(Ordering::SeqCst), 0, "the redirect was not followed");
}

#[tokio::test]
async fn an_address_the_operator_did_not_list_is_never_dialled() {
    let running = serve(Form::Json).await;
    for allowed in [vec![], vec!["10.0.0.0/8"], vec!["127.0.0.1:1"], vec!["localhost"]] {
        let error = pool().list_tools(&running.spec_at("/mcp", &allowed)).await.unwrap_err();
        assert!(matches!(error, UpstreamError::Refused(_)), "{allowed:?}: {error}");
    }
    let named = spec(Transport::Http {
        url: format!("http://localhost:{}/mcp", running.port).parse().unwrap(),
        header: None,
        allowed_private: Vec::new(),
    });
    let error = pool().list_tools(&named).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Refused(_)), "a name is judged by what it resolves to: {error}");
    assert_eq!(running.server.sessions.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_wrong_credential_is_named_as_such_and_another_credential_is_another_connection() {
    let running = serve(Form::Json).await;
    let pool = pool();
    pool.list_tools(&running.spec()).await.unwrap();
    let mut other = running.spec();
    if let Transport::Http { header, .. } = &mut other.transport {
        *header = Some((header::AUTHORIZATION, SecretString::from("Bearer wrong")));
    }
    let error = pool.list_tools(&other).await.unwrap_err();
    assert_eq!(error, UpstreamError::CredentialRefused(401));
}
