//! An MCP server for tests (Streamable HTTP, revision 2025-11-25) that remembers every call it got, with
//! the idempotency key the gateway sent along.
//!
//! Tools: `echo` gives its text back, `slow` answers when it is let go, `fail` answers with an error,
//! `secret` returns a planted credential, `big` returns 100,000 characters. It lives in the test's process,
//! so what it saw survives the death of the server under test. It keeps no sessions.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The credential that `secret` returns: the form of a well-known kind of token, made up.
pub const PLANTED: &str = "ghp_0123456789abcdefghijABCDEFGHIJ012345";
/// Characters that `big` returns.
pub const BIG_CHARS: usize = 100_000;
/// Every tool's name.
pub const TOOLS: [&str; 5] = ["echo", "slow", "fail", "secret", "big"];

/// One call as it arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The tool.
    pub tool: String,
    /// `_meta["awooop/idempotency-key"]`.
    pub key: Option<String>,
    /// The arguments.
    pub arguments: Value,
}

#[derive(Clone)]
struct Seen {
    requests: Arc<AtomicUsize>,
    calls: Arc<Mutex<Vec<Call>>>,
    is_held: watch::Receiver<bool>,
}

/// A running server. Dropping it closes its port.
pub struct FixtureMcp {
    url: String,
    requests: Arc<AtomicUsize>,
    calls: Arc<Mutex<Vec<Call>>>,
    hold: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl FixtureMcp {
    /// Listens on a free port of 127.0.0.1.
    #[expect(clippy::disallowed_methods, reason = "test support: the fixture belongs to no project")]
    pub async fn start() -> anyhow::Result<FixtureMcp> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/mcp", listener.local_addr()?);
        let (hold, is_held) = watch::channel(false);
        let calls = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::new(AtomicUsize::new(0));
        let seen = Seen { requests: requests.clone(), calls: calls.clone(), is_held };
        let router = Router::new().route("/mcp", post(answer)).with_state(seen);
        let task = tokio::spawn(async move {
            // ends with the task
            let _ = axum::serve(listener, router).await;
        });
        Ok(FixtureMcp { url, requests, calls, hold, task })
    }

    /// Its MCP endpoint.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Messages of every kind so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Every call so far, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets the calls so far.
    pub fn forget(&self) {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// From now on `slow` does not answer.
    pub fn hold(&self) {
        self.hold.send_replace(true);
    }

    /// Lets `slow` answer again.
    pub fn let_go(&self) {
        self.hold.send_replace(false);
    }

    /// The spec of a provider contract for this server, with every tool.
    pub fn provider_spec(&self) -> Value {
        let tools: Vec<Value> = TOOLS.iter().map(|name| json!({"name": name, "risk": "read_only"})).collect();
        json!({"type": "mcp", "transport": "http", "url": self.url, "tools": tools})
    }
}

impl Drop for FixtureMcp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(seen): State<Seen>, Json(message): Json<Value>) -> Response {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    let Some(id) = message.get("id").filter(|id| !id.is_null()).cloned() else {
        return StatusCode::ACCEPTED.into_response();
    };
    let result = match message["method"].as_str().unwrap_or_default() {
        "initialize" => Ok(json!({
            "protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
            "serverInfo": {"name": "fixture", "version": "1"},
        })),
        "ping" => Ok(json!({})),
        "tools/list" => Ok(json!({ "tools": tools() })),
        "tools/call" => call(seen, &message["params"]).await,
        other => Err((-32601, format!("no method {other}"))),
    };
    let body = match result {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err((code, message)) => {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
        }
    };
    Json(body).into_response()
}

fn tools() -> Vec<Value> {
    let nothing = json!({"type": "object", "properties": {}, "additionalProperties": false});
    let text = json!({
        "type": "object", "properties": {"text": {"type": "string", "maxLength": 200}},
        "required": ["text"], "additionalProperties": false,
    });
    let described = [
        ("echo", "Gives the text back", text),
        ("slow", "Answers after a while", nothing.clone()),
        ("fail", "Answers with an error", nothing.clone()),
        ("secret", "Returns the settings of a service", nothing.clone()),
        ("big", "Returns a long text", nothing),
    ];
    described
        .into_iter()
        .map(|(name, description, schema)| {
            json!({"name": name, "description": description, "inputSchema": schema})
        })
        .collect()
}

async fn call(mut seen: Seen, params: &Value) -> Result<Value, (i64, String)> {
    let tool = params["name"].as_str().unwrap_or_default().to_owned();
    let key = params["_meta"]["awooop/idempotency-key"].as_str().map(str::to_owned);
    let arguments = params["arguments"].clone();
    let made = Call { tool: tool.clone(), key, arguments: arguments.clone() };
    seen.calls.lock().unwrap_or_else(PoisonError::into_inner).push(made);
    let said = |text: String| Ok(json!({"content": [{"type": "text", "text": text}]}));
    match tool.as_str() {
        "echo" => {
            let text = arguments["text"].as_str().unwrap_or_default();
            Ok(json!({
                "content": [{"type": "text", "text": format!("echo: {text}")}],
                "structuredContent": {"text": text},
            }))
        }
        "slow" => {
            // the sender lives as long as the server; an error means that nobody holds any longer
            let _ = seen.is_held.wait_for(|is_held| !is_held).await;
            said("at last".to_owned())
        }
        "fail" => Ok(json!({"content": [{"type": "text", "text": "it broke"}], "isError": true})),
        "secret" => Ok(json!({
            "content": [{"type": "text", "text": format!("token={PLANTED} is in use")}],
            "structuredContent": {"settings": {"token": PLANTED, "region": "eu"}},
        })),
        "big" => said("0123456789".repeat(BIG_CHARS / 10)),
        _ => Err((-32602, format!("no tool {tool}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Api;

    #[tokio::test(flavor = "multi_thread")]
    async fn it_lists_answers_and_remembers_keys() {
        let fixture = FixtureMcp::start().await.unwrap();
        let api = Api::new(fixture.url(), None).unwrap();
        let ask = async |method: &str, params: Value| {
            let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
            api.post("", &body).await.unwrap().json()
        };
        let listed = ask("tools/list", json!({})).await;
        assert_eq!(listed["result"]["tools"].as_array().map(Vec::len), Some(TOOLS.len()));
        let params =
            json!({"name": "echo", "arguments": {"text": "hi"}, "_meta": {"awooop/idempotency-key": "r:2"}});
        let echoed = ask("tools/call", params).await;
        assert_eq!(echoed["result"]["structuredContent"]["text"], "hi");
        assert_eq!(ask("tools/call", json!({"name": "none"})).await["error"]["code"], -32602);
        assert_eq!(ask("nonsense", json!({})).await["error"]["code"], -32601);
        let calls = fixture.calls();
        assert_eq!((calls.len(), calls[0].key.as_deref()), (2, Some("r:2")));
        let big = ask("tools/call", json!({"name": "big"})).await;
        assert_eq!(big["result"]["content"][0]["text"].as_str().map(str::len), Some(BIG_CHARS));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_slow_tool_answers_only_when_it_is_let_go() {
        let fixture = FixtureMcp::start().await.unwrap();
        fixture.hold();
        let api = Api::new(fixture.url(), None).unwrap();
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "slow"}});
        let mut answer = std::pin::pin!(api.post("", &body));
        while fixture.calls().is_empty() {
            tokio::select! {
                biased;
                answer = &mut answer => panic!("answered while held: {answer:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
        fixture.let_go();
        assert!(answer.await.unwrap().text.contains("at last"));
    }
}
